//! Numbers on the command line that make no sense at nought.

/// A finite number above 0.
///
/// # Errors
/// Says what was expected.
pub(super) fn above_zero(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
    number.ok_or_else(|| format!("{text:?}: expected a finite number above 0, for example 60"))
}

/// A whole number from 1.
///
/// # Errors
/// Says what was expected.
pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("{text:?}: expected a whole number from 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        assert_eq!(above_zero("0.5"), Ok(0.5));
        for text in ["NaN", "0", "-1", "inf", "1e999", "-0", "fast", ""] {
            assert!(above_zero(text).is_err_and(|said| said.contains("above 0")), "{text}");
        }
        assert_eq!(at_least_one("3"), Ok(3));
        for text in ["0", "-1", "1.5", ""] {
            assert!(at_least_one(text).is_err_and(|said| said.contains("from 1")), "{text}");
        }
    }
}
