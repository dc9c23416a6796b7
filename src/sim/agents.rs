//! The simulated agents: one a host. Every five seconds each collects what its partitions' metrics
//! are and sends it; now and then one is silent for a while and sends what it kept, sends a message
//! twice, or cannot read something.

use std::collections::BTreeMap;

use super::fleet::Layout;
use super::load::METRICS;
use super::world::World;
use crate::fleet::rng::Random;
use crate::fleet::{Span, Timestamp};
use crate::protocol::{AgentMessage, AgentReading, AgentState, PartitionBeat};
use crate::telemetry::CANONICAL;

/// How often an agent collects and sends, in simulated time.
pub const TICK: Span = Span::seconds(5);

/// Readings that a silent agent keeps for a partition.
const KEPT: usize = 720;

/// The agent of one host.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    host: usize,
    random: Random,
    sequence: u64,
    silent_until: Timestamp,
    kept: Vec<AgentReading>,
    dropped: u64,
}

/// The agents of all hosts.
pub(crate) fn agents(seed: u64, layout: &Layout) -> Vec<Agent> {
    let root = Random::new(seed).fork("agents");
    (0..layout.hosts.len())
        .map(|host| Agent {
            host,
            random: root.fork(layout.hosts[host].id.as_str()),
            sequence: 0,
            silent_until: Timestamp(i64::MIN),
            kept: Vec::new(),
            dropped: 0,
        })
        .collect()
}

impl Agent {
    /// Collects what `world` measured at `at`, and sends it with what it kept; nothing from a host
    /// of which nothing lives, and nothing while the agent is silent.
    pub(crate) fn tick(&mut self, world: &World, at: Timestamp, into: &mut Vec<AgentMessage>) {
        let plan = &world.layout.hosts[self.host];
        // Drawn whatever happens, so that a repaired host goes on as it would have.
        let (silence, long, twice, unread) = (
            self.random.chance(1.0 / 6000.0),
            self.random.between(10.0, 90.0),
            self.random.chance(1.0 / 3000.0),
            self.random.chance(1.0 / 800.0).then(|| self.random.below(METRICS)),
        );
        if plan.partitions.iter().all(|p| !world.partitions[*p].alive) {
            self.kept.clear();
            return;
        }
        let mut beats = Vec::with_capacity(plan.partitions.len());
        for &p in &plan.partitions {
            let now = &world.partitions[p];
            let id = world.layout.partitions[p].id.as_str();
            let partition = id.rsplit('/').next().unwrap_or_default().to_string();
            let cpu = f64::from(now.last[super::load::metric::CPU]);
            let memory = f64::from(now.last[super::load::metric::MEMORY]) / 100.0 * 64e9;
            beats.push(PartitionBeat {
                partition: partition.clone(),
                present: now.alive,
                cpu: now.alive.then_some(cpu),
                memory: now.alive.then_some(memory as u64),
            });
            if now.alive {
                let metrics = CANONICAL
                    .iter()
                    .zip(now.last)
                    .enumerate()
                    .filter(|(m, (_, value))| value.is_finite() && unread != Some(*m))
                    .map(|(_, (metric, value))| (metric.name.to_string(), f64::from(value)))
                    .collect();
                self.kept.push(AgentReading { at, partition, metrics });
            }
        }
        if silence {
            self.silent_until = at + Span::seconds(long as i64);
        }
        if at < self.silent_until {
            let beyond = self.kept.len().saturating_sub(KEPT * plan.partitions.len());
            self.kept.drain(..beyond);
            self.dropped += beyond as u64;
            return;
        }
        self.sequence += 1;
        let message = AgentMessage {
            version: 1,
            host: plan.id.clone(),
            sequence: self.sequence,
            sent: at,
            state: AgentState::Running,
            labels: BTreeMap::from([
                ("site".to_string(), plan.site.to_string()),
                ("rack".to_string(), plan.rack.to_string()),
            ]),
            partitions: beats,
            readings: std::mem::take(&mut self.kept),
            dropped: self.dropped,
        };
        if twice {
            into.push(message.clone());
        }
        into.push(message);
    }
}
