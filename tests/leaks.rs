//! An engine is killed in the middle of a move and its journal is lost: `foreshift leaks` finds what was
//! left by name alone, takes it away after a yes, leaves what may be the only place of a workload, and
//! the next engine moves on. On real PostgreSQL, a real Redis Cluster and directories.

#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/program.rs"]
mod program;
#[path = "support/redis_cluster.rs"]
mod redis_cluster;
mod support;

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use foreshift::fleet::Phase;
use postgres::{Clusters, schema};
use program::Program;
use redis_cluster::RedisCluster;
use support::wait_until_async;

const LONG: Duration = Duration::from_secs(60);

/// Begins to empty the host, kills the engine as soon as a migration is as far as `until`, and loses the
/// journal.
async fn lose_the_journal(program: &Program, data: &Path, host: &str, until: Phase) {
    let mut engine = program.engine(&[]);
    let proposal = program.begin(host, LONG).await;
    let seen = Cell::new(None);
    wait_until_async("the migration comes so far", LONG, || async {
        let snapshot = program.snapshot().await;
        seen.set(snapshot.migrations.iter().find(|m| m.proposal == proposal).map(|m| m.phase));
        seen.get() == Some(until)
    })
    .await;
    engine.kill();
    // While the journal is there, nothing of what runs is a leak.
    let (_, kept) = leaks(program, &[]);
    assert_eq!(kept["leaks"].as_array().map(Vec::len), Some(0), "{kept:#}");
    std::fs::remove_file(data.join("state.redb")).expect("the journal");
}

fn leaks(program: &Program, more: &[&str]) -> (bool, serde_json::Value) {
    let output = program.run(&[&["leaks", "--json"], more].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text:?} {said}"));
    (output.status.success(), value)
}

fn kinds(found: &serde_json::Value) -> Vec<String> {
    let all = found["leaks"].as_array().expect("a list");
    let mut kinds: Vec<String> =
        all.iter().map(|l| l["artifact"]["kind"].as_str().expect("a kind").to_string()).collect();
    kinds.sort();
    kinds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_journal_leaves_in_postgres_is_found_and_taken_away() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(200)).await;
    clusters.all[0]
        .ask("CREATE PUBLICATION fs_not_ours; CREATE TABLE orders.fs_ledger (id int PRIMARY KEY)")
        .await;
    let program = Program::new(
        "interval = \"1s\"",
        &format!(
            "[plan]\ncool_down = \"100ms\"\n\
             [migration]\ncanary = [{{ share = \"50%\", hold = \"30s\" }}]\nmin_samples = 1\nsoak = \"1s\"\n\
             fence_budget = \"2s\"\n\
             [drivers.shop]\nclass = \"postgres\"\nclusters = {:?}\ndatabase = {:?}\nschemas = [\"orders\"]\n\
             password = {{ file = {:?} }}",
            clusters.addresses(),
            postgres::DATABASE,
            clusters.password_file().display().to_string(),
        ),
    );
    let data = program.config.parent().expect("a folder").join("data");
    lose_the_journal(&program, &data, "127.0.0.1", Phase::Canary).await;

    // It died right after the source was sealed, as the engine seals it.
    let seal = "SELECT foreshift.hold(o.workload, 1, o.generation + 1, o.epoch, '2100-01-01', true, slot_name) \
        FROM foreshift.owner o, pg_replication_slots";
    clusters.all[0].ask(seal).await;
    let client = clusters.all[0].connect().await.expect("a client");
    let write = "INSERT INTO orders.log (counter) VALUES (1)";
    let refused = postgres::rows(&client, write).await.expect_err("it is held");
    assert!(refused.as_db_error().is_some_and(|e| e.message().contains("not written to")), "{refused:?}");
    let check = program.run(&["check"]);
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(!check.status.success() && said.contains("nobody may write to a workload on"), "{said}");

    let (clean, found) = leaks(&program, &[]);
    assert!(!clean);
    let kinds = kinds(&found);
    for kind in ["copy", "digest", "fence", "publication", "replication_slot", "subscription"] {
        assert!(kinds.iter().any(|k| k == kind), "no {kind} was found: {kinds:?}");
    }
    // Nobody can be asked, so nothing goes without a yes.
    let refused = program.run(&["leaks", "--remove"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--yes"));
    // An engine that starts tells of them.
    {
        let engine = program.engine(&[]);
        wait_until_async("the engine tells of leaks", LONG, || async {
            let snapshot = program.snapshot().await;
            snapshot.alerts.iter().any(|a| a.text.contains("foreshift leaks` shows"))
        })
        .await;
        let why = program.run(&["why", "shop-orders"]);
        let why = String::from_utf8_lossy(&why.stdout).into_owned();
        assert!(why.contains("keeps everybody from writing") && why.contains("leaks --remove"), "{why}");
        let busy = program.run(&["leaks"]);
        assert!(!busy.status.success(), "an engine has the journal");
        assert!(String::from_utf8_lossy(&busy.stderr).contains("another process"));
        drop(engine);
    }
    let (clean, removed) = leaks(&program, &["--remove", "--yes"]);
    assert!(clean, "{removed:#}");
    postgres::rows(&client, write).await.expect("writes go on");
    let (clean, none) = leaks(&program, &[]);
    assert!(clean, "{none:#}");
    for (n, cluster) in clusters.all.iter().enumerate() {
        let left = cluster
            .ask(
                "SELECT 'publication', pubname FROM pg_publication \
                 UNION SELECT 'subscription', subname FROM pg_subscription \
                 UNION SELECT 'slot', slot_name FROM pg_replication_slots \
                 UNION SELECT 'trigger', tgname FROM pg_trigger WHERE tgname LIKE 'fs%' OR tgname LIKE '%foreshift%' \
                 UNION SELECT 'relation', relname FROM pg_class WHERE relname ~ '^fs_[0-9a-f]{16}' \
                 UNION SELECT 'function', proname FROM pg_proc WHERE proname LIKE 'fs\\_%' \
                 UNION SELECT 'schema', nspname FROM pg_namespace WHERE nspname = 'orders' ORDER BY 1",
            )
            .await;
        // What only looks like ours is still there, and the workload where it was.
        let expected: &[&[&str]] =
            if n == 0 { &[&["publication", "fs_not_ours"], &["schema", "orders"]] } else { &[] };
        assert_eq!(left, expected, "{}", cluster.address);
    }
    assert_eq!(clusters.all[0].text("SELECT count(*) FROM orders.items").await, "200");
    // The marks remember a leader of the lost journal; the new one is obeyed all the same.
    let (well, report) = tokio::task::block_in_place(|| {
        std::fs::write(
            &program.config,
            std::fs::read_to_string(&program.config).expect("a file").replace("30s", "200ms"),
        )
        .expect("a file");
        program.report(&["evacuate", "127.0.0.1", "--yes"])
    });
    assert!(well, "{report:#}");
}

/// What a migration sets on a node.
fn settings(cluster: &RedisCluster, n: usize) -> Vec<String> {
    let names = [
        "proc-title-template",
        "cluster-allow-replica-migration",
        "repl-diskless-sync-delay",
        "repl-diskless-load",
    ];
    names.map(|name| format!("{:?}", cluster.nodes[n].ask(&["CONFIG", "GET", name]))).to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_journal_leaves_in_redis_is_found_and_taken_away() {
    let Some(cluster) = RedisCluster::start(1) else { return };
    let mut connection = cluster.nodes[0].connect();
    for key in redis_cluster::keys_of_shard(0, 200, "kept") {
        redis_cluster::ask(&mut connection, &["SET", &key, "kept"]);
    }
    let keys = cluster.nodes[0].text(&["DBSIZE"]);
    let before: Vec<_> = (0..7).map(|n| settings(&cluster, n)).collect();
    let program = Program::new(
        "interval = \"1s\"",
        &format!(
            "[plan]\ncool_down = \"100ms\"\npreferred_unavailable = \"hold\"\n\
             [fleet.workloads.\"cache-0\"]\npreferred_host = \"127.0.0.7\"\n\
             [migration]\ncanary = [{{ share = \"50%\", hold = \"30s\" }}]\nmin_samples = 1\nsoak = \"1s\"\n\
             [drivers.cache]\nclass = \"redis\"\nseeds = {:?}",
            cluster.seeds()
        ),
    );
    let data = program.config.parent().expect("a folder").join("data");
    lose_the_journal(&program, &data, "127.0.0.1", Phase::Canary).await;
    assert_ne!(settings(&cluster, 6), before[6], "the empty node is marked");

    let (clean, found) = leaks(&program, &[]);
    assert!(!clean && kinds(&found).len() >= 2, "{found:#}");
    let (clean, removed) = leaks(&program, &["--remove", "--yes"]);
    assert!(clean, "{removed:#}");
    let (clean, none) = leaks(&program, &[]);
    assert!(clean, "{none:#}");
    for (n, before) in before.iter().enumerate() {
        assert_eq!(&settings(&cluster, n), before, "node {n}");
    }
    // The empty node stays a replica, which loses nothing; the owner is who it was.
    assert!(cluster.nodes[6].text(&["INFO", "replication"]).contains("role:slave"));
    assert_eq!((cluster.owner(0, 0), cluster.nodes[0].text(&["DBSIZE"])), (Some(0), keys));
    // The next engine moves on.
    let (well, report) = tokio::task::block_in_place(|| {
        let text = std::fs::read_to_string(&program.config).expect("a file").replace("30s", "200ms");
        std::fs::write(&program.config, text).expect("a file");
        program.report(&["evacuate", "127.0.0.1", "--yes"])
    });
    assert!(well, "{report:#}");
    assert_eq!(cluster.owner(0, 6), Some(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_journal_leaves_in_directories_is_found_and_what_may_be_data_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    std::fs::create_dir_all(a.join("shard")).expect("a folder");
    std::fs::create_dir_all(&b).expect("a folder");
    std::fs::write(a.join("shard/file"), "content").expect("a file");
    let program = Program::new(
        "interval = \"1s\"",
        &format!(
            "[plan]\ncool_down = \"100ms\"\n\
             [migration]\ncanary = [{{ share = \"50%\", hold = \"30s\" }}]\nmin_samples = 1\nsoak = \"1s\"\n\
             [drivers.shards]\nclass = \"files\"\nroots = [{:?}, {:?}]",
            a.display().to_string(),
            b.display().to_string()
        ),
    );
    let data = program.config.parent().expect("a folder").join("data");
    lose_the_journal(&program, &data, "a", Phase::Canary).await;
    // Two more: one that only looks like ours, and one that may be the newest state of a workload.
    let workshop = b.join(".foreshift");
    std::fs::create_dir_all(workshop.join("fs_mine")).expect("a folder");
    let newest = workshop.join("fs_00112233445566aa");
    std::fs::create_dir_all(&newest).expect("a folder");
    let mark = r#"{"generation":9,"epoch":9,"mode":"writable"}"#;
    std::fs::write(newest.join(".foreshift"), mark).expect("a mark");

    let (clean, removed) = leaks(&program, &["--remove", "--yes"]);
    assert!(!clean);
    let all = removed["leaks"].as_array().expect("a list");
    let left: Vec<&serde_json::Value> = all.iter().filter(|l| l["removed"] == false).collect();
    assert_eq!(left.len(), 1, "{removed:#}");
    assert_eq!(left[0]["artifact"]["name"], "fs_00112233445566aa");
    assert!(all.len() >= 2, "{removed:#}");
    assert!(newest.is_dir() && workshop.join("fs_mine").is_dir());
    assert_eq!(std::fs::read_to_string(a.join("shard/file")).expect("the file"), "content");
}
