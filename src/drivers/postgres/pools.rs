//! The PgBouncers of one schema, all together: pause them before the hold, let them go on at the owner after
//! it, and find the ones that somebody left paused. What one of them has to do none waits for.

use std::time::Duration;

use futures::future::join_all;

use super::PostgresMover;
use super::bouncer::Bouncer;
use super::session::system;
use super::stage::Stage;
use super::sweep::PAUSED;
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::{Artifact, Job};
use crate::fleet::{WorkloadId, digits};

/// The least that a pause may take.
const LEAST: Duration = Duration::from_millis(20);

impl Bouncer {
    /// What a pause is in the ledger: it has no name of its own, so whose it is follows from where it is.
    fn artifact(&self) -> Artifact {
        let named = format!("pgbouncer\0{}\0{}", self.options.admin, self.options.database);
        let hash = blake3::hash(named.as_bytes());
        let name = format!("fs_{}", digits::hex(&hash.as_bytes()[..8]));
        Artifact { kind: PAUSED.into(), name, partition: self.partition() }
    }
}

impl PostgresMover {
    fn pools(&self, label: &str) -> impl Iterator<Item = &Bouncer> {
        self.bouncers.iter().filter(move |b| b.options.schema == label)
    }

    /// The pauses that a hold makes.
    pub(super) fn pauses(&self, job: &Job) -> Vec<Artifact> {
        let Ok(stage) = self.stage(job) else { return Vec::new() };
        self.pools(&stage.scope.label()).map(Bouncer::artifact).collect()
    }

    /// Why the pools are not ready for a cut from `source`.
    pub(super) async fn pools_wait_for(&self, stage: &Stage) -> Option<String> {
        join_all(self.pools(&stage.scope.label()).map(|b| b.waits_for(&stage.source)))
            .await
            .into_iter()
            .flatten()
            .next()
    }

    /// Pauses all, or none: where one is not at rest in time all go on.
    pub(super) async fn pause(&self, stage: &Stage, limit: Duration) -> Result<usize, DriverError> {
        let limit = limit.max(LEAST);
        let asked = join_all(self.pools(&stage.scope.label()).map(|b| b.is_not_ready(&stage.source))).await;
        if let Some(why) = asked.into_iter().flatten().next() {
            let why = format!("the cut is not begun, it waits for {why}");
            return Err(DriverError::new(Retry::Retryable, system(&stage.source), "holding writes", why));
        }
        let asked = join_all(self.pools(&stage.scope.label()).map(|b| b.pause(limit))).await;
        let paused = asked.len();
        if let Some(error) = asked.into_iter().find_map(Result::err) {
            // Nothing is held yet.
            return Err(self.resume_after(stage, DriverError { retry: Retry::Retryable, ..error }).await);
        }
        Ok(paused)
    }

    /// Lets all go on after a failure, and says where that failed, too.
    pub(super) async fn resume_after(&self, stage: &Stage, mut error: DriverError) -> DriverError {
        for failed in join_all(self.pools(&stage.scope.label()).map(Bouncer::resume)).await {
            if let Err(more) = failed {
                error.detail.push_str(&format!("; not resumed yet: {more}"));
            }
        }
        error
    }

    /// Lets all go on at the owner. Each does, whatever the others say; what failed is asked for again.
    pub(super) async fn lead_to(&self, stage: &Stage, owner: &str, epoch: u64) -> Result<usize, DriverError> {
        let led = join_all(self.pools(&stage.scope.label()).map(|b| b.lead_to(owner, epoch))).await;
        let count = led.len();
        match led.into_iter().find_map(Result::err) {
            Some(error) => Err(error),
            None => Ok(count),
        }
    }

    /// Whether the clients of all wait.
    pub(super) async fn all_paused(&self, stage: &Stage) -> bool {
        join_all(self.pools(&stage.scope.label()).map(Bouncer::is_paused))
            .await
            .into_iter()
            .all(|p| p == Ok(true))
    }

    /// Whether the clients of all go on at `owner`.
    pub(super) async fn all_serve(&self, stage: &Stage, owner: &str) -> bool {
        join_all(self.pools(&stage.scope.label()).map(|b| b.serves(owner)))
            .await
            .into_iter()
            .all(|s| s == Ok(true))
    }

    /// Every pool that is paused now; and why some cannot be asked.
    pub(super) async fn paused_pools(&self) -> (Vec<Artifact>, Option<DriverError>) {
        let asked = join_all(self.bouncers.iter().map(async |b| (b.artifact(), b.is_paused().await))).await;
        let (mut found, mut failed) = (Vec::new(), None);
        for (artifact, paused) in asked {
            match paused {
                Ok(true) => found.push(artifact),
                Ok(false) => {}
                Err(error) => failed = Some(error),
            }
        }
        (found, failed)
    }

    /// Whether it is one of its PgBouncers whose pause an artifact is.
    pub(super) fn leads(&self, artifact: &Artifact) -> bool {
        self.paused_at(artifact).is_some()
    }

    /// The PgBouncer whose pause an artifact is.
    fn paused_at(&self, artifact: &Artifact) -> Option<&Bouncer> {
        self.bouncers.iter().find(|b| b.artifact() == *artifact)
    }

    /// Whether a pause is over; `None` where the PgBouncer is not ours any more.
    pub(super) async fn is_resumed(&self, artifact: &Artifact) -> Result<bool, DriverError> {
        match self.paused_at(artifact) {
            Some(bouncer) => bouncer.is_paused().await.map(|paused| !paused),
            None => Ok(true),
        }
    }

    /// Ends a pause that is left: the clients go on at the owner, as the marks say who that is.
    pub(super) async fn end_pause(&self, artifact: &Artifact, epoch: u64) -> Result<(), DriverError> {
        let Some(bouncer) = self.paused_at(artifact) else { return Ok(()) };
        bouncer.tidy();
        if !bouncer.is_paused().await? {
            return Ok(());
        }
        match self.owner_of(&self.workload_of(&bouncer.options.schema)).await? {
            Some(owner) => bouncer.lead_to(&owner, epoch).await,
            None => bouncer.resume().await,
        }
    }

    /// The cluster that owns a workload by its mark; `None` where none has a mark of it.
    pub(super) async fn owner_of(&self, workload: &WorkloadId) -> Result<Option<String>, DriverError> {
        let (mut best, mut failed): (Option<(u64, String)>, _) = (None, None);
        for address in &self.options.clusters {
            let mark = match self.session(address).await {
                Ok(session) => self.mark(&session, workload).await,
                Err(error) => Err(error),
            };
            match mark {
                Ok(Some(mark)) if mark.mode != "standby" => {
                    if best.as_ref().is_none_or(|(generation, _)| mark.generation > *generation) {
                        best = Some((mark.generation, address.clone()));
                    }
                }
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        match (best, failed) {
            (None, Some(error)) => Err(error),
            (best, _) => Ok(best.map(|(_, address)| address)),
        }
    }

    /// What is sent to them at the cut from one owner to the other, in order.
    pub(super) fn pool_commands(&self, stage: &Stage) -> (Vec<String>, Vec<String>) {
        let to = super::bouncer_file::Leads::to(&stage.destination);
        let each = |line: &dyn Fn(&Bouncer) -> String| self.pools(&stage.scope.label()).map(line).collect();
        let before = each(&|b| {
            let (at, database) = (&b.options.admin, &b.options.database);
            format!(
                "pgbouncer {at}> PAUSE {database}; taken back with RESUME where it is not at rest in time"
            )
        });
        let after = each(&|b| {
            let (at, database) = (&b.options.admin, &b.options.database);
            format!(
                "pgbouncer {at}> {database} = host={} port={} in {}; RELOAD; SHOW DATABASES; RESUME {database}",
                to.host,
                to.port,
                b.options.file.display()
            )
        });
        (before, after)
    }
}
