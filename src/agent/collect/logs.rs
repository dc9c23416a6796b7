//! Errors a minute in the system journal and in named logs. The journal is followed through
//! `journalctl`; files are followed over rotation and truncation, from their end at the start.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::task::AbortHandle;

use super::ByPartition;
use crate::config::AgentLog;

/// What makes a line of a file an error where the configuration names no words.
const USUAL_WORDS: [&str; 7] = ["error", "fatal", "panic", "critical", "exception", "emerg", "alert"];
/// Most bytes read of a file at one look; what is beyond waits for the next.
const AT_ONCE: u64 = 4 << 20;

/// All logs.
pub(super) struct Logs {
    files: Vec<LogFile>,
    journals: Vec<Journal>,
}

struct LogFile {
    path: PathBuf,
    partition: String,
    words: Vec<String>,
    /// Inode and how far it was read; `None` = not there yet.
    place: Option<(u64, u64)>,
    /// The beginning of a line whose end was not written yet.
    rest: Vec<u8>,
}

struct Journal {
    partition: String,
    errors: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Logs {
    /// Follows the named logs, and the system journal where there is one.
    pub(super) fn start(logs: &[AgentLog]) -> Self {
        let files = logs.iter().filter_map(|log| {
            let path = log.file.clone()?;
            let place = place_at_end(&path);
            let words = if log.words.is_empty() {
                USUAL_WORDS.map(String::from).to_vec()
            } else {
                log.words.iter().map(|w| w.to_lowercase()).collect()
            };
            Some(LogFile { path, partition: log.partition.clone(), words, place, rest: Vec::new() })
        });
        let mut journals: Vec<Journal> = logs
            .iter()
            .filter_map(|log| Some(Journal::follow(log.unit.as_deref()?, &log.partition)))
            .collect();
        if Path::new("/run/systemd/journal").exists() && logs.iter().all(|log| log.unit.is_none()) {
            journals.push(Journal::follow("", ""));
        }
        Self { files: files.collect(), journals }
    }

    pub(super) fn read(&mut self, elapsed: f64, all: &mut ByPartition) {
        let mut errors: BTreeMap<&str, u64> = BTreeMap::new();
        for file in &mut self.files {
            let found = file.errors();
            if file.place.is_some() {
                *errors.entry(&file.partition).or_default() += found;
            }
        }
        for journal in &self.journals {
            *errors.entry(&journal.partition).or_default() += journal.errors.swap(0, Ordering::Relaxed);
        }
        for (partition, errors) in errors.into_iter().filter(|_| elapsed > 0.0) {
            let a_minute = errors as f64 / elapsed * 60.0;
            all.entry(partition.to_string()).or_default().insert("log.errors".into(), a_minute);
        }
    }
}

impl Journal {
    fn follow(unit: &str, partition: &str) -> Self {
        let errors: Arc<AtomicU64> = Arc::default();
        let task = tokio::spawn(follow_journal(unit.to_string(), errors.clone())).abort_handle();
        Self { partition: partition.to_string(), errors, task }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Counts entries of priority `err` and worse. A program that ends is started again after a while.
async fn follow_journal(unit: String, errors: Arc<AtomicU64>) {
    loop {
        let mut command = Command::new("journalctl");
        command.args(["--follow", "--lines=0", "--quiet", "--priority=err", "--output=short"]);
        if !unit.is_empty() {
            command.args(["--unit", &unit]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        match command.spawn() {
            Ok(mut child) => {
                if let Some(out) = child.stdout.take() {
                    let mut out = BufReader::new(out);
                    let mut line = Vec::new();
                    while out.read_until(b'\n', &mut line).await.is_ok_and(|n| n > 0) {
                        // The lines behind the first of an entry begin with spaces.
                        if !line.starts_with(b" ") && line != b"\n" {
                            errors.fetch_add(1, Ordering::Relaxed);
                        }
                        line.clear();
                    }
                }
                let _ = child.wait().await;
            }
            Err(error) => tracing::info!(%error, "the system journal is not followed"),
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

fn place_at_end(path: &Path) -> Option<(u64, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.ino(), meta.len()))
}

impl LogFile {
    /// Errors that were written since the last look.
    fn errors(&mut self) -> u64 {
        let mut found = 0;
        let Ok(mut file) = File::open(&self.path) else {
            self.place = self.place.map(|(inode, _)| (inode, 0));
            return 0;
        };
        let Ok(meta) = file.metadata() else { return 0 };
        let from = match self.place {
            Some((inode, from)) if inode == meta.ino() && from <= meta.len() => from,
            // Rotated, truncated or new: from its beginning.
            _ => {
                self.rest.clear();
                0
            }
        };
        let mut new = Vec::new();
        if meta.len() > from && file.seek(SeekFrom::Start(from)).is_ok() {
            let _ = file.take(AT_ONCE).read_to_end(&mut new);
        }
        self.place = Some((meta.ino(), from + new.len() as u64));
        let mut data = std::mem::take(&mut self.rest);
        data.extend_from_slice(&new);
        let mut lines = data.split(|c| *c == b'\n');
        self.rest = lines.next_back().unwrap_or_default().to_vec();
        self.rest.truncate(64 << 10);
        for line in lines {
            let line = String::from_utf8_lossy(line).to_lowercase();
            found += u64::from(self.words.iter().any(|word| line.contains(word.as_str())));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn follow(path: &Path) -> LogFile {
        LogFile {
            path: path.into(),
            partition: String::new(),
            words: vec!["error".into()],
            place: place_at_end(path),
            rest: Vec::new(),
        }
    }

    #[test]
    fn errors_are_counted_once_over_rotation_truncation_and_half_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        std::fs::write(&path, "an old ERROR\n").unwrap();
        let mut log = follow(&path);
        assert_eq!(log.errors(), 0, "what was there before is not counted");
        let append = |text: &str| {
            File::options()
                .append(true)
                .create(true)
                .open(&path)
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
        };
        append("Error: one\nfine\nhalf an er");
        assert_eq!(log.errors(), 1);
        append("ror\n");
        assert_eq!(log.errors(), 1);
        std::fs::rename(&path, folder.path().join("app.log.1")).unwrap();
        assert_eq!(log.errors(), 0);
        append("error in the new file\n");
        assert_eq!(log.errors(), 1);
        std::fs::write(&path, "error\n").unwrap();
        assert_eq!(log.errors(), 1, "truncated: from its beginning");
    }
}
