//! Models of one application in the running engine's own cycle, on hosts that hold partitions of two: they
//! speak of its partitions alone, win their place by what happens there, and are taken back.

#[path = "support/disks.rs"]
mod disks;

use std::path::Path;
use std::sync::Arc;

use disks::{CYCLE, DAY, HOSTS, Life, START, World, good, options, partition, poor};
use foreshift::engine::Contest;
use foreshift::fleet::{ApplicationId, PartitionId};
use foreshift::predict::Assessment;
use foreshift::predict::models::runtime::kernels::Kernels;
use foreshift::predict::train::{Registry, Seat};
use foreshift::state::{MemoryStore, Store};

const BOTH: &[&str] = &["carts", "orders"];

/// The fleet's model, in a folder as it was before applications had models.
fn fleet(models: &Path) -> Registry {
    let registry = Registry::new(models, "all");
    let first = registry.add(&poor()).unwrap();
    registry.take_over(first, START, "the test begins").unwrap();
    registry
}

fn orders(models: &Path) -> Registry {
    Registry::of_application(models, &ApplicationId::from("orders"))
}

fn contest(models: &Path) -> Option<Contest> {
    let fleet = Registry::new(models, "all");
    Some(Contest::new(fleet, Arc::new(Kernels), options()).with_applications(models.to_path_buf()))
}

async fn life(models: &Path) -> Life {
    Life::of(BOTH, Arc::new(MemoryStore::new()), contest(models), START).await
}

fn said<'a>(life: &'a Life, partition: &PartitionId) -> &'a Assessment {
    life.core.assessments().iter().find(|a| a.partition == *partition).unwrap()
}

fn calibration(life: &Life, partition: &PartitionId) -> String {
    let snapshot = life.core.snapshot();
    snapshot.partitions.iter().find(|p| p.id == *partition).unwrap().calibration.clone()
}

#[tokio::test]
async fn an_applications_model_speaks_of_its_partitions_and_of_no_other_until_it_is_taken_back() {
    let (with, without) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fleet(with.path());
    fleet(without.path());
    let (mut a, mut b) = (life(with.path()).await, life(without.path()).await);
    for _ in 0..DAY / CYCLE.0 {
        a.step(World::Tells).await;
        b.step(World::Tells).await;
    }
    assert_eq!(a.core.assessments(), b.core.assessments(), "a folder without applications changes nothing");
    // Trained and put into use while the engine runs.
    let own = orders(with.path());
    let version = own.add(&good()).unwrap();
    own.take_over(version, a.now, "by hand").unwrap();
    let mut differ = 0;
    for _ in 0..DAY / CYCLE.0 {
        a.step(World::Tells).await;
        b.step(World::Tells).await;
        for h in 0..HOSTS {
            let (carts, orders) = (partition(h, "carts", BOTH), partition(h, "orders", BOTH));
            assert_eq!(said(&a, &carts), said(&b, &carts), "bit for bit as without");
            assert_eq!(calibration(&a, &carts), calibration(&b, &carts));
            let bits = |life: &Life| {
                let failure = &said(life, &orders).failure;
                failure.iter().map(|f| f.probability.get().to_bits()).collect::<Vec<_>>()
            };
            differ += usize::from(bits(&a) != bits(&b));
            // A cycle says who speaks in the next one; health is nobody's model's.
            assert_eq!(said(&a, &orders).health, said(&b, &orders).health);
        }
    }
    assert!(differ > HOSTS * 100, "{differ}");
    let speaks = partition(3, "orders", BOTH);
    assert_eq!(calibration(&a, &speaks), "calibrated, model of orders, version 1");
    let snapshot = a.core.snapshot();
    assert!(
        snapshot.audit.iter().any(|e| e.act.contains("speak as version 1 of orders instead of the fleet's"))
    );
    let lines = snapshot.models.models.join("\n");
    assert!(lines.contains("orders, version 1: failure within 1 h"), "{lines}");
    // A restart goes on with it; a broken file leaves the fleet's model speaking.
    let again = Life::of(BOTH, Arc::new(MemoryStore::new()), contest(with.path()), a.now).await;
    assert!(again.core.snapshot().models.models.join("\n").contains("orders, version 1"));
    // Taken back, all is as before.
    own.go_back(a.now, "by hand").unwrap();
    for _ in 0..3 {
        a.step(World::Tells).await;
        b.step(World::Tells).await;
    }
    let failures =
        |life: &Life| life.core.assessments().iter().map(|a| a.failure.clone()).collect::<Vec<_>>();
    assert_eq!(failures(&a), failures(&b));
    assert_eq!(calibration(&a, &speaks), calibration(&b, &speaks));
    assert!(!a.core.snapshot().models.models.join("\n").contains("orders"));
}

#[tokio::test]
async fn a_challenger_of_one_application_wins_its_place_by_what_happens_there() {
    let dir = tempfile::tempdir().unwrap();
    let all = fleet(dir.path());
    let own = orders(dir.path());
    let version = own.add(&good()).unwrap();
    own.challenge(version, START).unwrap();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut life = Life::of(BOTH, store.clone(), contest(dir.path()), START).await;
    life.days(2, World::Tells).await;
    let shown = life.core.snapshot().models.shadow.join("\n");
    assert!(shown.contains("version 1 of orders runs beside the fleet's models for orders"), "{shown}");
    assert_eq!(own.standing().unwrap().current, 0, "nothing is promoted on a day's failures");
    // A restart loses nothing of the account.
    let now = life.now;
    drop(life);
    let mut life = Life::of(BOTH, store, contest(dir.path()), now).await;
    let again = life.core.snapshot().models.shadow.join("\n");
    assert!(again.contains("Brier"), "{again}");
    let (act, why) = life.until(10, World::Tells, "into use").await.expect("the better one is promoted");
    println!("{act}: {why}");
    assert_eq!(act, "put version 1 of orders into use instead of the fleet's models for orders");
    assert!(why.contains("evidence") && why.contains("failures"), "{why}");
    let standing = own.standing().unwrap();
    assert_eq!(
        (standing.current, standing.shadow.map(|s| (s.version, s.seat))),
        (1, Some((0, Seat::Former)))
    );
    assert_eq!(all.standing().unwrap().current, 1, "the fleet's own stands as it was");
    life.step(World::Tells).await;
    assert!(calibration(&life, &partition(0, "orders", BOTH)).contains("orders, version 1"));
    assert!(!calibration(&life, &partition(0, "carts", BOTH)).contains("version"));
    // The fleet's model is another one now: the account of it begins anew.
    let second = all.add(&good()).unwrap();
    all.take_over(second, life.now, "by hand").unwrap();
    life.step(World::Tells).await;
    let shown = life.core.snapshot().models.shadow.join("\n");
    assert!(shown.contains("the fleet's models for orders runs beside version 1 of orders"), "{shown}");
    assert!(!shown.split("the fleet's models for orders").nth(1).unwrap_or("").contains("Brier"), "{shown}");
    // Its world changes: it goes back by itself.
    all.go_back(life.now, "by hand").unwrap();
    life.days(3, World::Tells).await;
    let (act, _) = life.until(20, World::Misleads, "go back").await.expect("it goes back by itself");
    assert_eq!(act, "go back from version 1 of orders to the fleet's models for orders");
}
