//! Numbers and times as Flux writes them, read from bytes.

use crate::fleet::Timestamp;

/// A number, or a truth value as 1 and 0; `None` for any other text.
pub(super) fn number(raw: &[u8]) -> Option<f64> {
    match raw {
        b"true" => Some(1.0),
        b"false" => Some(0.0),
        _ => fast_float2::parse(raw).ok(),
    }
}

/// The minute of the row before, so that mostly two digits are read.
#[derive(Default)]
pub(super) struct Minute {
    text: [u8; 17],
    start: i64,
}

impl Minute {
    /// `2026-11-21T02:00:10Z`.
    #[inline]
    pub(super) fn parse(&mut self, text: &[u8; 20]) -> Option<Timestamp> {
        if text[19] != b'Z' {
            return None;
        }
        if text[..17] != self.text {
            let start = parse_minute(&text[..17])?;
            self.text.copy_from_slice(&text[..17]);
            self.start = start;
        }
        let (tens, ones) = (text[17].wrapping_sub(b'0'), text[18].wrapping_sub(b'0'));
        if tens > 6 || ones > 9 {
            return None;
        }
        Some(Timestamp(self.start + i64::from(tens * 10 + ones) * 1000))
    }
}

/// `2026-11-21T02:00:` as milliseconds since the epoch.
fn parse_minute(text: &[u8]) -> Option<i64> {
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if text.len() != 17 || separators.iter().any(|&(i, c)| text[i] != c) || !matches!(text[10], b'T' | b' ') {
        return None;
    }
    let digits = |from: usize, to: usize| {
        text[from..to].iter().try_fold(0i64, |n, c| c.is_ascii_digit().then(|| n * 10 + i64::from(c - b'0')))
    };
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let (hour, minute) = (digits(11, 13)?, digits(14, 16)?);
    if !(1..=12).contains(&month) || !(1..=days_of(year, month)).contains(&day) || hour > 23 || minute > 59 {
        return None;
    }
    Some(((days_from_civil(year, month, day) * 24 + hour) * 60 + minute) * 60_000)
}

/// Days that a month has: a day that there is not is refused, not taken for one of the next month.
fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// RFC 3339 with any fraction and offset.
pub(in crate::telemetry::influx) fn parse_time(text: &[u8]) -> Option<Timestamp> {
    let minute = parse_minute(text.get(..17)?)?;
    let rest = &text[17..];
    let seconds: f64 = {
        let len = rest.iter().position(|c| !c.is_ascii_digit() && *c != b'.').unwrap_or(rest.len());
        std::str::from_utf8(&rest[..len]).ok()?.parse().ok()?
    };
    let zone = &rest[rest.iter().position(|c| !c.is_ascii_digit() && *c != b'.')?..];
    let offset = match zone {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            if ![h1, h2, m1, m2].iter().all(|c| c.is_ascii_digit()) {
                return None;
            }
            let two = |a: &u8, b: &u8| i64::from(a - b'0') * 10 + i64::from(b - b'0');
            let minutes = two(h1, h2) * 60 + two(m1, m2);
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    (seconds < 61.0).then(|| Timestamp(minute + (seconds * 1000.0).floor() as i64 - offset * 60_000))
}
