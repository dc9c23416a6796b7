//! Opens the model of failure that is to speak: the files of a folder, or the shipped ones.

use std::path::Path;

use super::model::FailureModel;
use super::shipped;
use crate::predict::models::error::ModelError;
use crate::predict::train::card::Card;
use crate::predict::train::failure::assemble;
use crate::predict::train::registry::read_files;

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
}

/// The failure models of `folder` (`*.onnx`, each with its card beside it); without a folder the
/// shipped ones. The autoencoder is the folder's, where it has one, else the shipped one. Files of other
/// models in the folder are left alone.
///
/// # Errors
/// The folder can't be read, a card is missing or of another file, heads that don't go together.
pub fn open(folder: Option<&Path>) -> Result<Opened, ModelError> {
    let Some(folder) = folder else {
        let model = FailureModel::shipped()?;
        let files = shipped::files().into_iter().map(<[u8]>::to_vec).collect();
        let autoencoder = Some(shipped_autoencoder()?);
        return Ok(Opened { model, cards: shipped::cards()?, files, autoencoder });
    };
    let mut files = read_files(folder)?;
    let own = files.iter().find(|f| f.card.kind == AUTOENCODER).map(|f| (f.onnx.clone(), f.card.clone()));
    let autoencoder = Some(own.map_or_else(shipped_autoencoder, Ok)?);
    files.retain(|f| f.card.within_seconds.is_some());
    files.sort_by_key(|f| f.card.within_seconds);
    let model = assemble(files.iter().map(|f| (f.onnx.as_slice(), f.card.clone())))?;
    let (files, cards) = files.into_iter().map(|f| (f.onnx, f.card)).unzip();
    Ok(Opened { model, cards, files, autoencoder })
}

fn shipped_autoencoder() -> Result<(Vec<u8>, Card), ModelError> {
    let (bytes, _, card) = shipped::autoencoder()?;
    Ok((bytes.to_vec(), card))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
