//! The store on one file of this machine (redb 4): no server needed. One thread writes; it takes all
//! transactions that wait, applies them in the order they came and makes them durable with a single
//! commit (group commit), so many writers share one flush of the disk. Readers see only what is
//! durable.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use async_trait::async_trait;
use redb::backends::InMemoryBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, StorageError,
    TableDefinition, TableError,
};
use tokio::sync::oneshot;

use super::batch::Batch;
use super::history::History;
use super::store::{Change, Entry, Store, StoreError, Txn, TxnOutcome, Watch};
use crate::fleet::Revision;

const ENTRIES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("entries");
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
/// Most transactions that share one flush.
const BATCH: usize = 4096;
const CACHE_BYTES: usize = 64 << 20;

/// A transaction on its way to the writer, and where its answer goes.
type Waiting = (Txn, oneshot::Sender<Result<TxnOutcome, StoreError>>);

/// The store in one file. Only one process can have it open; dropping it writes what waits and
/// closes the file.
pub struct RedbStore {
    shared: Arc<Shared>,
    writer: Option<mpsc::Sender<Waiting>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    database: Database,
    place: PathBuf,
    revision: AtomicU64,
    history: Mutex<History>,
}

impl RedbStore {
    /// Opens the file, or makes it where there is none.
    ///
    /// # Errors
    /// `Unavailable` where another process has it open or the disk refuses; `Corrupt` where the
    /// file is not a store.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_from(path, Revision(0))
    }

    /// The same; a file that has to be made goes on after `first`. Epochs are revisions, and the systems
    /// remember the highest that they saw: an engine that begins with the time as its first revision is
    /// obeyed also where its predecessor's file was lost.
    ///
    /// # Errors
    /// As [`RedbStore::open`].
    pub fn open_from(path: &Path, first: Revision) -> Result<Self, StoreError> {
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent)
                .map_err(|e| unavailable(path, format!("cannot make its directory: {e}")))?;
        }
        let database = guarded(path, || Builder::new().set_cache_size(CACHE_BYTES).create(path))?;
        let revision = prepare(&database, first).map_err(|e| corrupt(path, &e.to_string()))?;
        let shared = Arc::new(Shared {
            database,
            place: path.to_path_buf(),
            revision: AtomicU64::new(revision),
            history: Mutex::new(History::after(Revision(revision))),
        });
        let (writer, waiting) = mpsc::channel::<Waiting>();
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_string())
            .spawn(move || of_thread.write_until_closed(&waiting))
            .map_err(|e| unavailable(path, format!("cannot start its writer: {e}")))?;
        Ok(Self { shared, writer: Some(writer), thread: Some(thread) })
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        self.writer = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// All entries of a store's file, read without opening it for writing. An engine that runs has the
/// file locked; then this fails and says so. Where the last one did not close it (killed, or the power went), it
/// would be mended by who opens it next: here a copy in memory is, and the file stays as it is.
///
/// # Errors
/// As [`RedbStore::open`]; also where there is no such file.
pub fn read_entries(path: &Path, prefix: &str) -> Result<Vec<Entry>, StoreError> {
    if !path.is_file() {
        return Err(unavailable(path, "there is no such file".to_string()));
    }
    let database: Box<dyn ReadableDatabase> = guarded(path, || match Builder::new().open_read_only(path) {
        Err(DatabaseError::RepairAborted) => Ok(Box::new(mended_copy(path)?) as Box<dyn ReadableDatabase>),
        opened => Ok(Box::new(opened?)),
    })?;
    let table = database
        .begin_read()
        .map_err(|e| corrupt(path, &e.to_string()))?
        .open_table(ENTRIES)
        .map_err(|e| corrupt(path, &e.to_string()))?;
    list(&table, prefix, path)
}

/// A copy in memory of a file that was not closed, as it will be when it is next opened.
fn mended_copy(path: &Path) -> Result<Database, DatabaseError> {
    let io = |e| DatabaseError::Storage(StorageError::Io(e));
    let bytes = std::fs::read(path).map_err(io)?;
    let copy = InMemoryBackend::new();
    copy.set_len(bytes.len() as u64).and_then(|()| copy.write(0, &bytes)).map_err(io)?;
    Builder::new().create_with_backend(copy)
}

/// Opens, with errors that say what to do. redb may panic on a file whose pages are damaged; that is
/// wrong input, not a fault of the program, so it becomes an error too.
fn guarded<D>(path: &Path, open: impl FnOnce() -> Result<D, DatabaseError>) -> Result<D, StoreError> {
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => Err(unavailable(
            path,
            "another process has it open; one engine owns a data directory at a time: stop that engine, or \
             ask it instead (the console's log, `foreshift attach`)"
                .to_string(),
        )),
        Ok(Err(DatabaseError::Storage(StorageError::Io(e))))
            if e.kind() != std::io::ErrorKind::InvalidData =>
        {
            Err(unavailable(path, e.to_string()))
        }
        Ok(Err(e)) => Err(corrupt(path, &e.to_string())),
        Err(_) => Err(corrupt(path, "its pages are damaged")),
    }
}

pub(super) fn unavailable(path: &Path, detail: String) -> StoreError {
    StoreError::Unavailable { place: path.display().to_string(), detail }
}

fn corrupt(path: &Path, detail: &str) -> StoreError {
    StoreError::Corrupt {
        place: path.display().to_string(),
        key: "(file)".to_string(),
        detail: format!(
            "expected a store of foreshift, got: {detail}; restore the file from a copy, or move it away to \
             start anew"
        ),
    }
}

/// Makes the tables and reads the newest revision.
fn prepare(database: &Database, first: Revision) -> Result<u64, redb::Error> {
    let txn = database.begin_write()?;
    let revision = {
        txn.open_table(ENTRIES)?;
        let mut meta = txn.open_table(META)?;
        let known = meta.get("revision")?.map(|v| v.value());
        match known {
            Some(known) => known,
            None => {
                meta.insert("revision", first.0)?;
                first.0
            }
        }
    };
    txn.commit()?;
    Ok(revision)
}

impl Shared {
    fn write_until_closed(&self, waiting: &mpsc::Receiver<Waiting>) {
        while let Ok(first) = waiting.recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH {
                match waiting.try_recv() {
                    Ok(next) => batch.push(next),
                    Err(_) => break,
                }
            }
            self.write_batch(batch);
        }
    }

    /// Applies a batch with one commit and answers everyone, after it is durable.
    fn write_batch(&self, batch: Vec<Waiting>) {
        let (txns, answers): (Vec<Txn>, Vec<_>) = batch.into_iter().unzip();
        match catch_unwind(AssertUnwindSafe(|| self.commit_batch(txns))) {
            Ok(Ok((outcomes, changes))) => {
                if let Some(newest) = changes.last() {
                    self.revision.store(newest.revision.0, Ordering::Release);
                }
                let mut history = self.history.lock().unwrap_or_else(|e| e.into_inner());
                for change in changes {
                    history.push(change);
                }
                drop(history);
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    let _ = answer.send(Ok(outcome));
                }
            }
            Ok(Err(error)) => {
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
            Err(_) => {
                let error = StoreError::Ambiguous {
                    place: self.place.display().to_string(),
                    detail: "the writer failed inside the store".to_string(),
                };
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }

    fn commit_batch(&self, txns: Vec<Txn>) -> Result<(Vec<TxnOutcome>, Vec<Change>), StoreError> {
        let refused = |e: &dyn std::fmt::Display| unavailable(&self.place, e.to_string());
        let write = self.database.begin_write().map_err(|e| refused(&e))?;
        let mut revision = self.revision.load(Ordering::Acquire);
        let mut outcomes = Vec::with_capacity(txns.len());
        let changes;
        {
            let entries = write.open_table(ENTRIES).map_err(|e| refused(&e))?;
            let mut batch = Batch::new(entries, revision, &self.place);
            for txn in txns {
                outcomes.push(batch.apply(txn).map_err(|e| refused(&e))?);
            }
            (revision, changes) = batch.end();
            if !changes.is_empty() {
                let mut meta = write.open_table(META).map_err(|e| refused(&e))?;
                meta.insert("revision", revision).map_err(|e| refused(&e))?;
            }
        }
        if changes.is_empty() {
            let _ = write.abort();
            return Ok((outcomes, changes));
        }
        write.commit().map_err(|e| StoreError::Ambiguous {
            place: self.place.display().to_string(),
            detail: format!("the disk refused the commit: {e}"),
        })?;
        Ok((outcomes, changes))
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&redb::ReadOnlyTable<&'static str, &'static [u8]>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let table = self
            .database
            .begin_read()
            .map_err(|e| unavailable(&self.place, e.to_string()))?
            .open_table(ENTRIES)
            .map_err(|e: TableError| unavailable(&self.place, e.to_string()))?;
        read(&table)
    }
}

pub(super) fn entry(
    entries: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
    place: &Path,
) -> Result<Option<Entry>, StoreError> {
    match entries.get(key).map_err(|e| unavailable(place, e.to_string()))? {
        Some(bytes) => decode(key, bytes.value(), place).map(Some),
        None => Ok(None),
    }
}

fn list(
    entries: &impl ReadableTable<&'static str, &'static [u8]>,
    prefix: &str,
    place: &Path,
) -> Result<Vec<Entry>, StoreError> {
    let mut found = Vec::new();
    for item in entries.range(prefix..).map_err(|e| unavailable(place, e.to_string()))? {
        let (key, value) = item.map_err(|e| unavailable(place, e.to_string()))?;
        if !key.value().starts_with(prefix) {
            break;
        }
        found.push(decode(key.value(), value.value(), place)?);
    }
    Ok(found)
}

/// Bytes of the two revisions before a value.
pub(super) const REVISIONS: usize = 16;

/// `created`, `modified` (little-endian u64 each), then the value.
pub(super) fn encode(entry: &Entry, bytes: &mut [u8]) {
    let (created, rest) = bytes.split_at_mut(8);
    let (modified, value) = rest.split_at_mut(8);
    created.copy_from_slice(&entry.created.0.to_le_bytes());
    modified.copy_from_slice(&entry.modified.0.to_le_bytes());
    value.copy_from_slice(&entry.value);
}

fn decode(key: &str, bytes: &[u8], place: &Path) -> Result<Entry, StoreError> {
    let (created, modified, value) = split(key, bytes, place)?;
    Ok(Entry { key: key.to_string(), value: value.to_vec(), created, modified })
}

pub(super) fn split<'a>(
    key: &str,
    bytes: &'a [u8],
    place: &Path,
) -> Result<(Revision, Revision, &'a [u8]), StoreError> {
    let revisions = bytes.split_first_chunk::<8>().and_then(|(created, rest)| {
        let (modified, value) = rest.split_first_chunk::<8>()?;
        Some((Revision(u64::from_le_bytes(*created)), Revision(u64::from_le_bytes(*modified)), value))
    });
    revisions.ok_or_else(|| broken(key, bytes.len(), place))
}

fn broken(key: &str, len: usize, place: &Path) -> StoreError {
    StoreError::Corrupt {
        place: place.display().to_string(),
        key: key.to_string(),
        detail: format!("expected at least 16 bytes of revisions, got {len}"),
    }
}

#[async_trait]
impl Store for RedbStore {
    fn place(&self) -> String {
        self.shared.place.display().to_string()
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(Revision(self.shared.revision.load(Ordering::Acquire)))
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.shared.read(|table| entry(table, key, &self.shared.place))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.shared.read(|table| list(table, prefix, &self.shared.place))
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        let gone = || unavailable(&self.shared.place, "its writer has stopped".to_string());
        let (answer, answered) = oneshot::channel();
        self.writer.as_ref().ok_or_else(gone)?.send((txn, answer)).map_err(|_| gone())?;
        answered.await.map_err(|_| StoreError::Ambiguous {
            place: self.place(),
            detail: "its writer stopped before it answered".to_string(),
        })?
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, StoreError> {
        let mut history = self.shared.history.lock().unwrap_or_else(|e| e.into_inner());
        history.watch(prefix, after).map_err(|detail| unavailable(&self.shared.place, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Compare, Op};

    fn put(key: &str, value: &str) -> Txn {
        Txn { compares: Vec::new(), ops: vec![Op::Put(key.to_string(), value.as_bytes().to_vec())] }
    }

    #[tokio::test]
    async fn what_was_committed_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let store = RedbStore::open(&path).unwrap();
        let first = store.txn(put("/a/1", "x")).await.unwrap();
        assert_eq!(first, TxnOutcome::Committed(Revision(1)));
        store.txn(put("/a/2", "y")).await.unwrap();
        store.txn(put("/a/1", "z")).await.unwrap();
        store.txn(put("/b", "other")).await.unwrap();
        drop(store);
        let store = RedbStore::open(&path).unwrap();
        assert_eq!(store.revision().await.unwrap(), Revision(4));
        let listed = store.list("/a/").await.unwrap();
        let seen: Vec<_> = listed.iter().map(|e| (e.key.as_str(), e.created.0, e.modified.0)).collect();
        assert_eq!(seen, [("/a/1", 1, 3), ("/a/2", 2, 2)]);
        drop(store);
        assert_eq!(read_entries(&path, "/a/").unwrap(), listed);
    }

    #[tokio::test]
    async fn a_file_that_was_not_closed_is_read_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (path, left) = (dir.path().join("s"), dir.path().join("left"));
        let store = RedbStore::open(&path).unwrap();
        for i in 0..300 {
            store.txn(put(&format!("/k/{i:03}"), "v")).await.unwrap();
        }
        // What is on the disk when its engine is killed.
        std::fs::copy(&path, &left).unwrap();
        let bytes = std::fs::read(&left).unwrap();
        assert!(matches!(Builder::new().open_read_only(&left), Err(DatabaseError::RepairAborted)));
        assert_eq!(read_entries(&left, "/k/").unwrap(), store.list("/k/").await.unwrap());
        assert!(bytes == std::fs::read(&left).unwrap(), "it was written to");
        assert_eq!(RedbStore::open(&left).unwrap().list("/k/").await.unwrap().len(), 300);
    }

    #[tokio::test]
    async fn a_transaction_happens_as_one_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let store = RedbStore::open(&dir.path().join("s")).unwrap();
        store.txn(put("/k", "1")).await.unwrap();
        let stale = Txn {
            compares: vec![Compare::Modified("/k".to_string(), Revision(9))],
            ops: vec![Op::Put("/k".to_string(), b"2".to_vec()), Op::Put("/l".to_string(), b"2".to_vec())],
        };
        let outcome = store.txn(stale).await.unwrap();
        assert!(matches!(outcome, TxnOutcome::Conflict { found: Some(e), .. } if e.value == b"1"));
        assert_eq!(store.get("/l").await.unwrap(), None);
        assert_eq!(store.revision().await.unwrap(), Revision(1));
    }

    #[tokio::test]
    async fn a_watch_tells_every_change_once_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(RedbStore::open(&dir.path().join("s")).unwrap());
        store.txn(put("/w/before", "1")).await.unwrap();
        store.txn(put("/w/missed", "1")).await.unwrap();
        let mut watch = store.watch("/w/", Revision(1)).await.unwrap();
        let writers: Vec<_> = (0..50)
            .map(|i| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { store.txn(put(&format!("/w/{i}"), "v")).await.unwrap() })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        store.txn(put("/elsewhere", "v")).await.unwrap();
        let mut last = Revision(1);
        for _ in 0..51 {
            let change = watch.changes.recv().await.unwrap();
            assert!(change.revision > last, "{:?} came after {last:?}", change);
            last = change.revision;
        }
        assert!(watch.changes.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_file_that_is_in_use_or_broken_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let open = RedbStore::open(&path).unwrap();
        let error = RedbStore::open(&path).err().unwrap().to_string();
        assert!(error.contains("another process has it open"), "{error}");
        assert!(read_entries(&path, "/").unwrap_err().to_string().contains("another process has it open"));
        drop(open);
        let mut bytes = std::fs::read(&path).unwrap();
        for byte in bytes.iter_mut().skip(4096).step_by(7) {
            *byte ^= 0x5a;
        }
        bytes[..64].fill(0x11);
        std::fs::write(&path, bytes).unwrap();
        let error = RedbStore::open(&path).err().unwrap();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("restore the file from a copy"), "{error}");
    }
}
