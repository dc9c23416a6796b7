//! Who stands where in one job, by observation alone: the node that owns the shard, the node it is
//! to go to, and how many of the others agree.

use futures::future::join_all;

use super::RedisMover;
use super::census::Census;
use super::nodes::system;
use super::view::{Health, Node, Role, View};
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::Job;
use crate::fleet::{HostId, PartitionId, WorkloadId};

/// The two nodes of a job.
pub(super) struct Stage {
    pub(super) census: Census,
    /// Any slot of the shard; its owner is the shard's owner.
    pub(super) slot: u16,
    pub(super) source: Node,
    pub(super) destination: Node,
    /// Id of the node that owns the shard now.
    pub(super) owner: Option<String>,
}

impl Stage {
    pub(super) fn owned_by_destination(&self) -> bool {
        self.owner.as_deref() == Some(self.destination.id.as_str())
    }

    pub(super) fn owned_by_source(&self) -> bool {
        self.owner.as_deref() == Some(self.source.id.as_str())
    }

    /// Owner first, the other second, of source and destination.
    pub(super) fn owner_and_other(&self) -> (&Node, &Node) {
        if self.owned_by_destination() {
            (&self.destination, &self.source)
        } else {
            (&self.source, &self.destination)
        }
    }

    /// Whether those who decide know that `replica` follows `master`: the master itself, which
    /// otherwise ignores a replica's wish to take over, and a majority of the voters, who otherwise
    /// refuse their vote. Gossip takes up to half of `cluster-node-timeout` to get there.
    fn is_known_replica(&self, replica: &Node, master: &Node) -> bool {
        let follows = Role::ReplicaOf(master.id.clone());
        let knows = |view: &View| view.node(&replica.id).is_some_and(|n| n.role == follows);
        let said_by = |view: &&View, id: &str| view.asked().is_some_and(|n| n.id == id);
        let views = &self.census.views;
        let voters: Vec<&str> = self
            .census
            .best(self.slot)
            .map(|v| v.voters().map(|n| n.id.as_str()).collect())
            .unwrap_or_default();
        let yes = views.iter().filter(|v| voters.iter().any(|id| said_by(v, id)) && knows(v)).count();
        yes * 2 > voters.len() && views.iter().any(|v| said_by(&v, &master.id) && knows(v))
    }

    /// Whether the destination is a replica of the source.
    pub(super) fn follows(&self) -> bool {
        self.destination.role == Role::ReplicaOf(self.source.id.clone())
    }
}

impl RedisMover {
    /// What still keeps `replica` from being voted into the place of `master`; `None` where nothing
    /// does. A failover asked for too early is not voted, and the master holds writes for the 5 s
    /// until Redis gives it up: so this is looked at before.
    pub(super) async fn cannot_be_voted_yet(
        &self,
        stage: &Stage,
        replica: &Node,
        master: &Node,
    ) -> Result<Option<String>, DriverError> {
        if let Some(wait) = stage.census.disagreement(stage.slot, &master.id) {
            return Ok(Some(wait));
        }
        // A replica knows nothing of slots that its master is giving or taking: what went already would be missed.
        if let Some((node, slots)) = stage.census.half_moved(&master.id) {
            return Ok(Some(format!(
                "{node} to be through with half-moved slots: {slots}; where that lasts, redis-cli --cluster fix"
            )));
        }
        if !stage.is_known_replica(replica, master) {
            return Ok(Some("the voters to know who follows whom".into()));
        }
        let lines = self.nodes.settled_lines(&replica.address).await?;
        let Some(view) = stage.census.best(stage.slot) else { return Ok(None) };
        let (all, reached) = view.voters().fold((0, 0), |(all, reached), voter| {
            (all + 1, reached + usize::from(lines.contains(&voter.id)))
        });
        if reached * 2 <= all {
            return Ok(Some("the replica to have lines to a majority of the voters".into()));
        }
        self.elected_too_lately(stage, replica, master).await
    }

    /// Asks every known node for its view. At least one has answered.
    pub(super) async fn census(&self) -> Result<Census, DriverError> {
        let known = self.known_addresses();
        let mut census = self.ask_all(&known).await;
        // Nodes that we did not know of are asked too, once.
        let more: Vec<String> = census
            .views
            .iter()
            .flat_map(|v| &v.nodes)
            .filter(|n| n.health != Health::Failed)
            .map(|n| n.address.clone())
            .filter(|a| !known.contains(a))
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        if !more.is_empty() {
            let rest = self.ask_all(&more).await;
            census.views.extend(rest.views);
            census.silent.extend(rest.silent);
        }
        let Some(newest) = census.newest() else {
            return Err(DriverError::new(
                Retry::Retryable,
                system(&known.join(", ")),
                "CLUSTER NODES",
                "no node answers; expected at least one: check the seeds and that the nodes are up",
            ));
        };
        self.remember(newest);
        Ok(census)
    }

    async fn ask_all(&self, addresses: &[String]) -> Census {
        let answers = join_all(addresses.iter().map(|a| self.nodes.view(a))).await;
        let mut census = Census { views: Vec::new(), silent: Vec::new() };
        for (address, answer) in addresses.iter().zip(answers) {
            match answer {
                Ok(view) if !view.nodes.is_empty() => census.views.push(view),
                _ => census.silent.push(address.clone()),
            }
        }
        census
    }

    /// The host that a node stands on, from the configuration or its address.
    pub(super) fn host_of(&self, node: &Node) -> HostId {
        let names = [Some(node.id.as_str()), Some(&node.address), Some(node.ip()), node.hostname.as_deref()];
        let named = names.into_iter().flatten().find_map(|n| self.options.hosts.get(n));
        HostId::from(named.map_or(node.ip(), String::as_str))
    }

    /// The partition that a node is: `host/port`.
    pub(super) fn partition_of(&self, node: &Node) -> PartitionId {
        PartitionId::of(&self.host_of(node), node.port())
    }

    /// The workload that a master is: `<cluster>-<lowest slot>`, the same whoever owns it.
    pub(super) fn workload_of(&self, master: &Node) -> Option<WorkloadId> {
        Some(WorkloadId::new(format!("{}-{}", self.options.cluster, master.lowest_slot()?)))
    }

    fn slot_of(&self, workload: &WorkloadId) -> Option<u16> {
        workload.as_str().strip_prefix(&self.options.cluster)?.strip_prefix('-')?.parse().ok()
    }

    /// Finds the nodes of a job and asks all nodes who owns the shard.
    pub(super) async fn stage(&self, job: &Job) -> Result<Stage, DriverError> {
        let refuse = |retry, detail: String| {
            DriverError::new(
                retry,
                format!("redis {}", self.options.cluster),
                format!("finding the nodes of {}", job.workload),
                detail,
            )
        };
        let slot = self.slot_of(&job.workload).ok_or_else(|| {
            let expected = format!("expected a workload called {}-<lowest slot>", self.options.cluster);
            refuse(Retry::Permanent, format!("{expected}, got {}", job.workload))
        })?;
        let census = self.census().await?;
        let best = census.best(slot).ok_or_else(|| refuse(Retry::Retryable, "no view".into()))?;
        let find = |partition: &PartitionId| {
            let seen = best.nodes.iter().find(|n| &self.partition_of(n) == partition);
            seen.map(|node| census.in_its_own_words(node)).ok_or_else(|| {
                refuse(
                    Retry::Permanent,
                    format!(
                        "no node of the cluster is the partition {partition}; introduce it with CLUSTER MEET"
                    ),
                )
            })
        };
        let (source, destination) = (find(&job.source)?, find(&job.destination)?);
        let owner = best.owner_of(slot).map(|n| n.id.clone());
        Ok(Stage { slot, source, destination, owner, census })
    }
}
