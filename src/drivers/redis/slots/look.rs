//! Was this done? Answered from what the nodes say, never from memory.

use super::RedisSlotMover;
use crate::drivers::error::DriverError;
use crate::drivers::mover::{Action, Answer, Evidence, Job, Probe};

fn applied(summary: impl Into<String>) -> Probe {
    Probe::Applied { evidence: Evidence { summary: summary.into(), ..Evidence::default() } }
}

fn of(answer: Result<Answer, DriverError>) -> Probe {
    match answer {
        Ok(Answer::Done(evidence)) => Probe::Applied { evidence },
        Ok(Answer::Working { .. }) => Probe::InProgress,
        Err(error) => Probe::Unknown { reason: error.to_string() },
    }
}

impl RedisSlotMover {
    pub(super) async fn look(&self, job: &Job, action: &Action) -> Probe {
        match action {
            Action::Announce | Action::ArmReverse | Action::StopReplication => {
                applied("nothing is ever made by it")
            }
            // They look, or put and take away marks: asked again they find what is there.
            Action::Prepare
            | Action::Cleanup { .. }
            | Action::Replicate
            | Action::Verify
            | Action::VerifyAtCut
            | Action::CanaryShare { .. }
            | Action::Fence { .. }
            | Action::Retire => Probe::NotStarted,
            Action::ProbeReverse | Action::EnableReverse => of(self.way_back(job).await),
            Action::Commit | Action::Unfence | Action::Open => self.look_at_slots(job, action).await,
        }
    }

    async fn look_at_slots(&self, job: &Job, action: &Action) -> Probe {
        let scene = match self.inner.scene(job).await {
            Ok(scene) => scene,
            Err(error) => return Probe::Unknown { reason: error.to_string() },
        };
        let all = scene.is_all_with(&scene.destination);
        let known = scene.doubter(&scene.destination).is_none() && scene.open.is_empty();
        match action {
            _ if all && known => applied(format!("the slots are with {}", scene.destination.address)),
            Action::Open if all => Probe::InProgress,
            Action::Open => Probe::NotStarted,
            _ if scene.has_begun() => Probe::InProgress,
            // One that has not changed the owner can still be let go.
            Action::Commit if self.is_under_way(&scene).await => Probe::InProgress,
            _ if scene.is_all_with(&scene.source) => Probe::NotStarted,
            _ => Probe::Unknown { reason: format!("the slots are with {}", scene.said()) },
        }
    }
}
