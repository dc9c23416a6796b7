//! What people ask for, and what came of it. Every act goes into the audit log, the refused ones
//! too. A read-only engine refuses everything that changes something, and could not do it if it
//! wanted: permits are minted from approvals alone, and none is ever made here then.

use super::book::Status;
use super::core::Core;
use super::failures::{Failure, Origin};
use super::picture;
use crate::fleet::{HostId, MigrationId, ProposalId, Timestamp};
use crate::migrate::OperatorCommand;
use crate::protocol::{Actor, Command, Mode, Refusal, Reply, Role, Severity};
use crate::state::StoreError;

impl Core {
    /// Does what was asked for, or refuses; writes it into the audit log where it would change
    /// something.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn command(
        &mut self,
        actor: &Actor,
        command: Command,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let act = words(&command);
        let mutating = command.is_mutating();
        let result = self.allowed(actor, &command);
        let result = match result {
            Ok(()) => self.perform(actor, command, now).await,
            Err(refusal) => Err(refusal),
        };
        if mutating {
            let outcome = match &result {
                Ok(Reply::Done { said }) => said.clone(),
                Ok(_) => "done".into(),
                Err(refusal) => refusal.to_string(),
            };
            tracing::info!(actor = actor.name, %act, %outcome, "asked");
            let store = self.store.clone();
            match self.audit.append(&*store, now, &actor.name, act, outcome).await {
                Ok(_) => self.alerts.clear(now, "engine", "audit"),
                Err(error) => {
                    tracing::error!(%error, "the audit log cannot be written");
                    self.alerts.raise(now, Severity::Critical, "engine", "audit", error.to_string());
                }
            }
            self.tick(now).await;
            self.see_migrations(now);
        }
        result
    }

    fn allowed(&self, actor: &Actor, command: &Command) -> Result<(), Refusal> {
        if self.options.mode == Mode::ReadOnly && command.is_mutating() {
            return Err(Refusal::ReadOnly);
        }
        let needed = command.least_role();
        if actor.role < needed { Err(Refusal::NotAllowed { needed }) } else { Ok(()) }
    }

    async fn perform(&mut self, actor: &Actor, command: Command, now: Timestamp) -> Result<Reply, Refusal> {
        match command {
            Command::Inspect { partition } => self
                .inspect(&partition, now)
                .map(|detail| Reply::Partition { detail: Box::new(detail) })
                .ok_or_else(|| Refusal::NotFound {
                    what: format!("partition {partition} in the last cycle"),
                }),
            Command::Why { subject } => Ok(Reply::Why { sentences: self.why(&subject, now)? }),
            Command::Approve { proposal, plan, .. } => self.approve(actor, proposal, &plan, now).await,
            Command::Reject { proposal, reason } => self.reject(actor, proposal, reason, now).await,
            Command::Evacuate { host } => self.evacuate(actor, &host, now).await,
            Command::TryEvacuate { host } => {
                let proposal = self.plan_evacuation(actor, &host, now)?;
                let entry = super::book::Entry { proposal, status: Status::Waiting, difference: Vec::new() };
                let view = Box::new(picture::proposal(&entry, &self.movers));
                Ok(Reply::Proposed { proposal: None, view })
            }
            Command::NextStep { migration } => self.ask_of(migration, OperatorCommand::NextStep, actor),
            Command::Promote { migration } => self.ask_of(migration, OperatorCommand::Promote, actor),
            Command::Pause { migration } => self.ask_of(migration, OperatorCommand::Pause, actor),
            Command::Resume { migration } => self.ask_of(migration, OperatorCommand::Resume, actor),
            Command::RollBack { migration } => self.ask_of(migration, OperatorCommand::RollBack, actor),
            Command::StopEverything => {
                self.halt(&actor.name, now).await?;
                self.alerts.raise(
                    now,
                    Severity::Critical,
                    "engine",
                    "stopped",
                    format!("{} stopped everything", actor.name),
                );
                done("everything is halted at its next safe point; `:release` lets it go on")
            }
            Command::ReleaseStop => {
                self.release().await?;
                self.alerts.clear(now, "engine", "stopped");
                done("released")
            }
            Command::Veto { subject, until } => done(self.veto(actor, subject, until, now).await?),
            Command::ReleaseVeto { subject } => done(self.release_veto(subject, now).await?),
            Command::Decommission { subject, reason } => {
                done(self.decommission(actor, subject, reason, now).await?)
            }
            Command::Recommission { subject } => done(self.recommission(subject, now).await?),
            Command::SetMode { mode: Mode::ReadOnly } => {
                Err(Refusal::NotNow { reason: "read-only is chosen at the start: --read-only".into() })
            }
            Command::SetMode { mode } => done(self.set_mode(actor, mode, now).await?),
            Command::RevertModels => self.revert_models(&actor.name, now).await,
            Command::RecordFailure { subject, at, cause, label, imported } => {
                let origin = if imported { Origin::Import } else { Origin::Operator };
                let failure = Failure { number: 0, at, subject, cause, label, origin };
                self.take_failure(failure, now).await
            }
            Command::CorrectFailure { number, label, cause } => {
                let store = self.store.clone();
                match self.failures.correct(&*store, number, label, cause).await.map_err(unwritten)? {
                    true => done(format!("record {number} corrected")),
                    false => Err(Refusal::NotFound { what: format!("record {number}") }),
                }
            }
            Command::ListFailures => Ok(Reply::Failures { records: self.failures.records().to_vec() }),
        }
    }

    /// Approves what waits, if it is what the person saw.
    async fn approve(
        &mut self,
        actor: &Actor,
        id: ProposalId,
        plan: &str,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let entry = self.book.get(id).ok_or_else(|| Refusal::NotFound { what: format!("proposal {id}") })?;
        if entry.status != Status::Waiting {
            return Err(Refusal::NotNow { reason: format!("{id} is {}", entry.status.words()) });
        }
        let proposal = entry.proposal.clone();
        if let Some((who, _)) = &self.stopped {
            return Err(Refusal::NotNow { reason: format!("{who} stopped everything; release it first") });
        }
        let moves = proposal.moves.len();
        let migrations = self.submit(actor, &proposal, plan, now).await?;
        let status = Status::Approved { by: actor.name.clone(), at: now, migrations: migrations.clone() };
        self.book.decide(id, status);
        self.store_proposal(id).await;
        let names: Vec<String> = migrations.iter().map(ToString::to_string).collect();
        done(format!("{id} approved: {moves} moves, {}", names.join(", ")))
    }

    async fn reject(
        &mut self,
        actor: &Actor,
        id: ProposalId,
        reason: String,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let entry = self.book.get(id).ok_or_else(|| Refusal::NotFound { what: format!("proposal {id}") })?;
        if entry.status != Status::Waiting {
            return Err(Refusal::NotNow { reason: format!("{id} is {}", entry.status.words()) });
        }
        // The planner would propose the same again in the next cycle: a person said no.
        if let crate::plan::Trigger::PredictiveFailure { partition, .. } = &entry.proposal.trigger {
            let until = now + self.options.rejected_for;
            self.denied.insert(partition.to_string(), (actor.name.clone(), until));
        }
        self.book.decide(id, Status::Denied { by: actor.name.clone(), reason: reason.clone(), at: now });
        self.store_proposal(id).await;
        done(format!("{id} rejected: {reason}"))
    }

    async fn take_failure(&mut self, failure: Failure, now: Timestamp) -> Result<Reply, Refusal> {
        failure.check(now).map_err(|reason| Refusal::Invalid { reason })?;
        if let Some(said) = failure.known_in(self.failures.records()) {
            return done(said);
        }
        if let Some(other) = failure.contradicted_in(self.failures.records()) {
            let reason = format!(
                "record {} says that it {} at that time: correct that one instead",
                other.number,
                other.label.word()
            );
            return Err(Refusal::Invalid { reason });
        }
        let subject = failure.subject.clone();
        let number = self.record(failure).await.map_err(unwritten)?;
        done(format!("failure {number} of {subject} recorded"))
    }

    fn ask_of(
        &mut self,
        migration: MigrationId,
        command: OperatorCommand,
        actor: &Actor,
    ) -> Result<Reply, Refusal> {
        self.operate(migration, command, actor)?;
        done(format!("{migration}: {}", command.word()))
    }

    async fn evacuate(&mut self, actor: &Actor, host: &HostId, now: Timestamp) -> Result<Reply, Refusal> {
        let mut proposal = self.plan_evacuation(actor, host, now)?;
        proposal.id = self.number_proposal();
        let id = proposal.id;
        self.book.add(proposal);
        self.store_proposal(id).await;
        let entry = self.book.get(id).ok_or_else(|| Refusal::NotFound { what: format!("proposal {id}") })?;
        let view = Box::new(picture::proposal(entry, &self.movers));
        Ok(Reply::Proposed { proposal: Some(id), view })
    }
}

fn done(said: impl Into<String>) -> Result<Reply, Refusal> {
    Ok(Reply::Done { said: said.into() })
}

pub(super) fn unwritten(error: StoreError) -> Refusal {
    Refusal::NotNow { reason: error.to_string() }
}

/// The act as the audit log writes it.
fn words(command: &Command) -> String {
    match command {
        Command::Inspect { partition } => format!("inspect {partition}"),
        Command::Why { subject } => format!("why {subject}"),
        Command::Approve { proposal, plan, reason } => {
            let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            format!("approve {proposal} plan {}{why}", plan.get(..8).unwrap_or(plan))
        }
        Command::Reject { proposal, reason } => format!("reject {proposal}: {reason}"),
        Command::Evacuate { host } => format!("evacuate {host}"),
        Command::TryEvacuate { host } => format!("try to evacuate {host}"),
        Command::NextStep { migration } => format!("next step of {migration}"),
        Command::Promote { migration } => format!("promote {migration}"),
        Command::Pause { migration } => format!("pause {migration}"),
        Command::Resume { migration } => format!("resume {migration}"),
        Command::RollBack { migration } => format!("roll back {migration}"),
        Command::StopEverything => "stop everything".into(),
        Command::ReleaseStop => "release the stop".into(),
        Command::Veto { subject, .. } => format!("veto {subject}"),
        Command::ReleaseVeto { subject } => format!("release the veto on {subject}"),
        Command::Decommission { subject, reason } if reason.is_empty() => format!("decommission {subject}"),
        Command::Decommission { subject, reason } => format!("decommission {subject}: {reason}"),
        Command::Recommission { subject } => format!("recommission {subject}"),
        Command::SetMode { mode } => format!("mode {}", mode.word()),
        Command::RevertModels => "go back to the models before".into(),
        Command::RecordFailure { subject, cause, .. } => format!("record failure of {subject}: {cause}"),
        Command::CorrectFailure { number, .. } => format!("correct failure {number}"),
        Command::ListFailures => "list failures".into(),
    }
}

/// Who acts in automatic mode.
pub fn automatic() -> Actor {
    Actor { name: "automatic mode".into(), role: Role::Operator }
}
