//! What `foreshift train` makes of the courses in the history: an LSTM autoencoder of the fleet's own healthy
//! windows. It is put into a version only where its error tells windows before failures from healthy ones
//! better than that of the one in use, on hosts that neither has learnt from.

use super::train::{STEPS, labels};
use super::train_rows::Rows;
use crate::eval::backtest::Truth;
use crate::fleet::Span;
use crate::predict::failure::{FeatureSpec, Opened, shipped};
use crate::predict::models::lstm::Autoencoder;
use crate::predict::models::lstm::train::Training;
use crate::predict::models::onnx::{self, Model};
use crate::predict::train::Progress;
use crate::predict::train::autoencoder::{self, AUROC};
use crate::predict::train::card::Data;
use crate::predict::train::failure::HeadFile;

/// A window is one before a failure from here on …
const BEFORE: Span = Span::hours(1);
/// … and healthy where nothing fails for so long, or for a quarter of a shorter history.
const CALM: Span = Span::hours(24);
/// Fewest held-back windows of either kind.
const FEWEST: usize = 20;
/// Fewest healthy windows to learn from.
const LEAST: usize = 1_000;
/// The error must tell so much more (area under the ROC curve) than that of the one in use.
const MARGIN: f64 = 0.01;

/// What came of it.
pub(super) struct Course {
    /// Where it is better than the one in use.
    pub(super) file: Option<HeadFile>,
    /// For people.
    pub(super) words: String,
}

/// Trains on windows of the rows, where there are enough, and compares with the one in use.
pub(super) fn learn(
    rows: &Rows,
    truth: &Truth,
    champion: &Opened,
    data: &Data,
    seed: u64,
    progress: &mut dyn FnMut(Progress),
) -> Course {
    let none = |words: String| Course { file: None, words: format!("autoencoder: {words}") };
    let spec = &champion.model.spec;
    let calm_for = Span((data.until - data.from).0 / 4).min(CALM);
    let (near, far) = (labels(rows, truth, BEFORE), labels(rows, truth, calm_for));
    let healthy = |row: usize| match (near[row], far[row]) {
        (Some(true), _) => Some(false),
        (_, Some(false)) => Some(true),
        _ => None,
    };
    let calm = rows.replayed.window_rows.iter().filter(|row| healthy(**row) == Some(true)).count();
    if calm < LEAST {
        return none(format!("{calm} healthy windows are too few to learn from ({LEAST} are needed)"));
    }
    let training = Training { hidden: 32, epochs: 6, steps: STEPS, rate: 5e-3, seed, ..Training::default() };
    let data = Data { source: format!("{}, healthy windows", data.source), ..data.clone() };
    let (file, held) = autoencoder::train(&rows.replayed, spec, &data, &training, &healthy, progress);
    let wrong = held.wrong.iter().filter(|w| **w).count();
    if wrong < FEWEST || held.wrong.len() - wrong < FEWEST {
        return none(format!(
            "{wrong} windows before failures and {} healthy ones of held-back hosts are too few to judge it ({FEWEST} \
             of each are needed)",
            held.wrong.len() - wrong
        ));
    }
    let own = file.card.measures.get(AUROC).copied().unwrap_or(0.0);
    let Some(before) = of_champion(champion, spec) else {
        return none("the one in use is of another kind, and stays".into());
    };
    let theirs = held.judge(&before).0.auroc;
    let better = own > theirs + MARGIN;
    let verdict = if better { "better" } else { "not better, and left out" };
    Course {
        words: format!(
            "autoencoder: area under the ROC curve {own:.3}, in use {theirs:.3}, on {} held-back windows: {verdict}",
            held.wrong.len()
        ),
        file: better.then_some(file),
    }
}

/// The one in use, where it is ours and reads the same windows.
fn of_champion(champion: &Opened, spec: &FeatureSpec) -> Option<Autoencoder> {
    let (bytes, card) = champion.autoencoder.as_ref().filter(|_| champion.foreign.is_none())?;
    match onnx::decode(bytes, &card.title) {
        Ok(Model::Autoencoder(model)) if card.features.metrics == spec.metrics && model.steps == STEPS => {
            Some(model)
        }
        _ => None,
    }
}

/// The autoencoder that speaks now, where it is not the shipped one: a version without one of its own would put
/// that out of use.
pub(super) fn kept(champion: &Opened) -> Option<HeadFile> {
    let (onnx, card) = champion.autoencoder.as_ref().filter(|_| champion.foreign.is_none())?;
    let shipped = shipped::autoencoder().ok()?.2;
    (card.hash != shipped.hash).then(|| HeadFile {
        name: "autoencoder".into(),
        onnx: onnx.clone(),
        card: card.clone(),
    })
}
