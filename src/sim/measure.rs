//! What can be seen of the simulated system: the metrics of its partitions, and what it would report
//! of itself.

use std::collections::BTreeMap;

use super::fleet::CLASS;
use super::load::{Effects, Kind, metric, reading, rhythm};
use super::noise::mixed;
use super::world::World;
use crate::fleet::topology::Capacity;
use crate::fleet::{Bytes, Host, Partition, ServingState, Share, Timestamp, Topology, Workload};

impl World {
    /// Draws the metrics of every living partition at `at`, `step_s` seconds after the last time.
    pub(crate) fn measure(&mut self, at: Timestamp, step_s: f32) {
        let loads = self.loads(at);
        for (p, load) in loads.into_iter().enumerate() {
            if !self.partitions[p].alive {
                continue;
            }
            let effects = self
                .active
                .iter()
                .map(|f| &self.faults[*f])
                .filter(|f| f.partitions.contains(&p))
                .fold(Effects::NONE, |all, f| all.and(&f.effects(at)));
            let plan = &self.layout.partitions[p];
            let now = &mut self.partitions[p];
            now.load = load;
            now.last = reading(&plan.traits, load, at, step_s, &mut now.noise, &effects);
            let slow = (now.last[metric::REQUEST] / plan.traits.request_ms).clamp(0.5, 12.0);
            now.slow += (slow - now.slow) * step_s / (step_s + 45.0);
        }
    }

    /// The share of its capacity that every partition's work asks for.
    fn loads(&self, at: Timestamp) -> Vec<f32> {
        let rhythms: Vec<f32> =
            self.layout.applications.iter().map(|a| rhythm(a.kind, a.seed, a.zone_h, at)).collect();
        let mut asked = vec![0.0f64; self.partitions.len()];
        for (w, now) in self.workloads.iter().enumerate() {
            let plan = &self.layout.workloads[w];
            let requests = plan.requests_per_s * f64::from(rhythms[plan.application]);
            match self.weights.get(&w) {
                Some(weights) => {
                    for weight in weights {
                        if let Some(p) = self.layout.partition_index.get(&weight.partition) {
                            asked[*p] += requests * weight.share.get();
                        }
                    }
                }
                None => asked[now.owner] += requests,
            }
        }
        for track in self.tracks.values().filter(|t| t.share.get() > 0.0) {
            let (Some(w), Some(p)) = (
                self.layout.workload_index.get(&track.job.workload),
                self.layout.partition_index.get(&track.job.destination),
            ) else {
                continue;
            };
            asked[*p] += self.layout.workloads[*w].requests_per_s * track.share.get() * 0.5;
        }
        asked.iter().zip(&self.layout.partitions).map(|(a, p)| (a / p.capacity) as f32).collect()
    }

    /// Everything as the system itself would report it.
    pub(crate) fn topology(&self) -> Topology {
        let id = |p: &usize| self.layout.partitions[*p].id.clone();
        let mut held = vec![0u64; self.partitions.len()];
        for (plan, now) in self.layout.workloads.iter().zip(&self.workloads) {
            for p in now.replicas.iter().chain([&now.owner]) {
                held[*p] += plan.size.0;
            }
        }
        let hosts = self.layout.hosts.iter().map(|host| {
            let used = host.partitions.iter().map(|p| held[*p]).sum();
            let load: f32 = host.partitions.iter().map(|p| self.partitions[*p].load).sum();
            let load = f64::from(load) / host.partitions.len().max(1) as f64;
            Host {
                id: host.id.clone(),
                site: host.site.clone(),
                rack: host.rack.clone(),
                capacity: Some(Capacity {
                    data: host.capacity,
                    data_used: Bytes(used),
                    load: Share::clamped(load).unwrap_or(Share::MIN),
                }),
                labels: BTreeMap::new(),
            }
        });
        let mut owned = vec![false; self.partitions.len()];
        self.workloads.iter().for_each(|w| owned[w.owner] = true);
        let partitions = self.layout.partitions.iter().enumerate().map(|(p, plan)| Partition {
            id: plan.id.clone(),
            host: self.layout.hosts[plan.host].id.clone(),
            class: CLASS.to_string(),
            serving: match (self.partitions[p].alive, owned[p]) {
                (false, _) => ServingState::Fenced,
                (true, true) => ServingState::Active,
                (true, false) => ServingState::Passive,
            },
            address: format!("sim://{}", plan.id),
        });
        let workloads = self.layout.workloads.iter().zip(&self.workloads).map(|(plan, now)| {
            let application = &self.layout.applications[plan.application];
            Workload {
                id: plan.id.clone(),
                application: application.id.clone(),
                class: CLASS.to_string(),
                kind: application.kind.word().to_string(),
                partition: id(&now.owner),
                replicas: now.replicas.iter().map(id).collect(),
                size: plan.size,
                writes_per_s: plan.writes_per_s,
                requests_per_s: plan.requests_per_s,
                depends_on: plan.depends_on.clone(),
                stateless: plan.size.0 == 0,
                generation: now.generation,
                labels: BTreeMap::new(),
            }
        });
        let (hosts, partitions, workloads) = (hosts.collect(), partitions.collect(), workloads.collect());
        let mut topology =
            Topology { revision: self.revision, hosts, partitions, workloads, ..Topology::default() };
        topology.normalise();
        topology
    }

    /// Median latency of the workload's requests at a partition, in ms: its own by kind, times how
    /// slow the partition is. What every healthy partition has of slowness hardly counts.
    pub(crate) fn request_ms(&self, w: usize, p: usize) -> f64 {
        let plan = &self.layout.workloads[w];
        let base = match self.layout.applications[plan.application].kind {
            Kind::Cache => 0.7,
            Kind::Oltp => 4.0,
            Kind::Stream => 6.0,
            Kind::Web => 12.0,
            Kind::Search => 22.0,
            Kind::Batch => 40.0,
        };
        let own = 0.8 + (mixed(self.seed ^ w as u64) % 1000) as f64 / 2200.0;
        let slow = f64::from(self.partitions[p].slow);
        base * own * (1.0 + 0.08 * (slow - 1.0) + (slow - 2.2).max(0.0))
    }
}
