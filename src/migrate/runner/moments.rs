//! Every moment at which an engine can be lost that matters: right before and right after each
//! journal write and each call of a driver or router. The runner passes all of them through here,
//! and tests that kill it hang an observer into [`super::Options`]; nothing else listens.
//!
//! [`registry`] says what is written and called in which phase. A new kind of record, action or
//! effect does not compile until it has a name here; one that happens in a phase where it is not
//! listed fails `tests/moments.rs`; one that is listed and is not killed on real servers fails
//! `tests/kill_everywhere.rs`.

use std::fmt;
use std::sync::Arc;

use crate::drivers::Action;
use crate::fleet::{MigrationId, Phase};
use crate::migrate::act::{Act, Deed, Side};
use crate::migrate::journal::Note;
use crate::migrate::state::State;

/// Who is told of every moment. It is called in the middle of everything and must not wait.
pub type Observer = Arc<dyn Fn(&Moment) + Send + Sync>;

/// On which side of what happens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Edge {
    /// It has not been sent.
    Before,
    /// It is done and nothing was made of the answer yet.
    After,
}

/// A kind of record: [`Note`] without what it says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "as Note's variants")]
pub enum Kind {
    Intent,
    Outcome,
    CleanupAdd,
    CleanupDone,
    State,
    Decision,
    Fence,
    Budget,
}

impl Kind {
    /// The kind of a record.
    pub fn of(note: &Note) -> Kind {
        match note {
            Note::Intent { .. } => Kind::Intent,
            Note::Outcome { .. } => Kind::Outcome,
            Note::CleanupAdd { .. } => Kind::CleanupAdd,
            Note::CleanupDone { .. } => Kind::CleanupDone,
            Note::State { .. } => Kind::State,
            Note::Decision { .. } => Kind::Decision,
            Note::Fence { .. } => Kind::Fence,
            Note::Budget { .. } => Kind::Budget,
        }
    }
}

/// What is asked of a driver or router: an action without its arguments.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "as Action's variants, and the router's one")]
pub enum Verb {
    Announce,
    Prepare,
    Replicate,
    StopReplication,
    Verify,
    ArmReverse,
    ProbeReverse,
    CanaryShare,
    Fence,
    Unfence,
    VerifyAtCut,
    Commit,
    Open,
    EnableReverse,
    Retire,
    Cleanup,
    Route,
}

impl Verb {
    /// What an act asks for.
    pub fn of(act: &Act) -> Verb {
        let action = match &act.deed {
            Deed::Mover { action } => action,
            Deed::Route { .. } => return Verb::Route,
        };
        match action {
            Action::Announce => Verb::Announce,
            Action::Prepare => Verb::Prepare,
            Action::Replicate => Verb::Replicate,
            Action::StopReplication => Verb::StopReplication,
            Action::Verify => Verb::Verify,
            Action::ArmReverse => Verb::ArmReverse,
            Action::ProbeReverse => Verb::ProbeReverse,
            Action::CanaryShare { .. } => Verb::CanaryShare,
            Action::Fence { .. } => Verb::Fence,
            Action::Unfence => Verb::Unfence,
            Action::VerifyAtCut => Verb::VerifyAtCut,
            Action::Commit => Verb::Commit,
            Action::Open => Verb::Open,
            Action::EnableReverse => Verb::EnableReverse,
            Action::Retire => Verb::Retire,
            Action::Cleanup { .. } => Verb::Cleanup,
        }
    }
}

/// A call of a driver or router.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Call {
    /// Does it.
    Perform(Verb),
    /// Asks whether it was done.
    Probe(Verb),
    /// Asks where the job is.
    Status,
    /// Asks what was measured.
    Samples,
    /// Asks what a cut would have to wait for.
    Gate,
}

/// What a moment is before or after.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum What {
    /// One transaction that writes records of these kinds, each named once, in order.
    Write(Vec<Kind>),
    /// A call.
    Call(Call),
}

/// One moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The migration.
    pub migration: MigrationId,
    /// Where the migration is, as the store has it before what happens.
    pub phase: Phase,
    /// The action that is pending then, and which way it goes.
    pub pending: Option<(Verb, Side)>,
    /// What happens.
    pub what: What,
    /// Before or after it.
    pub edge: Edge,
}

/// A thing that happens in a phase: what the registry lists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Occasion {
    /// A record of this kind is written.
    Write(Phase, Kind),
    /// This is called.
    Call(Phase, Call),
}

impl Moment {
    /// The moment around what happens to `state`.
    pub(super) fn of(state: &State, what: What, edge: Edge) -> Self {
        let pending = state.pending().map(|act| (Verb::of(act), act.side));
        Self { migration: state.plan.id, phase: state.phase, pending, what, edge }
    }

    /// What of the registry happens in it.
    pub fn occasions(&self) -> Vec<Occasion> {
        match &self.what {
            What::Write(kinds) => kinds.iter().map(|kind| Occasion::Write(self.phase, *kind)).collect(),
            What::Call(call) => vec![Occasion::Call(self.phase, *call)],
        }
    }
}

/// The same for every run: `after write outcome+intent, prepare, in preparing`.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let edge = if self.edge == Edge::Before { "before" } else { "after" };
        match &self.what {
            What::Write(kinds) => {
                let kinds: Vec<String> = kinds.iter().map(|k| format!("{k:?}")).collect();
                write!(f, "{edge} write {}", kinds.join("+"))?;
            }
            What::Call(call) => write!(f, "{edge} call {call:?}")?,
        }
        match self.pending {
            Some((verb, Side::Forward)) => write!(f, " at {verb:?} in {:?}", self.phase),
            Some((verb, Side::Back)) => write!(f, " at {verb:?} back in {:?}", self.phase),
            None => write!(f, " in {:?}", self.phase),
        }
    }
}

/// The kinds of some records, each once, in the order of the records.
pub(super) fn kinds<'a>(notes: impl Iterator<Item = &'a Note>) -> What {
    let mut kinds = Vec::new();
    for kind in notes.map(Kind::of) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    What::Write(kinds)
}

/// What is written and called in one phase.
struct Row {
    phase: Phase,
    writes: &'static [Kind],
    /// What is performed; whatever is performed can be probed.
    verbs: &'static [Verb],
    reads: &'static [Call],
}

const fn row(phase: Phase, writes: &'static [Kind], verbs: &'static [Verb], reads: &'static [Call]) -> Row {
    Row { phase, writes, verbs, reads }
}

/// Every phase in which something happens. Everywhere a new leader's `Fence` can be written.
const ROWS: [Row; 18] = {
    use Kind::{Budget, CleanupAdd, CleanupDone, Decision, Fence, Intent, Outcome, State};
    use Verb as V;
    const ACTS: &[Kind] = &[Intent, Outcome, State, Decision, Fence];
    [
        row(Phase::Approved, &[State, Decision, Fence, Budget], &[], &[]),
        row(Phase::Admitted, &[Intent, State, Decision, Fence, Budget], &[], &[]),
        row(
            Phase::Preparing,
            &[Intent, Outcome, CleanupAdd, State, Decision, Fence, Budget],
            &[V::Announce, V::Prepare],
            &[],
        ),
        row(Phase::Copying, ACTS, &[V::Replicate], &[Call::Status]),
        row(Phase::CatchingUp, &[Intent, State, Decision, Fence], &[], &[Call::Status]),
        row(Phase::Verifying, &[Intent, Outcome, CleanupAdd, State, Decision, Fence], &[V::Verify], &[]),
        row(Phase::ReverseArmed, ACTS, &[V::ArmReverse, V::ProbeReverse], &[Call::Gate]),
        row(Phase::Canary, ACTS, &[V::ProbeReverse, V::CanaryShare, V::Route], &[Call::Samples, Call::Gate]),
        row(Phase::Fencing, ACTS, &[V::Fence, V::Unfence, V::VerifyAtCut], &[]),
        row(Phase::Committing, ACTS, &[V::Unfence, V::Commit], &[Call::Status]),
        row(Phase::Redirecting, ACTS, &[V::Open, V::Route], &[]),
        row(Phase::Soaking, ACTS, &[V::EnableReverse, V::Verify], &[Call::Samples]),
        row(
            Phase::Retiring,
            &[Intent, Outcome, CleanupDone, State, Decision, Fence, Budget],
            &[V::Route, V::Retire, V::Cleanup],
            &[],
        ),
        row(
            Phase::RollingBackPre,
            &[Intent, Outcome, CleanupDone, State, Fence, Budget],
            &[V::StopReplication, V::CanaryShare, V::Unfence, V::Cleanup, V::Route],
            &[],
        ),
        row(
            Phase::RollingBackPost,
            &[Intent, Outcome, CleanupDone, State, Decision, Fence, Budget],
            &[
                V::StopReplication,
                V::Fence,
                V::Unfence,
                V::VerifyAtCut,
                V::Commit,
                V::Open,
                V::EnableReverse,
                V::Cleanup,
                V::Route,
            ],
            &[Call::Status],
        ),
        row(Phase::SourceLost, &[Intent, State, Fence], &[], &[]),
        row(Phase::Hold, &[Intent, State, Decision, Fence], &[], &[Call::Samples]),
        row(Phase::Stuck, &[State, Decision, Fence], &[], &[]),
    ]
};

/// Everything that is listed, in the order of a migration.
pub fn registry() -> Vec<Occasion> {
    let of = |row: &Row| {
        let writes = row.writes.iter().map(|kind| Occasion::Write(row.phase, *kind));
        let verbs = row.verbs.iter().flat_map(|v| [Call::Perform(*v), Call::Probe(*v)]);
        let calls = verbs.chain(row.reads.iter().copied()).map(|call| Occasion::Call(row.phase, call));
        writes.chain(calls).collect::<Vec<_>>()
    };
    ROWS.iter().flat_map(of).collect()
}
