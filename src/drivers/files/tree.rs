//! Trees of files: list, hash, copy what differs, compare. A file counts as unchanged while its
//! size and time of change are; the full comparison reads every byte.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

/// Name of the owner's mark within a workload; it is not data.
pub(super) const MARK: &str = ".foreshift";

/// What a name stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    Folder,
    /// Where it points to.
    Link(PathBuf),
    File {
        bytes: u64,
        changed: SystemTime,
    },
}

/// Everything below a directory, by path relative to it.
pub(super) type Listing = BTreeMap<PathBuf, Entry>;

/// How far work is, and whether it shall end.
#[derive(Default, Debug)]
pub(super) struct Progress {
    pub(super) bytes: AtomicU64,
    pub(super) stop: AtomicBool,
}

/// Lists a tree; what disappears meanwhile is left out.
pub(super) fn list(root: &Path) -> io::Result<Listing> {
    let mut found = Listing::new();
    let mut open = vec![PathBuf::new()];
    while let Some(folder) = open.pop() {
        let entries = match fs::read_dir(root.join(&folder)) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound && !folder.as_os_str().is_empty() => continue,
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if path == Path::new(MARK) {
                continue;
            }
            let Ok(facts) = entry.metadata() else { continue };
            let what = if facts.is_dir() {
                open.push(path.clone());
                Entry::Folder
            } else if facts.is_symlink() {
                let Ok(to) = fs::read_link(entry.path()) else { continue };
                Entry::Link(to)
            } else {
                Entry::File { bytes: facts.len(), changed: facts.modified()? }
            };
            found.insert(path, what);
        }
    }
    Ok(found)
}

/// Bytes of all files.
pub(super) fn bytes(listing: &Listing) -> u64 {
    listing.values().map(|e| if let Entry::File { bytes, .. } = e { *bytes } else { 0 }).sum()
}

/// Makes `to` like `from`; says how many bytes had to be copied.
pub(super) fn copy(from: &Path, to: &Path, progress: &Progress) -> io::Result<u64> {
    fs::create_dir_all(to)?;
    let (source, target) = (list(from)?, list(to)?);
    // The deepest first, so that folders are empty when they go.
    for (path, entry) in target.iter().rev() {
        let keep = match (entry, source.get(path)) {
            (_, None) => false,
            (Entry::Folder, Some(Entry::Folder)) => true,
            (Entry::File { .. }, Some(Entry::File { .. })) => true,
            (one, Some(other)) => one == other,
        };
        if !keep {
            let path = to.join(path);
            if *entry == Entry::Folder { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
    }
    let mut copied = 0;
    for (path, entry) in &source {
        if progress.stop.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped"));
        }
        if target.get(path) == Some(entry) {
            if let Entry::File { bytes, .. } = entry {
                progress.bytes.fetch_add(*bytes, Ordering::Relaxed);
            }
            continue;
        }
        match entry {
            Entry::Folder => fs::create_dir_all(to.join(path))?,
            Entry::Link(target) => std::os::unix::fs::symlink(target, to.join(path))?,
            Entry::File { changed, .. } => match copy_file(&from.join(path), &to.join(path), *changed) {
                Ok(bytes) => {
                    copied += bytes;
                    progress.bytes.fetch_add(bytes, Ordering::Relaxed);
                }
                // Gone meanwhile: the next pass takes it away here too.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            },
        }
    }
    Ok(copied)
}

/// Copies one file beside its place, makes it durable, and puts it there in one step.
fn copy_file(from: &Path, to: &Path, changed: SystemTime) -> io::Result<u64> {
    let mut name = to.file_name().unwrap_or_default().to_os_string();
    name.push(".fs-part");
    let part = to.with_file_name(name);
    let bytes = fs::copy(from, &part)?;
    let file = File::options().write(true).open(&part)?;
    // The time from before the read: a change during it shows as a difference and is copied again.
    file.set_modified(changed)?;
    file.sync_all()?;
    fs::rename(&part, to)?;
    Ok(bytes)
}

/// BLAKE3 of one file's content; `None` where it is gone.
fn hash(path: &Path, progress: &Progress) -> io::Result<Option<blake3::Hash>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(Some(hasher.finalize()));
        }
        if progress.stop.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped"));
        }
        hasher.update(&buffer[..n]);
        progress.bytes.fetch_add(n as u64, Ordering::Relaxed);
    }
}

/// What a comparison found.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparison {
    pub(super) items: u64,
    /// Digests of source and destination: of all names and contents, in order.
    pub(super) digests: (String, String),
    /// What certainly differs.
    pub(super) differences: Vec<String>,
    /// Files that were written to while they were read; the cut compares them.
    pub(super) busy: Vec<PathBuf>,
    /// What was equal, as it stood on the source.
    pub(super) equal: Listing,
}

/// Compares two trees, every byte. Files that stand in `known` unchanged on both sides were equal
/// before and are not read again. `copied` is the source as it was when it was last copied: what has
/// come, gone or changed there since is busy, not different.
pub(super) fn compare(
    from: &Path,
    to: &Path,
    known: &Listing,
    copied: &Listing,
    progress: &Progress,
) -> io::Result<Comparison> {
    let (source, target) = (list(from)?, list(to)?);
    let mut found = Comparison::default();
    let (mut ours, mut theirs) = (blake3::Hasher::new(), blake3::Hasher::new());
    let differs = |found: &mut Comparison, path: &Path, how: &str| {
        found.differences.push(format!("{}: {how}", path.display()));
    };
    for (path, entry) in &source {
        found.items += 1;
        ours.update(path.as_os_str().as_encoded_bytes());
        let Some(other) = target.get(path) else {
            if copied.is_empty() || copied.contains_key(path) {
                differs(&mut found, path, "missing at the destination");
            } else {
                found.busy.push(path.clone());
            }
            continue;
        };
        theirs.update(path.as_os_str().as_encoded_bytes());
        match (entry, other) {
            (Entry::File { .. }, Entry::File { changed: there, .. }) => {
                if known.get(path) == Some(entry) && entry == other {
                    found.equal.insert(path.clone(), entry.clone());
                    continue;
                }
                let (a, b) = (hash(&from.join(path), progress)?, hash(&to.join(path), progress)?);
                for (digest, hash) in [(&mut ours, a), (&mut theirs, b)] {
                    digest.update(hash.map_or([0; 32], |h| *h.as_bytes()).as_slice());
                }
                let still = fs::metadata(from.join(path)).and_then(|f| Ok((f.len(), f.modified()?))).ok();
                let Entry::File { bytes, changed } = entry else { continue };
                if a == b {
                    found.equal.insert(path.clone(), entry.clone());
                } else if still == Some((*bytes, *changed)) && there >= changed {
                    differs(&mut found, path, "the content differs");
                } else {
                    found.busy.push(path.clone());
                }
            }
            (one, other) if one == other => {}
            _ => differs(&mut found, path, "not the same kind of thing"),
        }
    }
    for path in target.keys().filter(|p| !source.contains_key(*p)) {
        theirs.update(path.as_os_str().as_encoded_bytes());
        if copied.contains_key(path) {
            found.busy.push(path.clone());
        } else {
            differs(&mut found, path, "only at the destination");
        }
    }
    found.digests =
        (ours.finalize().to_hex()[..16].to_string(), theirs.finalize().to_hex()[..16].to_string());
    Ok(found)
}

/// Exchanges two directories of one file system in one step.
pub(super) fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
    let (a, b) = (text(a)?, text(b)?);
    // SAFETY: both pointers are to strings that end with zero and live until the call returns; the
    // call keeps neither. The standard library has no exchange of two names.
    #[allow(unsafe_code)]
    let failed = unsafe {
        libc::renameat2(libc::AT_FDCWD, a.as_ptr(), libc::AT_FDCWD, b.as_ptr(), libc::RENAME_EXCHANGE)
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
