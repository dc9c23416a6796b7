//! The databases of all clusters as the rest of the house sees them, and what of ours is found in them by name
//! alone.

use std::collections::BTreeSet;

use futures::future::join_all;

use super::super::PostgresMover;
use super::super::discover::Seen;
use super::super::session::literal;
use super::super::stage::refuse;
use super::super::sweep::{COPY, PAUSED};
use super::{DatabasesMover, copy_at, done};
use crate::drivers::error::DriverError;
use crate::drivers::mover::{Answer, Artifact, Permit};
use crate::fleet::{Topology, WorkloadId};

const DOING: &str = "removing it by name alone";

impl DatabasesMover {
    /// What stands where now: a cluster is a partition, a database a workload.
    pub(super) async fn topology(&self) -> Result<Topology, DriverError> {
        let clusters = &self.options().clusters;
        let asked =
            clusters.iter().map(|address| async move { (address.clone(), self.seen_at(address).await) });
        self.home.assemble(join_all(asked).await)
    }

    async fn seen_at(&self, address: &str) -> Result<Vec<Seen>, DriverError> {
        let mut seen = Vec::new();
        for database in self.databases_at(address).await? {
            seen.extend(self.inside(&database).database_at(address).await?);
        }
        Ok(seen)
    }

    /// The workloads' databases at a cluster, by name.
    async fn databases_at(&self, address: &str) -> Result<Vec<String>, DriverError> {
        let sql = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate \
            AND datname !~ '^fs_[0-9a-f]{16}' ORDER BY 1";
        let lines = self.home.session(address).await?.ask("looking at the databases", sql).await?;
        let names = lines.iter().map(|line| line.text(0).to_string());
        Ok(names.filter(|name| self.is_wanted(name)).collect())
    }

    /// Every artifact of ours on every cluster that answers.
    pub(super) async fn scan(&self) -> Result<Vec<Artifact>, DriverError> {
        let (mut found, mut failed) = (Vec::new(), None);
        let mut led: BTreeSet<String> =
            self.options().bouncers.iter().map(|bouncer| bouncer.schema.clone()).collect();
        for address in &self.options().clusters {
            match self.found_at(address).await {
                Ok(some) => found.extend(some),
                Err(error) => failed = Some(error),
            }
        }
        while let Some(database) = led.pop_first() {
            let (paused, error) = self.inside(&database).paused_pools().await;
            found.extend(paused);
            failed = failed.or(error);
        }
        match failed {
            Some(error) if found.is_empty() => Err(error),
            _ => {
                found.sort();
                found.dedup();
                Ok(found)
            }
        }
    }

    async fn found_at(&self, address: &str) -> Result<Vec<Artifact>, DriverError> {
        let partition = self.home.partition_of(address);
        let sql = "SELECT datname FROM pg_database WHERE datname ~ '^fs_[0-9a-f]{16}$' ORDER BY 1";
        let lines = self.home.session(address).await?.ask("looking for databases of ours", sql).await?;
        let mut found: Vec<Artifact> = lines.iter().map(|line| copy_at(line.text(0), &partition)).collect();
        for database in self.databases_at(address).await? {
            let session = self.inside(&database).session(address).await?;
            found.extend(self.inside(&database).found_at(&session, &partition).await?);
            session.throw_away();
        }
        Ok(found)
    }

    /// Takes one artifact away that no journal knows; where it is gone nothing is done.
    pub(super) async fn reap_one(&self, artifact: &Artifact, permit: &Permit) -> Result<Answer, DriverError> {
        if artifact.kind == PAUSED {
            let led = self.options().bouncers.iter().map(|bouncer| self.inside(&bouncer.schema));
            return match led.into_iter().find(|inside| inside.leads(artifact)) {
                Some(inside) => inside.reap_one(artifact, permit).await,
                None => Ok(done("no PgBouncer of ours is paused so")),
            };
        }
        let address = self.home.address_of(&artifact.partition)?;
        if !artifact.is_ours() {
            return refuse(&address, DOING, format!("{} is no name that we give", artifact.name));
        }
        if artifact.kind == COPY {
            self.drop_ours(&address, &artifact.name).await?;
        }
        for database in self.databases_at(&address).await? {
            let inside = self.inside(&database);
            let session = inside.session(&address).await?;
            let found = inside.found_at(&session, &artifact.partition).await?;
            session.throw_away();
            drop(session);
            if !found.contains(artifact) {
                continue;
            }
            if artifact.kind != COPY {
                return inside.reap_one(artifact, permit).await;
            }
            self.reap_copy(&address, &database, &inside, &artifact.name).await?;
        }
        Ok(done(format!("{} {} is gone from {address}", artifact.kind, artifact.name)))
    }

    /// A copy, only where it is certain that another cluster owns the workload.
    async fn reap_copy(
        &self,
        address: &str,
        database: &str,
        inside: &PostgresMover,
        name: &str,
    ) -> Result<(), DriverError> {
        let session = inside.session(address).await?;
        let sql = format!("SELECT workload FROM foreshift.owner WHERE made_by = {}", literal(name));
        let lines = session.ask_if_there(DOING, &sql).await?.unwrap_or_default();
        let Some(line) = lines.first() else { return Ok(()) };
        let workload = WorkloadId::from(line.text(0));
        let Some(mark) = inside.mark(&session, &workload).await? else { return Ok(()) };
        session.throw_away();
        drop(session);
        if mark.mode != "standby" {
            let why =
                format!("{workload} is {} here: it may be its only place; nothing was removed", mark.mode);
            return refuse(address, DOING, why);
        }
        for other in self.options().clusters.iter().filter(|other| *other != address) {
            if !self.is_there(other, database).await? {
                continue;
            }
            let session = inside.session(other).await?;
            let owner = inside.mark(&session, &workload).await?;
            if owner.is_some_and(|m| m.mode == "writable" && m.generation >= mark.generation) {
                return self.give_up(address, database, &workload, name).await;
            }
        }
        let why = format!("no other cluster says that it owns {workload} now; nothing was removed");
        refuse(address, DOING, why)
    }
}
