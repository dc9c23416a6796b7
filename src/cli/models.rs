//! Which models and which runtime speak, for the header, `check` and the brain.

use std::sync::Arc;

use crate::config::{Config, RuntimeSetting};
use crate::engine::brain::Brain;
use crate::fleet::Timestamp;
use crate::predict::Calibration;
use crate::predict::failure::open::{Opened, open};
use crate::predict::models::runtime::Runtime;
use crate::predict::models::runtime::kernels::Kernels;
use crate::predict::models::{ModelError, runtime};
use crate::predict::train::Card;
use crate::protocol::ModelStatus;

/// The runtime in use, whether it is the wanted one, and which it is in words.
struct Chosen {
    runtime: Arc<dyn Runtime>,
    well: bool,
    words: String,
}

fn choose(config: &Config) -> Chosen {
    if config.predict.runtime == RuntimeSetting::Builtin {
        let words = "built-in kernels (chosen in the configuration)".into();
        return Chosen { runtime: Arc::new(Kernels), well: true, words };
    }
    let (runtime, unusable) = runtime::choose(config.predict.onnxruntime.as_deref());
    let words = runtime.name();
    match unusable {
        Some(error) => Chosen { runtime, well: false, words: format!("{words}: {error}") },
        None => Chosen { runtime, well: true, words },
    }
}

fn opened(config: &Config) -> Result<Opened, ModelError> {
    open(config.predict.model_dir.as_deref())
}

fn all_cards(opened: &Opened) -> impl Iterator<Item = &Card> {
    opened.cards.iter().chain(opened.autoencoder.iter().map(|(_, card)| card))
}

/// Name, version, trained when on what, calibration: one model in one line.
fn line(card: &Card) -> String {
    let hash = card.hash.get(..8).unwrap_or(&card.hash);
    let Some(calibration) = card.calibration else {
        let held_back = card.measures.get("auroc_of_the_error").copied().unwrap_or(f64::NAN);
        return format!(
            "{} [{hash}, {}], trained on {}; AUROC {held_back:.2} on held-back partitions",
            card.title, card.trained_by, card.data.source
        );
    };
    let calibration = match calibration {
        Calibration::Uncalibrated => "uncalibrated",
        Calibration::Shipped => "calibrated on other fleets (shipped)",
        Calibration::Calibrated => "calibrated on this fleet",
    };
    format!(
        "{} [{hash}, {}], trained on {}, {} failures among {} partitions, data until {}; {calibration}",
        card.title,
        card.trained_by,
        card.data.source,
        card.data.failures,
        card.data.partitions,
        day(card.data.until),
    )
}

/// A day as `2026-01-05`.
fn day(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.millis())
        .map_or_else(|_| "an unknown day".into(), |t| t.strftime("%F").to_string())
}

fn fallback(error: &ModelError) -> String {
    format!("mapping of instability, uncalibrated: {error}")
}

/// Gives the brain its models, run by the configured runtime, and returns what the header says of them.
/// Where they can't be opened it says so and goes on without: the chances of failure are then a mapping
/// of instability, shown as uncalibrated.
pub fn install(config: &Config, brain: &mut Brain) -> ModelStatus {
    let chosen = choose(config);
    let models = match opened(config) {
        Ok(opened) => {
            let lines = all_cards(&opened).map(line).collect();
            if let Err(error) = brain.set_models(&*chosen.runtime, opened) {
                tracing::error!(%error, "a model cannot be run and is left out");
            }
            lines
        }
        Err(error) => {
            tracing::error!(%error, "no model of failure: an uncalibrated mapping stands in");
            vec![fallback(&error)]
        }
    };
    ModelStatus { runtime: chosen.words, models }
}

/// What `foreshift check` says of models: what, whether it is well, in words.
pub fn check(config: &Config) -> Vec<(String, bool, String)> {
    let chosen = choose(config);
    let mut said = vec![("model runtime".into(), chosen.well, chosen.words)];
    match opened(config) {
        Ok(opened) => said.extend(all_cards(&opened).map(|card| ("model".into(), true, line(card)))),
        Err(error) => said.push(("model".into(), false, fallback(&error))),
    }
    said
}
