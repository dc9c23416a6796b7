//! Quantities as people write them in the file: spans (`"15m"`, `"1h30m"`), amounts of data
//! (`"500MB"`, `"2GiB"`), shares (`"25%"` or `0.25`), times of the day (`"22:30"`) and days of the
//! week. Each refuses what it does not understand and says which forms it knows.

use std::fmt;

use serde::de::{Deserializer, Error as _, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::fleet::{Bytes, Probability, Share, Span};

/// What a span looks like, for messages.
pub(crate) const SPAN_FORM: &str =
    "a span of time with its unit, like \"500ms\", \"15s\", \"1h30m\" or \"2d\"";
/// What an amount of data looks like, for messages.
pub(crate) const BYTES_FORM: &str =
    "an amount of data, like \"500MB\" or \"2GiB\", or a whole number of bytes";
/// What a share looks like, for messages.
pub(crate) const SHARE_FORM: &str = "a share, like \"25%\" or a number from 0 to 1";

const SPAN_UNITS: [(&str, i64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

const BYTE_UNITS: [(&str, u64); 14] = [
    ("b", 1),
    ("kb", 1000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("pb", 1_000_000_000_000_000),
    ("k", 1000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("t", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

/// Reads a span: numbers with units (`ms s m h d w`), added up; blanks between are allowed.
/// `None` where it is none, is negative or is longer than 10,000 years.
pub fn parse_span(text: &str) -> Option<Span> {
    let mut rest = text.trim();
    let mut total = 0f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (_, millis) = SPAN_UNITS.iter().find(|(unit, _)| *unit == &rest[..letters])?;
        total += number * *millis as f64;
        rest = rest[letters..].trim_start();
    }
    (total.is_finite() && total < 3.2e14).then(|| Span::millis(total.round() as i64))
}

/// Writes a span so that [`parse_span`] reads it back: `1h30m`, `500ms`, `0s`.
pub fn write_span(span: Span) -> String {
    let mut rest = span.0.max(0);
    if rest == 0 {
        return "0s".to_string();
    }
    let mut text = String::new();
    for (unit, millis) in &SPAN_UNITS[1..] {
        if rest >= *millis {
            text.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    text
}

/// Reads an amount of data: a number with a unit (`B kB MB GB TB PB`, `KiB MiB GiB TiB`, upper or
/// lower case).
pub fn parse_bytes(text: &str) -> Option<Bytes> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..split].parse().ok()?;
    let unit = text[split..].trim().to_ascii_lowercase();
    let (_, scale) = BYTE_UNITS.iter().find(|(name, _)| *name == unit)?;
    let bytes = number * *scale as f64;
    (bytes < 9e18).then_some(Bytes(bytes.round() as u64))
}

/// Reads a fraction of one: `25%`, `0.5 %`.
fn parse_percent(text: &str) -> Option<f64> {
    let number: f64 = text.trim().strip_suffix('%')?.trim().parse().ok()?;
    (0.0..=100.0).contains(&number).then_some(number / 100.0)
}

struct SpanVisitor;

impl Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SPAN_FORM)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Span, E> {
        parse_span(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// For `#[serde(with = "quantity::span")]`: a span in its human form.
pub mod span {
    use super::*;

    /// Reads a span.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Span, D::Error> {
        from.deserialize_str(SpanVisitor)
    }

    /// Writes a span.
    pub fn serialize<S: Serializer>(span: &Span, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&write_span(*span))
    }
}

#[derive(Deserialize, Serialize)]
struct WrittenSpan(#[serde(with = "span")] Span);

/// For `#[serde(with = "quantity::spans")]`: a list of spans in their human form.
pub mod spans {
    use super::*;

    /// Reads a list of spans.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Span>, D::Error> {
        Ok(Vec::<WrittenSpan>::deserialize(from)?.into_iter().map(|s| s.0).collect())
    }

    /// Writes a list of spans.
    pub fn serialize<S: Serializer>(spans: &[Span], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(spans.iter().map(|s| WrittenSpan(*s)))
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(BYTES_FORM)
    }

    fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<Bytes, E> {
        u64::try_from(n).map(Bytes).map_err(|_| E::invalid_value(Unexpected::Signed(n), &self))
    }

    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Bytes, E> {
        Ok(Bytes(n))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bytes, E> {
        parse_bytes(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// For `#[serde(with = "quantity::bytes")]`: an amount of data in its human form.
pub mod bytes {
    use super::*;

    /// Reads an amount.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        from.deserialize_any(BytesVisitor)
    }

    /// Writes an amount in whole bytes with the greatest unit that loses nothing.
    pub fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        let units = [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];
        let unit = units.iter().find(|(_, scale)| bytes.0 > 0 && bytes.0.is_multiple_of(*scale));
        match unit {
            Some((name, scale)) => to.serialize_str(&format!("{}{name}", bytes.0 / scale)),
            None => to.serialize_str(&format!("{}B", bytes.0)),
        }
    }
}

struct FractionVisitor;

impl Visitor<'_> for FractionVisitor {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SHARE_FORM)
    }

    fn visit_f64<E: serde::de::Error>(self, n: f64) -> Result<f64, E> {
        if (0.0..=1.0).contains(&n) { Ok(n) } else { Err(E::invalid_value(Unexpected::Float(n), &self)) }
    }

    fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<f64, E> {
        if (0..=1).contains(&n) { Ok(n as f64) } else { Err(E::invalid_value(Unexpected::Signed(n), &self)) }
    }

    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<f64, E> {
        self.visit_i64(i64::try_from(n).unwrap_or(i64::MAX))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<f64, E> {
        parse_percent(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

fn write_percent(value: f64) -> String {
    let percent = (value * 1e8).round() / 1e6;
    format!("{percent}%")
}

/// For `#[serde(with = "quantity::share")]`: a share as a percentage or a number.
pub mod share {
    use super::*;

    /// Reads a share.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Share, D::Error> {
        Share::new(from.deserialize_any(FractionVisitor)?).map_err(D::Error::custom)
    }

    /// Writes a share as a percentage.
    pub fn serialize<S: Serializer>(share: &Share, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&write_percent(share.get()))
    }
}

/// For `#[serde(with = "quantity::probability")]`: a probability as a percentage or a number.
pub mod probability {
    use super::*;

    /// Reads a probability.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Probability, D::Error> {
        Probability::new(from.deserialize_any(FractionVisitor)?).map_err(D::Error::custom)
    }

    /// Writes a probability as a percentage.
    pub fn serialize<S: Serializer>(p: &Probability, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&write_percent(p.get()))
    }
}

/// A time of the day in minutes since midnight, UTC; `24:00` is the end of the day.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TimeOfDay(pub u16);

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct TimeVisitor;
        impl Visitor<'_> for TimeVisitor {
            type Value = TimeOfDay;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time of the day in UTC, like \"22:30\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<TimeOfDay, E> {
                let wrong = || E::invalid_value(Unexpected::Str(text), &self);
                let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
                let hours: u16 = hours.parse().map_err(|_| wrong())?;
                let minutes: u16 = minutes.parse().map_err(|_| wrong())?;
                let total = hours.saturating_mul(60).saturating_add(minutes);
                if minutes < 60 && total <= 1440 { Ok(TimeOfDay(total)) } else { Err(wrong()) }
            }
        }
        from.deserialize_str(TimeVisitor)
    }
}

impl Serialize for TimeOfDay {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{:02}:{:02}", self.0 / 60, self.0 % 60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        assert_eq!(parse_span("15m"), Some(Span::minutes(15)));
        assert_eq!(parse_span("1h30m"), Some(Span::minutes(90)));
        assert_eq!(parse_span("1h 30 m"), Some(Span::minutes(90)));
        assert_eq!(parse_span("1.5s"), Some(Span::millis(1500)));
        for wrong in ["", "15", "m", "15 parsecs", "-3s", "1..2s", "9999999w99999999w", "ms"] {
            assert_eq!(parse_span(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn amounts_and_shares_are_read_as_people_write_them() {
        assert_eq!(parse_bytes("500MB"), Some(Bytes(500_000_000)));
        assert_eq!(parse_bytes("2 GiB"), Some(Bytes(2 << 30)));
        assert_eq!(parse_bytes("1.5kb"), Some(Bytes(1500)));
        assert_eq!(parse_bytes("many"), None);
        assert_eq!(parse_percent("25%"), Some(0.25));
        assert_eq!(parse_percent("130%"), None);
        assert_eq!(write_percent(0.07), "7%");
    }

    proptest::proptest! {
        #[test]
        fn a_written_span_is_read_back(millis in 0i64..100_000_000_000) {
            proptest::prop_assert_eq!(parse_span(&write_span(Span(millis))), Some(Span(millis)));
        }

        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = (parse_span(&text), parse_bytes(&text), parse_percent(&text));
        }
    }
}
