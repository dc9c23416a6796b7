//! The card beside a model: what it was trained on, what it reads, how good it was on what it had not
//! seen, how it is calibrated, and the hash of the file that it speaks of.

use serde::{Deserialize, Serialize};

use crate::fleet::{ApplicationId, Span, Timestamp};
use crate::predict::assessment::Calibration;
use crate::predict::calibrate::Calibrator;
use crate::predict::failure::features::{CLIP, FeatureSpec};
use crate::predict::failure::quality::Quality;
use crate::predict::failure::ranges::Ranges;
use crate::predict::models::ModelError;

/// Measures of the fleet's model on the held-back rows of an application's: by these names in a card.
pub const FLEETS_AUPRC: &str = "fleets_average_precision";
/// As [`FLEETS_AUPRC`].
pub const FLEETS_BRIER: &str = "fleets_brier";
/// As [`FLEETS_AUPRC`].
pub const FLEETS_ECE: &str = "fleets_calibration_error";

/// The measure of an autoencoder by which it tells an error that is unusual.
pub const ERROR_OF_HEALTHY: &str = "mean_error_of_healthy";
/// Squared, what it reads and what it should say are never further apart than the two ends of the scale.
const MOST_ERROR: f64 = 4.0 * (CLIP as f64) * (CLIP as f64);
/// Longest window of a model of failure: ten years.
const LONGEST_WINDOW: i64 = 10 * 366 * 86_400;

/// The seal beside what a card says.
#[derive(Deserialize)]
struct Sealed {
    seal: Option<String>,
}

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
    /// As TOML, under a seal.
    ///
    /// # Errors
    /// Never for a card whose numbers are finite.
    pub fn to_toml(&self) -> Result<String, ModelError> {
        let card = toml::to_string(self)
            .map_err(|e| ModelError::Card { file: self.title.clone(), detail: e.to_string() })?;
        Ok(format!("seal = \"{}\"\n{card}", self.seal()))
    }

    /// The hash of all that it says, that of the ONNX file among it.
    fn seal(&self) -> String {
        hash(&serde_json::to_vec(self).expect("plain data serialises"))
    }

    /// Reads a card and holds it to its model's bytes and to its seal. Cards of before there were seals, and
    /// those that people write, have none.
    ///
    /// # Errors
    /// Not a card, a card of another file, a broken seal, numbers that cannot be.
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
        if let Some(seconds) = card.within_seconds.filter(|s| !(1..=LONGEST_WINDOW).contains(s)) {
            return Err(wrong(format!("within_seconds: expected 1 to {LONGEST_WINDOW}, got {seconds}")));
        }
        if let Some(error) = card.measures.get(ERROR_OF_HEALTHY).filter(|e| !(**e > 0.0 && **e <= MOST_ERROR))
        {
            let expected = format!("expected a number over 0 and up to {MOST_ERROR}");
            return Err(wrong(format!("measures.{ERROR_OF_HEALTHY}: {expected}, got {error}")));
        }
        let metrics = &card.features.metrics;
        if let Some(twice) =
            metrics.iter().enumerate().find_map(|(m, name)| metrics[..m].contains(name).then_some(name))
        {
            return Err(wrong(format!("features.metrics names {twice} twice")));
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
        let Sealed { seal } = toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
        if seal.is_some_and(|seal| seal != card.seal()) {
            return Err(wrong("what it says was changed after it was written: its seal is broken".into()));
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
            "{} [{hash}, {}], trained on {}, {} of {} partitions failed, data until {}; {calibration}{fleets}",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::failure::shipped;

    /// What is said of the shipped model of an hour with its card changed so, sealed by us or not.
    fn said(sealed: bool, from: &str, to: &str) -> Result<Card, String> {
        let (card, onnx) = (shipped::cards().unwrap().swap_remove(1), shipped::files()[1]);
        let text = card.to_toml().unwrap();
        let text = if sealed { text } else { text.lines().skip(1).map(|l| format!("{l}\n")).collect() };
        assert_eq!((text.starts_with("seal = "), text.matches(from).count() > 0), (sealed, true), "{text}");
        Card::read(&text.replacen(from, to, 1), onnx, "failure-1h.toml").map_err(|e| e.to_string())
    }

    #[test]
    fn whatever_is_changed_in_a_sealed_card_breaks_its_seal() {
        let card = shipped::cards().unwrap().swap_remove(1);
        let as_it_is = "title = ";
        assert_eq!(said(true, as_it_is, as_it_is).unwrap(), card);
        assert_eq!(said(false, as_it_is, as_it_is).unwrap(), card, "old cards have no seal");
        for (from, to) in [
            ("\"cpu.busy\", \"cpu.iowait\"", "\"cpu.iowait\", \"cpu.busy\""),
            ("within_seconds = 3600", "within_seconds = 900"),
            ("counted = [11]", "counted = [10]"),
            ("offset = -0.14", "offset = 0.14"),
            ("calibration = \"shipped\"", "calibration = \"calibrated\""),
            ("failures = 543", "failures = 544"),
        ] {
            let error = said(true, from, to).unwrap_err();
            assert!(
                error.contains("failure-1h.toml") && error.contains("its seal is broken"),
                "{to}: {error}"
            );
        }
    }

    #[test]
    fn numbers_that_cannot_be_are_refused_without_a_seal_too() {
        for seconds in ["0", "-3600", "9223372036854775807"] {
            let error =
                said(false, "within_seconds = 3600", &format!("within_seconds = {seconds}")).unwrap_err();
            assert!(error.contains("within_seconds: expected 1 to") && error.contains(seconds), "{error}");
        }
        let error = said(false, "\"cpu.iowait\"", "\"cpu.busy\"").unwrap_err();
        assert!(error.contains("names cpu.busy twice"), "{error}");
        let (onnx, _, card) = shipped::autoencoder().unwrap();
        for error in [1e30, -1.0, 0.0, f64::NAN] {
            let mut card = card.clone();
            card.measures.insert(ERROR_OF_HEALTHY.into(), error);
            let said =
                Card::read(&card.to_toml().unwrap(), onnx, "autoencoder.toml").unwrap_err().to_string();
            assert!(said.contains("measures.mean_error_of_healthy: expected a number over 0"), "{said}");
        }
    }
}
