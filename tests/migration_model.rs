//! The migration machine under a model checker: the real `migrate::step`, two engines, one source,
//! one destination. Every order of: starts and deaths of engines, answers that are lost before and
//! after the effect, calls of a dead engine that come late, a fence that lapses, a client that
//! writes, a person who undoes. The search is exhaustive within the stated budgets of these; each
//! budget is what bounds the depth, no state within them is left out. Time stands still: nothing in
//! here hangs on a deadline.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use foreshift::drivers::{
    Action, Artifact, CanarySample, Capabilities, CleanupPolicy, Evidence, JobStatus, Probe, Retry,
};
use foreshift::fleet::{
    Bytes, Epoch, Generation, MigrationId, PartitionId, Phase, ProposalId, Revision, Span, Timestamp,
};
use foreshift::migrate::act::{Act, Deed, Side};
use foreshift::migrate::ledger::Foreseen;
use foreshift::migrate::owner::{Owner, OwnerMode};
use foreshift::migrate::state::Progress;
use foreshift::migrate::{Effect, Event, EventKind, OperatorCommand, Place, Plan, Policy, State, step};
use foreshift::plan::CanaryPlan;
use foreshift::plan::proposal::PlanHash;
use stateright::{Checker, Model, Property};

const NOW: Timestamp = Timestamp(10_000_000);
const SEALED: u8 = 2;

/// How often each of these may happen in one run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Budget {
    starts: u8,
    faults: u8,
    late: u8,
    wishes: u8,
    writes: u8,
    lapses: u8,
}

/// The migration as one engine or the store has it.
#[derive(Clone, PartialEq, Debug)]
struct Seen(Arc<Progress>, blake3::Hash);

impl Eq for Seen {}

impl Hash for Seen {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.1.as_bytes().hash(state);
    }
}

/// An engine that is alive.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Engine {
    epoch: u64,
    seen: Seen,
}

/// A call that was sent and has not arrived.
#[derive(Clone, PartialEq, Debug)]
struct Late {
    epoch: u64,
    act: Act,
}

impl Eq for Late {}

impl Hash for Late {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.epoch, self.act.name()).hash(state);
    }
}

/// Source and destination as they are. 0 is the source, 1 the destination.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct System {
    open: [bool; 2],
    /// 0 = not, 1 = for a while, 2 = until let go.
    fence: [u8; 2],
    writes: [u8; 2],
    acknowledged: u8,
    /// From where the stream runs.
    stream: Option<usize>,
    /// Made: copy, stream, reverse.
    made: [bool; 3],
    /// The system's own word, where it votes.
    word: usize,
    /// The newest epoch that asked for something.
    touched: u64,
    proved: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    store: Seen,
    leader: u64,
    /// Owner and generation.
    owner: (usize, u64),
    /// An owner change that was not allowed, or a write that was lost.
    broken: Option<&'static str>,
    engines: [Option<Engine>; 2],
    late: Option<Late>,
    system: System,
    left: Budget,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Fault {
    None,
    /// Nothing was sent, and the engine knows.
    NotSent,
    /// It is lost, nobody knows.
    Lost,
    /// It is done, the answer is lost.
    AnswerLost,
    /// It is done, the engine dies.
    Died,
    /// The engine dies, the call comes some time later.
    Late,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Deal {
    Start(usize),
    Die(usize),
    Drive(usize, Fault),
    UndoAsked(usize),
    Arrives,
    Write,
    Carry,
    Lapse(usize),
}

struct Machine {
    plan: Arc<Plan>,
    budget: Budget,
}

fn name(side: usize) -> PartitionId {
    if side == 0 { "source".into() } else { "destination".into() }
}

impl Machine {
    fn new(system_votes: bool, budget: Budget) -> Self {
        let place = |host: &str| Place { host: host.into(), rack: "r".into(), site: "s".into() };
        let plan = Plan {
            id: MigrationId(1),
            proposal: ProposalId(1),
            hash: PlanHash([0; 32]),
            order: 0,
            workload: "w".into(),
            class: "model".to_string(),
            source: name(0),
            destination: name(1),
            source_place: place("a"),
            destination_place: place("b"),
            predicted: false,
            probability: None,
            stateless: false,
            routed: false,
            generation: Generation(1),
            canary: CanaryPlan {
                steps: Vec::new(),
                p99_tolerance: 0.5,
                latency_margin_ms: 0.2,
                min_samples: 1,
            },
            soak: Span::ZERO,
            data: Bytes(1),
            duration: Span::seconds(1),
            capabilities: Capabilities {
                online: true,
                digest: true,
                reverse_proved_before_cut: !system_votes,
                reverse: true,
                fence_checked_by_target: true,
                canary_reads: false,
                canary_traffic: false,
                system_votes,
                follows: true,
                drops_source: false,
            },
            topology: Revision(1),
            approved_by: "a person".to_string(),
            approved_at: NOW,
            expires: Timestamp(NOW.0 * 2),
            policy: Policy {
                attempts: 1,
                cut_tries: 2,
                act_tries: 3,
                probe_tries: 3,
                lag_times: 1,
                ..Policy::default()
            },
        };
        Self { plan: Arc::new(plan), budget }
    }

    fn votes(&self) -> bool {
        self.plan.capabilities.system_votes
    }

    fn state(&self, seen: &Seen) -> State {
        State { plan: Arc::clone(&self.plan), progress: (*seen.0).clone() }
    }

    fn owner(&self, world: &World) -> Owner {
        Owner {
            owner: name(world.owner.0),
            generation: Generation(world.owner.1),
            mode: OwnerMode::Migrating,
            migration: Some(self.plan.id),
        }
    }

    /// What an act makes.
    fn artifact(&self, i: usize) -> Artifact {
        let kind = ["copy", "stream", "reverse"][i].to_string();
        Artifact { name: format!("fs_{kind}"), kind, partition: name(usize::from(i != 1)) }
    }

    fn foreseen(&self) -> Vec<Foreseen> {
        let policies = [CleanupPolicy::OnFailure, CleanupPolicy::Always, CleanupPolicy::DeferredOnSuccess];
        let steps = ["prepare", "replicate", "arm_reverse"];
        (0..3)
            .map(|i| Foreseen {
                step: steps[i].to_string(),
                side: Side::Forward,
                artifact: self.artifact(i),
                policy: policies[i],
            })
            .collect()
    }

    /// Does an act in the system; `None` = refused, because somebody newer was there.
    fn perform(&self, world: &mut World, epoch: u64, act: &Act) -> Option<Evidence> {
        let system = &mut world.system;
        if epoch < system.touched {
            return None;
        }
        system.touched = epoch;
        let Deed::Mover { action } = &act.deed else { return Some(Evidence::default()) };
        let (from, to) = if act.side == Side::Forward { (0, 1) } else { (1, 0) };
        let mut evidence = Evidence::default();
        match action {
            Action::Prepare => system.made[0] = true,
            Action::Replicate => {
                system.made[1] = true;
                system.stream = Some(from);
                system.writes[to] = system.writes[from];
            }
            Action::StopReplication => system.stream = None,
            Action::ArmReverse => system.made[2] = true,
            Action::ProbeReverse => system.proved = true,
            Action::Fence { deadline } => {
                system.fence[from] = if deadline.0 > NOW.0 * 10 { SEALED } else { 1 };
                if system.stream == Some(from) {
                    system.writes[to] = system.writes[from];
                }
            }
            Action::Unfence => system.fence[from] = 0,
            Action::Verify => evidence.equal = Some(true),
            Action::VerifyAtCut => evidence.equal = Some(system.writes[0] == system.writes[1]),
            Action::Commit if system.word == from => {
                // The voters change the owner in one step, with all that was written.
                system.word = to;
                system.writes[to] = system.writes[from];
                system.open = [to == 0, to == 1];
                system.fence = [0, 0];
                system.stream = Some(to);
            }
            Action::Open => {
                system.fence[to] = 0;
                system.open[to] = true;
                if system.stream == Some(from) {
                    system.stream = None;
                }
            }
            Action::EnableReverse => {
                system.stream = Some(to);
                system.proved = true;
            }
            Action::Retire => {
                system.open[from] = false;
                system.fence[from] = 0;
                system.stream = None;
            }
            Action::Cleanup { artifact } => {
                for i in 0..3 {
                    if artifact.kind == self.artifact(i).kind {
                        system.made[i] = false;
                    }
                }
                if artifact.kind == "copy" {
                    system.open[1] = false;
                    system.fence[1] = 0;
                    system.stream = None;
                }
            }
            _ => {}
        }
        Some(evidence)
    }

    /// Whether an act was done, by looking.
    fn probe(&self, world: &World, act: &Act) -> Probe {
        let system = &world.system;
        let Deed::Mover { action } = &act.deed else { return Probe::NotStarted };
        let (from, to) = if act.side == Side::Forward { (0, 1) } else { (1, 0) };
        let applied = match action {
            Action::Prepare => system.made[0],
            Action::Replicate => system.made[1] && system.stream == Some(from),
            Action::StopReplication => system.stream.is_none(),
            Action::ArmReverse => system.made[2],
            Action::Fence { deadline } => {
                system.fence[from] >= if deadline.0 > NOW.0 * 10 { SEALED } else { 1 }
            }
            Action::Unfence => system.fence[from] == 0,
            Action::Commit => system.word == to,
            Action::Open => system.open[to] && system.fence[to] == 0,
            Action::EnableReverse => system.stream == Some(to),
            Action::Retire => !system.open[from] && system.stream.is_none(),
            Action::Cleanup { artifact } => {
                (0..3).all(|i| artifact.kind != self.artifact(i).kind || !system.made[i])
            }
            _ => false,
        };
        match applied {
            true => Probe::Applied { evidence: Evidence::default() },
            false => Probe::NotStarted,
        }
    }

    /// Takes an event in and commits what came of it, if the engine still leads; else it ends.
    fn take(&self, world: &mut World, i: usize, kind: EventKind) {
        let Some(engine) = world.engines[i].clone() else { return };
        let changes_owner = kind == EventKind::OwnerChanged;
        let next = step(&self.state(&engine.seen), &Event { at: NOW, kind });
        if engine.epoch < world.leader {
            // Only what need not survive is in force without the store; it finds out at the next.
            match next.notes.is_empty() && !changes_owner {
                true => world.engines[i] = Some(Engine { seen: seen(*next.state), ..engine }),
                false => world.engines[i] = None,
            }
            return;
        }
        if changes_owner {
            self.change_owner(world, &engine);
        }
        let seen = seen(*next.state);
        world.store = seen.clone();
        world.engines[i] = Some(Engine { seen, ..engine });
    }

    fn change_owner(&self, world: &mut World, engine: &Engine) {
        let to = usize::from(engine.seen.0.phase == Phase::Committing);
        let system = &world.system;
        if world.owner.0 == to {
            world.broken = Some("the owner changed to itself");
        }
        if self.votes() {
            if system.word != to {
                world.broken = Some("the record left the system's word");
            }
        } else {
            if system.fence[1 - to] != SEALED {
                world.broken = Some("the owner changed and writes were not held");
            }
            if system.writes[to] != system.acknowledged {
                world.broken = Some("the new owner lacks a write");
            }
        }
        world.owner = (to, world.owner.1 + 1);
    }

    fn drive(&self, world: &mut World, i: usize, fault: Fault) {
        let Some(engine) = world.engines[i].clone() else { return };
        let state = self.state(&engine.seen);
        let Some(effect) = Effect::of(&state, NOW) else { return };
        let status = || JobStatus {
            copied: Bytes(1),
            total: Bytes(1),
            streaming: true,
            lag: Some(Span::ZERO),
            source_alive: true,
            destination_alive: true,
            owner: self.votes().then(|| name(world.system.word)),
            note: String::new(),
            broken: None,
            can_call_off: false,
        };
        let sample =
            CanarySample { latencies_ms: vec![1.0; 4], requests: 4, compared: 4, ..CanarySample::default() };
        let kind = match effect {
            Effect::Tell => EventKind::Time,
            Effect::Admit => EventKind::Admitted { foreseen: Arc::new(self.foreseen()) },
            Effect::Perform(act) => {
                let unknown = EventKind::Failed { retry: Retry::Unknown, detail: String::new() };
                match fault {
                    Fault::NotSent => EventKind::Failed { retry: Retry::Retryable, detail: String::new() },
                    Fault::Lost => unknown,
                    Fault::Late => {
                        world.late = Some(Late { epoch: engine.epoch, act });
                        world.engines[i] = None;
                        return;
                    }
                    Fault::None | Fault::AnswerLost | Fault::Died => {
                        let done = self.perform(world, engine.epoch, &act);
                        match (done, fault) {
                            (_, Fault::Died) => {
                                world.engines[i] = None;
                                return;
                            }
                            (_, Fault::AnswerLost) => unknown,
                            (Some(evidence), _) => EventKind::Done { evidence },
                            (None, _) => {
                                EventKind::Failed { retry: Retry::Permanent, detail: "older".to_string() }
                            }
                        }
                    }
                }
            }
            Effect::Probe(act) => {
                let answer = match fault {
                    Fault::Lost => Probe::Unknown { reason: String::new() },
                    _ => self.probe(world, &act),
                };
                EventKind::Probed { answer }
            }
            Effect::Status(_) => EventKind::Status { status: Ok(status()) },
            Effect::Sample(_) => {
                EventKind::Samples { samples: Ok((sample.clone(), sample)), source_lost: false }
            }
            Effect::Gate => EventKind::GateOpen,
            Effect::ChangeOwner(side) => {
                let job = if side == Side::Forward { self.plan.job() } else { self.plan.back_job() };
                let expected = name(world.owner.0) == job.source && world.owner.1 + 1 == job.generation.0;
                match expected {
                    true => EventKind::OwnerChanged,
                    false => EventKind::OwnerIs { owner: Some(self.owner(world)) },
                }
            }
        };
        self.take(world, i, kind);
    }
}

fn seen(state: State) -> Seen {
    let mut progress = state.progress;
    // Words for people and the journal's hash make no difference to what happens next.
    progress.evidence = Arc::default();
    progress.waiting.clear();
    progress.cause.clear();
    progress.judgement = None;
    progress.looks = 0;
    progress.due = NOW;
    let all = (&progress, &progress.ledger);
    let hash = blake3::hash(&serde_json::to_vec(&all).expect("plain data serialises"));
    Seen(Arc::new(progress), hash)
}

impl Model for Machine {
    type State = World;
    type Action = Deal;

    fn init_states(&self) -> Vec<World> {
        let store = seen(State::approved(Arc::clone(&self.plan), Epoch(0), NOW));
        let system = System { open: [true, false], writes: [1, 0], acknowledged: 1, ..System::default() };
        vec![World {
            store,
            leader: 0,
            owner: (0, 1),
            broken: None,
            engines: [None, None],
            late: None,
            system,
            left: self.budget,
        }]
    }

    fn actions(&self, world: &World, deals: &mut Vec<Deal>) {
        let left = world.left;
        for i in 0..2 {
            let Some(engine) = &world.engines[i] else {
                // The second engine is the first one's equal: it starts only while the first lives.
                if left.starts > 0 && (i == 0 || world.engines[0].is_some()) {
                    deals.push(Deal::Start(i));
                }
                continue;
            };
            deals.push(Deal::Die(i));
            let state = self.state(&engine.seen);
            match Effect::of(&state, NOW) {
                None => {}
                Some(Effect::Perform(_)) => {
                    deals.push(Deal::Drive(i, Fault::None));
                    deals.push(Deal::Drive(i, Fault::Died));
                    if left.faults > 0 {
                        deals.extend(
                            [Fault::NotSent, Fault::Lost, Fault::AnswerLost].map(|f| Deal::Drive(i, f)),
                        );
                    }
                    if left.late > 0 && world.late.is_none() {
                        deals.push(Deal::Drive(i, Fault::Late));
                    }
                }
                Some(Effect::Probe(_)) => {
                    deals.push(Deal::Drive(i, Fault::None));
                    if left.faults > 0 {
                        deals.push(Deal::Drive(i, Fault::Lost));
                    }
                }
                Some(_) => deals.push(Deal::Drive(i, Fault::None)),
            }
            if left.wishes > 0
                && foreshift::migrate::operator::refusal(&state, OperatorCommand::RollBack).is_none()
            {
                deals.push(Deal::UndoAsked(i));
            }
        }
        if world.late.is_some() {
            deals.push(Deal::Arrives);
        }
        if left.writes > 0 {
            deals.push(Deal::Write);
        }
        if world.system.stream.is_some_and(|from| world.system.writes[from] != world.system.writes[1 - from])
        {
            deals.push(Deal::Carry);
        }
        for side in 0..2 {
            if world.system.fence[side] == 1 && left.lapses > 0 {
                deals.push(Deal::Lapse(side));
            }
        }
    }

    fn next_state(&self, before: &World, deal: Deal) -> Option<World> {
        let mut world = before.clone();
        match deal {
            Deal::Start(i) => {
                world.left.starts -= 1;
                world.leader += 1;
                let epoch = world.leader;
                world.engines[i] = Some(Engine { epoch, seen: world.store.clone() });
                if !world.store.0.phase.is_end() {
                    let owner = Some(self.owner(&world));
                    self.take(&mut world, i, EventKind::Recovered { epoch: Epoch(epoch), owner });
                }
            }
            Deal::Die(i) => world.engines[i] = None,
            Deal::Drive(i, fault) => {
                match fault {
                    Fault::NotSent | Fault::Lost | Fault::AnswerLost => world.left.faults -= 1,
                    Fault::Late => world.left.late -= 1,
                    Fault::None | Fault::Died => {}
                }
                self.drive(&mut world, i, fault);
            }
            Deal::UndoAsked(i) => {
                world.left.wishes -= 1;
                let kind =
                    EventKind::Operator { command: OperatorCommand::RollBack, actor: "a person".to_string() };
                self.take(&mut world, i, kind);
            }
            Deal::Arrives => {
                let late = world.late.take()?;
                self.perform(&mut world, late.epoch, &late.act);
            }
            Deal::Write => {
                world.left.writes -= 1;
                let system = &mut world.system;
                for side in 0..2 {
                    if system.open[side] && system.fence[side] == 0 {
                        system.writes[side] += 1;
                        system.acknowledged += 1;
                    }
                }
            }
            Deal::Carry => {
                let from = world.system.stream?;
                world.system.writes[1 - from] = world.system.writes[from];
            }
            Deal::Lapse(side) => {
                world.left.lapses -= 1;
                world.system.fence[side] = 0;
            }
        }
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("at most one side takes writes", |_, w: &World| {
                (0..2).filter(|s| w.system.open[*s] && w.system.fence[*s] == 0).count() <= 1
            }),
            Property::always("the owner changes only when it may", |_, w: &World| w.broken.is_none()),
            Property::always("it ends as exactly the old or the new owner", |model: &Machine, w: &World| {
                let system = &w.system;
                let serves = |side: usize| {
                    w.owner.0 == side
                        && system.open[side]
                        && !system.open[1 - side]
                        && system.fence == [0, 0]
                        && system.writes[side] == system.acknowledged
                        && (!model.votes() || system.word == side)
                };
                match w.store.0.phase {
                    Phase::Done => {
                        serves(1) && system.made == [true, false, false] && system.stream.is_none()
                    }
                    Phase::Aborted | Phase::RolledBack => {
                        serves(0) && system.made == [false; 3] && system.stream.is_none()
                    }
                    _ => true,
                }
            }),
            Property::always("it can be undone until it is retired", |model: &Machine, w: &World| {
                let state = model.state(&w.store);
                let refused = foreshift::migrate::operator::refusal(&state, OperatorCommand::RollBack);
                refused.is_none()
                    || state.phase.is_end()
                    || matches!(
                        state.standing(),
                        Phase::RollingBackPre | Phase::RollingBackPost | Phase::Retiring
                    )
            }),
            Property::always("an engine that leads wants something or a person was told", |_, w: &World| {
                let seen = &w.store.0;
                seen.phase.is_end()
                    || matches!(seen.phase, Phase::Hold | Phase::Stuck)
                    || !matches!(
                        seen.todo,
                        foreshift::migrate::state::Todo::Person | foreshift::migrate::state::Todo::Nothing
                    )
            }),
            Property::sometimes("it is done", |_, w: &World| w.store.0.phase == Phase::Done),
            Property::sometimes("it is aborted", |_, w: &World| w.store.0.phase == Phase::Aborted),
            Property::sometimes("it is rolled back", |_, w: &World| w.store.0.phase == Phase::RolledBack),
        ]
    }
}

fn exhaust(system_votes: bool, budget: Budget) {
    let began = std::time::Instant::now();
    let checker = Machine::new(system_votes, budget).checker().threads(2).spawn_bfs().join();
    println!(
        "votes {system_votes}, {budget:?}: {} states, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64()
    );
    checker.assert_properties();
}

/// Two engines one after the other and at once, one lost answer anywhere, one late call, one write,
/// one wish to undo, one fence that lapses.
const BUDGET: Budget = Budget { starts: 2, faults: 1, late: 1, wishes: 1, writes: 1, lapses: 1 };

#[test]
fn no_order_of_crashes_and_lost_answers_breaks_a_move_by_our_record() {
    exhaust(false, BUDGET);
}

#[test]
fn no_order_of_crashes_and_lost_answers_breaks_a_move_by_vote() {
    exhaust(true, BUDGET);
}
