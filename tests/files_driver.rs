//! A directory is moved between two roots while it is written to: nothing written is lost, rotten
//! bits are named, an older leader is refused, and a driver that dies between any two steps is
//! followed by one that finishes or undoes.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use foreshift::drivers::files::{FilesMover, FilesOptions, NotWritten, write_to};
use foreshift::drivers::{Action, Answer, Artifact, Evidence, Job, Mover, Permit, Probe, Retry};
use foreshift::fleet::{Clock, Epoch, Generation, MigrationId, PartitionId, Span, SystemClock, WorkloadId};

const LONG: Duration = Duration::from_secs(30);

struct Roots {
    folder: tempfile::TempDir,
}

impl Roots {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for root in ["a", "b"] {
            fs::create_dir(folder.path().join(root)).unwrap();
        }
        let roots = Self { folder };
        for i in 0..200 {
            let path = roots.path("a").join("cart").join(format!("d{}", i % 7)).join(format!("f{i}"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("content of file {i}\n").repeat(i + 1)).unwrap();
        }
        std::os::unix::fs::symlink("d1/f1", roots.path("a").join("cart/link")).unwrap();
        roots
    }

    fn path(&self, root: &str) -> PathBuf {
        self.folder.path().join(root)
    }

    fn mover(&self) -> FilesMover {
        FilesMover::new(FilesOptions::new("shop", [self.path("a"), self.path("b")]))
    }
}

fn job() -> Job {
    Job {
        migration: MigrationId(3),
        workload: WorkloadId::from("cart"),
        source: PartitionId::from("a"),
        destination: PartitionId::from("b"),
        generation: Generation(1),
    }
}

fn permit(epoch: u64) -> Permit {
    Permit::mint_for_runner(Epoch(epoch), "test")
}

fn fence() -> Action {
    Action::Fence { deadline: SystemClock.now() + Span::seconds(20) }
}

async fn complete(mover: &FilesMover, job: &Job, action: Action) -> Evidence {
    let start = std::time::Instant::now();
    loop {
        match mover.perform(job, &action, &permit(5)).await {
            Ok(Answer::Done(evidence)) => return evidence,
            Ok(Answer::Working { .. }) => assert!(start.elapsed() < LONG),
            Err(error) => panic!("{}: {error}", action.name()),
        }
    }
}

fn forward() -> Vec<Action> {
    vec![
        Action::Announce,
        Action::Prepare,
        Action::Replicate,
        Action::Verify,
        Action::ArmReverse,
        Action::ProbeReverse,
        fence(),
        Action::VerifyAtCut,
        Action::Open,
        Action::EnableReverse,
        Action::Retire,
    ]
}

async fn run(mover: &FilesMover, job: &Job, actions: Vec<Action>) {
    for action in actions {
        let evidence = complete(mover, job, action.clone()).await;
        assert_ne!(evidence.equal, Some(false), "{}: {evidence:?}", action.name());
    }
}

async fn cleanup(mover: &FilesMover, job: &Job) {
    for action in forward() {
        for artifact in mover.artifacts(job, &action) {
            complete(mover, job, Action::Cleanup { artifact }).await;
        }
    }
}

/// Appends numbered lines to one file, wherever the workload may be written to.
fn write_lines(
    roots: [PathBuf; 2],
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut at = 0;
        while !stop.load(Ordering::SeqCst) {
            let next = written.load(Ordering::SeqCst);
            let wrote = write_to(&roots[at], "cart", |folder: &Path| {
                use std::io::Write;
                let mut file = fs::File::options().create(true).append(true).open(folder.join("journal"))?;
                writeln!(file, "{next}")?;
                file.sync_all()
            });
            match wrote {
                Ok(()) => drop(written.fetch_add(1, Ordering::SeqCst)),
                Err(NotWritten::NotOwner { .. }) => at = 1 - at,
                Err(error) => panic!("{error}"),
            }
        }
    })
}

fn lines(root: &Path) -> Vec<u64> {
    let text = fs::read_to_string(root.join("cart/journal")).unwrap();
    text.lines().map(|l| l.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_moves_and_comes_back_while_it_is_written_to_and_no_line_is_lost() {
    let roots = Roots::new();
    let mover = roots.mover();
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = write_lines([roots.path("a"), roots.path("b")], stop.clone(), written.clone());
    let job = job();
    run(&mover, &job, forward()).await;
    let owner = |t: foreshift::fleet::Topology| t.workloads[0].partition.clone();
    assert_eq!(owner(mover.discover().await.unwrap()), job.destination);
    let at_the_cut = written.load(Ordering::SeqCst);
    support::wait_until("writes go on at the destination", LONG, || {
        written.load(Ordering::SeqCst) > at_the_cut + 20
    });
    let (source, destination) = mover.samples(&job, SystemClock.now()).await.unwrap();
    assert!(source.compared > 10 && destination.mismatches == 0, "{destination:?}");

    let back = job.mirrored(Generation(2));
    run(&mover, &back, forward()).await;
    support::wait_until("writes go on at the source", LONG, || {
        written.load(Ordering::SeqCst) > at_the_cut + 60
    });
    stop.store(true, Ordering::SeqCst);
    writer.join().unwrap();
    assert_eq!(owner(mover.discover().await.unwrap()), job.source);
    let expected: Vec<u64> = (0..written.load(Ordering::SeqCst)).collect();
    assert_eq!(lines(&roots.path("a")), expected);
    cleanup(&mover, &job).await;
    cleanup(&mover, &back).await;
    assert_eq!(mover.leaks().await.unwrap(), []);
}

#[tokio::test]
async fn a_folder_of_that_name_that_is_no_copy_is_never_taken_for_one_nor_exchanged() {
    let roots = Roots::new();
    let (mover, job) = (roots.mover(), job());
    let theirs = roots.path("b").join("cart");
    fs::create_dir(&theirs).unwrap();
    run(&mover, &job, vec![Action::Announce, Action::Prepare]).await;
    // It is filled by somebody else while the copy is made.
    fs::write(theirs.join("only-here"), "not ours").unwrap();
    assert!(mover.discover().await.unwrap().workloads.is_empty(), "nobody can say which of two is meant");
    let refused = mover.perform(&job, &Action::Prepare, &permit(5)).await.unwrap_err();
    assert!(
        refused.retry == Retry::Permanent && refused.detail.contains("no copy that was made here"),
        "{refused}"
    );
    run(
        &mover,
        &job,
        vec![Action::Replicate, Action::Verify, Action::ArmReverse, fence(), Action::VerifyAtCut],
    )
    .await;
    let refused = mover.perform(&job, &Action::Open, &permit(5)).await.unwrap_err();
    assert_eq!(refused.retry, Retry::Permanent, "{refused}");
    complete(&mover, &job, Action::Unfence).await;
    cleanup(&mover, &job).await;
    assert_eq!(fs::read_to_string(theirs.join("only-here")).unwrap(), "not ours");
    assert!(roots.path("a").join("cart/d1/f1").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_a_lost_file_and_a_stray_one_are_named() {
    let roots = Roots::new();
    let mover = roots.mover();
    let job = job();
    for action in [Action::Prepare, Action::Replicate] {
        complete(&mover, &job, action).await;
    }
    assert_eq!(complete(&mover, &job, Action::Verify).await.equal, Some(true));
    let copy = roots.path("b").join(".foreshift").join(&mover.artifacts(&job, &Action::Prepare)[0].name);
    // Bits rot without the time of change moving.
    let victim = copy.join("d3/f10");
    let changed = fs::metadata(&victim).unwrap().modified().unwrap();
    let mut bytes = fs::read(&victim).unwrap();
    bytes[5] ^= 1;
    fs::write(&victim, bytes).unwrap();
    fs::File::options().write(true).open(&victim).unwrap().set_modified(changed).unwrap();
    fs::remove_file(copy.join("d4/f11")).unwrap();
    fs::write(copy.join("d4/stray"), "x").unwrap();
    let verified = complete(&mover, &job, Action::Verify).await;
    assert_eq!(verified.equal, Some(false));
    let names = verified.differences.join("\n");
    for name in ["d3/f10: the content differs", "d4/f11: missing", "d4/stray: only at the destination"] {
        assert!(names.contains(name), "{names}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_dies_between_any_two_steps_is_followed_by_one_that_finishes_or_undoes() {
    let steps = forward().len();
    for dies_after in 0..=steps {
        // Finishes.
        let roots = Roots::new();
        let job = job();
        run(&roots.mover(), &job, forward().into_iter().take(dies_after).collect()).await;
        let next = roots.mover();
        for action in forward() {
            if !matches!(next.probe(&job, &action).await, Probe::Applied { .. }) {
                let evidence = complete(&next, &job, action).await;
                assert_ne!(evidence.equal, Some(false), "{evidence:?}");
            }
        }
        cleanup(&next, &job).await;
        assert_eq!(next.leaks().await.unwrap(), []);
        assert_eq!(next.discover().await.unwrap().workloads[0].partition, job.destination);
        write_to(&roots.path("b"), "cart", |_| Ok(())).unwrap();
        assert!(write_to(&roots.path("a"), "cart", |_| Ok(())).is_err());

        // Undoes, before the cut.
        let opens = forward().iter().position(|a| *a == Action::Open).unwrap();
        if dies_after <= opens {
            let roots = Roots::new();
            run(&roots.mover(), &job, forward().into_iter().take(dies_after).collect()).await;
            let next = roots.mover();
            for action in [Action::Unfence, Action::Unfence, Action::StopReplication] {
                complete(&next, &job, action).await;
            }
            cleanup(&next, &job).await;
            assert_eq!(next.leaks().await.unwrap(), []);
            write_to(&roots.path("a"), "cart", |_| Ok(())).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_leader_fences_nothing_and_a_fence_lets_go_by_itself() {
    let roots = Roots::new();
    let mover = roots.mover();
    let job = job();
    run(&mover, &job, vec![Action::Prepare, Action::Replicate]).await;
    let short = Action::Fence { deadline: SystemClock.now() + Span::millis(100) };
    complete(&mover, &job, short).await;
    let seal = Action::Fence { deadline: SystemClock.now() + Span::hours(1_000) };
    assert_eq!(mover.probe(&job, &seal).await, Probe::NotStarted, "what lets go by itself is no seal");
    assert!(matches!(write_to(&roots.path("a"), "cart", |_| Ok(())), Err(NotWritten::NotOwner { .. })));
    let error = mover.perform(&job, &fence(), &permit(4)).await.unwrap_err();
    assert!(error.retry == Retry::Permanent && error.detail.contains("deposed"), "{error}");
    support::wait_until("the fence lets go", LONG, || write_to(&roots.path("a"), "cart", |_| Ok(())).is_ok());
    let error = mover.perform(&job, &Action::VerifyAtCut, &permit(5)).await.unwrap_err();
    assert_eq!(error.retry, Retry::Retryable, "what is not fenced is not compared for a cut: {error}");
}

/// Asks for each action twice, each time of a driver that knows nothing but what it sees.
async fn twice(roots: &Roots, job: &Job, actions: Vec<Action>) {
    for action in actions {
        for _ in 0..2 {
            let evidence = complete(&roots.mover(), job, action.clone()).await;
            assert_ne!(evidence.equal, Some(false), "{}: {evidence:?}", action.name());
        }
    }
}

fn artifacts(roots: &Roots, job: &Job) -> Vec<Action> {
    let mover = roots.mover();
    forward()
        .iter()
        .rev()
        .flat_map(|action| mover.artifacts(job, action))
        .map(|artifact| Action::Cleanup { artifact })
        .collect()
}

/// Names and contents below a root, of the workload and of anything else that lies there.
fn contents(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    // The driver's own mark stays: it names the newest epoch that asked for something.
    found.retain(|(name, _)| name.starts_with("cart/") && !name.ends_with(".foreshift"));
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_action_and_every_undo_asked_twice_leaves_a_clean_slate() {
    let opens = forward().iter().position(|a| *a == Action::Open).unwrap();
    for steps in 0..=opens {
        let (roots, job) = (Roots::new(), job());
        let before = contents(&roots.path("a"));
        twice(&roots, &job, forward().into_iter().take(steps).collect()).await;
        twice(&roots, &job, vec![Action::Unfence, Action::StopReplication]).await;
        twice(&roots, &job, artifacts(&roots, &job)).await;
        assert_eq!(roots.mover().leaks().await.unwrap(), [], "after {steps} steps");
        assert!(contents(&roots.path("a")) == before, "the source is as it was, after {steps} steps");
        assert_eq!(contents(&roots.path("b")), [], "nothing is left at the destination, after {steps} steps");
        write_to(&roots.path("a"), "cart", |_| Ok(())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_asked_twice_leaves_a_clean_slate_at_the_source() {
    let (roots, job) = (Roots::new(), job());
    let before = contents(&roots.path("a"));
    twice(&roots, &job, forward().into_iter().filter(|a| *a != Action::Retire).collect()).await;
    let back = job.mirrored(Generation(2));
    twice(&roots, &back, vec![fence(), Action::VerifyAtCut, Action::Open, Action::StopReplication]).await;
    twice(&roots, &job, artifacts(&roots, &back)).await;
    twice(&roots, &job, artifacts(&roots, &job)).await;
    assert_eq!(roots.mover().leaks().await.unwrap(), []);
    assert!(contents(&roots.path("a")) == before, "the source is as it was");
    write_to(&roots.path("a"), "cart", |_| Ok(())).unwrap();
    assert!(write_to(&roots.path("b"), "cart", |_| Ok(())).is_err());
}

#[tokio::test]
async fn a_hold_that_no_journal_knows_is_found_and_ended() {
    let roots = Roots::new();
    let (mover, job) = (roots.mover(), job());
    for action in [Action::Announce, Action::Prepare, Action::Replicate, Action::Verify] {
        complete(&mover, &job, action).await;
    }
    complete(&mover, &job, Action::Fence { deadline: SystemClock.now() + Span::seconds(9) }).await;
    let fences = async || {
        let found = mover.leaks().await.unwrap();
        found.into_iter().filter(|left| left.kind == Artifact::FENCE).collect::<Vec<_>>()
    };
    assert_eq!(fences().await, [], "one that ends by itself is none");
    complete(&mover, &job, Action::Fence { deadline: SystemClock.now() + Span::days(9_000) }).await;
    let held = fences().await;
    assert_eq!((held.len(), &held[0].partition), (1, &job.source), "{held:?}");
    assert!(mover.artifacts(&job, &Action::Prepare).iter().any(|made| made.name == held[0].name));
    let root = roots.path("a");
    assert!(write_to(&root, "cart", |_| Ok(())).is_err());
    // The other root may have it.
    fs::rename(roots.path("b"), roots.path("elsewhere")).unwrap();
    assert!(mover.reap(&held[0], &permit(1)).await.is_err());
    fs::rename(roots.path("elsewhere"), roots.path("b")).unwrap();
    assert!(write_to(&root, "cart", |_| Ok(())).is_err());
    mover.reap(&held[0], &permit(1)).await.unwrap();
    assert!(write_to(&root, "cart", |_| Ok(())).is_ok());
    assert_eq!(fences().await, []);
}
