//! Versions of models on disk: `DIR/NAME/0001/*.onnx` with their cards, and a file `current` that
//! names the version in use and those before it, so that a promotion can be taken back.

use std::path::{Path, PathBuf};

use super::card::Card;
use super::failure::{HeadFile, assemble};
use crate::predict::failure::model::FailureModel;
use crate::predict::models::error::ModelError;

/// A folder of versions.
#[derive(Clone, Debug)]
pub struct Registry {
    folder: PathBuf,
}

const CURRENT: &str = "current";

impl Registry {
    /// In that folder, for that name (an application, or `fleet`); made when it is first written to.
    pub fn new(folder: &Path, name: &str) -> Self {
        let safe: String =
            name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
        let safe = if safe.trim_matches('.').is_empty() { "_".to_string() } else { safe };
        Self { folder: folder.join(safe) }
    }

    /// In that folder itself.
    pub(super) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// All versions, oldest first.
    pub fn versions(&self) -> Vec<u32> {
        let mut versions: Vec<u32> = std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        versions.sort_unstable();
        versions
    }

    /// The version in use.
    pub fn current(&self) -> Option<u32> {
        self.chain().last().copied()
    }

    /// The folder of the version in use, where it is there.
    pub fn in_use(&self) -> Option<PathBuf> {
        self.current().map(|version| self.place(version)).filter(|place| place.is_dir())
    }

    /// The cards of a version, each held to its model.
    ///
    /// # Errors
    /// Missing, corrupt or foreign files.
    pub fn cards(&self, version: u32) -> Result<Vec<Card>, ModelError> {
        let mut cards: Vec<Card> = read_files(&self.place(version))?.into_iter().map(|f| f.card).collect();
        cards.sort_by_key(|c| c.within_seconds);
        Ok(cards)
    }

    /// Its folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Versions that were in use, the present one last.
    pub(super) fn chain(&self) -> Vec<u32> {
        let text = std::fs::read_to_string(self.folder.join(CURRENT)).unwrap_or_default();
        text.lines().filter_map(|line| line.trim().parse().ok()).collect()
    }

    /// Writes a new version, whole or not at all; it is not in use yet.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn add(&self, files: &[HeadFile]) -> Result<u32, ModelError> {
        let version = self.versions().last().map_or(1, |v| v + 1);
        let draft = self.folder.join(format!("draft-{version}"));
        std::fs::create_dir_all(&draft).map_err(|e| failed(&draft, &e))?;
        for file in files {
            write_files(&draft, file)?;
        }
        let place = self.place(version);
        std::fs::rename(&draft, &place).map_err(|e| failed(&place, &e))?;
        Ok(version)
    }

    /// What is wrong with the file that names the version in use, or with what it names.
    pub fn trouble(&self) -> Option<String> {
        let path = self.folder.join(CURRENT);
        let text = match std::fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
            Err(e) => return Some(failed(&path, &e).to_string()),
        };
        let odd = |(_, line): &(usize, &str)| !line.is_empty() && line.parse::<u32>().is_err();
        if let Some((at, line)) = text.lines().map(str::trim).enumerate().find(odd) {
            let line: String = line.chars().take(40).collect();
            return Some(format!(
                "{}:{}: expected the number of a version, got {line:?}; put a version into use again, or remove \
                 the file for the shipped models",
                path.display(),
                at + 1
            ));
        }
        let version = self.current()?;
        let place = self.place(version);
        (!place.is_dir()).then(|| {
            format!(
                "{}: version {version} is in use and there is no folder {}: the shipped models speak; restore it, \
                 or take the change back",
                path.display(),
                place.display()
            )
        })
    }

    /// Puts a version into use.
    ///
    /// # Errors
    /// It is not there, does not load, says no more than the base rate ([`Card::worthless`]), or the folder can't be
    /// written.
    pub fn promote(&self, version: u32) -> Result<FailureModel, ModelError> {
        let model = self.load(version)?;
        let cards = self.cards(version)?;
        let poor: Vec<String> = cards.iter().filter_map(Card::worthless).collect();
        if !poor.is_empty() {
            return Err(ModelError::Worthless { version, detail: poor.join("; ") });
        }
        let mut chain = self.chain();
        if chain.last() != Some(&version) {
            chain.push(version);
        }
        self.write_chain(&chain)?;
        Ok(model)
    }

    /// Takes the last promotion back and gives the version that is in use now.
    ///
    /// # Errors
    /// There is none before it, or the folder can't be written.
    pub fn revert(&self) -> Result<u32, ModelError> {
        let mut chain = self.chain();
        chain.pop();
        let Some(&version) = chain.last() else {
            return Err(ModelError::File {
                path: self.folder.display().to_string(),
                detail: "no earlier version to go back to".into(),
            });
        };
        self.write_chain(&chain)?;
        Ok(version)
    }

    /// Puts none into use: the shipped models speak.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn retire(&self) -> Result<(), ModelError> {
        self.write_chain(&[])
    }

    /// Loads a version's model of failure, each file held to its card.
    ///
    /// # Errors
    /// Missing, corrupt or foreign files.
    pub fn load(&self, version: u32) -> Result<FailureModel, ModelError> {
        let files = read_files(&self.place(version))?;
        let heads = files.iter().filter(|f| f.card.within_seconds.is_some());
        assemble(heads.map(|f| (f.onnx.as_slice(), f.card.clone())))
    }

    /// The folder of a version.
    pub fn place(&self, version: u32) -> PathBuf {
        self.folder.join(format!("{version:04}"))
    }

    pub(super) fn write_chain(&self, chain: &[u32]) -> Result<(), ModelError> {
        let text: String = chain.iter().map(|v| format!("{v:04}\n")).collect();
        let (draft, path) = (self.folder.join("current.draft"), self.folder.join(CURRENT));
        std::fs::write(&draft, text)
            .and_then(|()| std::fs::rename(&draft, &path))
            .map_err(|e| ModelError::File { path: path.display().to_string(), detail: e.to_string() })
    }
}

/// Writes one model and its card into a folder.
///
/// # Errors
/// The folder can't be written.
pub fn write_files(folder: &Path, file: &HeadFile) -> Result<(), ModelError> {
    let card = file.card.to_toml()?;
    for (ending, bytes) in [("onnx", file.onnx.as_slice()), ("toml", card.as_bytes())] {
        let path = folder.join(format!("{}.{ending}", file.name));
        std::fs::write(&path, bytes)
            .map_err(|e| ModelError::File { path: path.display().to_string(), detail: e.to_string() })?;
    }
    Ok(())
}

/// Reads every model of a folder, each held to its card.
///
/// # Errors
/// The folder can't be read, a card is missing or is of another file.
pub fn read_files(folder: &Path) -> Result<Vec<HeadFile>, ModelError> {
    let (files, damaged) = read_whole(folder)?;
    damaged.into_iter().next().map_or(Ok(files), Err)
}

/// The models of a folder that are whole, and what is wrong with the others.
///
/// # Errors
/// The folder can't be read.
pub fn read_whole(folder: &Path) -> Result<(Vec<HeadFile>, Vec<ModelError>), ModelError> {
    let entries = std::fs::read_dir(folder).map_err(|e| failed(folder, &e))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let (mut whole, mut damaged) = (Vec::new(), Vec::new());
    for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "onnx")) {
        match read_file(path) {
            Ok(file) => whole.push(file),
            Err(error) => damaged.push(error),
        }
    }
    // A card of which the model is gone.
    let cards = paths.iter().filter(|p| p.extension().is_some_and(|e| e == "toml"));
    for model in cards.map(|card| card.with_extension("onnx")).filter(|model| !paths.contains(model)) {
        let detail = "there is a card of it beside, and no model; restore it, or remove the card".to_string();
        damaged.push(ModelError::File { path: model.display().to_string(), detail });
    }
    Ok((whole, damaged))
}

fn read_file(path: &Path) -> Result<HeadFile, ModelError> {
    let onnx = std::fs::read(path).map_err(|e| failed(path, &e))?;
    let card_path = path.with_extension("toml");
    let text = std::fs::read_to_string(&card_path).map_err(|e| failed(&card_path, &e))?;
    let card = Card::read(&text, &onnx, &card_path.display().to_string())?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(HeadFile { name, onnx, card })
}

fn failed(path: &Path, error: &std::io::Error) -> ModelError {
    ModelError::File { path: path.display().to_string(), detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_use_that_names_no_version_is_told_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::new(dir.path(), "all");
        assert_eq!(registry.trouble(), None);
        std::fs::create_dir_all(registry.place(1)).unwrap();
        registry.write_chain(&[1]).unwrap();
        assert_eq!(registry.trouble(), None);
        std::fs::write(registry.folder().join(CURRENT), "0001\nbanana\n").unwrap();
        let trouble = registry.trouble().unwrap();
        assert!(trouble.contains("current:2: expected the number of a version, got \"banana\""), "{trouble}");
        std::fs::write(registry.folder().join(CURRENT), [0xff, 0xfe]).unwrap();
        assert!(registry.trouble().unwrap().contains("current:1:"));
        std::fs::write(registry.folder().join(CURRENT), "0007\n").unwrap();
        let trouble = registry.trouble().unwrap();
        assert!(trouble.contains("version 7 is in use and there is no folder"), "{trouble}");
    }

    #[test]
    fn a_head_no_better_than_the_base_rate_is_never_put_into_use() {
        use crate::predict::train::failure::file_name;
        let shipped = crate::predict::failure::open(None).unwrap();
        let heads = shipped.cards.into_iter().zip(shipped.files);
        let mut files: Vec<HeadFile> = heads
            .map(|(card, onnx)| HeadFile { name: file_name(card.within().unwrap()), onnx, card })
            .collect();
        let quality = files[1].card.quality.as_mut().unwrap();
        (quality.brier_skill, quality.auroc) = (-0.23, 0.54);
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::new(dir.path(), "all");
        let version = registry.add(&files).unwrap();
        let error =
            registry.take_over(version, crate::fleet::Timestamp(0), "by hand").unwrap_err().to_string();
        assert!(error.contains("failure within 1 h: no better than the base rate"), "{error}");
        assert!(error.contains("Brier skill -0.23, AUROC 0.54") && error.contains("--from"), "{error}");
        assert_eq!(registry.current(), None);
    }
}
