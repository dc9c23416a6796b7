//! Whether an action was done, from the catalogs alone.

use super::session::{Session, ident};
use super::stage::Stage;
use super::stream::{self, State};
use super::{PostgresMover, digest, stage};
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::{Action, Evidence, Job, Probe, is_seal};
use crate::fleet::{Clock, SystemClock};

pub(super) fn applied(summary: &str) -> Probe {
    Probe::Applied { evidence: Evidence { summary: summary.into(), ..Evidence::default() } }
}

/// What a look that failed says of the action.
pub(super) fn unseen(error: DriverError) -> Probe {
    match error.retry {
        Retry::Permanent => Probe::Failed { reason: error.detail },
        _ => Probe::Unknown { reason: error.to_string() },
    }
}

fn is(yes: bool, summary: &str) -> Probe {
    if yes { applied(summary) } else { Probe::NotStarted }
}

/// Whether the source's barrier carries the seal of the job's generation.
async fn sealed_for(source: &Session, job: &Job, at: &Stage) -> Result<bool, DriverError> {
    let sql = format!("SELECT sealed = {} FROM foreshift.{}", job.generation.0, ident(&at.names.stream));
    let lines = source.ask_if_there("looking for the seal", &sql).await?;
    Ok(lines.is_some_and(|lines| lines.first().is_some_and(|line| line.yes(0))))
}

impl PostgresMover {
    pub(super) async fn look(&self, job: &Job, action: &Action) -> Probe {
        let looked = async {
            let stage = self.stage(job)?;
            self.look_at_stage(job, &stage, action).await
        };
        match looked.await {
            Ok(probe) => probe,
            Err(error) => unseen(error),
        }
    }

    async fn look_at_stage(&self, job: &Job, at: &Stage, action: &Action) -> Result<Probe, DriverError> {
        match action {
            Action::Announce | Action::Commit => return Ok(applied("nothing to be done")),
            Action::Verify | Action::VerifyAtCut | Action::ProbeReverse | Action::EnableReverse => {
                let going_on = self.with_work(job, |w| w.comparison.is_some());
                let going_on = going_on && *action == Action::Verify;
                return Ok(if going_on { Probe::InProgress } else { Probe::NotStarted });
            }
            Action::CanaryShare { share } => {
                let reads = self.with_work(job, |w| w.sampler.is_some());
                return Ok(is(reads == (share.get() > 0.0), "reads are sent as asked"));
            }
            Action::Cleanup { artifact } => return self.look_cleanup(artifact).await,
            _ => {}
        }
        let destination = self.session(&at.destination).await?;
        let theirs = self.mark(&destination, &job.workload).await?;
        let open = theirs.as_ref().is_some_and(|m| m.open_at(job.generation));
        Ok(match action {
            Action::Prepare => {
                let made = theirs.as_ref().is_some_and(|m| m.made_by == at.names.copy);
                let source = self.session(&at.source).await?;
                let sql = format!(
                    "SELECT count(*) FROM pg_publication WHERE pubname = {}",
                    super::session::literal(&stage::barrier_publication(&at.names.stream))
                );
                let published = source.one("looking for the publication", &sql).await?.number(0) > 0;
                is(open || (made && published), "the structure is there and the source publishes")
            }
            Action::Replicate if open => applied("the destination is open already"),
            Action::Replicate => match stream::state(&destination, &at.names.stream).await? {
                State::Absent | State::Disabled => Probe::NotStarted,
                State::Copying(..) => Probe::InProgress,
                State::Streaming(_) => {
                    let source = self.session(&at.source).await?;
                    let tables = stage::tables(&source, &at.scope).await?;
                    let digest = &at.names.digest;
                    let kept = digest::is_installed(&destination, &at.scope, digest, &tables).await?;
                    if kept { applied("copied, and the stream is applied") } else { Probe::InProgress }
                }
            },
            Action::StopReplication => {
                let state = stream::state(&destination, &at.names.stream).await?;
                is(matches!(state, State::Absent | State::Disabled), "nothing is being copied")
            }
            Action::ArmReverse => {
                let source = self.session(&at.source).await?;
                let state = stream::state(&source, &at.names.back).await?;
                is(open || matches!(state, State::Streaming(_)), "the stream back stands")
            }
            Action::Fence { .. } | Action::Unfence => {
                let source = self.session(&at.source).await?;
                let mark = self.mark(&source, &job.workload).await?;
                let held = mark.as_ref().is_some_and(|m| m.mode == "fenced" && m.held);
                let unheld = mark.is_none_or(|m| m.mode != "fenced");
                match action {
                    Action::Unfence => {
                        let owner = if open { &at.destination } else { &at.source };
                        is((open || unheld) && self.all_serve(at, owner).await, "the source is not held")
                    }
                    // Who comes through a pool must not be refused: it is paused first, again if need be.
                    Action::Fence { deadline } if held && !open && !is_seal(*deadline, SystemClock.now()) => {
                        is(self.all_paused(at).await, "the source is held")
                    }
                    // A hold that lets go by itself is no seal: the owner changes on the strength of that.
                    Action::Fence { deadline } if held && !open && is_seal(*deadline, SystemClock.now()) => {
                        is(sealed_for(&source, job, at).await?, "the source is sealed")
                    }
                    _ => is(open || held, "the source is held"),
                }
            }
            Action::Open => {
                is(open && self.all_serve(at, &at.destination).await, "the destination is the owner")
            }
            Action::Retire => {
                let source = self.session(&at.source).await?;
                let mark = self.mark(&source, &job.workload).await?;
                let copy = mark.is_some_and(|m| m.mode == "standby");
                let own = theirs.is_some_and(|m| m.made_by.is_empty());
                let left = self.is_left(&source, &at.scope).await?;
                is(open && copy && own && left, "the source is left as it is to be")
            }
            _ => Probe::NotStarted,
        })
    }
}
