//! Why nothing can be said of a partition. Each is shown; none is ever taken for health.

use serde::{Deserialize, Serialize};

/// The reason why a partition is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// No sample was ever seen.
    Never,
    /// The newest sample is too old.
    Stale,
    /// The newest sample is from the future: the engine's clock went back or the source's runs
    /// ahead.
    ClockWentBack,
    /// Fewer samples than any statement needs.
    TooFew,
    /// Most of the metrics that it usually has are missing.
    MostMissing,
    /// Every metric has been bit for bit the same for long: the source repeats itself.
    StandsStill,
    /// There is data, but nothing to compare it with yet.
    NoBaseline,
}

impl Gap {
    /// In words, for the console.
    pub fn words(self) -> &'static str {
        match self {
            Gap::Never => "no data was ever seen",
            Gap::Stale => "the newest data is too old",
            Gap::ClockWentBack => "the newest data is from the future: a clock is wrong",
            Gap::TooFew => "too few samples to say anything",
            Gap::MostMissing => "most of its usual metrics are missing",
            Gap::StandsStill => "all metrics stand still: the source repeats itself",
            Gap::NoBaseline => "nothing to compare it with yet",
        }
    }
}
