//! A real service behind a real HAProxy is moved by the program itself, from its configuration on: started
//! elsewhere, tried, given traffic, then stopped, under a client that asks all the while.

#[path = "support/program.rs"]
mod program;
#[path = "support/services.rs"]
mod services;
mod support;

use std::cell::Cell;
use std::time::Duration;

use foreshift::fleet::Phase;
use program::Program;
use services::{Client, HOSTS, Services, ask};
use support::{wait_until, wait_until_async};

const LONG: Duration = Duration::from_secs(60);

fn program(services: &Services, more: &str) -> Program {
    Program::new(
        "interval = \"1s\"",
        &format!(
            "[plan]\ncool_down = \"100ms\"\n\
             [migration]\ncanary = [{{ share = \"50%\", hold = \"1s\" }}]\nmin_samples = 5\nsoak = \"1s\"\nretries = 0\n\
             [migration.timeouts]\nprepare = \"60s\"\n{}",
            services.sections(more)
        ),
    )
}

fn up(services: &Services) {
    assert!(services.control("start", HOSTS[0]));
    wait_until("the service answers", LONG, || ask(services.front).is_some());
}

#[test]
fn a_service_moves_and_comes_back_and_no_request_fails() {
    let Some(services) = Services::start() else { return };
    up(&services);
    let program = program(&services, "");
    let checked = program.run(&["check"]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("2 partitions, 1 workloads"), "{said}");
    assert!(said.contains("has a server for each of 2 places"), "{said}");
    for (from, to) in [(0, 1), (1, 0)] {
        let client = Client::start(services.front);
        let (well, report) = program.report(&["evacuate", HOSTS[from], "--yes"]);
        let served = client.finish();
        assert!(well && report["migrations"]["completed"] == 1, "{report:#}");
        println!("{} emptied: {served:?}", HOSTS[from]);
        assert_eq!(served.failed, 0, "{served:?}");
        assert!(HOSTS.iter().all(|host| served.by.get(*host).is_some_and(|n| *n > 10)), "{served:?}");
        assert_eq!(services.running(), [HOSTS[to]]);
        assert!((0..20).all(|_| ask(services.front).as_deref() == Some(HOSTS[to])));
    }
}

#[test]
fn a_service_of_which_only_one_may_run_never_runs_twice() {
    let Some(services) = Services::start() else { return };
    services.mark("one", true);
    up(&services);
    let program = program(&services, "instances = \"one\"\nstop_within = \"10s\"");
    for (from, to) in [(0, 1), (1, 0)] {
        let client = Client::start(services.front);
        let (well, report) = program.report(&["evacuate", HOSTS[from], "--yes"]);
        let served = client.finish();
        assert!(well && report["migrations"]["completed"] == 1, "{report:#}");
        println!("{} emptied: {served:?}", HOSTS[from]);
        assert!(!services.marked("two"), "two ran at the same time");
        assert_eq!(services.running(), [HOSTS[to]]);
        assert_eq!(ask(services.front).as_deref(), Some(HOSTS[to]));
        assert!(served.gap < Duration::from_secs(8), "{served:?}");
    }
}

#[test]
fn a_destination_that_cannot_start_it_costs_nobody_an_answer() {
    let Some(services) = Services::start() else { return };
    up(&services);
    services.mark(&format!("broken-{}", HOSTS[1]), true);
    let program = program(&services, "");
    let client = Client::start(services.front);
    let (well, report) = program.report(&["evacuate", HOSTS[0], "--yes"]);
    let served = client.finish();
    assert!(!well && report["migrations"]["completed"] == 0, "{report:#}");
    assert_eq!((served.failed, served.by.len()), (0, 1), "{served:?}");
    assert_eq!(services.running(), [HOSTS[0]]);
    assert!(report.to_string().contains("does not run"), "why it was undone is said: {report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_killed_in_the_middle_leaves_one_service_and_no_failed_request() {
    let Some(services) = Services::start() else { return };
    up(&services);
    let program = program(&services, "");
    let client = Client::start(services.front);
    let mut ends = Vec::new();
    for moment in [Phase::Preparing, Phase::Canary, Phase::Soaking] {
        let from = services.running()[0];
        let mut engine = program.engine(&[]);
        let proposal = program.begin(from, LONG).await;
        wait_until_async("the migration comes so far", LONG, || async {
            let snapshot = program.snapshot().await;
            let mine = snapshot.migrations.iter().find(|m| m.proposal == proposal);
            mine.is_some_and(|m| m.phase == moment || m.phase.is_end())
        })
        .await;
        engine.kill();
        let mut engine = program.engine(&[]);
        let ended = Cell::new(None);
        wait_until_async("it ends by itself", LONG, || async {
            let snapshot = program.snapshot().await;
            let mine = snapshot.migrations.iter().find(|m| m.proposal == proposal);
            ended.set(mine.filter(|m| m.phase.is_end()).map(|m| m.phase));
            ended.get().is_some()
        })
        .await;
        let end = ended.get().expect("just seen");
        let running = services.running();
        println!("killed in {}: {}, runs on {running:?}", moment.word(), end.word());
        assert_eq!(running.len(), 1, "{end:?}");
        assert_eq!(end == Phase::Done, running[0] != from, "{end:?}");
        ends.push(end);
        assert!(engine.stop("TERM", Duration::from_secs(5)).success(), "{}", engine.log_tail());
    }
    let served = client.finish();
    assert_eq!(served.failed, 0, "{served:?}");
    assert!(ends.contains(&Phase::Done), "{ends:?}");
}
