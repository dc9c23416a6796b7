//! Which models and which runtime speak, for the header, `check` and the brain.

use crate::config::{Config, RuntimeSetting};
use crate::engine::brain::Brain;
use crate::predict::models::runtime;
use crate::protocol::ModelStatus;

/// What the header says.
pub fn status(config: &Config) -> ModelStatus {
    ModelStatus { runtime: runtime_words(config).1, models: Vec::new() }
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

/// Gives the brain its models.
pub fn install(_config: &Config, _brain: &mut Brain) {}

/// What `foreshift check` says of models: what, whether it is well, in words.
pub fn check(config: &Config) -> Vec<(String, bool, String)> {
    let (well, words) = runtime_words(config);
    vec![("model runtime".into(), well, words)]
}
