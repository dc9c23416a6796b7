//! Opens the model of failure that is to speak: the files of a folder, or the shipped ones.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::model::FailureModel;
use super::shipped;
use crate::predict::models::error::ModelError;
use crate::predict::models::onnx;
use crate::predict::models::runtime::check::{Trial, check_in_child};
use crate::predict::train::card::Card;
use crate::predict::train::failure::{HeadFile, assemble};
use crate::predict::train::registry::{read_files, read_whole};

/// The kind that a card of an autoencoder names.
const AUTOENCODER: &str = "lstm-autoencoder";

/// A model of failure and the cards of its heads, shortest window first.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Ready to run.
    pub model: FailureModel,
    /// One a head.
    pub cards: Vec<Card>,
    /// The heads' ONNX files, in the same order.
    pub files: Vec<Vec<u8>>,
    /// The autoencoder's ONNX file and card.
    pub autoencoder: Option<(Vec<u8>, Card)>,
    /// Where the autoencoder is a graph that the built-in kernels do not know: its file.
    pub foreign: Option<PathBuf>,
    /// What is wrong and what stands in for it.
    pub troubles: Vec<String>,
}

/// The failure models of `folder` (`*.onnx`, each with its card beside it); without a folder the
/// shipped ones. The autoencoder is the folder's, where it has one, else the shipped one. Files of other
/// models in the folder are left alone.
///
/// # Errors
/// The folder can't be read, a card is missing or of another file, heads that don't go together.
pub fn open(folder: Option<&Path>) -> Result<Opened, ModelError> {
    let Some(folder) = folder else { return shipped_models() };
    let files = read_files(folder)?;
    let (autoencoder, foreign) = autoencoder_of(folder, &files)?;
    let mut heads: Vec<HeadFile> = files.into_iter().filter(|f| f.card.within_seconds.is_some()).collect();
    heads.sort_by_key(|f| f.card.within_seconds);
    let model = assemble(heads.iter().map(|f| (f.onnx.as_slice(), f.card.clone())))?;
    let (files, cards) = heads.into_iter().map(|f| (f.onnx, f.card)).unzip();
    Ok(Opened { model, cards, files, autoencoder: Some(autoencoder), foreign, troubles: Vec::new() })
}

/// The same of a folder that may be damaged: what is whole in it, and the shipped models for all windows
/// that nothing whole speaks for. [`Opened::troubles`] says so.
///
/// # Errors
/// The folder is sound and holds no model of failure.
pub fn open_whole(folder: Option<&Path>) -> Result<Opened, ModelError> {
    let Some(folder) = folder else { return shipped_models() };
    let (files, mut damaged) = match read_whole(folder) {
        Ok(read) => read,
        Err(error) => (Vec::new(), vec![error]),
    };
    let (autoencoder, foreign) = autoencoder_of(folder, &files)?;
    let mut heads: Vec<HeadFile> = Vec::new();
    for file in files.into_iter().filter(|f| f.card.within_seconds.is_some()) {
        match assemble([(file.onnx.as_slice(), file.card.clone())]) {
            Ok(_) => heads.push(file),
            Err(error) => damaged.push(error),
        }
    }
    damaged.extend(leave_out(&mut heads));
    if damaged.is_empty() {
        return open(Some(folder));
    }
    let shipped = shipped_models()?;
    let spoken: Vec<_> = heads.iter().map(|f| f.card.within_seconds).collect();
    let fits = |card: &Card| heads.first().is_none_or(|head| head.card.features == card.features);
    let all = shipped.cards.iter().zip(&shipped.files);
    let open_windows: Vec<_> = all.filter(|(card, _)| !spoken.contains(&card.within_seconds)).collect();
    let words: Vec<String> = damaged.iter().map(ToString::to_string).collect();
    let (standing, mapped): (Vec<_>, Vec<_>) = open_windows.into_iter().partition(|(card, _)| fits(card));
    let titles =
        |of: &[(&Card, &Vec<u8>)]| of.iter().map(|(c, _)| c.title.clone()).collect::<Vec<_>>().join(", ");
    let mut trouble = words.join("; ");
    if !standing.is_empty() {
        trouble += &format!("; the shipped models stand in: {}", titles(&standing));
    }
    if !mapped.is_empty() {
        trouble += &format!("; an uncalibrated mapping stands in: {}", titles(&mapped));
    }
    let mut parts: Vec<(Vec<u8>, Card)> = heads.iter().map(|f| (f.onnx.clone(), f.card.clone())).collect();
    parts.extend(standing.into_iter().map(|(card, onnx)| (onnx.clone(), card.clone())));
    parts.sort_by_key(|(_, card)| card.within_seconds);
    let model = assemble(parts.iter().map(|(onnx, card)| (onnx.as_slice(), card.clone())))?;
    let (files, cards) = parts.into_iter().unzip();
    Ok(Opened { model, cards, files, autoencoder: Some(autoencoder), foreign, troubles: vec![trouble] })
}

/// Heads that go together stay: those of the features that most of them read, one a window. Says why the
/// others are left out.
fn leave_out(heads: &mut Vec<HeadFile>) -> Vec<ModelError> {
    heads.sort_by_key(|f| f.card.within_seconds);
    let readers = |file: &HeadFile| heads.iter().filter(|f| f.card.features == file.card.features).count();
    // Of as many, those of the shortest window.
    let most = heads.iter().rev().max_by_key(|file| readers(file)).map(|file| file.card.features.clone());
    let mut out = Vec::new();
    let mut spoken = HashSet::new();
    heads.retain(|file| {
        let why = if most.as_ref() != Some(&file.card.features) {
            "it reads other features than the other windows' models"
        } else if !spoken.insert(file.card.within_seconds) {
            "another model beside it speaks of the same window"
        } else {
            return true;
        };
        out.push(ModelError::Card { file: format!("{}.toml", file.name), detail: why.into() });
        false
    });
    out
}

impl Opened {
    /// The same once a graph that is not ours has been tried in a process of its own; the shipped
    /// autoencoder stands in for one that does not pass.
    pub fn tried(mut self, trial: &Trial) -> Self {
        let Some(path) = &self.foreign else { return self };
        if let Err(error) = check_in_child(trial, path) {
            self.troubles.push(format!("the shipped autoencoder stands in: {error}"));
            (self.autoencoder, self.foreign) = (shipped_autoencoder().ok(), None);
        }
        self
    }
}

fn shipped_models() -> Result<Opened, ModelError> {
    let model = FailureModel::shipped()?;
    let files = shipped::files().into_iter().map(<[u8]>::to_vec).collect();
    let autoencoder = Some(shipped_autoencoder()?);
    let cards = shipped::cards()?;
    Ok(Opened { model, cards, files, autoencoder, foreign: None, troubles: Vec::new() })
}

/// An autoencoder with its card, and its file where it is a graph that is not ours.
type Autoencoder = ((Vec<u8>, Card), Option<PathBuf>);

/// The folder's autoencoder, else the shipped one.
fn autoencoder_of(folder: &Path, files: &[HeadFile]) -> Result<Autoencoder, ModelError> {
    let Some(own) = files.iter().find(|f| f.card.kind == AUTOENCODER) else {
        return Ok((shipped_autoencoder()?, None));
    };
    let path = folder.join(format!("{}.onnx", own.name));
    let foreign = onnx::decode(&own.onnx, &own.name).is_err().then_some(path);
    Ok(((own.onnx.clone(), own.card.clone()), foreign))
}

fn shipped_autoencoder() -> Result<(Vec<u8>, Card), ModelError> {
    let (bytes, _, card) = shipped::autoencoder()?;
    Ok((bytes.to_vec(), card))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::train::failure::file_name;
    use crate::predict::train::registry::write_files;

    #[test]
    fn the_shipped_models_open_with_a_card_a_window() {
        let opened = open(None).unwrap();
        let windows: Vec<_> = opened.cards.iter().map(Card::within).collect();
        assert_eq!(opened.files.len(), windows.len());
        assert!(opened.autoencoder.is_some());
        assert_eq!(windows, opened.model.heads.iter().map(|h| Some(h.within)).collect::<Vec<_>>());
    }

    #[test]
    fn a_folder_without_a_model_is_an_error_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let error = open(Some(folder.path())).unwrap_err().to_string();
        assert!(error.contains("no head"), "{error}");
    }

    /// The shipped heads in a folder, as if they were its own.
    fn own_folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let shipped = open(None).unwrap();
        for (card, onnx) in shipped.cards.into_iter().zip(shipped.files) {
            let name = file_name(card.within().unwrap());
            let card = Card { title: format!("own {}", card.title), ..card };
            write_files(folder.path(), &HeadFile { name, onnx, card }).unwrap();
        }
        folder
    }

    fn titles(opened: &Opened) -> Vec<&str> {
        opened.cards.iter().map(|card| card.title.as_str()).collect()
    }

    #[test]
    fn what_is_whole_of_a_damaged_folder_stays_and_the_shipped_head_stands_in() {
        let folder = own_folder();
        let whole = open_whole(Some(folder.path())).unwrap();
        assert!(whole.troubles.is_empty() && titles(&whole).iter().all(|t| t.starts_with("own")));
        std::fs::write(folder.path().join("failure-1h.onnx"), b"cut short").unwrap();
        std::fs::remove_file(folder.path().join("failure-24h.onnx")).unwrap();
        assert!(open(Some(folder.path())).is_err(), "nobody trains against what is damaged");
        let rest = open_whole(Some(folder.path())).unwrap();
        let said = ["own failure within 15 m", "failure within 1 h", "failure within 24 h"];
        assert_eq!(titles(&rest), said);
        assert_eq!((rest.model.heads.len(), rest.files.len()), (3, 3));
        let trouble = &rest.troubles[0];
        assert!(trouble.contains("failure-1h.toml: the card does not match its model"), "{trouble}");
        assert!(
            trouble.contains("failure-24h.onnx: there is a card of it beside, and no model"),
            "{trouble}"
        );
        let end = "; the shipped models stand in: failure within 1 h, failure within 24 h";
        assert!(trouble.ends_with(end), "{trouble}");
    }

    #[test]
    fn a_head_of_other_features_is_left_out_and_the_others_and_the_autoencoder_stay() {
        let folder = own_folder();
        let (onnx, _, card) = shipped::autoencoder().unwrap();
        let autoencoder = Card { title: "own autoencoder".into(), ..card };
        let file = |name: &str, onnx: &[u8], card: &Card| HeadFile {
            name: name.into(),
            onnx: onnx.to_vec(),
            card: card.clone(),
        };
        write_files(folder.path(), &file("autoencoder", onnx, &autoencoder)).unwrap();
        let shipped = open(None).unwrap();
        let mut odd = shipped.cards[1].clone();
        odd.features.extras[1] = "mood".into();
        write_files(folder.path(), &file("failure-1h", &shipped.files[1], &odd)).unwrap();
        let twice = Card { title: "second of 24 h".into(), ..shipped.cards[2].clone() };
        write_files(folder.path(), &file("z-failure-24h", &shipped.files[2], &twice)).unwrap();
        assert!(open(Some(folder.path())).is_err(), "nobody trains against what does not go together");
        let opened = open_whole(Some(folder.path())).unwrap();
        assert_eq!(
            titles(&opened),
            ["own failure within 15 m", "failure within 1 h", "own failure within 24 h"]
        );
        assert_eq!(opened.autoencoder.unwrap().1.title, "own autoencoder");
        let trouble = &opened.troubles[0];
        let said = "failure-1h.toml: the card does not match its model: it reads other features";
        assert!(trouble.contains(said), "{trouble}");
        assert!(trouble.contains("z-failure-24h.toml") && trouble.contains("the same window"), "{trouble}");
        assert!(trouble.ends_with("the shipped models stand in: failure within 1 h"), "{trouble}");
    }

    #[test]
    fn where_nothing_can_be_read_the_shipped_models_speak() {
        let folder = tempfile::tempdir().unwrap();
        let opened = open_whole(Some(&folder.path().join("gone"))).unwrap();
        assert_eq!(opened.cards, open(None).unwrap().cards);
        assert!(opened.troubles[0].contains("gone"), "{:?}", opened.troubles);
    }
}
