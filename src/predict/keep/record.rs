//! One partition's detector as bytes: what it is of, the model, and a hash over all of it.

use super::{KeptStream, MOST_AGE, MOST_METRICS, SKEW};
use crate::fleet::{MetricName, PartitionId, Span, Timestamp};
use crate::predict::anomaly::AnomalyModel;
use crate::predict::anomaly::bytes::{Reader, Writer};
use crate::predict::watch::Taught;

/// How a file begins: "Foreshift detector".
pub(super) const MAGIC: &[u8; 4] = b"FSdt";
/// Of this layout; another one is refused.
pub(super) const VERSION: u16 = 2;
/// The linear voters in both scalings.
const LINEAR: u8 = 1;
/// The same with an LSTM voter.
const WITH_SEQUENCE: u8 = 2;
/// Bytes of the hash at the end.
pub(super) const HASH: usize = 32;

/// A detector as it was read.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The partition.
    pub partition: PartitionId,
    /// Its detector.
    pub taught: Taught,
    /// Where its stream stood; none = it begins with what the window holds.
    pub stream: Option<KeptStream>,
}

/// Why a detector that was kept is not used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfit {
    /// Not a file of ours.
    #[error("is not a detector that Foreshift wrote")]
    Foreign,
    /// Of another program.
    #[error("is of format {found}; this program reads format {VERSION}")]
    Version {
        /// What it says.
        found: u16,
    },
    /// Changed or cut.
    #[error("was changed or cut short: its hash is not that of what it holds")]
    Damaged,
    /// The hash is right and the numbers are not.
    #[error("holds numbers that are no detector's ({what})")]
    Numbers {
        /// Which part.
        what: &'static str,
    },
    /// Another kind of model.
    #[error(
        "is a model of kind {found}; this program reads {LINEAR}, the linear voters, and {WITH_SEQUENCE}, with an LSTM"
    )]
    Kind {
        /// What it says.
        found: u8,
    },
    /// Another grid.
    #[error("was fitted on a grid of {found}; telemetry.step is {wanted} now")]
    Step {
        /// What it says.
        found: Span,
        /// What runs.
        wanted: Span,
    },
    /// Too old.
    #[error("was fitted {age} ago; it is used for {MOST_AGE}")]
    Old {
        /// How long ago it was fitted.
        age: Span,
    },
    /// Fitted later than now.
    #[error("was fitted {by} after now: the clock was set back since, or ran ahead then")]
    Future {
        /// By how much.
        by: Span,
    },
    /// A file of another partition under this one's name.
    #[error("is the detector of {found}, under another's name")]
    Partition {
        /// Whose it is.
        found: PartitionId,
    },
    /// Too long for a detector.
    #[error("is {bytes} bytes long; a detector has {} at most", super::MOST_BYTES)]
    Long {
        /// Its length.
        bytes: u64,
    },
    /// It cannot be read at all.
    #[error("cannot be read: {reason}")]
    Unread {
        /// What the system says.
        reason: String,
    },
    /// Another schema.
    #[error("rests on {metric}, which is not measured any more")]
    Metric {
        /// The metric.
        metric: MetricName,
    },
    /// Another schema.
    #[error("rests on {wanted} metrics, of which {found} are measured now")]
    Metrics {
        /// Measured now.
        found: usize,
        /// Of the model.
        wanted: usize,
    },
}

/// The bytes of a detector; `None` of one that is not kept: it has more metrics than are kept.
pub fn encode(partition: &PartitionId, taught: &Taught, step: Span) -> Option<Vec<u8>> {
    let metrics = taught.metrics.len();
    if metrics > MOST_METRICS || metrics != taught.model.metrics() {
        return None;
    }
    let mut to = Writer(MAGIC.to_vec());
    to.u16(VERSION);
    to.u8(if taught.model.sequence().is_some() { WITH_SEQUENCE } else { LINEAR });
    to.i64(step.0);
    [taught.fitted, taught.from, taught.until].into_iter().for_each(|at| to.i64(at.0));
    to.text(partition.as_str());
    to.u16(metrics as u16);
    taught.metrics.iter().for_each(|name| to.text(name.as_str()));
    taught.model.put(&mut to);
    let hash = blake3::hash(&to.0);
    to.0.extend(hash.as_bytes());
    Some(to.0)
}

/// Reads one back, for an engine on this grid at this time.
///
/// # Errors
/// Why it does not fit; never a panic, whatever the bytes.
pub fn decode(bytes: &[u8], step: Span, now: Timestamp) -> Result<Kept, Unfit> {
    let (body, hash) = bytes.split_last_chunk::<HASH>().ok_or(Unfit::Foreign)?;
    let mut from = Reader(body);
    if from.slice(MAGIC.len()) != Some(MAGIC) {
        return Err(Unfit::Foreign);
    }
    let found = from.u16().ok_or(Unfit::Damaged)?;
    if found != VERSION {
        return Err(Unfit::Version { found });
    }
    if blake3::hash(body) != *hash {
        return Err(Unfit::Damaged);
    }
    let kind = from.u8().ok_or(Unfit::Numbers { what: "the kind" })?;
    if ![LINEAR, WITH_SEQUENCE].contains(&kind) {
        return Err(Unfit::Kind { found: kind });
    }
    let times = (|| Some([from.i64()?, from.i64()?, from.i64()?, from.i64()?]))();
    let [grid, fitted, since, until] = times.ok_or(Unfit::Numbers { what: "the times" })?;
    if grid != step.0 {
        return Err(Unfit::Step { found: Span(grid), wanted: step });
    }
    let (at, since, until) = (Timestamp(fitted), Timestamp(since), Timestamp(until));
    is_young(at, now)?;
    let partition = from.text().filter(|name| !name.is_empty()).map(PartitionId::from);
    let partition = partition.ok_or(Unfit::Numbers { what: "the name" })?;
    let metrics = metrics(&mut from).ok_or(Unfit::Numbers { what: "the metrics" })?;
    let model = AnomalyModel::take(&mut from, metrics.len()).and_then(|model| match kind {
        WITH_SEQUENCE => model.take_sequence(&mut from),
        _ => Some(model),
    });
    let model = model.and_then(|model| from.ended(model));
    let model = model.ok_or(Unfit::Numbers { what: "the model" })?;
    let taught = Taught { model, metrics, fitted: at, from: since, until };
    Ok(Kept { partition, taught, stream: None })
}

/// Names, each once.
fn metrics(from: &mut Reader<'_>) -> Option<Vec<MetricName>> {
    let count = usize::from(from.u16()?);
    if count == 0 || count > MOST_METRICS {
        return None;
    }
    let names: Vec<MetricName> =
        (0..count).map(|_| Some(MetricName::from(from.text()?))).collect::<Option<_>>()?;
    let mut sorted: Vec<&str> = names.iter().map(MetricName::as_str).collect();
    sorted.sort_unstable();
    (sorted.windows(2).all(|pair| pair[0] != pair[1])).then_some(names)
}

/// Whether a detector of that time may still be used.
///
/// # Errors
/// It may not.
pub fn is_young(fitted: Timestamp, now: Timestamp) -> Result<(), Unfit> {
    let age = Span(now.0.saturating_sub(fitted.0));
    match age {
        age if age > MOST_AGE => Err(Unfit::Old { age }),
        age if age < Span(-SKEW.0) => Err(Unfit::Future { by: Span(age.0.saturating_neg()) }),
        _ => Ok(()),
    }
}

/// What tells one model from every other: a stream goes on with its own alone.
pub fn print_of(model: &AnomalyModel) -> u64 {
    let mut to = Writer::default();
    model.put(&mut to);
    let hash = blake3::hash(&to.0);
    hash.as_bytes().first_chunk().map_or(0, |head| u64::from_le_bytes(*head))
}
