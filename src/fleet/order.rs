//! The order in which people count names.

use std::cmp::Ordering;

/// Compares text so that `node9` comes before `node10`.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        match (a.first(), b.first()) {
            (None, None) => return Ordering::Equal,
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let digits = |s: &[u8]| s.iter().take_while(|c| c.is_ascii_digit()).count();
                let (n, m) = (digits(a), digits(b));
                let strip = |s: &'_ [u8]| s.iter().position(|c| *c != b'0').unwrap_or(s.len());
                let (x, y) = (&a[..n], &b[..m]);
                let (x, y) = (&x[strip(x)..], &y[strip(y)..]);
                let order = x.len().cmp(&y.len()).then_with(|| x.cmp(y));
                if order != Ordering::Equal {
                    return order;
                }
                (a, b) = (&a[n..], &b[m..]);
            }
            (Some(x), Some(y)) if x == y => (a, b) = (&a[1..], &b[1..]),
            (Some(x), Some(y)) => return x.cmp(y),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_people_count() {
        assert_eq!(natural("node9", "node10"), Ordering::Less);
        assert_eq!(natural("r1-07", "r1-7b"), Ordering::Less);
        assert_eq!(natural("a", "a"), Ordering::Equal);
    }
}
