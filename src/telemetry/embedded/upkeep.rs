//! Keeps the store underneath at work. Whoever asks it asks through here: a store that stopped by itself, whose
//! folder was taken away, or whose files can no longer be written, is put down and opened again, with back-off, and
//! what was lost by it is counted. While it is down every question is answered with [`StoreError::Broken`].
//!
//! A single failure of a worker of `tsink` is no reason: its flush and a write may meet over one temporary file
//! (`wal.published.tmp`), where one of them finds it gone; the next flush does the work. So a worker's failure must
//! not stop the store (`with_background_fail_fast(false)`), and only failures that go on count.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tsink::{Label, Row, Storage, StorageBuilder, TimestampPrecision, TsinkError, WalSyncMode};

use super::block::samples_of;
use super::{BLOCKS, EmbeddedOptions, StoreError, lock};

/// Between two looks at how the store is.
const LOOK: Duration = Duration::from_secs(1);
/// Wait before the first try to open it again.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait between two tries.
const MOST_WAIT: Duration = Duration::from_secs(60);
/// Looks in a row with a failure a second or more: it does not get over it by itself.
const FAILING_LOOKS: u32 = 3;
/// Rows that are remembered until the next good look.
const MOST_DOUBTFUL: usize = 100_000;
/// Parts of the folder: itself, its log, and where numbers and blocks are.
const PARTS: [&str; 4] = ["", "wal", "lane_numeric", "lane_blob"];

/// The store, open or down.
enum State {
    Open(Arc<dyn Storage>),
    Down { why: String, again: Instant, wait: Duration, folder: Folder },
}

/// What became of the folder of a store that is down.
#[derive(Clone, Copy, PartialEq)]
enum Folder {
    Same,
    Gone,
}

/// What the last look saw.
struct Seen {
    at: Instant,
    errors: u64,
    failing: u32,
    /// Identity of each part of the folder that was there once.
    parts: [Option<u64>; 4],
}

/// A row that was written since the last good look.
struct Doubtful {
    labels: Vec<Label>,
    stamp: i64,
    samples: u64,
}

/// The store and how it is.
pub(super) struct Upkeep {
    place: String,
    options: EmbeddedOptions,
    logged: bool,
    state: RwLock<State>,
    seen: Mutex<Seen>,
    doubtful: Mutex<Vec<Doubtful>>,
    /// Samples that were written since it was opened.
    written: AtomicU64,
    /// Samples that were lost, until somebody takes the number.
    lost: AtomicU64,
}

impl Upkeep {
    /// Opens the store; `logged` = with a log that a crash does not take.
    pub(super) fn open(options: EmbeddedOptions, logged: bool) -> Result<Self, StoreError> {
        let place = options.path.as_ref().map_or("memory".to_string(), |p| p.display().to_string());
        let store = build(&options, logged, &place)?;
        let seen = Seen { at: Instant::now(), errors: 0, failing: 0, parts: parts(options.path.as_deref()) };
        Ok(Self {
            place,
            options,
            logged,
            state: RwLock::new(State::Open(store)),
            seen: Mutex::new(seen),
            doubtful: Mutex::default(),
            written: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        })
    }

    /// The folder, or `memory`.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Asks the store.
    pub(super) fn ask<T>(
        &self,
        question: impl Fn(&dyn Storage) -> Result<T, TsinkError>,
    ) -> Result<T, StoreError> {
        self.look();
        let answer = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            match &*state {
                State::Open(store) => question(store.as_ref()),
                State::Down { why, .. } => return Err(self.broken(why.clone())),
            }
        };
        match answer {
            Err(error @ (TsinkError::StorageShuttingDown | TsinkError::StorageClosed)) => {
                let why = self.last_error().unwrap_or_else(|| error.to_string());
                self.put_down(why.clone(), Folder::Same);
                Err(self.broken(why))
            }
            answer => answer.map_err(|e| self.failed(e)),
        }
    }

    /// Writes rows.
    pub(super) fn write(&self, rows: &[Row]) -> Result<(), StoreError> {
        self.ask(|store| store.insert_rows(rows))?;
        let mut doubtful = lock(&self.doubtful);
        for row in rows.iter().filter(|row| row.metric() == BLOCKS) {
            let samples = row.data_point().value_as_bytes().map_or(0, samples_of);
            self.written.fetch_add(samples, Ordering::Relaxed);
            if doubtful.len() < MOST_DOUBTFUL {
                let (labels, stamp) = (row.labels().to_vec(), row.data_point().timestamp);
                doubtful.push(Doubtful { labels, stamp, samples });
            }
        }
        Ok(())
    }

    /// Samples that were lost since the last call.
    pub(super) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::AcqRel)
    }

    /// Bytes of memory for what is not yet on disk.
    pub(super) fn memory_used(&self) -> usize {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(store) => store.memory_used(),
            State::Down { .. } => 0,
        }
    }

    /// Closes it for good.
    pub(super) fn close(&self) -> Result<(), TsinkError> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(store) => store.close(),
            State::Down { .. } => Ok(()),
        }
    }

    /// Looks how it is, at most once a second; one that is down is opened again when its time has come.
    fn look(&self) {
        let Ok(mut seen) = self.seen.try_lock() else { return };
        let again = match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(_) if seen.at.elapsed() < LOOK => return,
            State::Open(_) => None,
            State::Down { again, .. } if *again > Instant::now() => return,
            State::Down { .. } => Some(()),
        };
        if again.is_some() {
            self.open_again(&mut seen);
            return;
        }
        let parts_now = parts(self.options.path.as_deref());
        let gone = |part: usize| seen.parts[part].is_some() && seen.parts[part] != parts_now[part];
        if let Some(part) = (0..PARTS.len()).find(|part| gone(*part)) {
            let folder = if PARTS[part] == "wal" { Folder::Same } else { Folder::Gone };
            let of = Path::new(&self.place).join(PARTS[part]);
            drop(seen);
            self.put_down(format!("{} was removed or replaced while it ran", of.display()), folder);
            return;
        }
        let errors = self.errors();
        let grown = errors.saturating_sub(seen.errors);
        let failing = grown > 0 && grown >= seen.at.elapsed().as_secs();
        let failing = if failing { seen.failing + 1 } else { 0 };
        *seen = Seen { at: Instant::now(), errors, failing, parts: parts_now };
        if grown == 0 {
            lock(&self.doubtful).clear();
        }
        if failing >= FAILING_LOOKS {
            seen.failing = 0;
            drop(seen);
            self.close_failing();
        }
    }

    /// A store whose workers fail all the time is closed, so that it can be opened anew; one that cannot be closed
    /// still has in memory what it cannot write, and stays.
    fn close_failing(&self) {
        let why = self.last_error().unwrap_or_default();
        match self.close() {
            Ok(()) => self.put_down(why, Folder::Same),
            Err(error) => {
                tracing::error!(place = %self.place, %why, %error, "the embedded store cannot write its files");
            }
        }
    }

    fn put_down(&self, why: String, folder: Folder) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let State::Open(store) = &*state else { return };
        tracing::error!(place = %self.place, %why, "the embedded store stopped working; it is opened again");
        // What it still has in memory may yet reach the disk; where that fails the log has it, or it is counted.
        let _ = store.close();
        *state = State::Down { why, again: Instant::now() + FIRST_WAIT, wait: FIRST_WAIT, folder };
    }

    fn open_again(&self, seen: &mut Seen) {
        let opened = build(&self.options, self.logged, &self.place);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let State::Down { why, again, wait, folder } = &mut *state else { return };
        match opened {
            Ok(store) => {
                let lost = self.count_lost(store.as_ref(), *folder);
                self.lost.fetch_add(lost, Ordering::AcqRel);
                let before = match folder {
                    Folder::Same => "is there",
                    Folder::Gone => "is gone with the folder",
                };
                tracing::warn!(place = %self.place, lost, %why, "the embedded store works again; what it held {before}");
                *seen = Seen {
                    at: Instant::now(),
                    errors: 0,
                    failing: 0,
                    parts: parts(self.options.path.as_deref()),
                };
                *state = State::Open(store);
            }
            Err(error) => {
                *wait = (*wait * 2).min(MOST_WAIT);
                *again = Instant::now() + *wait;
                tracing::error!(%error, wait = ?wait, "the embedded store could not be opened again");
                *why = error.to_string();
            }
        }
    }

    /// Samples that were written and are not in the store that was opened again: of all that were written by this
    /// process where its folder is gone, otherwise of those since the last good look.
    fn count_lost(&self, store: &dyn Storage, folder: Folder) -> u64 {
        let doubtful = std::mem::take(&mut *lock(&self.doubtful));
        if folder == Folder::Gone {
            let kept: u64 = store
                .select_all(BLOCKS, i64::MIN, i64::MAX)
                .unwrap_or_default()
                .iter()
                .flat_map(|(_, points)| points.iter().filter_map(|p| p.value_as_bytes()).map(samples_of))
                .sum();
            let written = self.written.swap(kept, Ordering::Relaxed);
            return written.saturating_sub(kept);
        }
        let is_there = |row: &Doubtful| {
            let found = store.select(BLOCKS, &row.labels, row.stamp, row.stamp + 1);
            found.is_ok_and(|points| !points.is_empty())
        };
        doubtful.iter().filter(|row| !is_there(row)).map(|row| row.samples).sum()
    }

    fn errors(&self) -> u64 {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(store) => {
                let health = store.observability_snapshot().health;
                health.background_errors_total + health.maintenance_errors_total
            }
            State::Down { .. } => 0,
        }
    }

    fn last_error(&self) -> Option<String> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(store) => {
                let health = store.observability_snapshot().health;
                health.last_background_error.or(health.last_maintenance_error)
            }
            State::Down { .. } => None,
        }
    }

    fn broken(&self, detail: String) -> StoreError {
        StoreError::Broken { place: self.place.clone(), detail }
    }

    fn failed(&self, error: TsinkError) -> StoreError {
        let (place, detail) = (self.place.clone(), error.to_string());
        match error {
            TsinkError::MemoryBudgetExceeded { .. }
            | TsinkError::WalSizeLimitExceeded { .. }
            | TsinkError::InsufficientDiskSpace { .. } => StoreError::Full { place, detail },
            _ => StoreError::Failed { place, detail },
        }
    }
}

fn build(options: &EmbeddedOptions, logged: bool, place: &str) -> Result<Arc<dyn Storage>, StoreError> {
    let open = |detail: String| StoreError::Open { place: place.to_string(), detail };
    // A day a part, and room for late blocks of every day that is kept.
    let mut builder = StorageBuilder::new()
        .with_timestamp_precision(TimestampPrecision::Nanoseconds)
        .with_partition_duration(Duration::from_secs(86_400))
        .with_max_active_partition_heads_per_series(64)
        .with_chunk_points(16)
        .with_memory_limit(options.memory)
        .with_wal_sync_mode(WalSyncMode::Periodic(options.sync.max(crate::fleet::Span::millis(10)).to_std()))
        .with_wal_enabled(logged)
        .with_background_fail_fast(false);
    if let Some(retention) = options.retention {
        builder = builder.with_retention(retention.to_std());
    }
    if let Some(path) = &options.path {
        std::fs::create_dir_all(path).map_err(|e| open(e.to_string()))?;
        builder = builder.with_data_path(path);
    }
    builder.build().map_err(|e| match e {
        // tsink has no error of its own for this.
        TsinkError::InvalidConfiguration(said) if said.contains("already locked by another") => {
            StoreError::InUse { place: place.to_string() }
        }
        e => open(e.to_string()),
    })
}

/// Identity of the folder and of what lies in it.
fn parts(path: Option<&Path>) -> [Option<u64>; 4] {
    PARTS.map(|part| identity(&path?.join(part)))
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path).ok()?;
    // A number is given again at once when its folder is gone; the moment it was made is not.
    let made = found.created().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    Some(found.ino() ^ made.map_or(0, |at| at.as_nanos() as u64))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<u64> {
    path.exists().then_some(1)
}
