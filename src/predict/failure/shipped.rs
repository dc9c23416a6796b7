//! The models that come with the program: trained on simulated scenarios by `foreshift train
//! --shipped`, used until a fleet has failures of its own to learn from, and marked as calibrated on
//! other fleets.

use super::model::FailureModel;
use crate::predict::models::error::ModelError;
use crate::predict::models::lstm::Autoencoder;
use crate::predict::models::onnx::{self, Model};
use crate::predict::train::card::Card;
use crate::predict::train::failure::assemble;

macro_rules! file {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!("../../../assets/models/", $name, ".onnx")).as_slice(),
            include_str!(concat!("../../../assets/models/", $name, ".toml")),
        )
    };
}

const HEADS: [(&str, &[u8], &str); 3] = [file!("failure-15m"), file!("failure-1h"), file!("failure-24h")];
const AUTOENCODER: (&str, &[u8], &str) = file!("autoencoder");

impl FailureModel {
    /// The shipped model of failure.
    ///
    /// # Errors
    /// Never for a program as it was built; a test loads it.
    pub fn shipped() -> Result<Self, ModelError> {
        let mut heads = Vec::new();
        for (name, bytes, card) in HEADS {
            heads.push((bytes, Card::read(card, bytes, name)?));
        }
        assemble(heads)
    }
}

/// The cards of the shipped models of failure, shortest window first.
///
/// # Errors
/// As [`FailureModel::shipped`].
pub fn cards() -> Result<Vec<Card>, ModelError> {
    HEADS.iter().map(|(name, bytes, card)| Card::read(card, bytes, name)).collect()
}

/// The ONNX files of the shipped models of failure, shortest window first.
pub fn files() -> Vec<&'static [u8]> {
    HEADS.iter().map(|(_, bytes, _)| *bytes).collect()
}

/// The shipped autoencoder (ONNX bytes, to be run by whatever runtime there is) and its card.
///
/// # Errors
/// As [`FailureModel::shipped`].
pub fn autoencoder() -> Result<(&'static [u8], Autoencoder, Card), ModelError> {
    let (name, bytes, card) = AUTOENCODER;
    let card = Card::read(card, bytes, name)?;
    match onnx::decode(bytes, name)? {
        Model::Autoencoder(model) => Ok((bytes, model, card)),
        other => Err(ModelError::Card {
            file: name.into(),
            detail: format!("an autoencoder was expected, the file is a {}", other.kind()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::models::FeatureMatrix;

    #[test]
    fn shipped_models_load_are_small_and_say_more_of_a_failing_disk_than_of_calm() {
        let model = FailureModel::shipped().unwrap();
        assert_eq!(model.heads.len(), 3);
        assert!(model.heads.iter().all(|h| h.ranges.is_some()), "cards know what was trained on");
        assert!(HEADS.iter().chain([&AUTOENCODER]).all(|h| h.1.len() < 500_000));
        let width = model.spec.width();
        let mut rows = FeatureMatrix::from_values(width, vec![0.0; 2 * width]);
        for row in 0..2 {
            if let Some(health) = model.spec.extra("health") {
                rows.row_mut(row)[health] = [97.0, 30.0][row];
            }
        }
        for name in ["disk.read_latency", "disk.write_latency", "log.errors"] {
            let metric = model.spec.metrics.iter().position(|m| m == name).unwrap();
            let first = model.spec.mean10(metric) - 1;
            rows.row_mut(1)[first..first + 5].copy_from_slice(&[9.0, 8.5, 6.0, 2.5, 1.2]);
        }
        // Sums of counts are logarithms.
        let names = model.spec.names();
        for (name, said) in [("instability", 12.0), ("log.errors.sum20", 5.5), ("log.errors.sum120", 6.2)] {
            if let Some(at) = names.iter().position(|n| n == name) {
                rows.row_mut(1)[at] = said;
            }
        }
        let shown = model.predict(&rows);
        let (calm, failing) = (shown.row(0), shown.row(1));
        assert!(calm[1] < 0.02 && failing[1] > 0.05 && failing[1] > 100.0 * calm[1], "{calm:?} {failing:?}");
        let why = model.explain(&rows, &[1], 1)[0].by_group(&model.spec);
        assert!(why.iter().take(4).any(|(name, _)| name.starts_with("disk.")), "{why:?}");
        autoencoder().unwrap();
    }
}
