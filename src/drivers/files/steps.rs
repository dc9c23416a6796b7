//! The single steps of a move between two roots, each done once however often it is asked for.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::time::Instant;

use super::owner::{self, Mode, Owner, workshop};
use super::tree::{self, Comparison, Entry, Listing, MARK, Progress};
use super::{Places, done, failed};
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::{Action, Answer, CanarySample, Evidence, Job, Probe, is_seal};
use crate::fleet::{Clock, Epoch, Generation, SystemClock, Timestamp};

/// Passes over a source that never comes to rest.
const PASSES: usize = 10;
/// A pass that copied no more than this ends the copying.
const CLOSE: u64 = 1 << 20;

/// Whether the destination is the owner at the job's generation or a later one.
pub(super) fn opened(job: &Job, p: &Places) -> bool {
    owner::read(&p.destination).is_ok_and(|o| o.generation >= job.generation && o.mode != Mode::Standby)
}

fn name(p: &Places) -> String {
    p.source.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Refuses where something of that name stands at the destination that is no copy of ours: it would be exchanged
/// for the copy and cleaned away.
fn not_foreign(p: &Places, doing: &'static str) -> Result<(), DriverError> {
    let failed = |e: &io::Error| failed(doing, &p.destination, e);
    match fs::read_dir(&p.destination) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(&e)),
        Ok(mut entries) => match entries.next() {
            None => return Ok(()),
            Some(Err(e)) => return Err(failed(&e)),
            Some(Ok(_)) => {}
        },
    }
    if owner::read(&p.destination).map_err(|e| failed(&e))?.mode == Mode::Standby {
        return Ok(());
    }
    let why = format!(
        "{} is there already and is no copy that was made here (it bears no mark of one): what is in it would be \
         lost; move it away, or choose another destination",
        p.destination.display()
    );
    Err(DriverError::new(Retry::Permanent, format!("files {}", p.destination.display()), doing, why))
}

pub(super) fn prepare(job: &Job, p: &Places) -> Result<Answer, DriverError> {
    if opened(job, p) {
        return Ok(done("the destination is open already"));
    }
    let mark = owner::read(&p.source).map_err(|e| failed("prepare", &p.source, &e))?;
    if mark.mode == Mode::Standby {
        let why = "it is a copy, not the owner; the plan is out of date";
        return Err(DriverError::new(
            Retry::Permanent,
            format!("files {}", p.source.display()),
            "prepare",
            why,
        ));
    }
    not_foreign(p, "prepare")?;
    fs::create_dir_all(&p.copy).map_err(|e| failed("prepare", &p.copy, &e))?;
    Ok(done(format!("{} is there", p.copy.display())))
}

/// Copies until a pass finds little to do; returns the source as it was at the last pass.
pub(super) fn copy_until_close(p: &Places, progress: &Progress) -> io::Result<Listing> {
    let mut listing = Listing::new();
    for _ in 0..PASSES {
        listing = tree::list(&p.source)?;
        if tree::copy(&p.source, &p.copy, progress)? <= CLOSE {
            break;
        }
    }
    Ok(listing)
}

pub(super) fn arm_reverse(p: &Places) -> Result<Answer, DriverError> {
    fs::create_dir_all(&p.back).map_err(|e| failed("arm the way back", &p.back, &e))?;
    Ok(done(format!("{} is there", p.back.display())))
}

/// Sends a file the way back and reads it there; after the cut, the data itself.
pub(super) fn probe_reverse(job: &Job, p: &Places) -> Result<Answer, DriverError> {
    if opened(job, p) {
        return enable_reverse(job, p);
    }
    let words = job.key("probe_reverse");
    let there = workshop(&p.destination_root).join(format!("{words}.probe"));
    let arrived = (|| {
        fs::create_dir_all(workshop(&p.destination_root))?;
        fs::write(&there, &words)?;
        fs::copy(&there, p.back.join("probe"))?;
        fs::remove_file(&there)?;
        fs::read_to_string(p.back.join("probe"))
    })()
    .map_err(|e| failed("prove the way back", &p.back, &e))?;
    if arrived != words {
        let why = "what was sent the way back arrived changed";
        return Err(DriverError::new(Retry::Permanent, format!("files {}", p.back.display()), "probe", why));
    }
    Ok(done("a file went from the destination to the source and was read there unchanged"))
}

/// Refuses an older leader, and a source that is not the owner.
fn check(mark: Owner, epoch: Epoch, doing: &str, path: &Path) -> Result<(), DriverError> {
    let refuse = |why: String| {
        Err(DriverError::new(Retry::Permanent, format!("files {}", path.display()), doing, why))
    };
    if mark.epoch > epoch {
        return refuse(format!(
            "the leader of epoch {} was here, ours is {epoch}: this engine is deposed",
            mark.epoch
        ));
    }
    if mark.mode == Mode::Standby {
        return refuse("it is a copy, not the owner; the plan is out of date".into());
    }
    Ok(())
}

pub(super) fn fence(job: &Job, p: &Places, epoch: Epoch, until: Timestamp) -> Result<Answer, DriverError> {
    if opened(job, p) {
        return Ok(done("the destination is open already"));
    }
    let mark = owner::read(&p.source).map_err(|e| failed("fence", &p.source, &e))?;
    check(mark, epoch, "fence", &p.source)?;
    let start = Instant::now();
    owner::alone(&p.source_root, &name(p), |folder| {
        let fence = u64::from_str_radix(&job.key("prepare"), 16).unwrap_or(0);
        owner::write(
            folder,
            &Owner { generation: mark.generation, epoch, mode: Mode::Fenced { until, fence } },
        )
    })
    .map_err(|e| failed("fence", &p.source, &e))?;
    Ok(done(format!(
        "fenced after {:.1} ms, when writes under way had ended",
        start.elapsed().as_secs_f64() * 1e3
    )))
}

pub(super) fn unfence(job: &Job, p: &Places, epoch: Epoch) -> Result<Answer, DriverError> {
    let mark = owner::read(&p.source).map_err(|e| failed("unfence", &p.source, &e))?;
    if opened(job, p) || mark.mode == Mode::Standby {
        return Ok(done("the destination is the owner; the source stays a copy"));
    }
    if mark.mode == Mode::Writable {
        return Ok(done("the source is written to"));
    }
    check(mark, epoch, "unfence", &p.source)?;
    owner::alone(&p.source_root, &name(p), |folder| {
        owner::write(folder, &Owner { generation: mark.generation, epoch, mode: Mode::Writable })
    })
    .map_err(|e| failed("unfence", &p.source, &e))?;
    Ok(done("the source is written to again"))
}

/// With the source fenced: copies what changed since the last pass, compares it, and checks that
/// the fence still stood at the end.
pub(super) fn settle(p: &Places, _generation: Generation, known: &Listing) -> io::Result<Comparison> {
    let progress = Progress::default();
    tree::copy(&p.source, &p.copy, &progress)?;
    let mut found = tree::compare(&p.source, &p.copy, known, &Listing::new(), &progress)?;
    if owner::read(&p.source)?.writable(SystemClock.now()) {
        let why = "the source is not fenced any more; fence it and compare again";
        return Err(io::Error::new(io::ErrorKind::WouldBlock, why));
    }
    // Nobody writes: what is still not equal is different.
    let busy: Vec<String> =
        found.busy.drain(..).map(|b| format!("{}: the content differs", b.display())).collect();
    found.differences.extend(busy);
    Ok(found)
}

/// Closes the source for good, takes over what may have been written since the comparison, and lets
/// the copy change places with what stands at the destination.
pub(super) fn open(job: &Job, p: &Places, epoch: Epoch) -> Result<Answer, DriverError> {
    let failed = |e: &io::Error| failed("open", &p.destination, e);
    if !opened(job, p) {
        not_foreign(p, "open")?;
        let mark = owner::read(&p.source).map_err(|e| failed(&e))?;
        if mark.epoch > epoch {
            check(mark, epoch, "open", &p.source)?;
        }
        owner::alone(&p.source_root, &name(p), |folder| {
            // The fence may have run out before the owner was changed; then the source has taken
            // writes, and they are taken along.
            owner::write(folder, &Owner { generation: mark.generation, epoch, mode: Mode::Standby })?;
            tree::copy(folder, &p.copy, &Progress::default()).map(|_| ())
        })
        .map_err(|e| failed(&e))?;
        owner::write(&p.copy, &Owner { generation: job.generation, epoch, mode: Mode::Writable })
            .map_err(|e| failed(&e))?;
        owner::alone(&p.destination_root, &name(p), |folder| {
            if folder.exists() { tree::exchange(&p.copy, folder) } else { fs::rename(&p.copy, folder) }
        })
        .map_err(|e| failed(&e))?;
    }
    Ok(done(format!("{} is the owner at {}", p.destination.display(), job.generation)))
}

/// Brings the old owner's copy up to date, and compares it.
pub(super) fn enable_reverse(job: &Job, p: &Places) -> Result<Answer, DriverError> {
    if !opened(job, p) {
        let why = "the destination is not the owner yet; ask for opening first";
        let system = format!("files {}", p.destination.display());
        return Err(DriverError::new(Retry::Retryable, system, "prove the way back", why));
    }
    let found = (|| {
        let progress = Progress::default();
        let copied = tree::list(&p.destination)?;
        tree::copy(&p.destination, &p.source, &progress)?;
        tree::compare(&p.destination, &p.source, &copied, &copied, &progress)
    })()
    .map_err(|e| failed("prove the way back", &p.source, &e))?;
    Ok(Answer::Done(evidence(&found)))
}

pub(super) fn retire(job: &Job, p: &Places) -> Result<Answer, DriverError> {
    if !opened(job, p) {
        let why = "the destination is not the owner; nothing was done";
        let system = format!("files {}", p.source.display());
        return Err(DriverError::new(Retry::Permanent, system, "retire", why));
    }
    Ok(done(format!("{} stays as a copy", p.source.display())))
}

pub(super) fn cleanup(path: &Path) -> Result<Answer, DriverError> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(done(format!("{} is gone", path.display()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(done(format!("{} is not there", path.display()))),
        Err(e) => Err(failed("cleanup", path, &e)),
    }
}

pub(super) fn evidence(found: &Comparison) -> Evidence {
    let mut summary =
        format!("{} files and folders, digests {} and {}", found.items, found.digests.0, found.digests.1);
    if !found.busy.is_empty() {
        summary.push_str(&format!(
            "; {} were written to meanwhile and are compared at the cut",
            found.busy.len()
        ));
    }
    Evidence {
        summary,
        equal: Some(found.differences.is_empty()),
        differences: found.differences.iter().take(20).cloned().collect(),
        items: found.items,
        artifacts: Vec::new(),
    }
}

/// Reads the beginnings of some files on both sides, in turn, times and compares them.
pub(super) fn sample(job: &Job, p: &Places) -> io::Result<(CanarySample, CanarySample)> {
    // A judge wants a hundred samples, also of a directory of few files.
    const READS: usize = 128;
    const MOST: u64 = 256 << 10;
    let opened = opened(job, p);
    let source = p.source.as_path();
    let destination = if opened { p.destination.as_path() } else { p.copy.as_path() };
    let (owner, other) = if opened { (destination, source) } else { (source, destination) };
    let (mut ours, mut theirs) = (CanarySample::default(), CanarySample::default());
    let listing = tree::list(source)?;
    let files: Vec<_> = listing.iter().filter(|(_, e)| matches!(e, Entry::File { .. })).collect();
    let rounds = if files.is_empty() { 0 } else { READS.div_ceil(files.len()) };
    let some = files.iter().step_by(files.len().div_ceil(READS).max(1));
    for (path, _) in std::iter::repeat_n(some, rounds).flatten().take(READS) {
        let read = |side: &mut CanarySample, root: &Path| {
            let start = Instant::now();
            let mut content = Vec::new();
            let read = fs::File::open(root.join(path)).and_then(|f| f.take(MOST).read_to_end(&mut content));
            let content = read.is_ok().then_some(content);
            side.requests += 1;
            side.errors += u64::from(content.is_none());
            side.latencies_ms.push(start.elapsed().as_secs_f64() * 1e3);
            content
        };
        let (a, b) = (read(&mut ours, source), read(&mut theirs, destination));
        let (Some(a), Some(b)) = (a, b) else { continue };
        let changed = |root: &Path| fs::metadata(root.join(path)).and_then(|m| m.modified()).ok();
        // The owner's file was written to since the other's was copied: that is no difference yet.
        if a != b && changed(owner) > changed(other) {
            continue;
        }
        for side in [&mut ours, &mut theirs] {
            side.compared += 1;
            if a != b {
                side.mismatches += 1;
                side.examples.push(path.display().to_string());
            }
        }
    }
    Ok((ours, theirs))
}

/// Whether an action was done, from the file systems alone.
pub(super) fn probe(
    job: &Job,
    p: &Places,
    action: &Action,
    (copying, comparing): (bool, bool),
    artifact: Option<&Path>,
) -> Probe {
    let applied = |summary: &str| Probe::Applied {
        evidence: Evidence { summary: summary.into(), ..Evidence::default() },
    };
    let is = |yes: bool, summary: &str| if yes { applied(summary) } else { Probe::NotStarted };
    if !p.source_root.is_dir() || !p.destination_root.is_dir() {
        return Probe::Unknown { reason: "a root is not there; is its file system mounted?".into() };
    }
    let (open, mark) = (opened(job, p), owner::read(&p.source));
    let mode = match mark {
        Ok(mark) => mark.mode,
        Err(error) => return Probe::Unknown { reason: format!("{}/{MARK}: {error}", p.source.display()) },
    };
    match action {
        Action::Announce | Action::Commit | Action::CanaryShare { .. } => applied("nothing to be done"),
        Action::Prepare => is(open || p.copy.is_dir(), "the workshop holds the copy"),
        Action::Replicate if copying => Probe::InProgress,
        // A copy that was broken off looks like one that is complete: pass over it again.
        Action::Replicate => is(open, "the destination is open already"),
        Action::StopReplication => is(!copying, "nothing is being copied"),
        Action::Verify if comparing => Probe::InProgress,
        Action::Verify | Action::VerifyAtCut => Probe::NotStarted,
        Action::ArmReverse => is(p.back.is_dir(), "the way back is made"),
        Action::ProbeReverse => is(
            fs::read_to_string(p.back.join("probe")).is_ok_and(|t| t == job.key("probe_reverse")),
            "the way back was proved",
        ),
        // A fence that lets go by itself is no seal.
        Action::Fence { deadline } => {
            let now = SystemClock.now();
            let fenced = matches!(mode, Mode::Fenced { until, .. }
                if now <= until && (!is_seal(*deadline, now) || is_seal(until, now)));
            is(open || fenced, "the source is fenced")
        }
        Action::Unfence => is(mode == Mode::Writable || open, "the source is not fenced"),
        Action::Open => is(open, "the destination is the owner"),
        Action::EnableReverse => Probe::NotStarted,
        Action::Retire => is(open, "the source is a copy"),
        Action::Cleanup { .. } => is(!artifact.is_some_and(Path::exists), "it is not there"),
    }
}
