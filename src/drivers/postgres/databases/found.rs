//! The databases of all clusters as the rest of the house sees them, and what of ours is found in them by name
//! alone.

use std::collections::BTreeSet;

use futures::future::join_all;

use super::super::PostgresMover;
use super::super::discover::Seen;
use super::super::reap::{DOING, copy_named, held_by};
use super::super::session::literal;
use super::super::stage::refuse;
use super::super::sweep::{COPY, OURS, PAUSED, all_found, at, gone};
use super::{DatabasesMover, done};
use crate::drivers::error::DriverError;
use crate::drivers::mover::{Answer, Artifact, Permit};
use crate::fleet::{PartitionId, Topology};

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
        let sql = format!(
            "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate AND datname !~ {} ORDER BY 1",
            literal(OURS)
        );
        let lines = self.home.session(address).await?.ask("looking at the databases", &sql).await?;
        let names = lines.iter().map(|line| line.text(0).to_string());
        Ok(names.filter(|name| self.options().moves_database(name)).collect())
    }

    /// Every artifact of ours on every cluster that answers.
    pub(super) async fn scan(&self) -> Result<Vec<Artifact>, DriverError> {
        let (mut found, mut failed) = (Vec::new(), None);
        for address in &self.options().clusters {
            match self.found_at(address).await {
                Ok(some) => found.extend(some),
                Err(error) => failed = Some(error),
            }
        }
        let led: BTreeSet<&str> = self.options().bouncers.iter().map(|b| b.schema.as_str()).collect();
        for database in led {
            let (paused, error) = self.inside(database).paused_pools().await;
            found.extend(paused);
            failed = failed.or(error);
        }
        all_found(found, failed)
    }

    async fn found_at(&self, address: &str) -> Result<Vec<Artifact>, DriverError> {
        let partition = self.home.partition_of(address);
        let sql = format!("SELECT datname FROM pg_database WHERE datname ~ {} ORDER BY 1", literal(OURS));
        let lines = self.home.session(address).await?.ask("looking for databases of ours", &sql).await?;
        let whole = lines.iter().map(|line| at(COPY, line.text(0), &partition));
        let mut found: Vec<Artifact> = whole.filter(Artifact::is_ours).collect();
        for database in self.databases_at(address).await? {
            found.extend(self.found_inside(&self.inside(&database), address, &partition).await?);
        }
        Ok(found)
    }

    /// What is found inside one database; no connection stays there.
    async fn found_inside(
        &self,
        inside: &PostgresMover,
        address: &str,
        partition: &PartitionId,
    ) -> Result<Vec<Artifact>, DriverError> {
        let session = inside.session(address).await?;
        session.throw_away();
        inside.found_at(&session, partition).await
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
            if !self.found_inside(&inside, &address, &artifact.partition).await?.contains(artifact) {
                continue;
            }
            if artifact.kind == Artifact::FENCE {
                return self.reap_fence(&address, &database, &inside, artifact, permit).await;
            }
            if artifact.kind != COPY {
                return inside.reap_one(artifact, permit).await;
            }
            self.reap_copy(&address, &database, &inside, &artifact.name).await?;
        }
        Ok(done(format!("{} {} is gone from {address}", artifact.kind, artifact.name)))
    }

    /// A hold on a database whose move no journal knows.
    async fn reap_fence(
        &self,
        address: &str,
        database: &str,
        inside: &PostgresMover,
        artifact: &Artifact,
        permit: &Permit,
    ) -> Result<Answer, DriverError> {
        let session = inside.session(address).await?;
        session.throw_away();
        let Some(held) = held_by(&session, &artifact.name).await? else {
            return Ok(gone(&session, artifact));
        };
        let mut elsewhere = Vec::new();
        for other in self.options().clusters.iter().filter(|other| *other != address) {
            if self.is_there(other, database).await? {
                let mark = self.mark(inside, other, &held.workload).await?;
                elsewhere.extend(mark.map(|mark| (other.clone(), mark)));
            }
        }
        held.end(&session, &elsewhere, permit).await
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
        session.throw_away();
        let Some(copy) = copy_named(&session, name).await? else { return Ok(()) };
        drop(session);
        for other in self.options().clusters.iter().filter(|other| *other != address) {
            if self.is_there(other, database).await?
                && copy.is_owned_by(self.mark(inside, other, &copy.workload).await?)
            {
                return self.give_up(address, database, &copy.workload, name).await;
            }
        }
        copy.orphaned(address)
    }
}
