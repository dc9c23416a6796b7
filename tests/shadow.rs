//! Champion and challenger in the running engine's own cycle, on a fleet whose failures are known: a
//! better challenger takes over and the audit log says why, an equal or worse one does not, one whose
//! world changes goes back by itself, and nothing in shadow changes a decision.

#[path = "support/disks.rs"]
mod disks;

use std::sync::Arc;

use disks::{CYCLE, DAY, Life, START, World, contest, good, poor, registry, version};
use foreshift::predict::train::{Registry, Seat};
use foreshift::protocol::{Actor, Command, Role};
use foreshift::state::{MemoryStore, Store};

#[tokio::test]
async fn a_better_challenger_takes_over_and_goes_when_its_world_changes() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path(), &poor(), &good());
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut life = Life::begin(store.clone(), contest(&registry), START).await;
    life.days(2, World::Tells).await;
    let shown = life.core.snapshot().models.shadow.join("\n");
    assert!(shown.contains("version 2 runs beside version 1") && shown.contains("Brier"), "{shown}");
    assert_eq!(registry.standing().unwrap().current, 1, "nothing is promoted on a day's failures");

    // A restart loses nothing of the account.
    let now = life.now;
    drop(life);
    let mut life = Life::begin(store, contest(&registry), now).await;
    let again = life.core.snapshot().models.shadow.join("\n");
    assert!(again.contains("Brier"), "{again}");

    let (act, why) = life.until(10, World::Tells, "into use").await.expect("the better one is promoted");
    println!("{act}: {why}");
    assert_eq!(act, "put version 2 into use instead of version 1");
    assert!(why.contains("evidence") && why.contains("failures") && why.contains("Brier"), "{why}");
    let standing = registry.standing().unwrap();
    assert_eq!(
        (standing.current, standing.shadow.map(|s| (s.version, s.seat))),
        (2, Some((1, Seat::Former)))
    );
    let promoted = life.now;

    // All goes well for a while; then the same sign means nothing.
    life.days(3, World::Tells).await;
    assert_eq!(registry.standing().unwrap().current, 2);
    let (act, why) = life.until(20, World::Misleads, "go back").await.expect("it goes back by itself");
    println!("after {}: {act}: {why}", life.now - promoted);
    assert_eq!(
        (act.as_str(), registry.standing().unwrap().current),
        ("go back from version 2 to version 1", 1)
    );
    assert!(why.contains("the model before does better now"), "{why}");
}

#[tokio::test]
async fn an_equal_or_a_worse_challenger_never_speaks() {
    let dir = tempfile::tempdir().unwrap();
    let equal = registry(dir.path(), &good(), &good());
    let mut life = Life::begin(Arc::new(MemoryStore::new()), contest(&equal), START).await;
    life.days(6, World::Tells).await;
    let standing = equal.standing().unwrap();
    assert_eq!((standing.current, standing.shadow.map(|s| s.version)), (1, Some(2)));
    // Replaced by a worse one while the engine runs: it follows without a restart.
    let third = equal.add(&poor()).unwrap();
    equal.challenge(third, life.now).unwrap();
    let (act, why) = life.until(10, World::Tells, "retire").await.expect("a worse one is retired");
    println!("{act}: {why}");
    assert!(act.contains("retire version 3") && why.contains("it is worse"), "{act}: {why}");
    assert_eq!(equal.standing().unwrap().current, 1);
}

#[tokio::test]
async fn nothing_in_shadow_changes_a_decision() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path(), &good(), &version([(1.0, -2.0), (3.0, -2.0)]));
    let alone = Registry::new(&dir.path().join("alone"), "all");
    let first = alone.add(&good()).unwrap();
    alone.promote(first).unwrap();
    let begin = |r: &Registry| Life::begin(Arc::new(MemoryStore::new()), contest(r), START);
    let (mut with, mut without) = (begin(&registry).await, begin(&alone).await);
    let mut proposed = 0;
    for _ in 0..DAY * 2 / CYCLE.0 {
        with.step(World::Tells).await;
        without.step(World::Tells).await;
        let decided = |life: &Life| {
            serde_json::to_vec(&life.core.waiting().collect::<Vec<_>>()).expect("proposals are data")
        };
        assert_eq!(decided(&with), decided(&without));
        assert_eq!(with.core.assessments(), without.core.assessments());
        proposed = proposed.max(with.core.waiting().count());
    }
    assert!(proposed > 0, "there were decisions to change");
    assert!(
        !with.core.snapshot().models.shadow.is_empty() && without.core.snapshot().models.shadow.is_empty()
    );
}

#[tokio::test]
async fn a_person_takes_the_models_back_and_the_folder_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path(), &poor(), &good());
    let mut life = Life::begin(Arc::new(MemoryStore::new()), contest(&registry), START).await;
    life.days(1, World::Tells).await;
    registry.take_over(2, life.now, "by hand").unwrap();
    life.step(World::Tells).await;
    let snapshot = life.core.snapshot();
    assert!(
        snapshot.audit[0].act.contains("speak as version 2 instead of version 1"),
        "{:?}",
        snapshot.audit[0]
    );
    assert_eq!(snapshot.models.way_back.as_deref(), Some("version 1"));
    let operator = Actor { name: "eve".into(), role: Role::Operator };
    let viewer = Actor { name: "bob".into(), role: Role::Viewer };
    assert!(life.core.command(&viewer, Command::RevertModels, life.now).await.is_err());
    let reply = life.core.command(&operator, Command::RevertModels, life.now).await.unwrap();
    assert!(format!("{reply:?}").contains("went back from version 2 to version 1"), "{reply:?}");
    assert_eq!(registry.standing().unwrap().current, 1);
    let reply = life.core.command(&operator, Command::RevertModels, life.now).await.unwrap();
    assert!(format!("{reply:?}").contains("went back from version 1 to the shipped models"), "{reply:?}");
    let refused = life.core.command(&operator, Command::RevertModels, life.now).await.unwrap_err();
    assert!(refused.to_string().contains("the shipped models speak already"), "{refused}");
    life.step(World::Tells).await;
    let audit = &life.core.snapshot().audit;
    assert!(audit.iter().any(|a| a.actor == "eve" && a.act == "go back to the models before"), "{audit:?}");
}

#[tokio::test]
async fn inputs_outside_the_training_range_are_alarmed_on_until_they_are_back() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path(), &good(), &poor());
    let mut life = Life::begin(Arc::new(MemoryStore::new()), contest(&registry), START).await;
    life.days(1, World::Tells).await;
    let alarmed = |life: &Life| {
        let snapshot = life.core.snapshot();
        snapshot
            .alerts
            .iter()
            .any(|a| a.subject == "models" && a.text.contains("outside what it was trained on"))
    };
    let sure = |life: &Life| {
        let hosts = life.core.snapshot().hosts.clone();
        hosts.iter().map(|h| h.confidence).fold(0.0, f64::max)
    };
    let (calm, before) = (life.core.snapshot().models.drift.join("\n"), sure(&life));
    assert!(!alarmed(&life) && calm.contains("within 1 h"), "{calm}");
    let mut rises = 0;
    while !alarmed(&life) && rises < 24 {
        life.step(World::Busy).await;
        rises += 1;
    }
    assert!(alarmed(&life), "{:?}", life.core.snapshot().models.drift);
    assert!(sure(&life) < 0.8 * before, "{} was {before}: how far from training counts", sure(&life));
    let mut falls = 0;
    while alarmed(&life) && falls < 96 {
        life.step(World::Tells).await;
        falls += 1;
    }
    assert!(!alarmed(&life), "{:?}", life.core.snapshot().models.drift);
    println!("raised after {rises} cycles of five minutes, cleared after {falls}");
}

#[tokio::test]
async fn what_cannot_be_followed_is_told_once_and_old_versions_go() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path(), &good(), &poor());
    std::fs::write(registry.place(2).join("failure-1h.onnx"), b"cut short").unwrap();
    let mut life = Life::begin(Arc::new(MemoryStore::new()), contest(&registry), START).await;
    for _ in 0..20 {
        life.step(World::Tells).await;
    }
    let snapshot = life.core.snapshot();
    let told = snapshot.alerts.iter().filter(|a| a.text.contains("version 2 cannot run in shadow")).count();
    assert_eq!((told, snapshot.audit.len()), (1, 1), "{:?}", snapshot.audit);
    assert!(snapshot.models.shadow.is_empty());
    assert!(registry.take_over(2, life.now, "by hand").is_err(), "nor is it put into use");
    for _ in 0..6 {
        registry.add(&poor()).unwrap();
    }
    registry.tidy(2).unwrap();
    assert_eq!(registry.versions(), [1, 2, 7, 8], "what speaks and what is in shadow stays");
}

#[tokio::test]
async fn damage_in_the_models_folder_is_alerted_on_until_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path(), &good(), &poor());
    let damaged = registry.place(1).join("failure-1h.onnx");
    let whole = std::fs::read(&damaged).unwrap();
    std::fs::write(&damaged, b"cut short").unwrap();
    let mut life = Life::begin(Arc::new(MemoryStore::new()), contest(&registry), START).await;
    life.step(World::Tells).await;
    let texts = |life: &Life| -> Vec<String> {
        let snapshot = life.core.snapshot();
        snapshot.alerts.iter().filter(|a| a.subject == "models").map(|a| a.text.clone()).collect()
    };
    let told = texts(&life).join("\n");
    // The shipped heads read other features than those of this test, and cannot stand beside them.
    let mapped = "an uncalibrated mapping stands in: failure within 1 h";
    assert!(told.contains("failure-1h.toml") && told.contains(mapped), "{told}");
    std::fs::write(&damaged, whole).unwrap();

    let current = registry.place(1).with_file_name("current");
    let before = std::fs::read(&current).unwrap();
    std::fs::write(&current, "banana").unwrap();
    life.step(World::Tells).await;
    let told = texts(&life).join("\n");
    assert!(told.contains("expected the number of a version, got \"banana\""), "{told}");
    std::fs::write(&current, before).unwrap();
    life.step(World::Tells).await;
    assert_eq!(texts(&life), Vec::<String>::new());
}
