//! The card beside a model: what it was trained on, what it reads, how good it was on what it had not
//! seen, how it is calibrated, and the hash of the file that it speaks of.

use serde::{Deserialize, Serialize};

use crate::fleet::{ApplicationId, Span, Timestamp};
use crate::predict::assessment::Calibration;
use crate::predict::calibrate::Calibrator;
use crate::predict::failure::features::FeatureSpec;
use crate::predict::failure::quality::Quality;
use crate::predict::failure::ranges::Ranges;
use crate::predict::models::ModelError;

/// Measures of the fleet's model on the held-back rows of an application's: by these names in a card.
pub const FLEETS_AUPRC: &str = "fleets_average_precision";
/// As [`FLEETS_AUPRC`].
pub const FLEETS_BRIER: &str = "fleets_brier";
/// As [`FLEETS_AUPRC`].
pub const FLEETS_ECE: &str = "fleets_calibration_error";

/// A card, as it stands in a TOML file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Card {
    /// What it does: `failure within 1 h`, `autoencoder of 32 steps`.
    pub title: String,
    /// The application whose partitions it was trained on and speaks of; none = the whole fleet's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<ApplicationId>,
    /// The kind of graph, see `models::onnx::Model::kind`.
    pub kind: String,
    /// How it was chosen, in words.
    pub chosen: String,
    /// BLAKE3 of the ONNX file, in hex.
    pub hash: String,
    /// Program version that trained it.
    pub trained_by: String,
    /// Seed that trains it again, bit for bit, on the same data.
    pub seed: u64,
    /// The window of a failure model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_seconds: Option<i64>,
    /// How far its probabilities may be taken at their word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// What it was trained on.
    pub data: Data,
    /// What it reads.
    pub features: FeatureSpec,
    /// On held-back partitions that it never saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// Other measures on held-back data, by name.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub measures: std::collections::BTreeMap<String, f64>,
    /// From margin to probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibrator: Option<Calibrator>,
    /// Training range of each feature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<Ranges>,
    /// What a network for forecasts reads and says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<super::forecaster::ForecastSpec>,
}

/// The data behind a model.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Data {
    /// Where from, in words.
    pub source: String,
    /// First sample.
    pub from: Timestamp,
    /// Last sample.
    pub until: Timestamp,
    /// Partitions.
    pub partitions: usize,
    /// Partitions that failed.
    pub failures: usize,
    /// Rows that were learnt from.
    pub rows: usize,
}

/// The hash that a card holds of a file.
pub fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

impl Card {
    /// As TOML.
    ///
    /// # Errors
    /// Never for a card whose numbers are finite.
    pub fn to_toml(&self) -> Result<String, ModelError> {
        toml::to_string(self)
            .map_err(|e| ModelError::Card { file: self.title.clone(), detail: e.to_string() })
    }

    /// Reads a card and holds it to its model's bytes.
    ///
    /// # Errors
    /// Not a card, or a card of another file.
    pub fn read(text: &str, model: &[u8], file: &str) -> Result<Self, ModelError> {
        let wrong = |detail: String| ModelError::Card { file: file.into(), detail };
        let card: Self = toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
        let found = hash(model);
        if card.hash != found {
            let detail = format!("it speaks of a file with the hash {}, the file has {found}", card.hash);
            return Err(wrong(detail));
        }
        if let Some(calibrator) = &card.calibrator {
            calibrator.check().map_err(wrong)?;
        }
        let width = card.features.metrics.len();
        if card.features.counted.iter().any(|&c| c >= width) {
            return Err(wrong("a counted metric is not among its metrics".into()));
        }
        if let Some(ranges) = card.ranges.as_ref().filter(|r| r.width() != card.features.width()) {
            return Err(wrong(format!(
                "it has ranges of {} features and names {}",
                ranges.width(),
                card.features.width()
            )));
        }
        Ok(card)
    }

    /// Name, version, trained when on what, calibration: one model in one line.
    pub fn line(&self) -> String {
        let hash = self.hash.get(..8).unwrap_or(&self.hash);
        let Some(calibration) = self.calibration else {
            let held_back = self.measures.get("auroc_of_the_error").copied().unwrap_or(f64::NAN);
            return format!(
                "{} [{hash}, {}], trained on {}; AUROC {held_back:.2} on held-back partitions",
                self.title, self.trained_by, self.data.source
            );
        };
        let calibration = match calibration {
            Calibration::Uncalibrated => "uncalibrated",
            Calibration::Shipped => "calibrated on other fleets (shipped)",
            Calibration::Calibrated => "calibrated on this fleet",
        };
        let fleets = self.measures.get(FLEETS_AUPRC).map_or_else(String::new, |fleets| {
            let own = self.quality.as_ref().map_or(f64::NAN, |q| q.auprc);
            format!("; average precision {own:.3} on held-back hosts, the fleet's model {fleets:.3} on the same rows")
        });
        format!(
            "{} [{hash}, {}], trained on {}, {} failures among {} partitions, data until {}; {calibration}{fleets}",
            self.title,
            self.trained_by,
            self.data.source,
            self.data.failures,
            self.data.partitions,
            day(self.data.until),
        )
    }

    /// Why nobody should go by it: on held-back rows it was no better than always stating the base rate.
    /// `None` where it was, or where nobody looked.
    pub fn worthless(&self) -> Option<String> {
        let quality = self.quality.filter(|q| !q.beats_base_rate())?;
        Some(format!(
            "{}: no better than the base rate on {} held-back rows (Brier skill {:.2}, AUROC {:.2}, calibration \
             error {:.2})",
            self.title, quality.rows, quality.brier_skill, quality.auroc, quality.ece
        ))
    }

    /// The window of a failure model.
    pub fn within(&self) -> Option<Span> {
        self.within_seconds.map(Span::seconds)
    }
}

/// A day as `2026-01-05`.
pub fn day(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.millis())
        .map_or_else(|_| "an unknown day".into(), |t| t.strftime("%F").to_string())
}
