//! After a start or a change of leader: everything that has not ended is loaded from the store and
//! adopted by the new epoch; what was asked for and not answered is probed first.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::drive::apply;
use super::log::Log;
use super::machine::{Machine, ledger_key, plan_key, state_key};
use super::turns::ENDED;
use super::{Runner, STOPPED_KEY, Slot};
use crate::fleet::{MigrationId, Timestamp};
use crate::migrate::error::MigrateError;
use crate::migrate::event::EventKind;
use crate::migrate::journal;
use crate::migrate::limits::{RECENT_PREFIX, TOKEN_PREFIX, Token, Tokens};
use crate::migrate::owner::{Owner, owner_key};
use crate::migrate::plan::Plan;
use crate::migrate::state::{Progress, State};
use crate::state::{Entry, StoreError, read_stored};

/// Whether a journal is checked when it is read: one that something will be decided on is; one that
/// is only shown is not (`foreshift journal` checks it).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chain {
    Checked,
    AsItIs,
}

impl Runner {
    /// Loads everything that has not ended and takes it over for this epoch. Call it once before
    /// the first tick; after an error call it again.
    ///
    /// # Errors
    /// Where the store does not answer, holds something unreadable, or another engine leads.
    pub async fn recover(&mut self, now: Timestamp) -> Result<(), MigrateError> {
        self.context.begin_tick(now);
        let held = self.tokens(TOKEN_PREFIX).await?;
        let recent = self.tokens(RECENT_PREFIX).await?;
        *self.context.tokens.lock().await = Tokens { held, recent };
        if let Some(entry) = self.context.get(STOPPED_KEY).await? {
            self.stopped = read_stored(&entry.value).ok();
        }
        self.load(Some(now)).await?;
        for entry in last(self.context.list("/ended/").await?, ENDED / 4) {
            let Some(id) = entry.key.strip_prefix("/ended/").and_then(|n| n.parse().ok()) else { continue };
            if !self.slots.contains_key(&MigrationId(id)) {
                let (machine, log) = self.read(MigrationId(id), Chain::AsItIs).await?;
                self.slots.insert(MigrationId(id), Slot::new(machine, log));
                self.ended.push_back(MigrationId(id));
            }
        }
        Ok(())
    }

    /// Loads what is marked as running and not here yet; adopts it where `adopt` says so.
    pub(super) async fn load(&mut self, adopt: Option<Timestamp>) -> Result<(), MigrateError> {
        for entry in self.context.list("/running/").await? {
            let Some(id) = entry.key.strip_prefix("/running/").and_then(|n| n.parse().ok()) else { continue };
            if self.slots.contains_key(&id) {
                continue;
            }
            let (mut machine, log) = self.read(id, Chain::Checked).await?;
            if adopt.is_some() && machine.state.epoch != self.context.epoch {
                let owner = self.context.get(&owner_key(&machine.state.plan.workload)).await?;
                let owner = owner.and_then(|e| read_stored::<Owner>(&e.value).ok());
                let kind = EventKind::Recovered { epoch: self.context.epoch, owner };
                apply(&self.context, &mut machine, kind).await?;
                if self.context.is_deposed() {
                    return Err(self.deposed());
                }
            }
            self.alerts.extend(machine.alerts.drain(..).map(|alert| (id, alert)));
            self.slots.insert(id, Slot::new(machine, log));
        }
        Ok(())
    }

    /// One migration as the store has it.
    async fn read(&self, id: MigrationId, chain: Chain) -> Result<(Machine, Log), MigrateError> {
        let unreadable = |what, detail: String| MigrateError::Unreadable { migration: id, what, detail };
        let get = |what, entry| match entry {
            Some(entry) => Ok::<&Entry, _>(entry),
            None => Err(unreadable(what, "there is none".to_string())),
        };
        let prefix = journal::prefix(id);
        let mut records = self.context.list(&prefix).await?;
        // Records stand before everything else.
        let is_record = |e: &Entry| e.key[prefix.len()..].starts_with("journal/");
        let beside = records.split_off(records.partition_point(is_record));
        let of = |key: String| beside.iter().find(|e| e.key == key);
        let (plan, state) = (get("plan", of(plan_key(id)))?, get("state", of(state_key(id)))?);
        let ledger = of(ledger_key(id)).map(|e| e.value.as_slice());
        let plan = Plan::read(&plan.value).map_err(|e| unreadable("plan", e.to_string()))?;
        let mut progress: Progress =
            Progress::read(&state.value).map_err(|e| unreadable("state", e.to_string()))?;
        let apart = progress.ledger.take(ledger).map_err(|detail| unreadable("ledger", detail))?;
        if chain == Chain::Checked {
            journal::check(id, &records, Some(&progress.journal))?;
        }
        let mut machine = Machine::new(State { plan: Arc::new(plan), progress }, state.modified);
        if apart {
            machine.kept = machine.state.ledger.clone();
        }
        Ok((machine, Log::of_store(records)))
    }

    async fn tokens(&self, prefix: &str) -> Result<BTreeMap<MigrationId, Token>, StoreError> {
        let entries = self.context.list(prefix).await?;
        Ok(entries
            .iter()
            .filter_map(|entry| read_stored::<Token>(&entry.value).ok())
            .map(|token| (token.migration, token))
            .collect())
    }
}

fn last(mut entries: Vec<Entry>, n: usize) -> Vec<Entry> {
    let cut = entries.len().saturating_sub(n);
    entries.split_off(cut)
}
