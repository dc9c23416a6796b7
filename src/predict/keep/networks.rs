//! Networks for forecasts that outlive a restart: two files an application, `NAME.onnx` and its card
//! `NAME.toml`, as all trained models stand on disk. A crash between the two leaves a card of another file,
//! which is refused, and the network is trained anew.

use std::fs;
use std::path::{Path, PathBuf};

use super::shelf::{ShelfError, bounded, write_whole};
use super::{MOST_AGE, SKEW, Unfit};
use crate::fleet::{Span, Timestamp};
use crate::predict::models::ModelError;
use crate::predict::train::ForecastModel;

const ENDING: &str = "onnx";
/// A longer file of either kind is not ours.
const MOST_BYTES: u64 = 1 << 20;

/// A folder of networks.
#[derive(Clone, Debug)]
pub struct NetworkShelf {
    folder: PathBuf,
    step: Span,
}

/// Why a network that was kept is not used.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum NetworkUnfit {
    /// It cannot be read at all, or is too long to be ours.
    #[error("cannot be read: {reason}")]
    Unread {
        /// Why.
        reason: String,
    },
    /// Another grid.
    #[error("says steps of {found}; forecasts are made in steps of {wanted} now")]
    Step {
        /// What it says.
        found: Span,
        /// What runs.
        wanted: Span,
    },
    /// Too old.
    #[error("was trained {age} ago; it is used for {MOST_AGE}")]
    Old {
        /// How long ago.
        age: Span,
    },
    /// Trained later than now.
    #[error("was trained {by} after now: the clock was set back since, or ran ahead then")]
    Future {
        /// By how much.
        by: Span,
    },
    /// A file or card that was changed, or is of another kind.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The files of another application under this one's name.
    #[error("is a network of {found}, whose files have another name")]
    Application {
        /// Whose.
        found: String,
    },
}

impl NetworkShelf {
    /// In that folder, for forecasts of this step; made when it is first written to.
    pub fn new(folder: &Path, step: Span) -> Self {
        Self { folder: folder.to_path_buf(), step }
    }

    /// Where the ONNX file of an application's network stands.
    pub fn place(&self, application: &str) -> PathBuf {
        let hash = blake3::hash(application.as_bytes()).to_hex();
        self.folder.join(format!("{}.{ENDING}", &hash[..32]))
    }

    /// Keeps a network instead of the one before.
    ///
    /// # Errors
    /// The disk.
    pub fn keep(&self, model: &ForecastModel) -> Result<(), ShelfError> {
        let place = self.place(&model.application);
        let files = model.to_files(&place.display().to_string());
        let card = files.card.to_toml().unwrap_or_default();
        write_whole(&place, &files.onnx)?;
        write_whole(&place.with_extension("toml"), card.as_bytes())
    }

    /// All networks that fit at this time, and those that do not with the reason.
    pub fn load(&self, now: Timestamp) -> (Vec<ForecastModel>, Vec<(PathBuf, NetworkUnfit)>) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut places: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        places.retain(|place| place.extension().is_some_and(|ending| ending == ENDING));
        places.sort();
        let (mut kept, mut refused) = (Vec::new(), Vec::new());
        for place in places {
            match self.read(&place, now) {
                Ok(model) => kept.push(model),
                Err(unfit) => refused.push((place, unfit)),
            }
        }
        (kept, refused)
    }

    fn read(&self, place: &Path, now: Timestamp) -> Result<ForecastModel, NetworkUnfit> {
        let whole = |place: &Path| {
            bounded(place, MOST_BYTES).map_err(|unfit| NetworkUnfit::Unread {
                reason: match unfit {
                    Unfit::Unread { reason } => reason,
                    _ => format!("it is longer than {MOST_BYTES} bytes"),
                },
            })
        };
        let onnx = whole(place)?;
        let card = whole(&place.with_extension("toml"))?;
        let file = place.display().to_string();
        let card = std::str::from_utf8(&card)
            .map_err(|e| ModelError::Card { file: file.clone(), detail: e.to_string() })?;
        let model = ForecastModel::read(&onnx, card, &file)?;
        if self.place(&model.application) != place {
            return Err(NetworkUnfit::Application { found: model.application });
        }
        if model.step != self.step {
            return Err(NetworkUnfit::Step { found: model.step, wanted: self.step });
        }
        let age = model.trained.age(now);
        if (model.trained - now).0 > SKEW.0 {
            return Err(NetworkUnfit::Future { by: model.trained - now });
        }
        if age > MOST_AGE {
            return Err(NetworkUnfit::Old { age });
        }
        Ok(model)
    }
}
