//! How long clients cannot write while a schema changes its owner, over many cuts forward and back on one
//! copy of a real schema on two real PostgreSQL clusters, and what the maintained digest costs.
//!
//! `cargo bench --bench postgres_cut` makes 100 cuts of a schema with 20,000 rows (10 MB);
//! `FORESHIFT_BENCH_CUTS=200` more, `FORESHIFT_BENCH_ROWS=10000000` a larger one (about 5 GB). Four clients write one
//! transaction after the other all the while (a row changed, a row added), and go where the workload is when they are refused.
//! The blackout of a cut is the longest time that any of them waited for an acknowledgement, from
//! asking for the first time, refusals included. The digest's time at the cut is that of adding it up
//! and comparing it on both sides, after the barrier has arrived.
//!
//! The throughput is that of the same four clients on the source alone, without and with the digest's
//! triggers, in turn three times, before anything is replicated: streams to another cluster on the same machine
//! would be measured with it.
//!
//! Prints one JSON object.

#[path = "../tests/support/postgres.rs"]
mod postgres;
#[path = "../tests/support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use foreshift::drivers::postgres::{PostgresMover, PostgresOptions};
use foreshift::drivers::{Action, Answer, Evidence, Job, Mover, Permit, Retry};
use foreshift::fleet::{
    Clock, Epoch, Generation, MigrationId, PartitionId, Span, SystemClock, Timestamp, WorkloadId,
};
use postgres::{Clusters, DATABASE, PASSWORD};

const WRITERS: usize = 4;
/// How often the throughput is measured without and with the digest.
const TURNS: u32 = 3;

/// Every acknowledgement: when, and after how long.
type Acknowledged = Arc<Mutex<Vec<(Instant, Duration)>>>;

fn number(name: &str, or: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(or)
}

/// Asks for an action until it is done.
async fn complete(mover: &PostgresMover, job: &Job, action: Action) -> Evidence {
    let permit = Permit::mint_for_runner(Epoch(1), "bench");
    loop {
        match mover.perform(job, &action, &permit).await {
            Ok(Answer::Done(evidence)) => return evidence,
            Ok(Answer::Working { .. }) => {}
            Err(error) if error.retry == Retry::Retryable => eprintln!("{} again: {error}", action.name()),
            Err(error) => panic!("{}: {error}", action.name()),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// One client: a row changed and a row added in every transaction.
async fn write(
    n: usize,
    addresses: Vec<SocketAddr>,
    acknowledged: Acknowledged,
    count: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) {
    let mut clients = Vec::new();
    for address in &addresses {
        clients.push(postgres::connect(*address, DATABASE).await.expect("a connection"));
    }
    let (mut at, mut k) = (0, n as u64);
    while !stop.load(Ordering::SeqCst) {
        k += WRITERS as u64;
        let sql = format!(
            "UPDATE orders.items SET n = n + 1 WHERE id = {}; INSERT INTO orders.log (item) VALUES ({k})",
            k % 10_000 + 1
        );
        let start = Instant::now();
        while let Err(error) = clients[at].batch_execute(&sql).await {
            let code = error.code().map(|c| c.code().to_string()).unwrap_or_default();
            assert!(["25006", "42P01", "3F000"].contains(&code.as_str()), "{error:?}");
            at = (at + 1) % clients.len();
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        count.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut all) = acknowledged.lock() {
            all.push((Instant::now(), start.elapsed()));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(((values.len() as f64 - 1.0) * q).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Transactions a second of four clients that do nothing else.
async fn throughput(address: SocketAddr, seconds: u64) -> f64 {
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..WRITERS)
        .map(|n| {
            let stop = stop.clone();
            tokio::spawn(async move {
                let client = postgres::connect(address, DATABASE).await.expect("a connection");
                let (mut k, mut done) = (n as u64, 0u64);
                while !stop.load(Ordering::SeqCst) {
                    k += WRITERS as u64;
                    let sql = format!(
                        "UPDATE orders.items SET n = n + 1 WHERE id = {}; INSERT INTO orders.log (item) VALUES ({k})",
                        k % 10_000 + 1
                    );
                    client.batch_execute(&sql).await.expect("a write");
                    done += 1;
                }
                done
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    stop.store(true, Ordering::SeqCst);
    let mut all = 0;
    for task in tasks {
        all += task.await.expect("a writer");
    }
    all as f64 / seconds as f64
}

#[tokio::main]
async fn main() {
    let Some(clusters) = Clusters::start(2) else { return };
    let (cuts, rows) = (number("FORESHIFT_BENCH_CUTS", 100), number("FORESHIFT_BENCH_ROWS", 20_000));
    let addresses: Vec<SocketAddr> = clusters.all.iter().map(|c| c.address).collect();
    let source = &clusters.all[0];
    source
        .ask(&format!(
            "CREATE SCHEMA orders; \
             CREATE TABLE orders.items (id bigint PRIMARY KEY, n bigint NOT NULL, price numeric(10, 2), what text); \
             CREATE TABLE orders.log (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item bigint, \
               at timestamptz NOT NULL DEFAULT now()); \
             INSERT INTO orders.items SELECT g, 0, g * 0.25, repeat(md5(g::text), 13) FROM generate_series(1, {rows}) g; \
             ANALYZE"
        ))
        .await;
    let bytes: u64 =
        source.text("SELECT pg_total_relation_size('orders.items')").await.parse().expect("a size");
    let mut options = PostgresOptions::new("shop", clusters.addresses(), DATABASE);
    options.password = Some(PASSWORD.into());
    let mover = PostgresMover::new(options);
    let partition = |n: usize| PartitionId::from(format!("{}/{}", addresses[n].ip(), addresses[n].port()));
    let first = Job {
        migration: MigrationId(1),
        workload: WorkloadId::from("shop-orders"),
        source: partition(0),
        destination: partition(1),
        generation: Generation(1),
    };

    let seconds = number("FORESHIFT_BENCH_SECONDS", 5);
    throughput(addresses[0], 2).await;
    let (mut without, mut with) = (0.0, 0.0);
    for _ in 0..TURNS {
        without += throughput(addresses[0], seconds).await / f64::from(TURNS);
        complete(&mover, &first, Action::Prepare).await;
        with += throughput(addresses[0], seconds).await / f64::from(TURNS);
        for artifact in mover.artifacts(&first, &Action::Prepare).into_iter().rev() {
            complete(&mover, &first, Action::Cleanup { artifact }).await;
        }
    }
    let begun = Instant::now();
    complete(&mover, &first, Action::Prepare).await;
    for action in [Action::Replicate, Action::Verify, Action::ArmReverse, Action::ProbeReverse] {
        let evidence = complete(&mover, &first, action.clone()).await;
        eprintln!("{} at {:.1} s: {}", action.name(), begun.elapsed().as_secs_f64(), evidence.summary);
    }

    let before: u64 = source.text("SELECT count(*) FROM orders.log").await.parse().expect("a count");
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let acknowledged: Acknowledged = Arc::default();
    let tasks: Vec<_> = (0..WRITERS)
        .map(|n| tokio::spawn(write(n, addresses.clone(), acknowledged.clone(), count.clone(), stop.clone())))
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (mut blackouts, mut held, mut digests) = (Vec::new(), Vec::new(), Vec::new());
    let mut job = first.clone();
    for cut in 1..=cuts {
        complete(&mover, &job, Action::ProbeReverse).await;
        let from = Instant::now();
        complete(&mover, &job, Action::Fence { deadline: SystemClock.now() + Span::seconds(2) }).await;
        complete(&mover, &job, Action::Fence { deadline: Timestamp(4_102_444_800_000) }).await;
        let compared = complete(&mover, &job, Action::VerifyAtCut).await;
        assert_eq!(compared.equal, Some(true), "{compared:?}");
        complete(&mover, &job, Action::Open).await;
        held.push(from.elapsed().as_secs_f64() * 1e3);
        let ms = |after: &str| -> f64 {
            let rest = compared.summary.split(after).nth(1).unwrap_or_default();
            rest.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(f64::NAN)
        };
        digests.push(ms("digests after ") - ms("barrier after "));
        tokio::time::sleep(Duration::from_millis(120)).await;
        let worst = acknowledged
            .lock()
            .map(|all| all.iter().filter(|(at, _)| *at >= from).map(|(_, took)| *took).max())
            .ok()
            .flatten()
            .unwrap_or_default();
        blackouts.push(worst.as_secs_f64() * 1e3);
        let reverse = complete(&mover, &job, Action::EnableReverse).await;
        assert_eq!(reverse.equal, Some(true), "{reverse:?}");
        job = job.mirrored(Generation(cut + 1));
    }
    stop.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.expect("a client");
    }
    let owner = &clusters.all[(cuts % 2) as usize];
    let lines: u64 = owner.text("SELECT count(*) FROM orders.log").await.parse().expect("a count");
    let lost = (before + count.load(Ordering::SeqCst)) as i64 - lines as i64;
    assert_eq!(lost, 0, "acknowledged writes lost (or, below nothing, made twice)");
    println!(
        "{}",
        serde_json::json!({
            "rows": rows, "bytes": bytes, "cuts": cuts, "lost": lost,
            "acknowledged": count.load(Ordering::SeqCst),
            "blackout_ms": { "p50": quantile(&mut blackouts, 0.5), "p99": quantile(&mut blackouts, 0.99), "worst": quantile(&mut blackouts, 1.0) },
            "held_ms": { "p50": quantile(&mut held, 0.5), "p99": quantile(&mut held, 0.99) },
            "digest_ms": { "p50": quantile(&mut digests, 0.5), "p99": quantile(&mut digests, 0.99) },
            "transactions_per_s": { "without_digest": without, "with_digest": with, "ratio": with / without },
        })
    );
}
