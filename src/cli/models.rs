//! Which models and which runtime speak, for the header, `check` and the brain.

use std::sync::Arc;

use super::{place, settings};
use crate::config::{Config, RuntimeSetting};
use crate::engine::brain::Brain;
use crate::engine::{Contest, Core};
use crate::fleet::{Span, Timestamp};
use crate::predict::failure::open::{Opened, open_whole};
use crate::predict::models::runtime::Runtime;
use crate::predict::models::runtime::check::Trial;
use crate::predict::models::runtime::kernels::Kernels;
use crate::predict::models::{ModelError, runtime};
use crate::predict::train::{Card, Registry, applications};
use crate::protocol::ModelStatus;
use crate::state::StoreError;

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
    let opened = open_whole(config.predict.model_dir.as_deref())?;
    Ok(match trial(config) {
        Some(trial) => opened.tried(&trial),
        None => opened,
    })
}

/// How graphs that are not ours are tried; `None` where they are not run at all.
fn trial(config: &Config) -> Option<Trial> {
    if config.predict.runtime == RuntimeSetting::Builtin {
        return None;
    }
    let trial = Trial::by_this_program(config.predict.onnxruntime.as_deref());
    trial.inspect_err(|error| tracing::error!(%error, "no model can be tried before it is used")).ok()
}

fn all_cards(opened: &Opened) -> impl Iterator<Item = &Card> {
    opened.cards.iter().chain(opened.autoencoder.iter().map(|(_, card)| card))
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
        Ok(mut opened) => {
            if competes(config) {
                // The contest opens them again, and tells.
                opened.troubles.clear();
            }
            let lines = all_cards(&opened).map(Card::line).collect();
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
    ModelStatus { runtime: chosen.words, models, ..ModelStatus::default() }
}

/// Lets the versions that were trained here compete in a running engine, unless the configuration names
/// models of its own.
///
/// # Errors
/// As every call of the store.
pub async fn compete(config: &Config, core: &mut Core, now: Timestamp) -> Result<(), StoreError> {
    let registry = place::registry(&config.engine.data_dir);
    if !competes(config) {
        return Ok(());
    }
    let contest = Contest::new(registry, choose(config).runtime, settings::shadow(config))
        .with_applications(place::models_dir(&config.engine.data_dir))
        .with_trial(trial(config));
    core.compete(contest, now).await
}

/// What `foreshift check` says of models: what, whether it is well, in words.
pub fn check(config: &Config) -> Vec<(String, bool, String)> {
    let chosen = choose(config);
    let mut said = vec![("model runtime".into(), chosen.well, chosen.words)];
    match opened(config) {
        Ok(opened) => {
            said.extend(all_cards(&opened).map(|card| ("model".into(), true, card.line())));
            said.extend(unspoken(config, &opened).map(|words| ("model".into(), false, words)));
            said.extend(opened.troubles.into_iter().map(|trouble| ("model".into(), false, trouble)));
        }
        Err(error) => said.push(("model".into(), false, fallback(&error))),
    }
    if competes(config) {
        let trouble = place::registry(&config.engine.data_dir).trouble();
        said.extend(trouble.map(|trouble| ("model".to_string(), false, trouble)));
        said.extend(check_own(config));
    }
    said
}

/// Which of the configured windows no model speaks of.
fn unspoken(config: &Config, opened: &Opened) -> Option<String> {
    let words = |windows: Vec<Span>| windows.into_iter().map(Span::as_window).collect::<Vec<_>>().join(", ");
    let spoken: Vec<Span> = opened.model.heads.iter().map(|head| head.within).collect();
    let missing: Vec<Span> =
        config.predict.windows.iter().copied().filter(|within| !spoken.contains(within)).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "no model speaks of failures within {}: an uncalibrated mapping of instability stands in; train one \
             (foreshift train), or set predict.windows to what models speak of: {}",
            words(missing),
            words(spoken)
        )
    })
}

/// The models of single applications that are in use.
fn check_own(config: &Config) -> Vec<(String, bool, String)> {
    let folder = place::models_dir(&config.engine.data_dir);
    let mut said = Vec::new();
    for application in applications(&folder) {
        let registry = Registry::of_application(&folder, &application);
        let what = format!("model of {application}");
        if let Some(trouble) = registry.trouble() {
            said.push((what, false, trouble));
            continue;
        }
        let Some(version) = registry.current() else { continue };
        match registry.open(version) {
            Ok(opened) => {
                let line = |c: &Card| (what.clone(), true, format!("version {version}: {}", c.line()));
                said.extend(opened.cards.iter().map(line));
                let warning = |words| (what.clone(), false, format!("version {version}: {words}"));
                said.extend(unspoken(config, &opened).map(warning));
            }
            Err(error) => {
                let words = format!("version {version} cannot speak, the fleet's model does: {error}");
                said.push((what, false, words));
            }
        }
    }
    said
}

/// Whether versions that were trained here may speak: not where the configuration names other models.
fn competes(config: &Config) -> bool {
    let registry = place::registry(&config.engine.data_dir);
    config.predict.model_dir.is_none() || config.predict.model_dir == registry.in_use()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_no_model_speaks_of_is_a_warning() {
        let mut config = Config::default();
        let dir = tempfile::tempdir().unwrap();
        config.engine.data_dir = dir.path().to_path_buf();
        config.predict.runtime = RuntimeSetting::Builtin;
        let wrong = |config: &Config| -> Vec<String> {
            check(config).into_iter().filter(|(_, well, _)| !well).map(|(_, _, words)| words).collect()
        };
        assert_eq!(wrong(&config), [""; 0]);
        config.predict.windows = vec![Span::minutes(30), Span::hours(1), Span::hours(2)];
        let said = wrong(&config);
        assert!(
            said.len() == 1 && said[0].contains("no model speaks of failures within 30 m, 2 h: "),
            "{said:?}"
        );
        assert!(said[0].ends_with("to what models speak of: 15 m, 1 h, 24 h"), "{said:?}");
    }
}
