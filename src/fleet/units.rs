//! Quantities that cannot be out of range: checked once where they are made, never again.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A number that is not in the range of its quantity.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("{quantity}: expected a number from {low} to {high}, got {got}")]
pub struct OutOfRange {
    /// The quantity's name.
    pub quantity: &'static str,
    /// The least allowed number.
    pub low: f64,
    /// The greatest allowed number.
    pub high: f64,
    /// What was given.
    pub got: f64,
}

macro_rules! ranged {
    ($(#[$doc:meta])* $name:ident, $word:literal, $low:literal, $high:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $name(f64);

        impl $name {
            /// The least value.
            pub const MIN: $name = $name($low);
            /// The greatest value.
            pub const MAX: $name = $name($high);

            /// The value, or what is wrong with it. NaN is out of range.
            pub fn new(value: f64) -> Result<Self, OutOfRange> {
                if ($low..=$high).contains(&value) {
                    Ok(Self(value))
                } else {
                    Err(OutOfRange { quantity: $word, low: $low, high: $high, got: value })
                }
            }

            /// The nearest value in range; `None` for NaN.
            pub fn clamped(value: f64) -> Option<Self> {
                (!value.is_nan()).then(|| Self(value.clamp($low, $high)))
            }

            /// The number.
            pub const fn get(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = OutOfRange;
            fn try_from(value: f64) -> Result<Self, OutOfRange> {
                Self::new(value)
            }
        }

        impl From<$name> for f64 {
            fn from(value: $name) -> f64 {
                value.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

ranged!(
    /// A probability, 0 to 1.
    Probability,
    "probability",
    0.0,
    1.0
);
ranged!(
    /// A share of a whole, 0 to 1: of traffic, of a fleet, of a capacity.
    Share,
    "share",
    0.0,
    1.0
);
ranged!(
    /// A health score: 100 = as healthy as its own best, lower = riskier.
    HealthScore,
    "health score",
    0.0,
    100.0
);

/// Percent for people: `71 %`, `0.3 %` below one, `99.7 %` near all, `<0.1 %`, `>99.9 %`: never nothing or all where
/// it is not.
fn percent(value: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let p = value * 100.0;
    let text = if p == 0.0 {
        "0 %".to_string()
    } else if p < 0.1 {
        "<0.1 %".to_string()
    } else if p > 99.9 && p < 100.0 {
        ">99.9 %".to_string()
    } else if p < 1.0 || (99.5..100.0).contains(&p) {
        format!("{p:.1} %")
    } else {
        format!("{p:.0} %")
    };
    f.pad(&text)
}

impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        percent(self.0, f)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        percent(self.0, f)
    }
}

impl fmt::Display for HealthScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.0}", self.0))
    }
}

/// An amount of data in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 999.5 && unit + 1 < UNITS.len() {
            value /= 1000.0;
            unit += 1;
        }
        let text = if unit > 0 && value < 9.95 {
            format!("{value:.1} {}", UNITS[unit])
        } else {
            format!("{value:.0} {}", UNITS[unit])
        };
        f.pad(&text)
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Bytes>>(iter: I) -> Bytes {
        Bytes(iter.fold(0u64, |total, b| total.saturating_add(b.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probability_out_of_range_is_refused_with_what_was_expected() {
        let error = Probability::new(1.2).unwrap_err();
        assert_eq!(error.to_string(), "probability: expected a number from 0 to 1, got 1.2");
        assert!(Probability::new(f64::NAN).is_err());
        assert!(Probability::clamped(f64::NAN).is_none());
        assert!(serde_json::from_str::<Probability>("1.5").is_err());
    }

    #[test]
    fn amounts_read_as_people_say_them() {
        assert_eq!(Bytes(41_200_000_000).to_string(), "41 GB");
        assert_eq!(Bytes(1_500).to_string(), "1.5 kB");
        assert_eq!(Bytes(999_900).to_string(), "1.0 MB");
        assert_eq!(Probability::new(0.7149).unwrap().to_string(), "71 %");
        assert_eq!(Probability::new(0.0001).unwrap().to_string(), "<0.1 %");
    }

    #[test]
    fn only_what_is_certain_reads_as_certain() {
        for n in 1..100_000 {
            let text = Probability::new(f64::from(n) / 100_000.0).unwrap().to_string();
            assert!(text != "100 %" && text != "100.0 %" && text != "0 %" && text != "0.0 %", "{n}: {text}");
        }
        let text = |p: f64| Probability::new(p).unwrap().to_string();
        assert_eq!(
            [text(0.0), text(0.994), text(0.997), text(0.9996), text(1.0)],
            ["0 %", "99 %", "99.7 %", ">99.9 %", "100 %"]
        );
    }
}
