//! A connection that is cut or goes silent at a named command, before the server saw it or after it did it:
//! the driver answers in time, never says that something was certainly not done which was, its probe says
//! what is true, and asked again it ends clean. On real Redis and PostgreSQL behind a proxy.

#[path = "support/cutting_proxy.rs"]
mod cutting_proxy;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/redis_cluster.rs"]
mod redis_cluster;
mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cutting_proxy::{Fault, Faults, How, Proxy, redis_command};
use foreshift::drivers::postgres::{PostgresMover, PostgresOptions};
use foreshift::drivers::redis::{RedisMover, RedisOptions, RedisSlotMover};
use foreshift::drivers::{Action, Answer, Artifact, Evidence, Job, Mover, Permit, Probe, Retry};
use foreshift::fleet::{
    Clock, Epoch, Generation, MigrationId, PartitionId, Span, SystemClock, Timestamp, WorkloadId,
};
use redis_cluster::RedisCluster;
use support::wait_until;

/// How long anything may be tried.
const LONG: Duration = Duration::from_secs(40);
/// How long one call of a driver may take whose connection says nothing: the limit of a command is a
/// second, but ending a subscription, which waits for its publisher, has eight.
const ANSWER: Duration = Duration::from_secs(10);
const HOWS: [How; 4] = [How::CutBefore, How::CutAfter, How::Stall, How::StallAnswer];

fn permit() -> Permit {
    Permit::mint_for_runner(Epoch(5), "test")
}

fn partition(address: SocketAddr) -> PartitionId {
    PartitionId::from(format!("{}/{}", address.ip(), address.port()))
}

fn fault(name: &str, needle: Vec<u8>, how: How) -> Fault {
    Fault { name: name.into(), needle, passes: 0, how, hit: false }
}

/// A hold whose deadline counts from now.
fn fresh(action: &Action) -> Action {
    match action {
        Action::Fence { deadline } if *deadline != SEALED => {
            Action::Fence { deadline: SystemClock.now() + Span::seconds(8) }
        }
        action => action.clone(),
    }
}

const SEALED: Timestamp = Timestamp(4_102_444_800_000);

/// Does an action as the runner does: what is unknown is probed before it is asked for again.
async fn act(mover: &dyn Mover, job: &Job, action: &Action, faults: &Faults) -> Evidence {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < LONG, "{} does not end", action.name());
        let (before, asked) = (faults.hits(), Instant::now());
        let answer = mover.perform(job, &fresh(action), &permit()).await;
        assert!(asked.elapsed() < ANSWER, "{} took {:?}", action.name(), asked.elapsed());
        let struck = faults.hits() > before;
        match answer {
            Ok(Answer::Done(evidence)) => return evidence,
            Ok(Answer::Working { .. }) => {}
            Err(error) => {
                println!("    {} {:?}: {error}", action.name(), error.retry);
                assert_ne!(error.retry, Retry::Permanent, "{}: {error}", action.name());
                if error.retry == Retry::Unknown {
                    if let Some(evidence) = probe(mover, job, action).await {
                        return evidence;
                    }
                } else {
                    // "Certainly not done": not where the server did it.
                    let did = struck && faults.server_did();
                    assert!(!did, "{}: it was done, and the driver says it was not: {error}", action.name());
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the system says: `Some` = it is done.
async fn probe(mover: &dyn Mover, job: &Job, action: &Action) -> Option<Evidence> {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < LONG, "{}: nobody knows whether it was done", action.name());
        match mover.probe(job, action).await {
            Probe::Applied { evidence } => return Some(evidence),
            // What goes on is asked for again, too.
            Probe::NotStarted | Probe::InProgress | Probe::Failed { .. } => return None,
            Probe::Unknown { .. } => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// A whole move.
async fn move_it(mover: &dyn Mover, job: &Job, faults: &Faults) {
    let fence = Action::Fence { deadline: Timestamp(0) };
    for action in [Action::Announce, Action::Prepare, Action::Replicate] {
        act(mover, job, &action, faults).await;
    }
    wait_until_streaming(mover, job).await;
    assert_ne!(act(mover, job, &Action::Verify, faults).await.equal, Some(false));
    for action in [Action::ArmReverse, Action::ProbeReverse, fence] {
        act(mover, job, &action, faults).await;
    }
    if !mover.capabilities().system_votes {
        act(mover, job, &Action::Fence { deadline: SEALED }, faults).await;
    }
    assert_ne!(act(mover, job, &Action::VerifyAtCut, faults).await.equal, Some(false));
    for action in [Action::Commit, Action::Open, Action::EnableReverse, Action::Retire] {
        act(mover, job, &action, faults).await;
    }
}

async fn wait_until_streaming(mover: &dyn Mover, job: &Job) {
    let start = Instant::now();
    while !mover.status(job).await.is_ok_and(|s| s.streaming) {
        assert!(start.elapsed() < LONG, "the copy does not come to stream");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn clean(mover: &dyn Mover, job: &Job, faults: &Faults) {
    let mut all: Vec<Artifact> = [Action::Prepare, Action::Replicate, Action::ArmReverse]
        .iter()
        .flat_map(|action| mover.artifacts(job, action))
        .filter(|artifact| artifact.kind != "copy")
        .collect();
    all.reverse();
    for artifact in all {
        act(mover, job, &Action::Cleanup { artifact }, faults).await;
    }
    assert_eq!(mover.leaks().await.expect("a scan"), Vec::new());
}

/// A proxy before every node, by whose address all know it.
async fn behind_proxies(cluster: &RedisCluster, faults: &Faults) -> Vec<Proxy> {
    let mut proxies = Vec::new();
    for node in &cluster.nodes {
        let proxy = Proxy::start(node.address, faults.clone()).await;
        node.ask(&["CONFIG", "SET", "cluster-announce-port", &proxy.address.port().to_string()]);
        proxies.push(proxy);
    }
    tokio::task::block_in_place(|| {
        wait_until("all nodes know each other by the proxies", LONG, || {
            cluster.nodes.iter().all(|node| {
                let text = node.text(&["CLUSTER", "NODES"]);
                proxies.iter().all(|p| text.contains(&format!(" {}@", p.address)))
                    && node.text(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
            }) && cluster.nodes[3..6]
                .iter()
                .all(|n| n.text(&["INFO", "replication"]).contains("master_link_status:up"))
        });
    });
    proxies
}

/// The sum of counters at one node.
fn sum(cluster: &RedisCluster, node: usize, keys: &[String]) -> u64 {
    let mut connection = cluster.nodes[node].connect();
    let values = keys.iter().map(|key| {
        let value = redis_cluster::ask(&mut connection, &["GET", key]);
        redis::from_redis_value::<Option<u64>>(value).expect("a number").unwrap_or(0)
    });
    values.sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_ends_clean_whichever_command_is_cut_or_stalled() {
    let Some(cluster) = RedisCluster::start(4) else { return };
    let faults = Faults::new();
    let proxies = behind_proxies(&cluster, &faults).await;
    let seeds: Vec<String> = proxies.iter().map(|p| p.address.to_string()).collect();
    let mut options = RedisOptions::new("cart", seeds);
    (options.command_timeout, options.connect_timeout) = (Span::seconds(1), Span::seconds(1));
    // The first shard goes from one spare node to the next.
    let (mut source, keys) = (0, redis_cluster::keys_of_shard(0, 40, "cut"));
    let mut written = 0;
    for (round, how) in HOWS.into_iter().enumerate() {
        let destination = 6 + round;
        println!("{how:?}: node {source} → node {destination}");
        let mover = RedisMover::new(options.clone());
        let job = Job {
            migration: MigrationId(7 + round as u64),
            workload: WorkloadId::from("cart-0"),
            source: partition(proxies[source].address),
            destination: partition(proxies[destination].address),
            generation: Generation(1 + round as u64),
        };
        faults.set(vec![
            fault("CONFIG SET", redis_command(&["CONFIG", "SET"]), how),
            fault("CLUSTER REPLICATE", redis_command(&["CLUSTER", "REPLICATE"]), how),
            fault("CLIENT PAUSE", redis_command(&["CLIENT", "PAUSE"]), how),
            fault("CLUSTER FAILOVER", redis_command(&["CLUSTER", "FAILOVER"]), how),
        ]);
        let others = proxies.iter().map(|p| p.address).collect();
        let writer = redis_cluster::Writer::start(proxies[source].address, others, keys.clone());
        move_it(&mover, &job, &faults).await;
        assert_eq!(faults.missed(), Vec::<String>::new());
        faults.set(vec![fault("CONFIG SET at the end", redis_command(&["CONFIG", "SET"]), how)]);
        clean(&mover, &job, &faults).await;
        assert_eq!(faults.missed(), Vec::<String>::new());
        let (seen, _) = tokio::task::block_in_place(|| writer.finish());
        written += seen.acknowledged;
        let sum = sum(&cluster, destination, &keys);
        assert!((written..=written + seen.unknown).contains(&sum), "{sum} of {written} and {seen:?}");
        written = sum;
        for node in &cluster.nodes {
            assert_eq!(node.text(&["INFO", "clients"]).matches("blocked_clients:0").count(), 1);
        }
        source = destination;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_end_clean_whichever_command_is_cut_or_stalled() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    let faults = Faults::new();
    let proxies = behind_proxies(&cluster, &faults).await;
    let seeds: Vec<String> = proxies.iter().map(|p| p.address.to_string()).collect();
    let mut options = RedisOptions::new("cart", seeds);
    (options.command_timeout, options.connect_timeout) = (Span::seconds(1), Span::seconds(1));
    let last = 99;
    let mut keys = redis_cluster::keys_of_shard(0, 4_000, "cut");
    keys.retain(|key| redis_cluster::slot(key.as_bytes()) <= last);
    assert!(keys.len() >= 20, "{} keys", keys.len());
    let (mut source, mut written) = (0, 0);
    for (round, how) in HOWS.into_iter().enumerate() {
        let destination = (source + 1) % 3;
        println!("{how:?}: node {source} → node {destination}");
        let mover = RedisSlotMover::new(options.clone(), &[format!("0-{last}")]).expect("a range");
        let job = Job {
            migration: MigrationId(7 + round as u64),
            workload: WorkloadId::from(format!("cart-0-{last}")),
            source: partition(proxies[source].address),
            destination: partition(proxies[destination].address),
            generation: Generation(1 + round as u64),
        };
        // The first slot's move is hit at every command, what one node sends to the other among them; a later
        // one once more where it changes its owner.
        let mut all = vec![
            fault("CONFIG SET", redis_command(&["CONFIG", "SET"]), how),
            fault("SETSLOT IMPORTING", redis_command(&["IMPORTING"]), how),
            fault("SETSLOT MIGRATING", redis_command(&["MIGRATING"]), how),
            fault("GETKEYSINSLOT", redis_command(&["GETKEYSINSLOT"]), how),
            fault("MIGRATE", redis_command(&["MIGRATE"]), how),
            fault("RESTORE", b"RESTORE-ASKING".to_vec(), how),
            fault("SETSLOT NODE", redis_command(&["NODE"]), how),
        ];
        all.extend([1, 2, 8].map(|passes| Fault {
            passes,
            ..fault(&format!("SETSLOT NODE after {passes}"), redis_command(&["NODE"]), how)
        }));
        faults.set(all);
        let others = proxies.iter().map(|p| p.address).collect();
        let writer = redis_cluster::Writer::start(proxies[source].address, others, keys.clone());
        for action in [
            Action::Announce,
            Action::Prepare,
            Action::Replicate,
            Action::Commit,
            Action::Open,
            Action::EnableReverse,
            Action::Retire,
        ] {
            act(&mover, &job, &action, &faults).await;
        }
        assert_eq!(faults.missed(), Vec::<String>::new());
        faults.set(vec![fault("CONFIG SET at the end", redis_command(&["CONFIG", "SET"]), how)]);
        clean(&mover, &job, &faults).await;
        assert_eq!(faults.missed(), Vec::<String>::new());
        let (seen, _) = tokio::task::block_in_place(|| writer.finish());
        println!("    {seen:?}");
        written += seen.acknowledged;
        let sum = sum(&cluster, destination, &keys);
        assert!((written..=written + seen.unknown).contains(&sum), "{sum} of {written} and {seen:?}");
        written = sum;
        for node in &cluster.nodes {
            let text = node.text(&["CLUSTER", "NODES"]);
            assert!(!text.contains("->-") && !text.contains("-<-"), "a slot is half moved: {text}");
            let owner =
                text.lines().find(|line| line.contains(&format!(" {}@", proxies[destination].address)));
            let holds = |field: &str| {
                let (first, to) = field.split_once('-').unwrap_or((field, field));
                first == "0" && to.parse::<u16>().is_ok_and(|to| to >= last)
            };
            assert!(owner.is_some_and(|l| l.split_ascii_whitespace().skip(8).any(holds)), "{text}");
        }
        source = destination;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_ends_clean_whichever_statement_is_cut_or_stalled() {
    let Some(clusters) = postgres::Clusters::start(2) else { return };
    clusters.all[0].ask(&postgres::schema(200)).await;
    let faults = Faults::new();
    let mut proxies = Vec::new();
    for cluster in &clusters.all {
        proxies.push(Proxy::start(cluster.address, faults.clone()).await);
    }
    let addresses: Vec<String> = proxies.iter().map(|p| p.address.to_string()).collect();
    let mut options = PostgresOptions::new("shop", addresses, postgres::DATABASE);
    options.schemas = vec!["orders".into()];
    options.password = Some(postgres::PASSWORD.into());
    (options.command_timeout, options.connect_timeout) = (Span::seconds(1), Span::seconds(1));
    let writer = postgres::Writer::start(clusters.all.iter().map(|c| c.address).collect());
    for (round, how) in HOWS.into_iter().enumerate() {
        let (from, to) = (round % 2, 1 - round % 2);
        println!("{how:?}: cluster {from} → cluster {to}");
        let mover = PostgresMover::new(options.clone());
        let job = Job {
            migration: MigrationId(7 + round as u64),
            workload: WorkloadId::from("shop-orders"),
            source: partition(proxies[from].address),
            destination: partition(proxies[to].address),
            generation: Generation(1 + round as u64),
        };
        let statements = [
            "SELECT foreshift.check_owner(",
            "CREATE PUBLICATION",
            "CREATE SUBSCRIPTION",
            "SELECT foreshift.hold(",
            "SELECT foreshift.open(",
        ];
        faults.set(statements.iter().map(|s| fault(s, s.as_bytes().to_vec(), how)).collect());
        move_it(&mover, &job, &faults).await;
        assert_eq!(faults.missed(), Vec::<String>::new());
        let statements = ["DROP SUBSCRIPTION", "DROP PUBLICATION", "DROP TRIGGER"];
        faults.set(statements.iter().map(|s| fault(s, s.as_bytes().to_vec(), how)).collect());
        clean(&mover, &job, &faults).await;
        assert_eq!(faults.missed(), Vec::<String>::new());
    }
    let seen = tokio::task::block_in_place(|| writer.finish());
    let sum: u64 =
        clusters.all[0].text("SELECT sum(n) FROM orders.counters").await.parse().expect("a number");
    assert!((seen.acknowledged..=seen.acknowledged + seen.unknown).contains(&sum), "{sum} of {seen:?}");
}
