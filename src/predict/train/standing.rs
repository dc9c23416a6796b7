//! Which version speaks, which runs in shadow, and how that came about: the file `shadow.toml` beside
//! `current`. The engine, which may run meanwhile, reads both and follows.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::registry::Registry;
use crate::fleet::Timestamp;
use crate::predict::failure::{Opened, open};
use crate::predict::models::ModelError;

/// The number that stands for the models that come with the program.
pub const SHIPPED: u32 = 0;
const FILE: &str = "shadow.toml";
/// Chapters that are kept.
const KEPT: usize = 100;

/// What a version runs in shadow for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seat {
    /// It is new, and speaks once it has proved better.
    Challenger,
    /// It spoke before, and speaks again where the one that followed goes wrong.
    Former,
}

impl Seat {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Seat::Challenger => "challenger",
            Seat::Former => "former champion",
        }
    }
}

/// A version in shadow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Contender {
    /// Its number; [`SHIPPED`] = the shipped models.
    pub version: u32,
    /// What for.
    pub seat: Seat,
    /// Since when.
    pub since: Timestamp,
}

/// Something that happened to a version.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Chapter {
    /// Its number.
    pub version: u32,
    /// When.
    pub at: Timestamp,
    /// `put into use`, `retired`, `taken back`, `replaced`.
    pub what: String,
    /// Why, with the figures.
    pub why: String,
}

/// Which version speaks and which runs in shadow.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// The version in use; [`SHIPPED`] = the shipped models.
    #[serde(skip)]
    pub current: u32,
    /// The one in shadow.
    pub shadow: Option<Contender>,
    /// What happened, oldest first.
    pub past: Vec<Chapter>,
}

/// A version as people read it.
pub fn name(version: u32) -> String {
    match version {
        SHIPPED => "the shipped models".into(),
        number => format!("version {number}"),
    }
}

impl Registry {
    /// How things stand.
    ///
    /// # Errors
    /// A file that cannot be understood.
    pub fn standing(&self) -> Result<Standing, ModelError> {
        let path = self.folder().join(FILE);
        let failed = |detail: String| ModelError::File { path: path.display().to_string(), detail };
        let mut standing: Standing = match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|e| failed(e.to_string()))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Standing::default(),
            Err(e) => return Err(failed(e.to_string())),
        };
        standing.current = self.current().unwrap_or(SHIPPED);
        // Whoever took over between the two files is no shadow of itself.
        standing.shadow = standing.shadow.filter(|s| s.version != standing.current);
        Ok(standing)
    }

    fn write(&self, standing: &mut Standing) -> Result<(), ModelError> {
        let beyond = standing.past.len().saturating_sub(KEPT);
        standing.past.drain(..beyond);
        let path = self.folder().join(FILE);
        let failed = |detail: String| ModelError::File { path: path.display().to_string(), detail };
        let text = toml::to_string(standing).map_err(|e| failed(e.to_string()))?;
        let draft = self.folder().join("shadow.draft");
        std::fs::create_dir_all(self.folder())
            .and_then(|()| std::fs::write(&draft, text))
            .and_then(|()| std::fs::rename(&draft, &path))
            .map_err(|e| failed(e.to_string()))
    }

    /// The models of a version, each held to its card.
    ///
    /// # Errors
    /// Missing, corrupt or foreign files.
    pub fn open(&self, version: u32) -> Result<Opened, ModelError> {
        let place = self.place(version);
        open((version != SHIPPED).then_some(Path::new(&place)))
    }

    /// Lets a version run in shadow.
    ///
    /// # Errors
    /// It does not load, speaks already, or the folder can't be written.
    pub fn challenge(&self, version: u32, at: Timestamp) -> Result<(), ModelError> {
        let mut standing = self.standing()?;
        if version == standing.current {
            let detail = format!("{} speaks already", name(version));
            return Err(ModelError::File { path: self.folder().display().to_string(), detail });
        }
        self.open(version)?;
        if let Some(before) = standing.shadow.filter(|s| s.seat == Seat::Challenger && s.version != version) {
            let (what, why) = ("replaced".into(), format!("{} challenges now", name(version)));
            standing.past.push(Chapter { version: before.version, at, what, why });
        }
        standing.shadow = Some(Contender { version, seat: Seat::Challenger, since: at });
        self.write(&mut standing)
    }

    /// Puts a version into use; the one before it runs on in shadow.
    ///
    /// # Errors
    /// It does not load, or the folder can't be written.
    pub fn take_over(&self, version: u32, at: Timestamp, why: &str) -> Result<(), ModelError> {
        let mut standing = self.standing()?;
        let before = standing.current;
        self.promote(version)?;
        standing.past.push(Chapter { version, at, what: "put into use".into(), why: why.into() });
        standing.shadow =
            (before != version).then_some(Contender { version: before, seat: Seat::Former, since: at });
        self.write(&mut standing)
    }

    /// The challenger goes; the version before the one in use runs in shadow again.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn dismiss(&self, at: Timestamp, why: &str) -> Result<(), ModelError> {
        let mut standing = self.standing()?;
        if let Some(gone) = standing.shadow.take() {
            standing.past.push(Chapter {
                version: gone.version,
                at,
                what: "retired".into(),
                why: why.into(),
            });
        }
        let before = self.before();
        standing.shadow = before.map(|version| Contender { version, seat: Seat::Former, since: at });
        self.write(&mut standing)
    }

    /// Removes the oldest versions that neither speak, nor spoke before, nor run in shadow, but for the
    /// newest `kept` of them.
    ///
    /// # Errors
    /// A folder can't be removed.
    pub fn tidy(&self, kept: usize) -> Result<(), ModelError> {
        let (chain, shadow) = (self.chain(), self.standing()?.shadow.map(|s| s.version));
        let idle: Vec<u32> =
            self.versions().into_iter().filter(|v| !chain.contains(v) && shadow != Some(*v)).collect();
        for version in &idle[..idle.len().saturating_sub(kept)] {
            let place = self.place(*version);
            std::fs::remove_dir_all(&place)
                .map_err(|e| ModelError::File { path: place.display().to_string(), detail: e.to_string() })?;
        }
        Ok(())
    }

    /// The version before the one in use; `None` where the shipped models speak.
    pub fn before(&self) -> Option<u32> {
        let chain = self.chain();
        let last = chain.len().checked_sub(1)?;
        Some(last.checked_sub(1).map_or(SHIPPED, |at| chain[at]))
    }

    /// Takes the last change back and gives the version that speaks now. Whoever was taken back does not
    /// run in shadow: it would win its place back by what it said in better times.
    ///
    /// # Errors
    /// The shipped models speak, or the folder can't be written.
    pub fn go_back(&self, at: Timestamp, why: &str) -> Result<u32, ModelError> {
        let mut standing = self.standing()?;
        if self.before() == Some(SHIPPED) {
            self.retire()?;
        } else {
            self.revert()?;
        }
        let (version, what) = (standing.current, "taken back".to_string());
        standing.past.push(Chapter { version, at, what, why: why.into() });
        standing.shadow = standing.shadow.filter(|s| s.seat == Seat::Challenger);
        let now = self.current().unwrap_or(SHIPPED);
        standing.shadow = standing.shadow.filter(|s| s.version != now);
        self.write(&mut standing)?;
        Ok(now)
    }
}
