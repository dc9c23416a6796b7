//! Whole databases: each is a workload of its own, with all of its schemas. Inside one database everything is as
//! for a schema; what is here is the database itself: it is made under a name of ours, gets the name by which
//! clients know it once its structure and its mark stand, and loses that name again only where it says itself that
//! it is a copy.

mod checks;
mod found;
mod made;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::options::{AfterMove, PostgresOptions};
use super::prepare::{check_cluster, check_tables, refuse_claimed};
use super::probe::{applied, unseen};
use super::session::literal;
use super::stage::{Mark, refuse, tables};
use super::sweep::{COPY, PAUSED};
use super::{PostgresMover, done, stream, sweep};
use crate::drivers::error::DriverError;
use crate::drivers::mover::{
    Action, Answer, Artifact, CanarySample, Capabilities, CleanupPolicy, Job, JobStatus, Mover, Permit, Probe,
};
use crate::fleet::{Timestamp, Topology, WorkloadId};

/// The driver of the whole databases of one set of clusters.
#[derive(Clone)]
pub struct DatabasesMover {
    /// In the database that one logs in to first: what is asked of the clusters themselves.
    home: PostgresMover,
    /// In each database that was asked for so far.
    each: Arc<Mutex<BTreeMap<String, PostgresMover>>>,
}

impl DatabasesMover {
    /// A driver for these clusters; connects when it is first asked something. `options.databases` names the
    /// workloads (`*` = every one), `options.database` the one that is logged in to first.
    pub fn new(options: PostgresOptions) -> Self {
        Self { home: PostgresMover::new(options), each: Arc::default() }
    }

    fn options(&self) -> &PostgresOptions {
        &self.home.options
    }

    /// The driver inside one database.
    fn inside(&self, database: &str) -> PostgresMover {
        let make = || {
            let mut options = self.options().clone();
            options.bouncers.retain(|b| b.schema == database);
            options.database = database.to_string();
            PostgresMover::new(options)
        };
        match self.each.lock() {
            Ok(mut each) => each.entry(database.to_string()).or_insert_with(make).clone(),
            Err(_) => make(),
        }
    }

    /// The database of a job, and the driver inside it.
    fn of(&self, job: &Job) -> Result<(String, PostgresMover), DriverError> {
        match self.home.label_of(&job.workload).filter(|label| self.options().moves_database(label)) {
            Some(label) => Ok((label.to_string(), self.inside(label))),
            None => self.home.no_workload("DATABASE, of one that the configuration names", &job.workload),
        }
    }

    /// A workload's mark in its database at a cluster; no connection stays there, for it keeps a database from being
    /// renamed or dropped.
    async fn mark(
        &self,
        inside: &PostgresMover,
        address: &str,
        workload: &WorkloadId,
    ) -> Result<Option<Mark>, DriverError> {
        let session = inside.session(address).await?;
        session.throw_away();
        inside.mark(&session, workload).await
    }

    /// Makes the copy's database where it is not there yet, then what every copy needs.
    async fn prepare(&self, job: &Job, permit: &Permit) -> Result<Answer, DriverError> {
        let (database, inside) = self.of(job)?;
        let stage = inside.stage(job)?;
        if self.is_there(&stage.destination, &database).await? {
            let doing = "making the database";
            match self.mark(&inside, &stage.destination, &job.workload).await? {
                Some(mark) if mark.made_by == stage.names.copy || mark.open_at(job.generation) => {
                    return inside.prepare(job, permit).await;
                }
                None => {
                    let why = format!(
                        "a database {database} is there already and is no copy of ours; drop or rename it there"
                    );
                    return refuse(&stage.destination, doing, why);
                }
                mark => {
                    refuse_claimed(mark.as_ref(), (&stage.destination, doing), job, permit)?;
                }
            }
            inside.clusters.leave();
            // An older copy, of which nothing is of use.
            self.give_up(&stage.destination, &database, &job.workload, &stage.names.copy).await?;
        }
        checks::refuse_what_stays_behind(&inside, &stage).await?;
        let source = inside.session(&stage.source).await?;
        for session in [&source, &self.home.session(&stage.destination).await?] {
            check_cluster(session).await?;
        }
        check_tables(&source, &stage.scope, &tables(&source, &stage.scope).await?).await?;
        self.make(job, &inside, &stage, permit).await?;
        inside.prepare(job, permit).await
    }

    /// Leaves the source as policy says; a copy that is not to stay goes with its database.
    async fn retire(&self, job: &Job, permit: &Permit) -> Result<Answer, DriverError> {
        let (database, inside) = self.of(job)?;
        let stage = inside.stage(job)?;
        let gone = || done(format!("the database {database} was dropped from {}", stage.source));
        let drop_it = self.options().after_move == AfterMove::DropCopy;
        let (doing, source) = ("retiring the source", stage.source.as_str());
        if drop_it && !self.is_there(source, &database).await? {
            if !inside.opened(job, &stage).await? {
                return refuse(&stage.destination, doing, "it does not own the workload; nothing was done");
            }
            self.drop_ours(source, &stage.names.copy).await?;
            return Ok(gone());
        }
        let answer = inside.retire(job, permit).await?;
        if !drop_it {
            // A database in which somebody is cannot be dropped by hand.
            inside.clusters.leave();
            return Ok(answer);
        }
        // Who reads from its slots, and who applies to its tables, has to end first.
        inside.stop_replication(job).await?;
        let mark = self.mark(&inside, source, &job.workload).await?;
        refuse_claimed(mark.as_ref(), (source, doing), job, permit)?;
        let session = inside.session(source).await?;
        stream::unsubscribe(&session, &stage.names.back, sweep::UNSUBSCRIBE).await?;
        drop(session);
        inside.clusters.leave();
        self.give_up(source, &database, &job.workload, &stage.names.copy).await?;
        Ok(gone())
    }

    /// Takes one artifact away; where it is gone nothing is done.
    async fn cleanup(&self, job: &Job, artifact: &Artifact, permit: &Permit) -> Result<Answer, DriverError> {
        let (database, inside) = self.of(job)?;
        if artifact.kind == PAUSED {
            return inside.cleanup(job, artifact, permit).await;
        }
        let address = self.home.address_of(&artifact.partition)?;
        let name = artifact.name.as_str();
        let gone = || done(format!("{} {name} is gone from {address}", artifact.kind));
        if !artifact.is_ours() {
            return refuse(&address, &format!("removing {name}"), "it is none of ours");
        }
        if artifact.kind == COPY {
            self.drop_ours(&address, name).await?;
        }
        if !self.is_there(&address, &database).await? {
            return Ok(gone());
        }
        if artifact.kind != COPY {
            let answer = inside.cleanup(job, artifact, permit).await;
            inside.clusters.leave();
            return answer;
        }
        let mark = self.mark(&inside, &address, &job.workload).await?;
        let Some(mark) = mark.filter(|mark| mark.made_by == name) else { return Ok(gone()) };
        let stage = inside.stage(job)?;
        if mark.mode != "standby" {
            let session = inside.session(&address).await?;
            inside.other_owns(&session, job, &stage, mark.generation).await?;
            let copy = format!(
                "UPDATE foreshift.owner SET mode = 'standby', until = NULL WHERE workload = {} AND generation = {}",
                literal(job.workload.as_str()),
                mark.generation
            );
            session.ask("removing the copy", &copy).await?;
        }
        inside.clusters.leave();
        self.give_up(&address, &database, &job.workload, name).await?;
        Ok(gone())
    }

    /// Whether an artifact is gone.
    async fn look_cleanup(&self, job: &Job, artifact: &Artifact) -> Result<Probe, DriverError> {
        let (database, inside) = self.of(job)?;
        if artifact.kind != PAUSED {
            let address = self.home.address_of(&artifact.partition)?;
            if artifact.kind == COPY && self.is_there(&address, &artifact.name).await? {
                return Ok(Probe::NotStarted);
            }
            if !self.is_there(&address, &database).await? {
                return Ok(applied("its database is not there"));
            }
        }
        inside.look_cleanup(artifact).await
    }

    /// What an action finds where its database is not there; `None` = it is to be looked for inside.
    async fn look_without(&self, job: &Job, action: &Action) -> Result<Option<Probe>, DriverError> {
        let (database, inside) = self.of(job)?;
        let stage = inside.stage(job)?;
        Ok(match action {
            Action::Prepare | Action::StopReplication => {
                match (self.is_there(&stage.destination, &database).await?, action) {
                    (true, _) => None,
                    (false, Action::Prepare) => Some(Probe::NotStarted),
                    (false, _) => Some(applied("nothing is being copied")),
                }
            }
            Action::Retire if self.options().after_move == AfterMove::DropCopy => {
                let left = self.is_there(&stage.source, &database).await?
                    || self.is_there(&stage.source, &stage.names.copy).await?;
                Some(match !left && inside.opened(job, &stage).await? {
                    true => applied("the source is left as it is to be"),
                    false => Probe::NotStarted,
                })
            }
            Action::Cleanup { artifact } => Some(self.look_cleanup(job, artifact).await?),
            _ => None,
        })
    }
}

#[async_trait]
impl Mover for DatabasesMover {
    fn class(&self) -> &str {
        self.home.class()
    }

    fn capabilities(&self) -> Capabilities {
        self.home.capabilities()
    }

    async fn discover(&self) -> Result<Topology, DriverError> {
        self.topology().await
    }

    fn describe(&self, job: &Job) -> Vec<String> {
        self.of(job).map(|(_, inside)| inside.describe(job)).unwrap_or_default()
    }

    fn artifacts(&self, job: &Job, action: &Action) -> Vec<Artifact> {
        self.of(job).map(|(_, inside)| inside.artifacts(job, action)).unwrap_or_default()
    }

    fn cleanup_policy(&self, artifact: &Artifact) -> CleanupPolicy {
        self.home.cleanup_policy(artifact)
    }

    async fn perform(&self, job: &Job, action: &Action, permit: &Permit) -> Result<Answer, DriverError> {
        let (database, inside) = self.of(job)?;
        match action {
            Action::Prepare => self.prepare(job, permit).await,
            Action::Retire => self.retire(job, permit).await,
            Action::Cleanup { artifact } => self.cleanup(job, artifact, permit).await,
            Action::StopReplication if !self.is_there(&inside.stage(job)?.destination, &database).await? => {
                Ok(done("nothing is being copied"))
            }
            action => inside.perform(job, action, permit).await,
        }
    }

    async fn probe(&self, job: &Job, action: &Action) -> Probe {
        match (self.look_without(job, action).await, self.of(job)) {
            (Ok(Some(probe)), _) => probe,
            (Ok(None), Ok((_, inside))) => inside.probe(job, action).await,
            (Err(error), _) | (_, Err(error)) => unseen(error),
        }
    }

    async fn cut_waits_for(&self, job: &Job) -> Result<Option<String>, DriverError> {
        self.of(job)?.1.cut_waits_for(job).await
    }

    async fn status(&self, job: &Job) -> Result<JobStatus, DriverError> {
        let (database, inside) = self.of(job)?;
        let stage = inside.stage(job)?;
        let mut status = inside.status(job).await?;
        // A cluster without the database is alive.
        for (address, alive) in
            [(&stage.source, &mut status.source_alive), (&stage.destination, &mut status.destination_alive)]
        {
            if !*alive && self.is_there(address, &database).await.is_ok_and(|there| !there) {
                *alive = true;
            }
        }
        Ok(status)
    }

    async fn samples(
        &self,
        job: &Job,
        since: Timestamp,
    ) -> Result<(CanarySample, CanarySample), DriverError> {
        self.of(job)?.1.samples(job, since).await
    }

    async fn leaks(&self) -> Result<Vec<Artifact>, DriverError> {
        self.scan().await
    }

    async fn reap(&self, artifact: &Artifact, permit: &Permit) -> Result<Answer, DriverError> {
        self.reap_one(artifact, permit).await
    }
}
