//! The cluster as the rest of the house sees it: nodes are partitions, masters with their slots are
//! workloads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures::future::join_all;
use redis::Value;

use super::RedisMover;
use super::census::Census;
use super::nodes::text;
use super::view::{Health, Info, Node, View};
use crate::drivers::error::DriverError;
use crate::fleet::topology::{Capacity, Host, UNKNOWN_PLACE};
use crate::fleet::{
    Bytes, Generation, Partition, RackId, Revision, ServingState, Share, SiteId, Topology, Workload,
};

/// Counters of one node at one time, to make rates of.
#[derive(Clone, Copy)]
pub(super) struct Counters {
    at: Instant,
    commands: u64,
    writes: u64,
    cpu_s: f64,
}

/// What a node does per second.
#[derive(Clone, Copy, Default)]
struct Rates {
    requests: f64,
    writes: f64,
    /// Share of one core: Redis serves with one thread.
    load: f64,
}

impl RedisMover {
    /// What stands where now. Hosts have no known site or rack: the configuration says.
    pub(super) async fn topology(&self) -> Result<Topology, DriverError> {
        Ok(self.topology_of(&self.census().await?).await)
    }

    /// The same of what all nodes said.
    pub(super) async fn topology_of(&self, census: &Census) -> Topology {
        let Some(view) = census.newest() else { return Topology::default() };
        let writes = self.write_commands(view).await;
        let silent = &census.silent;
        let infos: BTreeMap<&str, Info> = join_all(view.nodes.iter().map(|node| async move {
            let silent = silent.contains(&node.address);
            if silent {
                return (node.id.as_str(), None);
            }
            let mut ask = redis::cmd("CLUSTER");
            ask.arg("INFO");
            let asked = self.nodes.ask(&node.address, &ask);
            let (info, cluster) = futures::join!(self.nodes.info(&node.address), asked);
            if let Ok(cluster) = cluster {
                self.notice_votes(&node.id, cluster);
            }
            let info = info.ok();
            (node.id.as_str(), info)
        }))
        .await
        .into_iter()
        .filter_map(|(id, info)| Some((id, info?)))
        .collect();
        let rates: BTreeMap<&str, Rates> =
            infos.iter().map(|(id, info)| (*id, self.rates(id, info, &writes))).collect();

        let partitions = view.nodes.iter().map(|n| self.partition(n, infos.contains_key(n.id.as_str())));
        let workloads = view.voters().filter_map(|master| {
            let info = infos.get(master.id.as_str());
            self.workload(view, master, info, rates.get(master.id.as_str()).copied().unwrap_or_default())
        });
        let mut topology = Topology {
            revision: Revision(view.nodes.iter().map(|n| n.epoch).max().unwrap_or(0)),
            partitions: partitions.collect(),
            workloads: workloads.collect(),
            hosts: self.hosts(view, &infos, &rates),
            ..Topology::default()
        };
        topology.normalise();
        topology
    }

    fn partition(&self, node: &Node, answers: bool) -> Partition {
        let serving = if node.health == Health::Failed || !answers {
            ServingState::Fenced
        } else if node.is_master() && !node.slots.is_empty() {
            ServingState::Active
        } else {
            ServingState::Passive
        };
        Partition {
            id: self.partition_of(node),
            host: self.host_of(node),
            class: self.options.class.clone(),
            serving,
            address: node.address.clone(),
        }
    }

    fn workload(&self, view: &View, master: &Node, info: Option<&Info>, rates: Rates) -> Option<Workload> {
        let number = |name| info.and_then(|i| i.whole(name)).unwrap_or(0);
        let mut labels = BTreeMap::from([
            ("slots".to_string(), master.slots_text()),
            ("keys".to_string(), info.map_or_else(|| "unknown".into(), |i| i.keys().to_string())),
        ]);
        if let Some(version) = info.and_then(|i| i.text("redis_version")) {
            labels.insert("redis_version".into(), version.into());
        }
        let mut replicas: Vec<_> = view.replicas_of(&master.id).map(|n| self.partition_of(n)).collect();
        replicas.sort();
        Some(Workload {
            id: self.workload_of(master)?,
            application: self.options.application.clone(),
            class: self.options.class.clone(),
            kind: self.options.kind.clone(),
            partition: self.partition_of(master),
            replicas,
            size: Bytes(number("used_memory_dataset")),
            writes_per_s: rates.writes,
            requests_per_s: rates.requests,
            depends_on: Vec::new(),
            stateless: false,
            generation: Generation(master.epoch),
            labels,
        })
    }

    fn hosts(&self, view: &View, infos: &BTreeMap<&str, Info>, rates: &BTreeMap<&str, Rates>) -> Vec<Host> {
        let mut hosts: BTreeMap<_, Vec<&Node>> = BTreeMap::new();
        for node in &view.nodes {
            hosts.entry(self.host_of(node)).or_default().push(node);
        }
        let host = |(id, nodes): (_, Vec<&Node>)| {
            let known: Vec<&Info> = nodes.iter().filter_map(|n| infos.get(n.id.as_str())).collect();
            let sum = |name: &str| known.iter().filter_map(|i| i.whole(name)).sum::<u64>();
            // With `maxmemory` the nodes say what they may hold; without it the machine does.
            let limits = sum("maxmemory");
            let machine = known.iter().filter_map(|i| i.whole("total_system_memory")).max().unwrap_or(0);
            let load =
                nodes.iter().filter_map(|n| rates.get(n.id.as_str())).map(|r| r.load).fold(0.0, f64::max);
            let capacity = (known.len() == nodes.len()).then(|| Capacity {
                data: Bytes(if limits > 0 { limits } else { machine }),
                data_used: Bytes(sum("used_memory")),
                load: Share::clamped(load).unwrap_or(Share::MIN),
            });
            Host {
                id,
                site: SiteId::from(UNKNOWN_PLACE),
                rack: RackId::from(UNKNOWN_PLACE),
                capacity,
                labels: BTreeMap::new(),
            }
        };
        hosts.into_iter().map(host).collect()
    }

    /// Rates since the last discovery; at the first, over the node's whole life.
    fn rates(&self, id: &str, info: &Info, writes: &BTreeSet<String>) -> Rates {
        let now = Counters {
            at: Instant::now(),
            commands: info.whole("total_commands_processed").unwrap_or(0),
            writes: info.calls(|name| writes.contains(name.split('|').next().unwrap_or(name))),
            cpu_s: ["used_cpu_sys", "used_cpu_user"].iter().filter_map(|n| info.number(n)).sum(),
        };
        let before = self.counters.lock().map_or(None, |mut c| c.insert(id.to_string(), now));
        let (seconds, from) = match before {
            Some(b) if b.commands <= now.commands && b.cpu_s <= now.cpu_s => {
                (now.at.duration_since(b.at).as_secs_f64(), b)
            }
            _ => {
                let zero = Counters { at: now.at, commands: 0, writes: 0, cpu_s: 0.0 };
                (info.number("uptime_in_seconds").unwrap_or(0.0), zero)
            }
        };
        let seconds = seconds.max(0.05);
        Rates {
            requests: (now.commands - from.commands) as f64 / seconds,
            writes: now.writes.saturating_sub(from.writes) as f64 / seconds,
            load: (now.cpu_s - from.cpu_s) / seconds,
        }
    }

    /// Names of the commands that write, asked of the servers once.
    async fn write_commands(&self, view: &View) -> BTreeSet<String> {
        let known = self.writes.get();
        if let Some(known) = known {
            return known.clone();
        }
        let mut ask = redis::cmd("COMMAND");
        ask.arg("LIST").arg("FILTERBY").arg("ACLCAT").arg("write");
        for node in &view.nodes {
            if let Ok(Value::Array(names)) = self.nodes.ask(&node.address, &ask).await {
                let names: BTreeSet<String> = names.into_iter().map(text).collect();
                return self.writes.get_or_init(|| names).clone();
            }
        }
        BTreeSet::new()
    }
}
