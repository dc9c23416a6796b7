//! A real driver with trouble on the way to it: what is asked does not arrive, or is done and its answer is lost; a
//! comparison finds a difference that is gone the next time; a commit is refused once. The systems behind it are what they are.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use foreshift::drivers::{
    Action, Answer, Artifact, CanarySample, Capabilities, CleanupPolicy, DriverError, Job, JobStatus, Mover,
    Permit, Probe, Retry,
};
use foreshift::fleet::{Span, Timestamp, Topology};
use serde::{Deserialize, Serialize};

/// Who holds until then holds until he is told otherwise: the year 2096.
const SEALED: Timestamp = Timestamp(4_000_000_000_000);

/// What goes otherwise than usual.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Trouble {
    /// The plan has no canary.
    pub no_canary: bool,
    /// The proof of the way back is old before the canary ends.
    pub old_proof: bool,
    /// The first call of each action does not arrive.
    pub unheard: bool,
    /// The answer to each action is lost once, after it was done.
    pub lost_answers: bool,
    /// The first comparison at the cut back finds a difference.
    pub differs_back: bool,
    /// A system that votes refuses the first commit, there and back.
    pub refused_commit: bool,
}

impl Trouble {
    /// None.
    pub const NONE: Trouble = Trouble {
        no_canary: false,
        old_proof: false,
        unheard: false,
        lost_answers: false,
        differs_back: false,
        refused_commit: false,
    };

    /// `usual`, or what is not.
    pub fn words(self) -> String {
        let named = [
            (self.no_canary, "no canary"),
            (self.old_proof, "old proof"),
            (self.unheard, "unheard calls"),
            (self.lost_answers, "lost answers"),
            (self.differs_back, "differs at the cut back"),
            (self.refused_commit, "a refused commit"),
        ];
        let words: Vec<&str> = named.into_iter().filter_map(|(is, word)| is.then_some(word)).collect();
        if words.is_empty() { "usual".into() } else { words.join(", ") }
    }
}

/// A driver behind trouble.
pub struct Troubled {
    inner: Arc<dyn Mover>,
    trouble: Trouble,
    /// The source of the move forward; who comes from elsewhere goes back.
    home: String,
    /// What did not arrive and whose answers were lost, by action and direction.
    lost: Mutex<HashSet<(&'static str, String)>>,
    /// There once a difference was found, or a commit refused: engines that follow find none.
    differed: PathBuf,
}

impl Troubled {
    /// `differed` is a file that engines of one round share.
    pub fn around(inner: Arc<dyn Mover>, trouble: Trouble, home: &str, differed: PathBuf) -> Arc<dyn Mover> {
        if trouble == Trouble::NONE {
            return inner;
        }
        let home = home.to_string();
        Arc::new(Self { inner, trouble, home, lost: Mutex::default(), differed })
    }

    /// Whether this happens to that action for the first time.
    fn is_first(&self, what: &'static str, job: &Job, action: &Action) -> bool {
        // When a hold lets go is another moment with each try.
        let which = match action {
            Action::Fence { deadline } => format!("fence, sealed: {}", *deadline > SEALED),
            action => format!("{action:?}"),
        };
        let which = format!("{which} {}", job.source);
        self.lost.lock().expect("nobody panics here").insert((what, which))
    }

    fn error(&self, retry: Retry, action: &Action, detail: &str) -> DriverError {
        DriverError::new(retry, self.class(), action.name(), detail)
    }
}

#[async_trait]
impl Mover for Troubled {
    fn class(&self) -> &str {
        self.inner.class()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn says_the_owner(&self) -> bool {
        self.inner.says_the_owner()
    }

    fn shares_partitions(&self) -> bool {
        self.inner.shares_partitions()
    }

    fn fence_budget(&self) -> Option<Span> {
        self.inner.fence_budget()
    }

    async fn discover(&self) -> Result<Topology, DriverError> {
        self.inner.discover().await
    }

    fn describe(&self, job: &Job) -> Vec<String> {
        self.inner.describe(job)
    }

    fn artifacts(&self, job: &Job, action: &Action) -> Vec<Artifact> {
        self.inner.artifacts(job, action)
    }

    fn cleanup_policy(&self, artifact: &Artifact) -> CleanupPolicy {
        self.inner.cleanup_policy(artifact)
    }

    async fn perform(&self, job: &Job, action: &Action, permit: &Permit) -> Result<Answer, DriverError> {
        if self.trouble.unheard && self.is_first("unheard", job, action) {
            return Err(self.error(Retry::Retryable, action, "it was not heard"));
        }
        let back = job.source.as_str() != self.home;
        let refused = self.differed.with_extension(if back { "back" } else { "there" });
        if self.trouble.refused_commit && *action == Action::Commit && !refused.exists() {
            std::fs::write(&refused, "").expect("a file");
            return Err(self.error(Retry::Permanent, action, "the system refuses it, as the test wants"));
        }
        let mut answer = self.inner.perform(job, action, permit).await?;
        let Answer::Done(evidence) = &mut answer else { return Ok(answer) };
        if self.trouble.differs_back && back && *action == Action::VerifyAtCut && !self.differed.exists() {
            std::fs::write(&self.differed, "").expect("a file");
            evidence.equal = Some(false);
            evidence.differences = vec!["a row that the test names".into()];
            return Ok(answer);
        }
        if self.trouble.lost_answers && self.is_first("lost", job, action) {
            return Err(self.error(Retry::Unknown, action, "the answer was lost"));
        }
        Ok(answer)
    }

    async fn probe(&self, job: &Job, action: &Action) -> Probe {
        self.inner.probe(job, action).await
    }

    async fn cut_waits_for(&self, job: &Job) -> Result<Option<String>, DriverError> {
        self.inner.cut_waits_for(job).await
    }

    async fn status(&self, job: &Job) -> Result<JobStatus, DriverError> {
        self.inner.status(job).await
    }

    async fn samples(
        &self,
        job: &Job,
        since: Timestamp,
    ) -> Result<(CanarySample, CanarySample), DriverError> {
        self.inner.samples(job, since).await
    }

    async fn leaks(&self) -> Result<Vec<Artifact>, DriverError> {
        self.inner.leaks().await
    }

    async fn reap(&self, artifact: &Artifact, permit: &Permit) -> Result<Answer, DriverError> {
        self.inner.reap(artifact, permit).await
    }
}
