//! `foreshift evacuate` on real PostgreSQL clusters: a host is emptied under a client that writes all
//! the while, and filled again; and an engine that is killed without warning at one phase after another
//! ends what it began when it is started again, with one owner and every acknowledged write.

#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/program.rs"]
mod program;
mod support;

use std::cell::Cell;
use std::time::Duration;

use foreshift::fleet::Phase;
use postgres::{Clusters, Seen, Writer, schema};
use program::Program;
use support::wait_until_async;

const LONG: Duration = Duration::from_secs(120);

fn program(clusters: &Clusters, canary: &str) -> Program {
    Program::new(
        "interval = \"1s\"",
        &format!(
            "[plan]\ncool_down = \"100ms\"\n\
             [migration]\ncanary = [{{ share = \"50%\", hold = {canary:?} }}]\nmin_samples = 1\nsoak = \"1s\"\n\
             fence_budget = \"2s\"\n\
             [drivers.shop]\nclass = \"postgres\"\nclusters = {:?}\ndatabase = {:?}\nschemas = [\"orders\"]\n\
             password = {{ file = {:?} }}",
            clusters.addresses(),
            postgres::DATABASE,
            clusters.password_file().display().to_string(),
        ),
    )
}

/// Who owns the schema by the marks of both: one takes writes, the other is a copy or has nothing.
async fn owner(clusters: &Clusters) -> Option<usize> {
    let mut owners = Vec::new();
    for (n, cluster) in clusters.all.iter().enumerate() {
        let known = cluster.text("SELECT to_regclass('foreshift.owner') IS NOT NULL").await == "t";
        let mode = match known {
            true => cluster.text("SELECT mode FROM foreshift.owner WHERE workload = 'shop-orders'").await,
            false => String::new(),
        };
        let there = cluster.text("SELECT to_regclass('orders.log') IS NOT NULL").await == "t";
        match mode.as_str() {
            "writable" => owners.push(n),
            "" if there => owners.push(n),
            "fenced" => return None,
            _ => {}
        }
    }
    (owners.len() == 1).then(|| owners[0])
}

async fn settled_owner(clusters: &Clusters) -> usize {
    let found = Cell::new(None);
    wait_until_async("there is one owner", LONG, async || {
        found.set(owner(clusters).await);
        found.get().is_some()
    })
    .await;
    found.get().expect("just seen")
}

async fn all_there(clusters: &Clusters, owner: usize, seen: &Seen) {
    let cluster = &clusters.all[owner];
    let sum: u64 = cluster.text("SELECT sum(n) FROM orders.counters").await.parse().unwrap();
    let lines: u64 = cluster.text("SELECT count(*) FROM orders.log").await.parse().unwrap();
    assert_eq!(sum, lines);
    assert!((seen.acknowledged..=seen.acknowledged + seen.unknown).contains(&sum), "{sum} of {seen:?}");
    assert!(seen.acknowledged > 100, "{seen:?}");
}

/// Nothing of a migration is left anywhere.
async fn nothing_left(clusters: &Clusters) {
    assert_eq!(clusters.left().await, Vec::<String>::new());
}

fn writer(clusters: &Clusters) -> Writer {
    Writer::start(clusters.all.iter().map(|c| c.address).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_emptied_and_filled_again_while_a_client_writes_and_loses_nothing() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(2_000)).await;
    let program = program(&clusters, "200ms");
    let check = program.run(&["check"]);
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(said.contains("driver postgres") && said.contains("2 partitions, 1 workloads"), "{said}");
    assert!(!said.contains("quoted"), "{said}");
    let (well, report) = program.report(&["evacuate", "127.0.0.1", "--dry-run"]);
    assert!(well, "{report:#}");
    assert_eq!(report["plan"]["moves"].as_array().map(Vec::len), Some(1), "{report:#}");

    let writer = writer(&clusters);
    for (host, to) in [("127.0.0.1", 1), ("127.0.0.2", 0)] {
        let (well, report) = tokio::task::block_in_place(|| program.report(&["evacuate", host, "--yes"]));
        assert!(well, "{report:#}");
        assert_eq!(report["migrations"]["completed"], 1, "{report:#}");
        let steps = report["details"][0]["steps"].to_string();
        assert!(steps.contains("compared again: ") && steps.contains("equal"), "{report:#}");
        assert_eq!(owner(&clusters).await, Some(to));
        nothing_left(&clusters).await;
    }
    let seen = writer.finish();
    println!("emptied and filled again under writes: {seen:?}");
    all_there(&clusters, 0, &seen).await;
    assert_eq!(seen.unknown, 0, "{seen:?}");
    for cluster in &clusters.all {
        assert!(!cluster.log().contains("quoted"), "a password is in the server's log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_without_a_row_leaves_its_host_without_a_person() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask("CREATE SCHEMA orders").await;
    clusters.all[0].ask("CREATE TABLE orders.log (id bigint PRIMARY KEY)").await;
    let program = program(&clusters, "200ms");
    let (well, report) = tokio::task::block_in_place(|| program.report(&["evacuate", "127.0.0.1", "--yes"]));
    assert!(well && report["migrations"]["completed"] == 1, "{report:#}");
    assert_eq!(owner(&clusters).await, Some(1));
    nothing_left(&clusters).await;
}

/// How far a phase is on the way to the end.
fn distance(phase: Phase) -> usize {
    Phase::ALL.iter().position(|p| *p == phase).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_killed_at_any_phase_ends_what_it_began_when_it_starts_again() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(1_000)).await;
    let program = program(&clusters, "500ms");
    let writer = writer(&clusters);
    let mut ends = Vec::new();
    let moments = [
        Phase::Preparing,
        Phase::Copying,
        Phase::Verifying,
        Phase::ReverseArmed,
        Phase::Canary,
        Phase::Fencing,
        Phase::Redirecting,
        Phase::Soaking,
        Phase::Retiring,
    ];
    for moment in moments {
        let from = settled_owner(&clusters).await;
        let host = clusters.all[from].address.ip().to_string();
        let mut engine = program.engine(&[]);
        let proposal = program.begin(&host, LONG).await;
        let seen = Cell::new(None);
        let comes_to = async |phase: Phase| {
            wait_until_async("the migration comes so far", LONG, || async {
                let snapshot = program.snapshot().await;
                let mine = snapshot.migrations.iter().find(|m| m.proposal == proposal);
                seen.set(mine.map(|m| (m.id, m.phase)));
                mine.is_some_and(|m| distance(m.phase) >= distance(phase))
            })
            .await;
        };
        // A transaction that does not end keeps the cut waiting, and the engine is killed in it; what it
        // asked the server for comes later, when nobody waits for it any more.
        let mut slow = None;
        if moment == Phase::Fencing {
            comes_to(Phase::Canary).await;
            let client = clusters.all[from].connect().await.expect("a connection");
            client.batch_execute("BEGIN; DELETE FROM orders.items WHERE a = 1").await.expect("a write");
            slow = Some(client);
        }
        comes_to(moment).await;
        engine.kill();
        if let Some(client) = slow {
            assert_eq!(seen.get().map(|(_, phase)| phase), Some(Phase::Fencing));
            client.batch_execute("ROLLBACK").await.expect("the end of a transaction");
        }
        let (migration, killed_in) = seen.get().expect("just seen");

        let mut engine = program.engine(&[]);
        let ended = Cell::new(None);
        let last = Cell::new(String::new());
        wait_until_async("it ends by itself", LONG, || async {
            let snapshot = program.snapshot().await;
            let mine = snapshot.migrations.iter().find(|m| m.id == migration);
            let now = mine.map(|m| m.phase.word().to_string()).unwrap_or_default();
            if last.replace(now.clone()) != now {
                println!("  {now}");
            }
            ended.set(mine.filter(|m| m.phase.is_end()).map(|m| m.phase));
            // What had ended before the crash may no longer be shown.
            ended.get().is_some() || (killed_in.is_end() && mine.is_none() && !snapshot.partitions.is_empty())
        })
        .await;
        let end = ended.get().unwrap_or(killed_in);
        let owner = settled_owner(&clusters).await;
        println!("{migration} killed in {}: {}, owner {from} → {owner}", killed_in.word(), end.word());
        assert_eq!(end == Phase::Done, owner != from, "{end:?}");
        nothing_left(&clusters).await;
        ends.push(end);
        assert!(engine.stop("TERM", Duration::from_secs(5)).success(), "{}", engine.log_tail());
    }
    assert!(ends.contains(&Phase::Done), "nothing was ever moved: {ends:?}");

    let seen = writer.finish();
    println!("{seen:?}");
    all_there(&clusters, settled_owner(&clusters).await, &seen).await;
    let verified = program.run(&["journal", "verify"]);
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success(), "{said}{}", String::from_utf8_lossy(&verified.stderr));
    assert!(said.contains(&format!("{} migrations", ends.len())) && said.contains(" 0 broken"), "{said}");
}
