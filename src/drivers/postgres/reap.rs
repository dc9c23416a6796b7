//! Taking away by name alone what no journal knows any more. What a subscription, slot, publication or
//! digest is follows from its name; a copy goes only where another cluster certainly owns the workload.

use super::scope::Scope;
use super::session::{Session, literal};
use super::stage::{Mark, refuse};
use super::sweep::{COPY, DIGEST, PAUSED, gone, no_such_kind, remove_of_stream};
use super::{PostgresMover, digest, done};
use crate::drivers::error::DriverError;
use crate::drivers::mover::{Answer, Artifact, Permit};
use crate::fleet::WorkloadId;

pub(super) const DOING: &str = "removing it by name alone";

impl PostgresMover {
    /// Takes one artifact away; where it is gone nothing is done.
    pub(super) async fn reap_one(&self, artifact: &Artifact, permit: &Permit) -> Result<Answer, DriverError> {
        if artifact.kind == PAUSED {
            return self.resumed(artifact, permit).await;
        }
        let address = self.address_of(&artifact.partition)?;
        let name = artifact.name.as_str();
        if !artifact.is_ours() {
            return refuse(&address, DOING, format!("{name} is no name that we give"));
        }
        let session = self.session(&address).await?;
        if let Some(answer) = remove_of_stream(&session, artifact).await? {
            return Ok(answer);
        }
        match artifact.kind.as_str() {
            DIGEST => self.reap_digest(&session, name).await?,
            COPY => self.reap_copy(&session, name).await?,
            Artifact::FENCE => {
                let Some(held) = held_by(&session, name).await? else { return Ok(gone(&session, artifact)) };
                let mut elsewhere = Vec::new();
                for address in self.options.clusters.iter().filter(|a| **a != session.address) {
                    let mark = self.mark(&self.session(address).await?, &held.workload).await?;
                    elsewhere.extend(mark.map(|mark| (address.clone(), mark)));
                }
                return held.end(&session, &elsewhere, permit).await;
            }
            kind => return no_such_kind(&address, DOING, kind),
        }
        Ok(gone(&session, artifact))
    }

    /// The digest, and the guard of the schema that it was for, where that is written to.
    async fn reap_digest(&self, session: &Session, name: &str) -> Result<(), DriverError> {
        let schemas = format!(
            "SELECT DISTINCT n.nspname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
               JOIN pg_namespace n ON n.oid = c.relnamespace WHERE starts_with(t.tgname, {})",
            literal(&format!("{name}_"))
        );
        let schemas = session.ask(DOING, &schemas).await?;
        let tenants = format!("SELECT workload FROM foreshift.tenant WHERE digest = {}", literal(name));
        let tenants = session.ask_if_there(DOING, &tenants).await?.unwrap_or_default();
        digest::remove(session, name, self.options.lock_timeout).await?;
        for tenant in &tenants {
            self.unguard_rows(session, &WorkloadId::from(tenant.text(0))).await?;
        }
        for schema in &schemas {
            let schema = schema.text(0);
            let writable = format!(
                "SELECT 1 FROM foreshift.owner WHERE schema_name IN ({}, '') AND mode <> 'writable'",
                literal(schema)
            );
            let held = session.ask_if_there(DOING, &writable).await?;
            if held.is_none_or(|lines| lines.is_empty()) {
                self.unguard(session, &Scope::Schema(schema.to_string())).await?;
            }
        }
        Ok(())
    }

    /// A copy, only where it is certain that another cluster owns the workload.
    async fn reap_copy(&self, session: &Session, name: &str) -> Result<(), DriverError> {
        let Some(copy) = copy_named(session, name).await? else { return Ok(()) };
        for address in self.options.clusters.iter().filter(|a| **a != session.address) {
            let other = self.session(address).await?;
            if copy.is_owned_by(self.mark(&other, &copy.workload).await?) {
                return self.drop_copy(session, &copy.workload, &copy.schema).await;
            }
        }
        copy.orphaned(&session.address)
    }
}

/// A workload that nobody may write to at an owner whose move no journal knows.
pub(super) struct Held {
    pub(super) workload: WorkloadId,
    generation: u64,
    fence: String,
}

/// What a fence of that name holds on a cluster; `None` where it holds nothing.
pub(super) async fn held_by(session: &Session, name: &str) -> Result<Option<Held>, DriverError> {
    let sql = format!(
        "SELECT o.workload, o.generation FROM foreshift.owner o JOIN foreshift.held h USING (workload) \
         WHERE o.mode = 'fenced' AND h.fence = {}",
        literal(name)
    );
    let lines = session.ask_if_there(DOING, &sql).await?.unwrap_or_default();
    Ok(lines.first().map(|line| Held {
        workload: WorkloadId::from(line.text(0)),
        generation: line.text(1).parse().unwrap_or(u64::MAX),
        fence: name.to_string(),
    }))
}

impl Held {
    /// Ends the hold: where another cluster was opened, what is here is a copy from now on; otherwise the last that
    /// was written to is this one, and writes go on here. `elsewhere` is what every other cluster says of the
    /// workload.
    pub(super) async fn end(
        &self,
        session: &Session,
        elsewhere: &[(String, Mark)],
        permit: &Permit,
    ) -> Result<Answer, DriverError> {
        let owners = elsewhere.iter().filter(|(_, mark)| mark.mode != "standby");
        let workload = &self.workload;
        match owners.max_by_key(|(_, mark)| mark.generation).filter(|(_, m)| m.generation >= self.generation)
        {
            Some((other, mark)) if mark.generation == self.generation => {
                let why = format!(
                    "{other} says that it owns {workload}, too, at g{}: compare what was written to both, then set \
                     the mode of one of them to standby in foreshift.owner; nothing was changed",
                    mark.generation
                );
                refuse(&session.address, DOING, why)
            }
            Some((other, _)) => {
                let sql = format!(
                    "UPDATE foreshift.owner SET mode = 'standby', until = NULL, owner_is = {} \
                     WHERE workload = {} AND mode = 'fenced' AND generation = {}",
                    literal(other),
                    literal(workload.as_str()),
                    self.generation
                );
                session.ask(DOING, &sql).await?;
                Ok(done(format!("{other} owns {workload}; what {} has is a copy now", session.address)))
            }
            None => {
                let sql = format!(
                    "SELECT foreshift.let_go({}, {}, {})",
                    literal(workload.as_str()),
                    permit.epoch().0,
                    literal(&self.fence)
                );
                session.ask(DOING, &sql).await?;
                Ok(done(format!("writes to {workload} go on at {}", session.address)))
            }
        }
    }
}

/// A copy that no journal knows.
pub(super) struct FoundCopy {
    pub(super) workload: WorkloadId,
    /// As its mark names it; empty = all of the database.
    schema: String,
    generation: u64,
}

/// The copy whose mark bears a name of ours; `None` where there is none, and refused where it is no mere copy.
pub(super) async fn copy_named(session: &Session, name: &str) -> Result<Option<FoundCopy>, DriverError> {
    let sql = format!(
        "SELECT workload, schema_name, mode, generation FROM foreshift.owner WHERE made_by = {}",
        literal(name)
    );
    let lines = session.ask_if_there(DOING, &sql).await?.unwrap_or_default();
    let Some(line) = lines.first() else { return Ok(None) };
    let (workload, mode) = (WorkloadId::from(line.text(0)), line.text(2));
    if mode != "standby" {
        let why = format!("{workload} is {mode} here: it may be its only place; nothing was removed");
        return refuse(&session.address, DOING, why);
    }
    let generation = line.text(3).parse().unwrap_or(u64::MAX);
    Ok(Some(FoundCopy { workload, schema: line.text(1).to_string(), generation }))
}

impl FoundCopy {
    /// Whether another cluster's mark says that the workload is there now.
    pub(super) fn is_owned_by(&self, mark: Option<Mark>) -> bool {
        mark.is_some_and(|mark| mark.mode == "writable" && mark.generation >= self.generation)
    }

    /// Refuses, where no other cluster owns the workload.
    pub(super) fn orphaned(&self, address: &str) -> Result<(), DriverError> {
        let why = format!("no other cluster says that it owns {} now; nothing was removed", self.workload);
        refuse(address, DOING, why)
    }
}
