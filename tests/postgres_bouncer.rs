//! A real PgBouncer stands between the clients and real PostgreSQL clusters: at a cut its clients wait and go
//! on at the new owner, and none of them sees an error; whoever dies at whichever point, nobody is left
//! waiting.

#[path = "support/pgbouncer.rs"]
mod pgbouncer;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/postgres_steps.rs"]
mod postgres_steps;
#[path = "support/program.rs"]
mod program;
mod support;

use std::time::{Duration, Instant};

use foreshift::drivers::postgres::PostgresMover;
use foreshift::drivers::{Action, Answer, Job, Mover, Permit, Probe, Retry};
use foreshift::fleet::{Clock, Epoch, Generation, Span, SystemClock};
use pgbouncer::{ADMIN_PASSWORD, Clients, PgBouncer, Served};
use postgres::{Clusters, schema};
use postgres_steps::{LONG, before_the_cut, cleanup, complete, job, options, permit, seal, soon, the_cut};
use program::Program;
use support::wait_until_async;

fn behind(clusters: &Clusters, pools: &[&PgBouncer]) -> PostgresMover {
    let mut options = options(clusters);
    options.bouncers = pools.iter().map(|p| p.options()).collect();
    PostgresMover::new(options)
}

/// Nobody saw an error, and all that was acknowledged is there.
async fn all_served(clusters: &Clusters, owner: usize, served: &Served) {
    assert_eq!(served.errors, Vec::<String>::new());
    let cluster = &clusters.all[owner];
    let sum: u64 = cluster.text("SELECT sum(n) FROM orders.counters").await.parse().unwrap();
    let lines: u64 = cluster.text("SELECT count(*) FROM orders.log").await.parse().unwrap();
    assert_eq!((sum, lines), (served.acknowledged, served.acknowledged));
    assert!(served.acknowledged > 50, "{served:?}");
}

async fn leads_to(pool: &PgBouncer, clusters: &Clusters, n: usize) {
    assert_eq!(pool.leads().await, (clusters.all[n].address.to_string(), false));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_pool_wait_at_a_cut_there_and_back_and_none_sees_an_error() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(2_000)).await;
    let Some(one) = PgBouncer::start(clusters.all[0].address, "transaction") else { return };
    let Some(two) = PgBouncer::start(clusters.all[0].address, "transaction") else { return };
    let text = std::fs::read_to_string(&one.file).unwrap();
    let mover = behind(&clusters, &[&one, &two]);
    let forth = job(&clusters, 0, 1);
    let commands = mover.describe(&forth).join("\n");
    println!("{commands}");
    let places: Vec<_> = ["> PAUSE shop", "pg_advisory_xact_lock", "; RELOAD; SHOW DATABASES; RESUME shop"]
        .iter()
        .map(|line| commands.find(line).unwrap_or_else(|| panic!("{line} in {commands}")))
        .collect();
    assert!(places.is_sorted(), "{commands}");
    assert!(commands.contains(&format!("host={} port=", clusters.all[1].address.ip())), "{commands}");

    let clients = Clients::start(&[&one, &two]);
    before_the_cut(&mover, &forth).await;
    assert_eq!(mover.cut_waits_for(&forth).await.unwrap(), None);
    the_cut(&mover, &forth).await;
    for pool in [&one, &two] {
        leads_to(pool, &clusters, 1).await;
    }
    assert!(matches!(mover.probe(&forth, &Action::Open).await, Probe::Applied { .. }));
    complete(&mover, &forth, Action::EnableReverse).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let back = forth.mirrored(Generation(2));
    the_cut(&mover, &back).await;
    complete(&mover, &back, Action::StopReplication).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let served = clients.finish();
    println!(
        "there and back behind two pools: {} transactions, the longest took {:?}",
        served.acknowledged, served.worst
    );
    all_served(&clusters, 0, &served).await;
    assert!(served.worst < Duration::from_secs(2), "{served:?}");

    for action in [soon(), Action::Fence { deadline: SystemClock.now() }] {
        for artifact in mover.artifacts(&forth, &action) {
            assert!(artifact.is_ours() && artifact.kind == "paused_pool", "{artifact:?}");
            complete(&mover, &forth, Action::Cleanup { artifact }).await;
        }
    }
    cleanup(&mover, &forth, true).await;
    assert_eq!(mover.leaks().await.unwrap(), []);
    for pool in [&one, &two] {
        leads_to(pool, &clusters, 0).await;
        assert_eq!(pool.files(), ["pgbouncer.ini", "shop.ini", "users.txt"]);
        assert!(!pool.log().contains(ADMIN_PASSWORD), "a password is in its log");
    }
    let left = std::fs::read_to_string(&one.file).unwrap();
    assert_eq!(left.replace("; foreshift: shop epoch=5\n", ""), text);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_after_the_pause_leaves_nobody_waiting_once_another_is_there() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(200)).await;
    let Some(pool) = PgBouncer::start(clusters.all[0].address, "transaction") else { return };
    let job = job(&clusters, 0, 1);
    let first = behind(&clusters, &[&pool]);
    before_the_cut(&first, &job).await;
    let clients = Clients::start(&[&pool]);
    // A transaction beside the pool keeps the hold waiting, and the engine dies in it.
    let slow = clusters.all[0].connect().await.unwrap();
    slow.batch_execute("BEGIN; DELETE FROM orders.items WHERE a = 1").await.unwrap();
    let dying = {
        let (first, job) = (first.clone(), job.clone());
        tokio::spawn(async move { first.perform(&job, &soon(), &permit()).await })
    };
    wait_until_async("it is paused", LONG, async || pool.leads().await.1).await;
    dying.abort();
    drop(first);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(pool.leads().await.1, "nobody but us resumes it");

    // Who takes over leads with an epoch of its own.
    let (second, permit) = (behind(&clusters, &[&pool]), Permit::mint_for_runner(Epoch(6), "test"));
    let found = second.leaks().await.unwrap();
    assert!(found.iter().any(|a| a.kind == "paused_pool" && a.is_ours()), "{found:?}");
    assert_eq!(second.probe(&job, &Action::Unfence).await, Probe::NotStarted);
    for ends in [true, false] {
        let evidence = support::complete(&second, &job, &Action::Unfence, &permit, LONG).await;
        // Also the second time, when the server has come to the hold that the dead engine asked for.
        assert!(evidence.summary.contains("it was writable"), "{evidence:?}");
        leads_to(&pool, &clusters, 0).await;
        if ends {
            slow.batch_execute("ROLLBACK").await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    assert!(matches!(second.probe(&job, &Action::Unfence).await, Probe::Applied { .. }));
    tokio::time::sleep(Duration::from_millis(200)).await;

    // The same after the owner changed: whoever comes next lets them go on at the new one.
    for action in [soon(), seal(), Action::VerifyAtCut] {
        support::complete(&second, &job, &action, &permit, LONG).await;
    }
    pool.signal("STOP");
    let answer = second.perform(&job, &Action::Open, &permit).await.unwrap();
    let Answer::Working { waiting_for } = answer else { panic!("{answer:?}") };
    println!("waits for {waiting_for}");
    assert!(waiting_for.contains("is the owner") && waiting_for.contains("pgbouncer"), "{waiting_for}");
    drop(second);
    pool.signal("CONT");
    let (third, permit) = (behind(&clusters, &[&pool]), Permit::mint_for_runner(Epoch(7), "test"));
    assert_eq!(third.probe(&job, &Action::Open).await, Probe::NotStarted);
    for action in [Action::Open, Action::EnableReverse] {
        println!("{}", support::complete(&third, &job, &action, &permit, LONG).await.summary);
        leads_to(&pool, &clusters, 1).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let served = clients.finish();
    all_served(&clusters, 1, &served).await;
    // A deposed leader leads nobody anywhere.
    let old = Permit::mint_for_runner(Epoch(4), "test");
    let back: Job = job.mirrored(Generation(2));
    for action in [soon(), Action::Unfence] {
        let error = third.perform(&back, &action, &old).await.unwrap_err();
        assert!(error.retry == Retry::Permanent && error.detail.contains("deposed"), "{error}");
    }
    leads_to(&pool, &clusters, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_is_not_begun_while_a_pool_cannot_come_to_rest_or_be_led_and_why_is_named() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(200)).await;
    let Some(pool) = PgBouncer::start(clusters.all[0].address, "transaction") else { return };
    let Some(by_session) = PgBouncer::start(clusters.all[0].address, "session") else { return };
    let job = job(&clusters, 0, 1);
    let mover = behind(&clusters, &[&pool]);
    before_the_cut(&mover, &job).await;
    let clients = Clients::start(&[&pool]);
    let write = "INSERT INTO orders.items (a, b) VALUES (1000, 'through the pool')";

    // One that holds its connection until it leaves.
    let stays = by_session.connect().await;
    stays.batch_execute("SELECT 1").await.unwrap();
    let both = behind(&clusters, &[&pool, &by_session]);
    let why = both.cut_waits_for(&job).await.unwrap().expect("a reason");
    println!("waits for {why}");
    assert!(why.contains("session") && why.contains(&by_session.address.to_string()), "{why}");
    let error = both.perform(&job, &soon(), &permit()).await.unwrap_err();
    assert!(error.retry == Retry::Retryable && error.detail.contains("not begun"), "{error}");
    stays.batch_execute(write).await.unwrap();
    drop(stays);
    wait_until_async("it has left", LONG, async || both.cut_waits_for(&job).await.unwrap().is_none()).await;

    // One whose transaction does not end: the pause is taken back in time.
    let slow = pool.connect().await;
    slow.batch_execute("BEGIN; DELETE FROM orders.items WHERE a = 1000").await.unwrap();
    let deadline = SystemClock.now() + Span::millis(600);
    let start = Instant::now();
    let error = mover.perform(&job, &Action::Fence { deadline }, &permit()).await.unwrap_err();
    println!("after {:?}: {error}", start.elapsed());
    assert_eq!(error.retry, Retry::Retryable, "{error}");
    for words in ["PAUSE", "given up after", "1 clients held a connection", "had not ended"] {
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(3));
    leads_to(&pool, &clusters, 0).await;
    assert_eq!(clusters.all[0].text("SELECT mode FROM foreshift.owner").await, "writable");
    slow.batch_execute("ROLLBACK").await.unwrap();

    // One that somebody paused, one that leads elsewhere, one that does not answer.
    pool.ask("PAUSE shop").await;
    let why = mover.cut_waits_for(&job).await.unwrap().expect("a reason");
    assert!(why.contains("is paused there"), "{why}");
    let paused = mover.leaks().await.unwrap().into_iter().find(|a| a.kind == "paused_pool").expect("a leak");
    for _ in 0..2 {
        mover.reap(&paused, &permit()).await.unwrap();
        leads_to(&pool, &clusters, 0).await;
    }
    let text = std::fs::read_to_string(&pool.file).unwrap();
    let elsewhere = text.replace(&clusters.all[0].address.ip().to_string(), "127.0.0.99");
    std::fs::write(&pool.file, &elsewhere).unwrap();
    let why = mover.cut_waits_for(&job).await.unwrap().expect("a reason");
    assert!(why.contains("leads to 127.0.0.99") && why.contains("RELOAD it, or mend the line"), "{why}");
    std::fs::write(&pool.file, &text).unwrap();
    assert_eq!(mover.cut_waits_for(&job).await.unwrap(), None);
    pool.signal("STOP");
    let why = mover.cut_waits_for(&job).await.unwrap().expect("a reason");
    println!("waits for {why}");
    assert!(why.contains("no answer") && why.contains(&pool.address.to_string()), "{why}");
    assert!(!why.contains(ADMIN_PASSWORD));
    let error = mover.perform(&job, &soon(), &permit()).await.unwrap_err();
    assert_eq!(error.retry, Retry::Retryable, "{error}");
    pool.signal("CONT");
    wait_until_async("it answers again", LONG, async || mover.cut_waits_for(&job).await.unwrap().is_none())
        .await;

    // And then it goes.
    the_cut(&mover, &job).await;
    leads_to(&pool, &clusters, 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    all_served(&clusters, 1, &clients.finish()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_behind_a_login_that_the_pause_broke_off_is_served_at_once() {
    let Some(clusters) = Clusters::start(1) else { return };
    let Some(pool) = PgBouncer::start(clusters.all[0].address, "transaction") else { return };
    let mover = behind(&clusters, &[&pool]);
    // The first client of the pool has its server connection logged in, and that is broken off.
    clusters.all[0].signal("STOP");
    let address = pool.address;
    let waits = tokio::spawn(async move {
        let client = postgres::connect_as(address, postgres::DATABASE, "app", "app").await.unwrap();
        client.batch_execute("SELECT 1").await.unwrap();
    });
    wait_until_async("it is being logged in", LONG, async || {
        pool.ask("SHOW SERVERS").await.iter().any(|row| row.iter().any(|column| column == "login"))
            || pool.ask("SHOW POOLS").await.iter().any(|row| row[0] == "shop")
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    pool.ask("PAUSE shop").await;
    clusters.all[0].signal("CONT");
    let start = Instant::now();
    let paused = mover.leaks().await.unwrap().pop().expect("a leak");
    mover.reap(&paused, &permit()).await.unwrap();
    waits.await.unwrap();
    println!("served after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5));
    let settings = pool.ask("SHOW CONFIG").await;
    let retry = settings.iter().find(|row| row[0] == "server_login_retry").unwrap();
    assert_eq!(retry[1], "15", "what was changed for it is as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_emptied_and_filled_again_and_who_comes_through_the_pool_does_not_notice() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(1_000)).await;
    let Some(pool) = PgBouncer::start(clusters.all[0].address, "transaction") else { return };
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), ADMIN_PASSWORD).unwrap();
    let program = Program::new(
        "interval = \"1s\"",
        &format!(
            "[plan]\ncool_down = \"100ms\"\n\
             [migration]\ncanary = [{{ share = \"50%\", hold = \"200ms\" }}]\nmin_samples = 1\nsoak = \"1s\"\n\
             fence_budget = \"2s\"\nafter = \"decommission\"\n\
             [drivers.shop]\nclass = \"postgres\"\nclusters = {:?}\ndatabase = {:?}\nschemas = [\"orders\"]\n\
             password = {{ file = {:?} }}\n\
             [[drivers.shop.pgbouncers]]\nadmin = {:?}\nusername = \"admin\"\npassword = {{ file = {:?} }}\nfile = {:?}",
            clusters.addresses(),
            postgres::DATABASE,
            clusters.password_file().display().to_string(),
            pool.address.to_string(),
            secret.path().display().to_string(),
            pool.file.display().to_string(),
        ),
    );
    let clients = Clients::start(&[&pool]);
    for (host, to) in [("127.0.0.1", 1), ("127.0.0.2", 0)] {
        let (well, report) = tokio::task::block_in_place(|| program.report(&["evacuate", host, "--yes"]));
        assert!(well && report["migrations"]["completed"] == 1, "{report:#}");
        assert!(!report.to_string().contains(ADMIN_PASSWORD));
        leads_to(&pool, &clusters, to).await;
        assert_eq!(clusters.left().await, Vec::<String>::new());
        let gone =
            clusters.all[1 - to].text("SELECT count(*) FROM pg_namespace WHERE nspname = 'orders'").await;
        assert_eq!(gone, "0", "the source was to be decommissioned");
    }
    let served = clients.finish();
    println!(
        "emptied and filled again: {} transactions, the longest took {:?}",
        served.acknowledged, served.worst
    );
    all_served(&clusters, 0, &served).await;
}
