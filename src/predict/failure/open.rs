//! Opens the model of failure that is to speak: the files of a folder, or the shipped ones.

use std::path::Path;

use super::model::FailureModel;
use super::shipped;
use crate::predict::models::error::ModelError;
use crate::predict::train::card::Card;
use crate::predict::train::failure::assemble;
use crate::predict::train::registry::read_files;

/// A model of failure and the cards of its heads, shortest window first.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Ready to run.
    pub model: FailureModel,
    /// One a head.
    pub cards: Vec<Card>,
}

/// The failure models of `folder` (`*.onnx`, each with its card beside it); without a folder the
/// shipped ones. Files of other models in the folder are left alone.
///
/// # Errors
/// The folder can't be read, a card is missing or of another file, heads that don't go together.
pub fn open(folder: Option<&Path>) -> Result<Opened, ModelError> {
    let Some(folder) = folder else {
        let model = FailureModel::shipped()?;
        return Ok(Opened { model, cards: shipped::cards()? });
    };
    let mut files = read_files(folder)?;
    files.retain(|f| f.card.within_seconds.is_some());
    files.sort_by_key(|f| f.card.within_seconds);
    let model = assemble(files.iter().map(|f| (f.onnx.as_slice(), f.card.clone())))?;
    Ok(Opened { model, cards: files.into_iter().map(|f| f.card).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_models_open_with_a_card_a_window() {
        let opened = open(None).unwrap();
        let windows: Vec<_> = opened.cards.iter().map(Card::within).collect();
        assert_eq!(windows, opened.model.heads.iter().map(|h| Some(h.within)).collect::<Vec<_>>());
    }

    #[test]
    fn a_folder_without_a_model_is_an_error_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let error = open(Some(folder.path())).unwrap_err().to_string();
        assert!(error.contains("no head"), "{error}");
    }
}
