//! Was this done? Answered from what the servers say, never from memory.

use super::cut::GIVEN_UP;
use super::mark::Mark;
use super::nodes::Standing;
use super::prepare::{SyncState, mark_name, sync_state};
use super::stage::Stage;
use super::{AfterMove, RedisMover};
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::{Action, Answer, Evidence, Job, Probe};

fn applied(summary: impl Into<String>) -> Probe {
    Probe::Applied { evidence: Evidence { summary: summary.into(), ..Evidence::default() } }
}

fn from_error(error: DriverError) -> Probe {
    Probe::Unknown { reason: error.to_string() }
}

fn from_answer(answer: Result<Answer, DriverError>) -> Probe {
    match answer {
        Ok(Answer::Done(evidence)) => Probe::Applied { evidence },
        Ok(Answer::Working { .. }) => Probe::InProgress,
        Err(error) => from_error(error),
    }
}

impl RedisMover {
    pub(super) async fn look(&self, job: &Job, action: &Action) -> Probe {
        let stage = match self.stage(job).await {
            Ok(stage) => stage,
            // Forgotten by every node: that is what was asked for.
            Err(error) if error.retry == Retry::Permanent && self.forgets(action) => {
                return applied("every node has forgotten the old master");
            }
            Err(error) => return from_error(error),
        };
        match action {
            Action::Announce => applied("nothing to be done"),
            Action::ArmReverse => applied("nothing is made before the cut"),
            Action::Prepare => self.look_prepare(job, &stage).await,
            Action::Replicate => self.look_replicate(&stage).await,
            Action::StopReplication => match self.mark_on(job, &stage.destination.address).await {
                Ok(Some(mark)) if mark.made_replica && !stage.owned_by_destination() => {
                    match self.nodes.standing(&stage.destination.address).await {
                        Ok(Standing::Replica { .. }) => Probe::NotStarted,
                        Ok(Standing::Master { .. }) => applied("the destination is an empty node"),
                        Err(error) => from_error(error),
                    }
                }
                Ok(_) => applied("the destination stays as it is"),
                Err(error) => from_error(error),
            },
            Action::Verify => {
                let running = self.with_work(job, |w| w.comparison.is_some());
                if running { Probe::InProgress } else { Probe::NotStarted }
            }
            Action::VerifyAtCut => Probe::NotStarted,
            Action::CanaryShare { share } => {
                let rate = self.with_work(job, |w| w.sampler.as_ref().map(|s| s.rate));
                let wanted = (share.get() > 0.0).then(|| self.canary_rate(*share));
                if rate == wanted { applied("as asked") } else { Probe::NotStarted }
            }
            // Nothing lasts that could be seen: writes are held within the failover alone.
            Action::Fence { .. } => Probe::NotStarted,
            Action::Unfence => applied("nothing holds writes beyond its own time limit"),
            Action::Commit => self.look_commit(job, &stage).await,
            Action::Open if !stage.owned_by_destination() => Probe::NotStarted,
            Action::Open => from_answer(self.open(job).await),
            Action::ProbeReverse if !stage.owned_by_destination() => {
                applied("nothing to prove before the cut")
            }
            Action::EnableReverse if !stage.owned_by_destination() => Probe::NotStarted,
            Action::ProbeReverse | Action::EnableReverse => from_answer(self.enable_reverse(job).await),
            Action::Retire if self.forgets(action) => Probe::InProgress,
            Action::Retire => applied("the old master stays as a replica"),
            Action::Cleanup { artifact } => {
                let address =
                    if artifact.partition == job.source { &stage.source } else { &stage.destination };
                match self.nodes.marks(&address.address).await {
                    Ok(marks) if marks.iter().any(|m| m.name == artifact.name) => Probe::NotStarted,
                    Ok(_) => applied("it is not there"),
                    Err(error) => from_error(error),
                }
            }
        }
    }

    fn forgets(&self, action: &Action) -> bool {
        *action == Action::Retire && self.options.after_move == AfterMove::Forget
    }

    async fn mark_on(&self, job: &Job, address: &str) -> Result<Option<Mark>, DriverError> {
        let name = mark_name(job);
        Ok(self.nodes.marks(address).await?.into_iter().find(|m| m.name == name))
    }

    async fn look_prepare(&self, job: &Job, stage: &Stage) -> Probe {
        if stage.owned_by_destination() {
            return applied("the destination owns the shard already");
        }
        let source = self.mark_on(job, &stage.source.address).await;
        let destination = self.mark_on(job, &stage.destination.address).await;
        match (source, destination) {
            (Ok(Some(_)), Ok(Some(_))) => Probe::Applied {
                evidence: Evidence {
                    summary: "both nodes bear the mark".into(),
                    artifacts: vec![
                        super::prepare::artifact(job, &job.source),
                        super::prepare::artifact(job, &job.destination),
                    ],
                    ..Evidence::default()
                },
            },
            (Ok(_), Ok(_)) => Probe::NotStarted,
            (Err(error), _) | (_, Err(error)) => from_error(error),
        }
    }

    async fn look_replicate(&self, stage: &Stage) -> Probe {
        if stage.owned_by_destination() {
            return applied("the destination owns the shard already");
        }
        if !stage.follows() {
            return Probe::NotStarted;
        }
        match self.nodes.info(&stage.destination.address).await.map(|info| sync_state(&info)) {
            Ok(SyncState::Streaming) => applied("the destination follows"),
            Ok(_) => Probe::InProgress,
            Err(error) => from_error(error),
        }
    }

    /// The servers' vote is the truth. Where they have not changed the owner, a failover that was
    /// asked for before a crash may still come for as long as Redis keeps trying; only after that it
    /// has certainly not happened.
    async fn look_commit(&self, job: &Job, stage: &Stage) -> Probe {
        if stage.owned_by_destination() {
            if !stage.census.majority_says(stage.slot, &stage.destination.id) {
                return Probe::InProgress;
            }
            let promoted = self.nodes.standing(&stage.destination.address).await;
            return match promoted {
                Ok(Standing::Master { .. }) | Err(_) => applied("a majority names the destination as owner"),
                Ok(Standing::Replica { .. }) => Probe::InProgress,
            };
        }
        if !stage.census.majority_says(stage.slot, stage.owner.as_deref().unwrap_or_default()) {
            return Probe::Unknown { reason: "no majority of the masters answers".into() };
        }
        let asked = self.with_work(job, |w| w.failover_asked).unwrap_or(self.started);
        if asked.elapsed() < GIVEN_UP { Probe::InProgress } else { Probe::NotStarted }
    }
}
