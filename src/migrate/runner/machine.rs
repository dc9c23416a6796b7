//! One migration in the runner's hands: its state, what is not yet durable, and its log. Whoever
//! holds the machine drives it; between drives it lies with the runner.

use std::collections::VecDeque;
use std::sync::Arc;

use super::context::Context;
use super::drive::json;
use crate::drivers::JobStatus;
use crate::fleet::{MigrationId, Phase, Revision, Timestamp};
use crate::migrate::effect::Alert;
use crate::migrate::event::OperatorCommand;
use crate::migrate::journal::{self, Record, Stamp};
use crate::migrate::ledger::Ledger;
use crate::migrate::limits::Token;
use crate::migrate::owner::{Owner, OwnerMode, owner_key};
use crate::migrate::state::{State, Todo};
use crate::migrate::step::{Ask, Step};
use crate::state::{Compare, Op, StoreError, Txn, TxnOutcome, leadership, read_stored};

/// One migration in the runner's hands.
pub(super) struct Machine {
    pub(super) state: Arc<State>,
    /// The revision of its state in the store.
    pub(super) revision: Revision,
    /// The ledger as the store has it under its key.
    pub(super) kept: Ledger,
    /// What was decided and is not yet known to be durable.
    pub(super) unsaved: Option<Box<Unsaved>>,
    /// The store is not asked before then.
    pub(super) retry_at: Timestamp,
    /// Where the job is, as seen since it was last with the runner.
    pub(super) status: Option<JobStatus>,
    /// Records that became durable since it was last with the runner, for the log on a screen.
    pub(super) fresh: Vec<Record>,
    pub(super) commands: VecDeque<(OperatorCommand, String)>,
    pub(super) alerts: Vec<Alert>,
    pub(super) ask: Option<Ask>,
}

/// A decision on its way to the store.
pub(super) struct Unsaved {
    state: Box<State>,
    compares: Vec<Compare>,
    /// Everything that is put; empty once it was sent, and made again if it has to be sent again.
    ops: Vec<Op>,
    /// The ledger is put, too: it was changed.
    enters: bool,
    /// What is put beside state, ledger and records.
    beside: Vec<Op>,
    records: Vec<Record>,
    alerts: Vec<Alert>,
    ask: Option<Ask>,
    /// It rests on more than the state: after a conflict it is dropped and decided anew.
    conditional: bool,
    /// Tokens taken (`Some`) by it.
    takes: Option<Token>,
    /// Lock and tokens are given back by it.
    gives: bool,
}

/// What became of a write.
pub(super) enum Saved {
    /// It is durable.
    Yes,
    /// Not yet; it is tried again.
    Later,
    /// Its conditions no longer hold; it was dropped.
    Dropped,
}

fn key(before: &str, migration: MigrationId, after: &str) -> String {
    let mut key = String::with_capacity(40);
    key.push_str(before);
    migration.push_onto(&mut key);
    key.push_str(after);
    key
}

/// The key of a migration's state.
pub(super) fn state_key(migration: MigrationId) -> String {
    key("/migrations/", migration, "/state")
}

/// The key of a migration's ledger.
pub(super) fn ledger_key(migration: MigrationId) -> String {
    key("/migrations/", migration, "/ledger")
}

/// The key of a migration's plan.
pub(super) fn plan_key(migration: MigrationId) -> String {
    key("/migrations/", migration, "/plan")
}

/// The marker of a migration that has not ended.
pub(super) fn running_key(migration: MigrationId) -> String {
    key("/running/", migration, "")
}

/// The marker of one that has; numbers sort by time.
pub(super) fn ended_key(migration: MigrationId) -> String {
    format!("/ended/{:012}", migration.0)
}

impl Machine {
    pub(super) fn new(state: State, revision: Revision) -> Self {
        Self {
            state: Arc::new(state),
            revision,
            kept: Ledger::default(),
            unsaved: None,
            retry_at: Timestamp(i64::MIN),
            status: None,
            fresh: Vec::new(),
            commands: VecDeque::new(),
            alerts: Vec::new(),
            ask: None,
        }
    }

    /// When it wants to be driven; `None` = not by itself.
    pub(super) fn due(&self) -> Option<Timestamp> {
        if self.unsaved.is_some() {
            return Some(self.retry_at);
        }
        if !self.commands.is_empty() {
            return Some(Timestamp(i64::MIN));
        }
        if self.state.phase.is_end() {
            return None;
        }
        let own = (!matches!(self.state.todo, Todo::Person | Todo::Nothing)).then_some(self.state.due);
        let late = self.state.deadline.map(|d| Timestamp(d.0.saturating_add(1)));
        let due = match (own, late) {
            (Some(own), Some(late)) => Some(own.min(late)),
            (own, late) => own.or(late),
        };
        due.map(|due| due.max(self.retry_at))
    }

    /// Takes a decision in: what must survive becomes a write, what need not is in force at once.
    pub(super) fn decided(&mut self, context: &Context, step: Step, at: Timestamp, with: Conditions) {
        if step.notes.is_empty() && !with.conditional {
            self.state = Arc::from(step.state);
            self.alerts.extend(step.alerts);
            return;
        }
        self.unsaved = Some(Box::new(Unsaved::new(context, self, step, at, with)));
    }

    /// Makes what was decided durable, or finds out whether it is.
    pub(super) async fn save(&mut self, context: &Context) -> Result<Saved, StoreError> {
        let Some(unsaved) = &mut self.unsaved else { return Ok(Saved::Yes) };
        let id = self.state.plan.id;
        let mut ops = std::mem::take(&mut unsaved.ops);
        if self.retry_at.0 != i64::MIN {
            // It failed before: it may have been done all the same.
            let key = state_key(id);
            let found = match context.get(&key).await {
                Ok(found) => found,
                Err(error) => return self.later(context, error),
            };
            if ops.is_empty() {
                ops = unsaved.make_ops(id);
            }
            let wanted = ops.iter().find_map(|op| match op {
                Op::Put(k, value) if *k == key => Some(value),
                _ => None,
            });
            if let Some(entry) = found.filter(|e| Some(&e.value) == wanted) {
                return Ok(self.saved(context, entry.modified).await);
            }
            // An admission is sent again as it is, so that its tokens count all the while; but not where it may not
            // begin any more.
            let refused = || super::admit::blocked(context, &self.state.plan, context.now()).is_some();
            if unsaved.conditional && (unsaved.takes.is_none() || refused()) {
                // What it rests on may have changed since it was decided: decided anew. Should the
                // lost transaction arrive after all, the next one conflicts and this engine stops.
                self.retry_at = Timestamp(i64::MIN);
                self.drop_unsaved(context).await;
                return Ok(Saved::Dropped);
            }
        }
        let mut txn = Txn { compares: unsaved.compares.clone(), ops };
        let (gives, conditional) = (unsaved.gives, unsaved.conditional);
        if gives && let Err(error) = give_back(context, &self.state, &mut txn).await {
            return self.later(context, error);
        }
        let notes = unsaved.records.iter().map(|r| &r.note);
        match context.write(&self.state, notes, txn).await {
            Ok(TxnOutcome::Committed(revision)) => Ok(self.saved(context, revision).await),
            Ok(TxnOutcome::Conflict { compare, .. }) => {
                if gives && compare.key() == owner_key(&self.state.plan.workload) {
                    self.retry_at = context.now();
                    return Ok(Saved::Later);
                }
                let of_leader = compare.key() == leadership::LEADER_KEY;
                if of_leader || !conditional {
                    // Nobody but the leader writes a migration's state.
                    context.deposed.store(true, std::sync::atomic::Ordering::Release);
                    return Ok(Saved::Dropped);
                }
                self.retry_at = Timestamp(i64::MIN);
                self.drop_unsaved(context).await;
                Ok(Saved::Dropped)
            }
            Err(error) => self.later(context, error),
        }
    }

    async fn drop_unsaved(&mut self, context: &Context) {
        if let Some(dropped) = self.unsaved.take()
            && let Some(token) = dropped.takes
        {
            context.tokens.lock().await.held.remove(&token.migration);
        }
    }

    fn later(&mut self, context: &Context, error: StoreError) -> Result<Saved, StoreError> {
        if matches!(error, StoreError::Corrupt { .. }) {
            return Err(error);
        }
        tracing::warn!(migration = %self.state.plan.id, %error, "not yet durable; tries again");
        self.retry_at = context.now() + context.options.store_wait;
        Ok(Saved::Later)
    }

    async fn saved(&mut self, context: &Context, revision: Revision) -> Saved {
        self.retry_at = Timestamp(i64::MIN);
        let Some(unsaved) = self.unsaved.take() else { return Saved::Yes };
        let unsaved = *unsaved;
        if unsaved.takes.is_some() || unsaved.gives {
            let mut tokens = context.tokens.lock().await;
            if let Some(token) = unsaved.takes {
                tokens.held.insert(token.migration, token);
            }
            if unsaved.gives
                && let Some(token) = tokens.held.remove(&self.state.plan.id)
            {
                let token =
                    token.back(context.now(), unsaved.state.switched, unsaved.state.phase == Phase::Done);
                tokens.recent.insert(token.migration, token);
            }
        }
        self.fresh.extend(unsaved.records.into_iter().filter(Record::is_shown));
        self.revision = revision;
        self.kept = unsaved.state.ledger.clone();
        self.state = Arc::from(unsaved.state);
        self.alerts.extend(unsaved.alerts);
        if unsaved.ask.is_some() {
            self.ask = unsaved.ask;
        }
        Saved::Yes
    }
}

/// What a decision rests on beside the state, and what it changes beside it.
#[derive(Default)]
pub(super) struct Conditions {
    pub(super) compares: Vec<Compare>,
    pub(super) ops: Vec<Op>,
    pub(super) conditional: bool,
    pub(super) takes: Option<Token>,
}

/// Lock and tokens go back in the same transaction as the change of state.
async fn give_back(context: &Context, state: &State, txn: &mut Txn) -> Result<(), StoreError> {
    let plan = &state.plan;
    let key = owner_key(&plan.workload);
    if let Some(entry) = context.get(&key).await?
        && let Ok(owner) = read_stored::<Owner>(&entry.value)
        && owner.migration == Some(plan.id)
    {
        let free = Owner { mode: OwnerMode::Active, migration: None, ..owner };
        txn.compares.push(Compare::Modified(key.clone(), entry.modified));
        txn.ops.push(Op::Put(key, json(&free)));
    }
    let held = context.tokens.lock().await.held.get(&plan.id).cloned();
    if let Some(token) = held {
        let token = token.back(context.now(), state.switched, state.phase == Phase::Done);
        txn.ops.push(Op::Delete(Token::key(plan.id)));
        txn.ops.push(Op::Put(Token::recent_key(plan.id), json(&token)));
    }
    Ok(())
}

impl Unsaved {
    fn new(context: &Context, machine: &Machine, step: Step, at: Timestamp, with: Conditions) -> Self {
        let Step { mut state, mut notes, actor, alerts, ask, .. } = step;
        context.options.planted.forget(&mut notes);
        let id = state.plan.id;
        let gives = machine.state.admitted && !state.admitted;
        let stamp = Stamp { migration: id, at, epoch: context.epoch, actor: &actor, phase: state.phase };
        let mut head = state.progress.journal;
        let chained = journal::chain(&mut head, notes, &stamp);
        state.progress.journal = head;
        let mut ops = Vec::with_capacity(chained.len() + 4 + with.ops.len());
        let mut records = Vec::with_capacity(chained.len());
        for (op, record) in chained {
            ops.push(op);
            records.push(record);
        }
        let mut beside = Vec::with_capacity(with.ops.len() + 2);
        if state.phase.is_end() && machine.state.phase != state.phase {
            beside.push(Op::Delete(running_key(id)));
            beside.push(Op::Put(ended_key(id), Phase::word(state.phase).as_bytes().to_vec()));
        }
        beside.extend(with.ops);
        let enters = !state.ledger.is_still(&machine.kept);
        push_state(&mut ops, &state, enters);
        ops.extend(beside.iter().cloned());
        let mut compares = Vec::with_capacity(2 + with.compares.len());
        if context.options.planted != super::context::Planted::NoEpoch {
            compares.push(leadership::guard(context.epoch));
        }
        compares.extend(with.compares);
        compares.push(Compare::Modified(state_key(id), machine.revision));
        Self {
            state,
            compares,
            ops,
            enters,
            beside,
            records,
            alerts,
            ask,
            conditional: with.conditional,
            takes: with.takes,
            gives,
        }
    }

    /// The same puts again, byte for byte.
    fn make_ops(&self, id: MigrationId) -> Vec<Op> {
        let mut ops: Vec<Op> =
            self.records.iter().map(|r| Op::Put(journal::record_key(id, r.seq), r.bytes())).collect();
        push_state(&mut ops, &self.state, self.enters);
        ops.extend(self.beside.iter().cloned());
        ops
    }
}

/// The puts of a state, and of its ledger where that was changed.
fn push_state(ops: &mut Vec<Op>, state: &State, enters: bool) {
    let id = state.plan.id;
    ops.push(Op::Put(state_key(id), state.progress.bytes()));
    if enters {
        ops.push(Op::Put(ledger_key(id), state.ledger.bytes()));
    }
}
