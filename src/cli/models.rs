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

/// What the header says.
pub fn status(config: &Config) -> ModelStatus {
    let models = match opened(config) {
        Ok(opened) => all_cards(&opened).map(line).collect(),
        Err(error) => vec![fallback(&error)],
    };
    ModelStatus { runtime: runtime_words(config).1, models }
}

/// Whether the wanted runtime speaks, and which one in words.
fn runtime_words(config: &Config) -> (bool, String) {
    if config.predict.runtime == RuntimeSetting::Builtin {
        return (true, "built-in kernels (chosen in the configuration)".into());
    }
    let (chosen, unusable) = runtime::choose(config.predict.onnxruntime.as_deref());
    let words = chosen.name();
    match unusable {
        Some(error) => (false, format!("{words}: {error}")),
        None => (true, words),
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
    if card.calibration.is_none() {
        let held_back = card.measures.get("auroc_of_the_error").copied().unwrap_or(f64::NAN);
        return format!(
            "{} [{hash}, {}], trained on {}; AUROC {held_back:.2} on held-back partitions",
            card.title, card.trained_by, card.data.source
        );
    }
    let calibration = match card.calibration.unwrap_or_default() {
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

/// Gives the brain its models, run by the configured runtime. Where they can't be opened it says so and
/// goes on without: the chances of failure are then a mapping of instability, shown as uncalibrated.
pub fn install(config: &Config, brain: &mut Brain) {
    let opened = match opened(config) {
        Ok(opened) => opened,
        Err(error) => {
            tracing::error!(%error, "no model of failure: an uncalibrated mapping stands in");
            return;
        }
    };
    let runtime = runtime(config);
    if let Err(error) = brain.set_models(&*runtime, opened) {
        tracing::error!(%error, "a model cannot be run and is left out");
    }
}

fn runtime(config: &Config) -> Arc<dyn Runtime> {
    if config.predict.runtime == RuntimeSetting::Builtin {
        return Arc::new(Kernels);
    }
    runtime::choose(config.predict.onnxruntime.as_deref()).0
}

/// What `foreshift check` says of models: what, whether it is well, in words.
pub fn check(config: &Config) -> Vec<(String, bool, String)> {
    let (well, words) = runtime_words(config);
    let mut said = vec![("model runtime".into(), well, words)];
    match opened(config) {
        Ok(opened) => said.extend(all_cards(&opened).map(|card| ("model".into(), true, line(card)))),
        Err(error) => said.push(("model".into(), false, fallback(&error))),
    }
    said
}
