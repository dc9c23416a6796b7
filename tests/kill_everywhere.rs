//! An engine that is killed, or frozen for long, at every journal write and every call of a driver, in
//! every phase, forward and back, on a real Redis Cluster and on real PostgreSQL: what is started after
//! it ends what was begun, by itself. The workload then has exactly the old owner or exactly the new
//! one, every acknowledged write is there, and nothing of the migration is left behind.
//!
//! The moments come from the runner's own registry (`migrate::runner::moments`). In the ordinary run
//! each system gets a share of them that fits its time, another one with each commit and each day; it
//! is printed, and `FORESHIFT_KILL_ROTATION=N` repeats it. The release gate goes through all:
//! `cargo test --release --test kill_everywhere -- --ignored --nocapture --test-threads=1`;
//! `FORESHIFT_KILL_ONLY="Undoes(Committing)"` goes through those in which a person does that,
//! `FORESHIFT_KILL_AT="Redirecting"` through moments that are called so.

#[path = "support/kill_ground.rs"]
mod kill_ground;
#[path = "support/kill_postgres.rs"]
mod kill_postgres;
#[path = "support/kill_redis.rs"]
mod kill_redis;
#[path = "support/mortal.rs"]
mod mortal;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/postgres_steps.rs"]
mod postgres_steps;
#[path = "support/postgres_tenants.rs"]
mod postgres_tenants;
#[path = "support/redis_cluster.rs"]
mod redis_cluster;
mod support;
#[path = "support/trouble.rs"]
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use foreshift::fleet::Phase;
use foreshift::fleet::rng::Random;
use foreshift::migrate::runner::moments;
use kill_ground::{Ended, Ground, Scenario, Site, Stroke};
use kill_postgres::{DatabaseGround, PostgresGround, TenantGround};
use kill_redis::{RedisGround, SlotsGround};
use mortal::{Blow, Person, Place};
use trouble::Trouble;

/// What the ordinary run spends on one system, its start not counted.
const SHARE: Duration = Duration::from_secs(45);

/// Everything that a person does in one of the gate's runs.
const PERSONS: [Person; 16] = [
    Person::Away,
    Person::Undoes(Phase::Approved),
    Person::Undoes(Phase::Admitted),
    Person::Undoes(Phase::Preparing),
    Person::Undoes(Phase::Copying),
    Person::Undoes(Phase::CatchingUp),
    Person::Undoes(Phase::Verifying),
    Person::Undoes(Phase::ReverseArmed),
    Person::Undoes(Phase::Canary),
    Person::Undoes(Phase::Fencing),
    Person::Undoes(Phase::Committing),
    Person::Undoes(Phase::Redirecting),
    Person::Undoes(Phase::Soaking),
    Person::Undoes(Phase::Retiring),
    Person::PausesAndUndoes(Phase::Canary),
    Person::Pauses(Phase::Soaking),
];

/// What goes otherwise than usual in more of its runs, and who does what then: what hardly ever comes to pass on a
/// machine that is well.
const TROUBLES: [(Person, Trouble); 10] = [
    (Person::Away, Trouble { no_canary: true, ..Trouble::NONE }),
    (Person::Away, Trouble { old_proof: true, ..Trouble::NONE }),
    (Person::Away, Trouble { lost_answers: true, ..Trouble::NONE }),
    (Person::Undoes(Phase::Preparing), Trouble { unheard: true, ..Trouble::NONE }),
    (Person::Undoes(Phase::Verifying), Trouble { unheard: true, ..Trouble::NONE }),
    (Person::Undoes(Phase::Fencing), Trouble { unheard: true, ..Trouble::NONE }),
    (Person::Undoes(Phase::Redirecting), Trouble { unheard: true, ..Trouble::NONE }),
    (Person::Undoes(Phase::Soaking), Trouble { lost_answers: true, ..Trouble::NONE }),
    (Person::Undoes(Phase::Soaking), Trouble { differs_back: true, lost_answers: true, ..Trouble::NONE }),
    (Person::Undoes(Phase::Soaking), Trouble { refused_commit: true, ..Trouble::NONE }),
];

/// All of the gate's runs.
fn scenarios() -> Vec<Scenario> {
    let usual = PERSONS.map(|person| Scenario { person, trouble: Trouble::NONE });
    let others = TROUBLES.map(|(person, trouble)| Scenario { person, trouble });
    usual.into_iter().chain(others).collect()
}

/// Not a test of its own: the engine that the others start and kill is this program again, running this.
#[test]
fn the_engine_in_a_process_of_its_own() {
    mortal::serve();
}

/// Another number with each commit and each day, so that in time every moment is met.
fn rotation() -> u64 {
    if let Some(given) = std::env::var("FORESHIFT_KILL_ROTATION").ok().and_then(|n| n.parse().ok()) {
        return given;
    }
    let day = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |passed| passed.as_secs() / 86_400);
    let head = std::process::Command::new("git").args(["rev-parse", "HEAD"]).output();
    let head = head.map(|o| o.stdout).unwrap_or_default();
    let hash = blake3::hash(&[&head[..], &day.to_le_bytes()].concat());
    u64::from(u32::from_le_bytes(hash.as_bytes()[..4].try_into().expect("four bytes")))
}

async fn share(site: &mut Site<impl Ground>) {
    let rotation = rotation();
    println!("FORESHIFT_KILL_ROTATION={rotation} repeats this share");
    let mut random = Random::new(rotation);
    // As many different moments as a run has at least, until one was seen.
    let mut length: BTreeMap<usize, usize> = BTreeMap::new();
    let (start, mut died) = (Instant::now(), 0);
    let scenarios = scenarios();
    while start.elapsed() < SHARE {
        let scenario = random.below(scenarios.len());
        let known = length.get(&scenario).copied().unwrap_or(60);
        let nth = random.below(known);
        let blow = if random.chance(0.2) { Blow::Freeze } else { Blow::Kill };
        let stroke = Stroke { place: Place::Nth(nth), blow };
        let ended = site.round(scenarios[scenario], &[stroke]).await.unwrap_or_else(|e| panic!("{e}"));
        died += usize::from(!ended.struck.is_empty());
        if ended.struck.is_empty() {
            length.insert(scenario, ended.told[0].len());
        }
    }
    println!("{died} engines were stopped, {}", site.summary());
    assert!(died >= 3, "hardly an engine came to a moment at which it was to be stopped");
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_of_all_moments_on_redis() {
    let Some(ground) = RedisGround::start() else { return };
    share(&mut Site::new(ground)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_of_all_moments_on_postgres() {
    let Some(ground) = PostgresGround::start().await else { return };
    share(&mut Site::new(ground)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_of_all_moments_with_databases() {
    let Some(ground) = DatabaseGround::start().await else { return };
    share(&mut Site::new(ground)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_of_all_moments_with_slots() {
    let Some(ground) = SlotsGround::start() else { return };
    share(&mut Site::new(ground)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_of_all_moments_with_tenants() {
    let Some(ground) = TenantGround::start().await else { return };
    share(&mut Site::new(ground)).await;
}

/// What a moment is in the eyes of the gate: on the way forward it is one, whatever the person does
/// later; on the way back it is another for each point from which the way back began; while the owner is
/// changed it is another in every trouble.
fn point(scenario: Scenario, name: &str) -> String {
    if name.contains("RollingBack") || name.contains("Hold") {
        format!("{:?}: {name}", scenario.person)
    } else if name.contains("Committing") {
        format!("{}: {name}", scenario.trouble.words())
    } else {
        name.to_string()
    }
}

/// Goes through every moment.
struct Gate {
    /// Points that were struck, by kill or freeze.
    struck: BTreeSet<String>,
    /// Occasions of the registry at which an engine was killed.
    killed: BTreeSet<String>,
    failures: Vec<String>,
}

impl Gate {
    async fn go(site: &mut Site<impl Ground>, blow: Blow) -> Gate {
        let mut gate = Gate { struck: BTreeSet::new(), killed: BTreeSet::new(), failures: Vec::new() };
        let [only, at] =
            ["FORESHIFT_KILL_ONLY", "FORESHIFT_KILL_AT"].map(|v| std::env::var(v).unwrap_or_default());
        for scenario in scenarios().into_iter().filter(|s| s.to_string().contains(&only)) {
            let Some(run) = gate.round(site, scenario, &[]).await else { continue };
            let names: Vec<String> = run.told[0].iter().map(|t| t.name.clone()).collect();
            for name in names.iter().filter(|name| name.contains(&at)) {
                if !gate.struck.contains(&point(scenario, name)) {
                    gate.strike(site, (scenario, &names), name, blow).await;
                }
            }
        }
        gate
    }

    /// Stops an engine at `name`; then once more at all that only the engine after it comes to: `usual` is
    /// what an engine comes to that is left alone.
    async fn strike(
        &mut self,
        site: &mut Site<impl Ground>,
        (scenario, usual): (Scenario, &[String]),
        name: &str,
        blow: Blow,
    ) {
        let stroke = Stroke { place: Place::Named(name.to_string()), blow };
        let Some(ended) = self.round(site, scenario, std::slice::from_ref(&stroke)).await else { return };
        if ended.struck.is_empty() {
            // This time the engine took another way: it is tried once more.
            let _ = self.round(site, scenario, std::slice::from_ref(&stroke)).await;
        }
        let Some(second) = ended.told.get(1) else { return };
        let new: Vec<String> = second.iter().map(|t| t.name.clone()).collect();
        for again in new {
            if !usual.contains(&again) && !self.struck.contains(&point(scenario, &again)) {
                let next = Stroke { place: Place::Named(again), blow };
                let _ = self.round(site, scenario, &[stroke.clone(), next]).await;
            }
        }
    }

    async fn round(
        &mut self,
        site: &mut Site<impl Ground>,
        scenario: Scenario,
        strokes: &[Stroke],
    ) -> Option<Ended> {
        match site.round(scenario, strokes).await {
            Ok(ended) => {
                for place in &ended.struck {
                    self.struck.insert(point(scenario, &place.name));
                    self.killed.extend(place.occasions.iter().cloned());
                }
                Some(ended)
            }
            Err(error) => {
                println!("FAILED {error}");
                self.failures.push(error);
                site.heal().await;
                None
            }
        }
    }
}

async fn all(site: &mut Site<impl Ground>, blow: Blow, unreachable: &[(&str, &str)]) {
    let start = Instant::now();
    let gate = Gate::go(site, blow).await;
    println!("{} points in {:?}, {}", gate.struck.len(), start.elapsed(), site.summary());
    assert!(gate.failures.is_empty(), "{} failed:\n{}", gate.failures.len(), gate.failures.join("\n\n"));
    // A frozen engine goes on by itself: nothing is taken over, so not everything comes to pass.
    let whole = ["FORESHIFT_KILL_ONLY", "FORESHIFT_KILL_AT"].iter().all(|v| std::env::var_os(v).is_none());
    if blow == Blow::Freeze || !whole {
        return site.finish().await;
    }
    let missed: Vec<String> = moments::registry()
        .iter()
        .map(|occasion| format!("{occasion:?}"))
        .filter(|o| !gate.killed.contains(o) && !unreachable.iter().any(|(pattern, _)| o.contains(pattern)))
        .collect();
    assert!(missed.is_empty(), "no engine was stopped at {}:\n{}", missed.len(), missed.join("\n"));
    site.finish().await;
}

#[ignore = "the release gate: every moment, about half an hour"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_moment_on_redis() {
    let Some(ground) = RedisGround::start() else { return };
    all(&mut Site::new(ground), Blow::Kill, &kill_redis::UNREACHABLE_ON_REDIS).await;
}

#[ignore = "the release gate: every moment, about half an hour"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_moment_on_postgres() {
    let Some(ground) = PostgresGround::start().await else { return };
    all(&mut Site::new(ground), Blow::Kill, &kill_postgres::UNREACHABLE_ON_POSTGRES).await;
}

#[ignore = "the release gate: every moment, about half an hour"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_moment_with_databases() {
    let Some(ground) = DatabaseGround::start().await else { return };
    all(&mut Site::new(ground), Blow::Kill, &kill_postgres::UNREACHABLE_ON_POSTGRES).await;
}

#[ignore = "the release gate: every moment, about half an hour"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_moment_with_slots() {
    let Some(ground) = SlotsGround::start() else { return };
    all(&mut Site::new(ground), Blow::Kill, &kill_redis::UNREACHABLE_WITH_SLOTS).await;
}

#[ignore = "the release gate: every moment, about half an hour"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_moment_with_tenants() {
    let Some(ground) = TenantGround::start().await else { return };
    all(&mut Site::new(ground), Blow::Kill, &kill_postgres::UNREACHABLE_ON_POSTGRES).await;
}

#[ignore = "the release gate: every moment, about half an hour"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_at_every_moment_on_redis() {
    let Some(ground) = RedisGround::start() else { return };
    all(&mut Site::new(ground), Blow::Freeze, &[]).await;
}

#[ignore = "the release gate: every moment, about half an hour"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_at_every_moment_on_postgres() {
    let Some(ground) = PostgresGround::start().await else { return };
    all(&mut Site::new(ground), Blow::Freeze, &[]).await;
}
