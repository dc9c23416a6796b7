//! What is known of one migration: the plan, which never changes, and the progress, which is
//! written to the store with every step. What has to be done next is part of it, so a restarted
//! engine goes on from here and from nowhere else.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::act::Act;
use super::journal::Head;
use super::judge::Judgement;
use super::ledger::{self, Ledger};
use super::plan::Plan;
use super::stored;
use crate::fleet::{Epoch, Phase, Timestamp};

/// What comes next.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "todo")]
pub enum Todo {
    /// Go on at once.
    Go,
    /// Ask for admission.
    Admit,
    /// The front of the queue is to be performed; its INTENT is durable.
    Perform,
    /// Whether the front of the queue was done is unknown: probe before anything else.
    Probe,
    /// Look at the job's status.
    Poll,
    /// Measure both sides and judge.
    Watch,
    /// Ask whether the cut may begin now (windows, stop, health of the destination).
    Gate,
    /// The one transaction that changes the owner.
    Commit,
    /// A person decides.
    Person,
    /// Ended.
    Nothing,
}

/// What follows a rollback before the cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Again {
    /// Nothing: a person or the plan ended it.
    #[default]
    No,
    /// Another attempt, later, while the approval lasts.
    Retry,
    /// The planner is asked for another destination.
    Elsewhere,
}

/// Which part of a rollback after the cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackStage {
    /// The way back is proved, the destination fenced, both sides compared.
    #[default]
    Fencing,
    /// The owner is changed back.
    Committing,
    /// Traffic goes back and what was made is removed.
    Redirecting,
    /// The destination is let go, because the cut back was refused.
    Unfencing,
}

/// Why a migration stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    /// A person asked for it.
    Operator,
    /// The judge has too few samples.
    Inconclusive,
    /// A state took longer than it may.
    Deadline,
    /// An action failed as often as it may, where undoing is not the answer.
    Failed,
    /// The judge said fail and there is no way back.
    NoWayBack,
}

/// Where to go on after a hold.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Hold {
    /// Why it stands.
    pub reason: HoldReason,
    /// The phase it stands in.
    pub from: Phase,
    /// What was to come next.
    pub todo: Todo,
}

/// What a person wants as soon as it is safe.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "wish")]
pub enum Wish {
    /// Stand still.
    Pause {
        /// Who.
        actor: String,
    },
    /// Undo.
    RollBack {
        /// Who.
        actor: String,
    },
}

/// The way back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reverse")]
pub enum Reverse {
    /// Nothing is there.
    #[default]
    None,
    /// Made, not proved.
    Armed,
    /// Something was sent the way back and arrived.
    Proved {
        /// When.
        at: Timestamp,
    },
    /// Enabled and proved after the switch.
    Enabled,
}

/// What has been asked for at least once, so that undoing knows what to undo.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Touched {
    /// Prepare.
    pub prepare: bool,
    /// Replicate.
    pub replicate: bool,
    /// A canary share or weight over zero.
    pub canary: bool,
    /// Fence.
    pub fence: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn first() -> u32 {
    1
}

fn is_first(attempt: &u32) -> bool {
    *attempt == 1
}

/// Everything that changes; written to the store with every step. What stands as it stood when the plan was
/// approved is left out there, and the ledger, which changes seldom, has a key of its own. Its JSON is what earlier
/// versions stored.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Where it is.
    pub phase: Phase,
    /// Since.
    pub since: Timestamp,
    /// The present wait ends at the latest then.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deadline: Option<Timestamp>,
    /// The epoch of the engine that wrote this.
    pub epoch: Epoch,
    /// What comes next.
    pub todo: Todo,
    /// Not before.
    pub due: Timestamp,
    /// Actions of this phase that are still to be done; the front one first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub queue: VecDeque<Act>,
    /// Why it waits, for people; empty while it runs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub waiting: String,
    /// Failed tries of the front action.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tries: u32,
    /// Probes of it that answered unknown.
    #[serde(default, skip_serializing_if = "is_default")]
    pub probes: u32,
    /// Which attempt this is, from 1.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub attempt: u32,
    /// Cuts tried in this attempt.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cuts: u32,
    /// Comparisons that failed in this attempt.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mismatches: u32,
    /// The cut was given up and the source is being let go.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unfencing: bool,
    /// It waits for leave to cut.
    #[serde(default, skip_serializing_if = "is_default")]
    pub at_gate: bool,
    /// Source and destination were found equal in this attempt.
    #[serde(default, skip_serializing_if = "is_default")]
    pub verified: bool,
    /// Both sides were found equal at the cut then, and the owner may change on the strength of it;
    /// `None` = nothing to go by, or the change is under way.
    #[serde(default, skip_serializing_if = "is_default")]
    pub compared: Option<Timestamp>,
    /// The way back.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reverse: Reverse,
    /// Index of the canary step.
    #[serde(default, skip_serializing_if = "is_default")]
    pub canary: u32,
    /// The step or soak is judged on samples since.
    #[serde(default, skip_serializing_if = "is_default")]
    pub watched_since: Option<Timestamp>,
    /// How often the judge has looked.
    #[serde(default, skip_serializing_if = "is_default")]
    pub looks: u32,
    /// What the judge said last.
    #[serde(default, skip_serializing_if = "is_default")]
    pub judgement: Option<Arc<Judgement>>,
    /// Looks in a row with the lag within its bound.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lag_ok: u32,
    /// Looks in a row that found the source dead.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dead: u32,
    /// Part of a rollback after the cut.
    #[serde(default, skip_serializing_if = "is_default")]
    pub back: BackStage,
    /// Cuts back that were given up since a person last looked.
    #[serde(default, skip_serializing_if = "is_default")]
    pub back_cuts: u32,
    /// Why the last of them was.
    #[serde(default, skip_serializing_if = "is_default")]
    pub refused: String,
    /// Why it stands, in HOLD.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hold: Option<Hold>,
    /// What a person wants as soon as it is safe.
    #[serde(default, skip_serializing_if = "is_default")]
    pub wish: Option<Wish>,
    /// What has been asked for at least once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub touched: Touched,
    /// What was made.
    #[serde(default, skip_serializing_if = "Ledger::is_empty", serialize_with = "ledger::name")]
    #[serde(deserialize_with = "ledger::named")]
    pub ledger: Ledger,
    /// What was seen since it was read from the store: step name and words, in order. The journal has it all.
    #[serde(default, skip_serializing)]
    pub evidence: Arc<Vec<(Arc<str>, Arc<str>)>>,
    /// Why it is being undone or ended.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cause: String,
    /// What follows the rollback.
    #[serde(default, skip_serializing_if = "is_default")]
    pub again: Again,
    /// Tokens, lock and generation are held.
    #[serde(default, skip_serializing_if = "is_default")]
    pub admitted: bool,
    /// The owner record was changed by this migration and not changed back.
    #[serde(default, skip_serializing_if = "is_default")]
    pub switched: bool,
    /// First admitted.
    pub started: Timestamp,
    /// Ended.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ended: Option<Timestamp>,
    /// End of the journal's chain.
    pub journal: Head,
}

/// A migration.
#[derive(Clone, PartialEq, Debug)]
pub struct State {
    /// What never changes.
    pub plan: Arc<Plan>,
    /// What does.
    pub progress: Progress,
}

impl Deref for State {
    type Target = Progress;
    fn deref(&self) -> &Progress {
        &self.progress
    }
}

impl DerefMut for State {
    fn deref_mut(&mut self) -> &mut Progress {
        &mut self.progress
    }
}

impl State {
    /// A migration whose plan has been approved.
    pub fn approved(plan: Arc<Plan>, epoch: Epoch, now: Timestamp) -> Self {
        let deadline = Some(plan.expires);
        Self { plan, progress: Progress { deadline, ..Progress::fresh(Phase::Approved, epoch, now) } }
    }

    /// The phase that counts for deciding how to undo: the one under a hold or being stuck.
    pub fn standing(&self) -> Phase {
        self.hold.as_ref().map_or(self.phase, |h| h.from)
    }

    /// The owner is about to change, and the comparison that allows it is too old: something may
    /// have happened to the copy since.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        let about_to = match self.phase {
            Phase::Committing => !self.unfencing,
            Phase::RollingBackPost => self.back == BackStage::Committing,
            _ => false,
        };
        let asks = match self.plan.capabilities.system_votes {
            // Once the system has changed its word, our record only follows.
            true => self.todo == Todo::Perform,
            false => self.todo == Todo::Commit,
        };
        about_to
            && asks
            && self.compared.is_some_and(|at| now - at > self.plan.policy.compare_age || now < at)
    }

    /// The action whose outcome is awaited.
    pub fn pending(&self) -> Option<&Act> {
        matches!(self.todo, Todo::Perform | Todo::Probe).then(|| self.queue.front()).flatten()
    }
}

impl Progress {
    /// The bytes of it that are stored.
    pub fn bytes(&self) -> Vec<u8> {
        stored::progress_bytes(self)
    }

    /// The progress that [`Progress::bytes`], or an earlier version, made these bytes of. Its ledger is named
    /// only ([`Ledger::take`]).
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(bytes: &[u8]) -> Result<Progress, stored::Unreadable> {
        stored::progress_of(bytes)
    }

    pub(super) fn fresh(phase: Phase, epoch: Epoch, now: Timestamp) -> Self {
        Self {
            phase,
            since: now,
            deadline: None,
            epoch,
            todo: Todo::Admit,
            due: now,
            queue: VecDeque::new(),
            waiting: String::new(),
            tries: 0,
            probes: 0,
            attempt: 1,
            cuts: 0,
            mismatches: 0,
            unfencing: false,
            at_gate: false,
            verified: false,
            compared: None,
            reverse: Reverse::None,
            canary: 0,
            watched_since: None,
            looks: 0,
            judgement: None,
            lag_ok: 0,
            dead: 0,
            back: BackStage::Fencing,
            back_cuts: 0,
            refused: String::new(),
            hold: None,
            wish: None,
            touched: Touched::default(),
            ledger: Ledger::default(),
            evidence: Arc::default(),
            cause: String::new(),
            again: Again::No,
            admitted: false,
            switched: false,
            started: now,
            ended: None,
            journal: Head::default(),
        }
    }
}
