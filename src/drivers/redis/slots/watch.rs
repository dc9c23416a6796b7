//! What stands where, how far a move is, how both nodes do, and the exact commands, for people.

use std::collections::BTreeMap;
use std::time::Instant;

use futures::future::join_all;
use redis::Value;

use super::super::nodes::Lane;
use super::super::prepare::mark_name;
use super::super::view::{Node, SlotRange};
use super::{RedisSlotMover, ranges};
use crate::drivers::error::DriverError;
use crate::drivers::mover::{CanarySample, Job, JobStatus};
use crate::drivers::paired_reads::{Read, Sampler};
use crate::fleet::{Bytes, Clock, PartitionId, Span, SystemClock, Timestamp, Topology, Workload};

/// A range of slots, the node that owns its first one, and what all of that node's slots are as one workload.
struct Held<'a> {
    range: SlotRange,
    owner: &'a Node,
    shard: &'a Workload,
}

impl RedisSlotMover {
    /// Masters are partitions that take slots; replicas are watched, and take none.
    pub(super) async fn topology(&self) -> Result<Topology, DriverError> {
        let census = self.inner.census().await?;
        let mut topology = self.inner.topology_of(&census).await;
        let shards = std::mem::take(&mut topology.workloads);
        let Some(view) = census.newest() else { return Ok(topology) };
        let held: Vec<Held<'_>> = self
            .ranges
            .iter()
            .filter_map(|&range| {
                let owner = census.best(range.first)?.owner_of(range.first)?;
                let partition = self.inner.partition_of(owner);
                Some(Held { range, owner, shard: shards.iter().find(|w| w.partition == partition)? })
            })
            .collect();
        let shares = self.shares(&held).await;
        topology.workloads =
            held.iter().zip(shares).map(|(held, share)| self.workload(held, share)).collect();
        self.look_for_offers(view).await;
        let masters: Vec<PartitionId> =
            view.nodes.iter().filter(|n| n.is_master()).map(|n| self.inner.partition_of(n)).collect();
        for partition in topology.partitions.iter_mut().filter(|p| !masters.contains(&p.id)) {
            partition.class.push_str("/replica");
        }
        topology.normalise();
        Ok(topology)
    }

    /// Which share of its node each range is. All nodes are asked at once, each for one range after another.
    async fn shares(&self, held: &[Held<'_>]) -> Vec<f64> {
        let mut of_node: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, one) in held.iter().enumerate() {
            of_node.entry(&one.owner.id).or_default().push(i);
        }
        let asked = of_node.into_values().map(|ranges| async move {
            let mut found = Vec::with_capacity(ranges.len());
            for i in ranges {
                let Held { range, owner, shard } = &held[i];
                let all = shard.labels.get("keys").and_then(|keys| keys.parse().ok());
                found.push((i, ranges::share(&self.inner.nodes, *range, owner, all).await));
            }
            found
        });
        let mut shares = vec![0.0; held.len()];
        join_all(asked).await.into_iter().flatten().for_each(|(i, share)| shares[i] = share);
        shares
    }

    fn workload(&self, Held { range, owner, shard }: &Held<'_>, share: f64) -> Workload {
        let mut labels = shard.labels.clone();
        labels.remove("keys");
        labels.insert("slots".into(), format!("{}-{}", range.first, range.last));
        let here = (range.first..=range.last).filter(|&slot| owner.owns(slot)).count() as u32;
        if here < ranges::count(*range) {
            labels.insert("split".into(), format!("{here} of {} slots here", ranges::count(*range)));
        }
        Workload {
            id: ranges::workload_of(&self.inner.options.cluster, *range),
            size: ranges::part(shard.size, share),
            writes_per_s: shard.writes_per_s * share,
            requests_per_s: shard.requests_per_s * share,
            // Copies stay with their master; a range that goes finds those of the other.
            replicas: Vec::new(),
            labels,
            ..(*shard).clone()
        }
    }

    pub(super) async fn job_status(&self, job: &Job) -> Result<JobStatus, DriverError> {
        let scene = self.inner.scene(job).await?;
        let (found, moved) = self.works.with(job.key("work"), |w| (w.found.clone(), w.moved));
        let total = found.as_ref().map_or(Bytes(0), |found| found.bytes);
        let share = f64::from(scene.held_by(&scene.destination)) / f64::from(ranges::count(scene.range));
        let alive = scene.is_up(&scene.source);
        let under_way = self.together(&scene).await.ok().flatten();
        let under_way = under_way.as_ref().and_then(|together| together.running(&scene));
        Ok(JobStatus {
            copied: Bytes((total.0 as f64 * share) as u64),
            total,
            streaming: true,
            // There is no copy that could be behind.
            lag: alive.then_some(Span::ZERO),
            source_alive: alive,
            destination_alive: scene.is_up(&scene.destination),
            owner: scene
                .only_owner()
                .filter(|owner| {
                    owner.id == scene.destination.id || !(scene.has_begun() || under_way.is_some())
                })
                .map(|owner| self.inner.partition_of(owner)),
            note: match (moved, under_way) {
                (_, Some(transfer)) => format!("the servers move the slots: {}", transfer.state),
                (0, None) => String::new(),
                (moved, None) => format!("{moved} keys moved"),
            },
            broken: None,
            can_call_off: under_way.is_some(),
        })
    }

    pub(super) async fn measured(
        &self,
        job: &Job,
        since: Timestamp,
    ) -> Result<(CanarySample, CanarySample), DriverError> {
        if !self.works.with(job.key("work"), |w| w.sampler.is_some()) {
            let scene = self.inner.scene(job).await?;
            let nodes = self.inner.nodes.clone();
            let (source, destination) = (scene.source.address.clone(), scene.destination.address.clone());
            let slots: Vec<u16> = scene.slots().collect();
            let rate = self.inner.options.canary_reads_per_s;
            let sampler = Sampler::start(rate, |mut beat, reads| async move {
                for turn in 0usize.. {
                    beat.tick().await;
                    let at = SystemClock.now();
                    // There is no second copy to compare: both nodes answer the same small question, which
                    // waits its turn behind what else they do.
                    let time = async |address: &str, slot: u16| {
                        let mut ask = redis::pipe();
                        ask.cmd("PING").cmd("CLUSTER").arg("GETKEYSINSLOT").arg(slot).arg(1);
                        let begin = Instant::now();
                        let answers = nodes.ask_many(address, Lane::Canary, &ask).await.ok()?;
                        let well = !answers.iter().any(|a| matches!(a, Value::ServerError(_)));
                        well.then(|| begin.elapsed().as_secs_f64() * 1000.0)
                    };
                    let slot = slots[turn % slots.len()];
                    let (source_ms, destination_ms) = match turn.is_multiple_of(2) {
                        true => {
                            let source = time(&source, slot).await;
                            (source, time(&destination, slot).await)
                        }
                        false => {
                            let destination = time(&destination, slot).await;
                            (time(&source, slot).await, destination)
                        }
                    };
                    reads.keep(Read { at, source_ms, destination_ms, differs: None });
                }
            });
            self.works.with(job.key("work"), |w| w.sampler = Some(sampler));
        }
        Ok(self
            .works
            .with(job.key("work"), |w| w.sampler.as_ref().map(|s| s.since(since)))
            .unwrap_or_default())
    }

    /// What will be sent, in order.
    pub(super) fn commands(&self, job: &Job) -> Vec<String> {
        let known = self.inner.known.lock().map(|v| v.clone()).unwrap_or_default();
        let find =
            |partition: &PartitionId| known.nodes.iter().find(|n| &self.inner.partition_of(n) == partition);
        let address = |node: Option<&Node>, partition: &PartitionId| {
            node.map_or_else(|| partition.to_string(), |n| n.address.clone())
        };
        let (from, to) = (find(&job.source), find(&job.destination));
        let (source, destination) = (address(from, &job.source), address(to, &job.destination));
        let id = |node: Option<&Node>, which: &str| {
            node.map_or_else(|| format!("<id of the {which}>"), |n| n.id.clone())
        };
        let (from, to) = (id(from, "source"), id(to, "destination"));
        let range = ranges::range_of(&self.inner.options.cluster, &job.workload);
        let slots = range.map_or_else(|| job.workload.to_string(), |r| format!("{}-{}", r.first, r.last));
        let mark = mark_name(job);
        let set = format!("CONFIG SET proc-title-template \"… {mark}\" cluster-allow-replica-migration no");
        let mut commands = vec![
            format!("{source}, {destination}> {set}"),
            format!("{source}> SCAN, then MEMORY USAGE of every key in slots {slots}"),
        ];
        match self.known_offer(&from, &to) {
            Some(offer) => {
                let (asked, words) = offer.words(&slots, (&source, &destination), &to);
                commands.extend([
                    format!("{asked}> {words}"),
                    "until the slots have changed their owner it can be called off, and nothing has happened".into(),
                    "both> the settings as before".into(),
                    "the way back is the same move the other way round".into(),
                ]);
            }
            None => commands.extend([
                format!(
                    "once, where {destination} runs Redis 7.0.13 to 7.0.15 or 7.2.0 to 7.2.3, to hear anew what {source} owns:"
                ),
                format!("  {source}> CLUSTER BUMPEPOCH (where its claim is the oldest of all)"),
                format!("  {destination}> CLUSTER SETSLOT <one slot> NODE <a third master>"),
                format!("for each slot of {slots}:"),
                format!("  {destination}> CLUSTER SETSLOT <slot> IMPORTING {from}"),
                format!("  {source}> CLUSTER SETSLOT <slot> MIGRATING {to}"),
                format!(
                    "  {source}> CLUSTER GETKEYSINSLOT <slot>, MIGRATE to {destination} REPLACE KEYS …, until it is empty"
                ),
                format!("  {destination}> CLUSTER SETSLOT <slot> NODE {to}"),
                format!("  {source}> CLUSTER SETSLOT <slot> NODE {to}"),
                format!("masters that have not heard of it after a second> CLUSTER SETSLOT <slot> NODE {to}"),
                "both> the settings as before".into(),
                "after the first key the only way is forward; the way back is the same move the other way round"
                    .into(),
            ]),
        }
        commands
    }
}
