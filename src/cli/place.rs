//! Where the configuration and the engine's files are.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::config::Config;
use crate::fleet::{ApplicationId, Clock, Revision, SystemClock};
use crate::predict::train::Registry;
use crate::state::{RedbStore, StoreError};

/// The configuration that was named, else `foreshift.toml` here, else
/// `~/.config/foreshift/config.toml`; `None` where there is none.
///
/// # Errors
/// Where the named one, or one that was found, cannot be used; the error names line and key.
pub fn load(named: Option<&Path>) -> Result<Option<(PathBuf, Config)>> {
    let path = match named {
        Some(path) => path.to_path_buf(),
        None => match candidates().into_iter().find(|p| p.is_file()) {
            Some(path) => path,
            None => return Ok(None),
        },
    };
    let mut config = Config::load(&path)?;
    // Models that were trained here and put into use stand in for the shipped ones.
    if config.predict.model_dir.is_none() {
        config.predict.model_dir = registry(&config.engine.data_dir).in_use();
    }
    Ok(Some((path, config)))
}

/// Where a configuration is looked for that nobody named.
fn candidates() -> Vec<PathBuf> {
    let home = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".config")));
    let home = home.map(|h| h.join("foreshift/config.toml"));
    [Some(PathBuf::from("foreshift.toml")), home].into_iter().flatten().collect()
}

/// The same places in words, in full.
pub fn looked_for() -> String {
    let full = |p: PathBuf| std::path::absolute(&p).unwrap_or(p).display().to_string();
    candidates().into_iter().map(full).collect::<Vec<_>>().join(" and ")
}

/// Where the engine keeps its files without a configuration.
pub fn default_data_dir() -> PathBuf {
    Config::default().engine.data_dir
}

/// The file of the embedded state within a data directory.
pub fn state_file(dir: &Path) -> PathBuf {
    dir.join("state.redb")
}

/// Opens the embedded state within a data directory; where there is none it begins with the time, so
/// that its epochs are above those of one that was lost.
///
/// # Errors
/// As [`RedbStore::open`].
pub fn open_state(dir: &Path) -> Result<RedbStore, StoreError> {
    let now = u64::try_from(SystemClock.now().0).unwrap_or(0);
    RedbStore::open_from(&state_file(dir), Revision(now))
}

/// The folder of the embedded time series within a data directory.
pub fn series_dir(dir: &Path) -> PathBuf {
    dir.join("series")
}

/// The versions of the model of the whole fleet.
pub fn registry(dir: &Path) -> Registry {
    Registry::new(&models_dir(dir), "all")
}

/// The versions of one application's model.
pub fn registry_of(dir: &Path, application: &ApplicationId) -> Registry {
    Registry::of_application(&models_dir(dir), application)
}

/// The folder of detectors that are kept over a restart, within a data directory.
pub fn detectors_dir(dir: &Path) -> PathBuf {
    dir.join("detectors")
}

/// The folder of networks for forecasts that are kept over a restart, within a data directory.
pub fn forecasters_dir(dir: &Path) -> PathBuf {
    dir.join("forecasters")
}

/// The folder of trained models within a data directory.
pub fn models_dir(dir: &Path) -> PathBuf {
    dir.join("models")
}
