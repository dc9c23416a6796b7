//! The folder of kept detectors: `NAME.detector` a partition and `streams`. Every file is written beside its
//! place, brought to the disk and moved there, so that a crash leaves the old one or the new one.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::record::{self, Kept, Unfit};
use super::{MOST_BYTES, streams};
use crate::fleet::{PartitionId, Span, Timestamp};
use crate::predict::watch::Taught;

const ENDING: &str = "detector";
const STREAMS: &str = "streams";
/// Streams of 200,000 partitions; a longer file is not ours.
const MOST_STREAMS: u64 = 1 << 30;

/// A folder.
#[derive(Clone, Debug)]
pub struct Shelf {
    folder: PathBuf,
    step: Span,
}

/// The disk does not do as it is told: try again later. The detectors that run are not touched by it.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be written: {source}; after a restart what it would hold is fitted anew")]
pub struct ShelfError {
    path: String,
    source: std::io::Error,
}

/// What a folder held.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Detectors to go on with.
    pub kept: Vec<Kept>,
    /// Files that are not used, and why.
    pub refused: Vec<(PathBuf, Unfit)>,
}

impl Shelf {
    /// In that folder, for an engine on this grid; made when it is first written to.
    pub fn new(folder: &Path, step: Span) -> Self {
        Self { folder: folder.to_path_buf(), step }
    }

    /// Where the detector of a partition stands: names of partitions may hold what names of files may not.
    pub fn place(&self, partition: &PartitionId) -> PathBuf {
        let hash = blake3::hash(partition.as_str().as_bytes()).to_hex();
        self.folder.join(format!("{}.{ENDING}", &hash[..32]))
    }

    /// Keeps a detector instead of the one before. One that is not kept (too many metrics) takes away the
    /// one before.
    ///
    /// # Errors
    /// The disk.
    pub fn keep(&self, partition: &PartitionId, taught: &Taught) -> Result<(), ShelfError> {
        let place = self.place(partition);
        match record::encode(partition, taught, self.step).filter(|all| all.len() as u64 <= MOST_BYTES) {
            Some(bytes) => write_whole(&place, &bytes),
            None => match fs::remove_file(&place) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    Err(ShelfError { path: place.display().to_string(), source })
                }
                _ => Ok(()),
            },
        }
    }

    /// Keeps where the streams stand, as [`crate::predict::Assessor::streams`] gives it.
    ///
    /// # Errors
    /// The disk.
    pub fn keep_streams(&self, bytes: &[u8]) -> Result<(), ShelfError> {
        write_whole(&self.folder.join(STREAMS), bytes)
    }

    /// All detectors that fit an engine at this time, with their streams. Those that are too old are taken
    /// off the disk; others that do not fit stay until their partition's is fitted anew.
    pub fn load(&self, now: Timestamp) -> Loaded {
        let mut out = Loaded::default();
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut places: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        places.retain(|place| place.extension().is_some_and(|ending| ending == ENDING));
        places.sort();
        let mut networks = Vec::new();
        for place in places {
            match self.read(&place, now) {
                Ok(mut kept) => {
                    kept.taught.model.share_network(&mut networks);
                    out.kept.push(kept);
                }
                Err(unfit) => {
                    if matches!(unfit, Unfit::Old { .. })
                        && let Err(error) = fs::remove_file(&place)
                    {
                        tracing::warn!(place = %place.display(), %error, "an old detector stays on the disk");
                    }
                    out.refused.push((place, unfit));
                }
            }
        }
        let bytes = bounded(&self.folder.join(STREAMS), MOST_STREAMS).unwrap_or_default();
        let parts: HashMap<PartitionId, &[u8]> = streams::parts(&bytes, self.step).into_iter().collect();
        for kept in &mut out.kept {
            let model = &kept.taught.model;
            let part = parts.get(&kept.partition);
            kept.stream = part.and_then(|part| streams::take(part, model, record::print_of(model)));
        }
        out
    }

    fn read(&self, place: &Path, now: Timestamp) -> Result<Kept, Unfit> {
        let kept = record::decode(&bounded(place, MOST_BYTES)?, self.step, now)?;
        if self.place(&kept.partition).file_name() != place.file_name() {
            return Err(Unfit::Partition { found: kept.partition });
        }
        Ok(kept)
    }
}

/// Writes a file beside its place, brings it to the disk and moves it there.
pub(super) fn write_whole(place: &Path, bytes: &[u8]) -> Result<(), ShelfError> {
    let folder = place.parent().unwrap_or(Path::new("."));
    let draft = place.with_extension("draft");
    let done = || {
        fs::create_dir_all(folder)?;
        let mut file = File::create(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, place)?;
        File::open(folder)?.sync_all()
    };
    done().map_err(|source| ShelfError { path: place.display().to_string(), source })
}

/// A file that is at most so long.
pub(super) fn bounded(place: &Path, most: u64) -> Result<Vec<u8>, Unfit> {
    let unread = |e: std::io::Error| Unfit::Unread { reason: e.to_string() };
    let mut file = File::open(place).map_err(unread)?;
    let bytes = file.metadata().map_err(unread)?.len();
    if bytes > most {
        return Err(Unfit::Long { bytes });
    }
    let mut out = Vec::new();
    Read::by_ref(&mut file).take(most).read_to_end(&mut out).map_err(unread)?;
    Ok(out)
}
