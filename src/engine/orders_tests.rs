use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::intake::Heartbeat;
use super::test_parts::parts;
use super::{Core, Parts};
use crate::fleet::{Bytes, Generation, Partition, PartitionId, ServingState, ShownState};
use crate::fleet::{Span, Timestamp, Topology, Workload};
use crate::protocol::{Actor, AgentState, Command, Mode, Refusal, Reply, Role};
use crate::state::{MemoryStore, Store};

const NOW: Timestamp = Timestamp(1_767_571_200_000);

/// Hosts a, b and c with a partition each; `w` is on a.
fn fleet() -> Topology {
    let partition = |host: &str| Partition {
        id: PartitionId::of(&host.into(), "1"),
        host: host.into(),
        class: "db".into(),
        serving: ServingState::Active,
        address: String::new(),
    };
    let workload = Workload {
        id: "w".into(),
        application: "shop".into(),
        class: "db".into(),
        kind: "db".into(),
        partition: "a/1".into(),
        replicas: Vec::new(),
        size: Bytes(0),
        writes_per_s: 0.0,
        requests_per_s: 0.0,
        depends_on: Vec::new(),
        stateless: false,
        generation: Generation(0),
        labels: BTreeMap::new(),
    };
    let partitions = ["a", "b", "c"].map(partition).to_vec();
    Topology { partitions, workloads: vec![workload], ..Topology::default() }
}

/// An engine on this store; nothing was ever measured, which it has had the time to notice.
async fn engine(store: &Arc<dyn Store>, at: Timestamp) -> Core {
    let parts = Parts { store: store.clone(), ..parts(at) };
    let mut core = Core::start(parts, at).await.unwrap();
    core.discovery("db".into(), Ok(fleet()), at);
    core.cycle(at).await.unwrap();
    core.cycle(at + Span::hours(1)).await.unwrap();
    core
}

async fn ask(core: &mut Core, command: Command, at: Timestamp) -> Result<String, Refusal> {
    let eve = Actor { name: "eve".into(), role: Role::Operator };
    core.command(&eve, command, at).await.map(|reply| match reply {
        Reply::Done { said } => said,
        other => panic!("{other:?}"),
    })
}

fn open(core: &Core, topic: &str) -> Vec<String> {
    let mut open = core.alerts.subjects(topic);
    open.sort();
    open
}

fn shown(core: &Core, partition: &str) -> ShownState {
    core.snapshot().partitions.iter().find(|p| p.id.as_str() == partition).unwrap().shown
}

fn veto(subject: &str, until: Option<Timestamp>) -> Command {
    Command::Veto { subject: subject.into(), until }
}

#[tokio::test]
async fn a_veto_stands_over_a_restart_until_it_is_released_or_its_time_is_over() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut core = engine(&store, NOW).await;
    let refused = ask(&mut core, veto("shp", None), NOW).await.unwrap_err();
    assert!(refused.to_string().contains("workload or application shp"), "{refused}");
    ask(&mut core, veto("shop", None), NOW).await.unwrap();
    ask(&mut core, veto("b", Some(NOW + Span::hours(2))), NOW).await.unwrap();

    let later = NOW + Span::hours(1);
    let mut core = engine(&store, NOW).await;
    assert_eq!(open(&core, "veto"), ["b", "shop"]);
    let said = core.why("w", later).unwrap().join("; ");
    assert!(said.contains("eve has forbidden to touch shop"), "{said}");
    let to_b = core.orders.vetoes(later).at(&fleet().partitions[1]);
    assert_eq!(to_b.as_deref(), Some("eve has forbidden to touch b"));

    core.cycle(NOW + Span::hours(3)).await.unwrap();
    assert_eq!(open(&core, "veto"), ["shop"]);
    let release = Command::ReleaseVeto { subject: "shop".into() };
    ask(&mut core, release.clone(), later).await.unwrap();
    assert!(ask(&mut core, release, later).await.is_err(), "nothing is left to release");
    let core = engine(&store, NOW + Span::hours(3)).await;
    assert!(open(&core, "veto").is_empty());
}

#[tokio::test]
async fn who_leaves_automatic_mode_has_left_it_over_a_restart_too() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let started = async |at: Timestamp| {
        let mut parts = Parts { store: store.clone(), ..parts(at) };
        parts.options.mode = Mode::Auto;
        Core::start(parts, at).await.unwrap()
    };
    let admin = Actor { name: "eve".into(), role: Role::Admin };
    let mut core = started(NOW).await;
    assert_eq!(core.snapshot().mode, Mode::Auto);
    core.command(&admin, Command::SetMode { mode: Mode::Advise }, NOW).await.unwrap();
    let later = NOW + Span::hours(1);
    let mut core = started(later).await;
    assert_eq!(core.snapshot().mode, Mode::Advise);
    let said = core.alerts.text("engine", "mode").unwrap().to_string();
    assert!(said.contains("eve left automatic mode 1 h 00 ago"), "{said}");
    core.command(&admin, Command::SetMode { mode: Mode::Auto }, later).await.unwrap();
    assert_eq!(core.alerts.text("engine", "mode"), None);
    assert_eq!(started(later).await.snapshot().mode, Mode::Auto);
}

#[tokio::test]
async fn what_is_decommissioned_nags_nobody_over_restarts_until_it_is_taken_back() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut core = engine(&store, NOW).await;
    let later = NOW + Span::hours(1);
    assert_eq!(open(&core, "unknown").len(), 3);
    let decommission =
        |subject: &str| Command::Decommission { subject: subject.into(), reason: "sold".into() };
    let refused = ask(&mut core, decommission("a"), later).await.unwrap_err();
    assert!(refused.to_string().contains("a holds w: evacuate it first"), "{refused}");
    assert!(ask(&mut core, decommission("d"), later).await.is_err());
    ask(&mut core, decommission("c"), later).await.unwrap();
    assert_eq!(open(&core, "unknown"), ["a/1", "b/1"]);

    let mut core = engine(&store, later).await;
    assert_eq!(open(&core, "unknown"), ["a/1", "b/1"]);
    assert_eq!((shown(&core, "c/1"), shown(&core, "b/1")), (ShownState::Decommissioned, ShownState::Unknown));
    // Switched off, it is no failure to learn from; b, of which nobody has said anything, is one.
    let beat = Heartbeat {
        sent: NOW,
        arrived: NOW,
        state: AgentState::Running,
        sequence: 1,
        present: Vec::new(),
        absent: Vec::new(),
        dropped: 0,
        from_the_future: 0,
    };
    let beats = HashMap::from([("b".into(), beat.clone()), ("c".into(), beat)]);
    core.note_heartbeats(&beats, later).await.unwrap();
    let failed: Vec<&str> = core.failures.records().iter().map(|f| f.subject.as_str()).collect();
    assert_eq!(failed, ["b"]);

    let back = Command::Recommission { subject: "c".into() };
    ask(&mut core, back.clone(), later).await.unwrap();
    core.cycle(later + Span::hours(1)).await.unwrap();
    assert_eq!(open(&core, "unknown").len(), 3);
    assert_eq!(shown(&core, "c/1"), ShownState::Unknown);
    assert!(ask(&mut core, back, later).await.is_err(), "it is in service");
}

#[tokio::test]
async fn what_is_decommissioned_and_holds_work_all_the_same_is_watched_and_told() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut core = engine(&store, NOW).await;
    let later = NOW + Span::hours(1);
    let command = Command::Decommission { subject: "c".into(), reason: String::new() };
    ask(&mut core, command, later).await.unwrap();
    let mut moved = fleet();
    moved.workloads[0].partition = "c/1".into();
    core.discovery("db".into(), Ok(moved), later);
    core.cycle(later).await.unwrap();
    assert_eq!(open(&core, "decommissioned"), ["c"]);
    assert_eq!(shown(&core, "c/1"), ShownState::Unknown);
    core.discovery("db".into(), Ok(fleet()), later);
    core.cycle(later).await.unwrap();
    assert!(open(&core, "decommissioned").is_empty());
    assert_eq!(shown(&core, "c/1"), ShownState::Decommissioned);
}
