//! The simulated system as the engine's driver sees it: class `sim`. Nothing runs in the
//! background: what takes time is asked for again, and the time comes from a clock that is given.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::fleet::CLASS;
use super::mover_faults::{CallFault, FaultRule, MoverFaults};
use super::noise::{exp, gaussian, mixed};
use super::track::{artifact, made_by};
use super::world::World;
use crate::drivers::{
    Action, Answer, Artifact, CanarySample, Capabilities, CleanupPolicy, DriverError, Job, JobStatus, Mover,
    Permit, Probe, Retry,
};
use crate::fleet::{Clock, Timestamp, Topology};

/// The driver of the simulated system.
#[derive(Clone)]
pub struct SimMover {
    world: Arc<Mutex<World>>,
    clock: Arc<dyn Clock>,
    faults: Arc<Mutex<MoverFaults>>,
}

pub(crate) fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimMover {
    pub(crate) fn new(world: Arc<Mutex<World>>, clock: Arc<dyn Clock>) -> Self {
        Self { world, clock, faults: Arc::default() }
    }

    /// Puts these faults in force, in place of those before.
    pub fn set_faults(&self, faults: MoverFaults) {
        *locked(&self.faults) = faults;
    }

    /// Adds one rule to the faults in force.
    pub fn inject(&self, rule: FaultRule) {
        locked(&self.faults).rule(rule);
    }

    /// How many calls were struck by a fault so far.
    pub fn struck(&self) -> u64 {
        locked(&self.faults).struck()
    }

    fn strike(&self, call: &str) -> Option<CallFault> {
        locked(&self.faults).next(call)
    }

    /// For calls that only read: any fault means that there is no answer.
    fn read(&self, call: &str) -> Result<(), DriverError> {
        match self.strike(call) {
            None | Some(CallFault::Slow(_) | CallFault::Corrupt) => Ok(()),
            Some(_) => Err(lost(Retry::Retryable, call)),
        }
    }
}

fn lost(retry: Retry, doing: &str) -> DriverError {
    let detail = match retry {
        Retry::Unknown => "the connection broke before the answer; probe before anything else",
        Retry::Retryable | Retry::Permanent => "the connection could not be made; try again",
    };
    DriverError::new(retry, CLASS, doing, detail)
}

#[async_trait]
impl Mover for SimMover {
    fn class(&self) -> &str {
        CLASS
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            online: true,
            digest: true,
            reverse_proved_before_cut: true,
            reverse: true,
            fence_checked_by_target: true,
            canary_reads: true,
            canary_traffic: false,
            system_votes: false,
            follows: true,
            drops_source: false,
        }
    }

    /// When a partition dies the simulated system itself brings its workloads up elsewhere.
    fn says_the_owner(&self) -> bool {
        true
    }

    async fn discover(&self) -> Result<Topology, DriverError> {
        self.read("discover")?;
        let mut world = locked(&self.world);
        world.catch_up(self.clock.now());
        Ok(world.topology())
    }

    fn describe(&self, job: &Job) -> Vec<String> {
        let name = |kind| artifact(job, kind).name;
        let (w, from, to) = (&job.workload, &job.source, &job.destination);
        vec![
            format!("sim announce {from}"),
            format!("sim prepare {w} at {to} as {}", name("replica")),
            format!("sim replicate {w} {from} → {to} as {}", name("stream")),
            format!("sim verify {w} {from} = {to}"),
            format!("sim arm way back {to} → {from} as {}", name("reverse_stream")),
            format!("sim fence {w} at {from}"),
            format!("sim open {w} at {to} for {}", job.generation),
            format!("sim retire {w} at {from}"),
        ]
    }

    fn artifacts(&self, job: &Job, action: &Action) -> Vec<Artifact> {
        made_by(job, action)
    }

    fn cleanup_policy(&self, artifact: &Artifact) -> CleanupPolicy {
        match artifact.kind.as_str() {
            "replica" => CleanupPolicy::OnFailure,
            "stream" => CleanupPolicy::Always,
            _ => CleanupPolicy::DeferredOnSuccess,
        }
    }

    async fn perform(&self, job: &Job, action: &Action, permit: &Permit) -> Result<Answer, DriverError> {
        let doing = action.name();
        let fault = self.strike(doing);
        let now = self.clock.now();
        match fault {
            Some(CallFault::BeforeSend) => return Err(lost(Retry::Retryable, doing)),
            Some(CallFault::AfterSend | CallFault::CannotTell) => return Err(lost(Retry::Unknown, doing)),
            _ => {}
        }
        let by = match fault {
            Some(CallFault::Slow(by)) => Some(by),
            _ => None,
        };
        if locked(&self.faults).slow(job.key(doing), by, now) {
            return Ok(Answer::Working { waiting_for: "a slow answer".to_string() });
        }
        let mut world = locked(&self.world);
        let answer = world.perform(job, action, permit.epoch(), now);
        if fault == Some(CallFault::Corrupt) {
            world.corrupt(job);
        }
        match (fault, answer) {
            (Some(CallFault::AfterEffect), Ok(_)) => Err(lost(Retry::Unknown, doing)),
            (_, answer) => answer,
        }
    }

    async fn probe(&self, job: &Job, action: &Action) -> Probe {
        if let Err(error) = self.read("probe") {
            return Probe::Unknown { reason: error.to_string() };
        }
        locked(&self.world).probe(job, action, self.clock.now())
    }

    async fn status(&self, job: &Job) -> Result<JobStatus, DriverError> {
        self.read("status")?;
        locked(&self.world).status(job, self.clock.now())
    }

    async fn samples(
        &self,
        job: &Job,
        since: Timestamp,
    ) -> Result<(CanarySample, CanarySample), DriverError> {
        self.read("samples")?;
        let mut world = locked(&self.world);
        world.catch_up(self.clock.now());
        samples(&world, job, since, self.clock.now())
    }

    async fn leaks(&self) -> Result<Vec<Artifact>, DriverError> {
        self.read("leaks")?;
        Ok(locked(&self.world).artifacts.iter().cloned().collect())
    }
}

/// Requests of both sides between `since` and `now`. The destination gets the share that canary or
/// router send it, and after the switch all; the source then goes on answering reads as a standby,
/// for comparison. A dead source has no requests; a dead destination cannot be measured.
fn samples(
    world: &World,
    job: &Job,
    since: Timestamp,
    now: Timestamp,
) -> Result<(CanarySample, CanarySample), DriverError> {
    let (w, source, destination) = world.sides(job)?;
    if !world.partitions[destination].alive {
        let detail = format!("{} does not answer; it cannot be measured", job.destination);
        return Err(DriverError::new(Retry::Retryable, CLASS, "samples", detail));
    }
    let seconds = since.age(now).as_seconds();
    let plan = &world.layout.workloads[w];
    let requests = plan.requests_per_s * seconds;
    let track = world.tracks.get(&(job.migration, job.workload.clone()));
    let share = match world.weights.get(&w) {
        _ if world.workloads[w].owner == destination => 1.0,
        Some(weights) => {
            weights.iter().find(|x| x.partition == job.destination).map_or(0.0, |x| x.share.get())
        }
        None => track.map_or(0.0, |t| t.share.get()),
    };
    let seed =
        |side: u64| mixed(world.seed ^ mixed(job.migration.0 ^ side << 60) ^ mixed(now.0 as u64 ^ w as u64));
    let at_source = match world.partitions[source].alive {
        true => side(world, (w, source), requests, seed(1)),
        false => CanarySample::default(),
    };
    let mut at_destination = side(world, (w, destination), requests * share, seed(2));
    if plan.size.0 > 0 {
        at_destination.compared = at_destination.requests.min(20_000);
        if track.is_some_and(|t| t.corrupt) {
            at_destination.mismatches = at_destination.compared / 1024;
            at_destination.examples = vec![format!("{}/row-{}", job.workload, seed(3) % 100_000)];
        }
    }
    Ok((at_source, at_destination))
}

fn side(world: &World, (w, p): (usize, usize), requests: f64, seed: u64) -> CanarySample {
    let median = world.request_ms(w, p);
    let count = requests.clamp(0.0, 2000.0) as u64;
    let latencies_ms =
        (0..count).map(|i| median * f64::from(exp(0.35 * gaussian(mixed(seed ^ i))).max(0.2))).collect();
    let loss = world.partitions[p].last[super::load::metric::LOSS];
    let failing = if loss.is_nan() { 0.0 } else { f64::from((loss - 0.5).max(0.0)) / 200.0 };
    CanarySample {
        latencies_ms,
        requests: requests as u64,
        errors: (requests * failing) as u64,
        ..CanarySample::default()
    }
}
