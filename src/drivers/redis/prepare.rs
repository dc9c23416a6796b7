//! Before the cut: make the destination a replica that stays one, and undo that.

use super::mark::{Marked, Part};
use super::nodes::{Standing, system};
use super::stage::Stage;
use super::view::{Health, Info, Role};
use super::{RedisMover, done, working};
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::{Answer, Artifact, Evidence, Job};
use crate::fleet::PartitionId;

/// Kind of the one artifact that a migration leaves on each of its nodes.
pub(super) const KIND: &str = "redis_mark";

/// The mark of a job on one of its partitions.
pub(super) fn artifact(job: &Job, partition: &PartitionId) -> Artifact {
    Artifact { kind: KIND.into(), name: mark_name(job), partition: partition.clone() }
}

pub(super) fn mark_name(job: &Job) -> String {
    format!("fs_{}", job.key("prepare"))
}

impl RedisMover {
    /// Checks everything that can be checked beforehand, then marks both nodes.
    pub(super) async fn prepare(&self, job: &Job) -> Result<Answer, DriverError> {
        let stage = self.stage(job).await?;
        if stage.owned_by_destination() {
            return Ok(done("the destination owns the shard already"));
        }
        self.check(job, &stage).await?;
        let (source, destination) = (&stage.source, &stage.destination);
        let name = mark_name(job);
        let (ours, theirs) =
            if stage.follows() { (Part::Stays, Part::Stays) } else { (Part::Feeds, Part::BecomesReplica) };
        let marked = [
            self.nodes.mark(&destination.address, &name, theirs).await?,
            self.nodes.mark(&source.address, &name, ours).await?,
        ];
        let (summary, artifacts) = if marked.contains(&Marked::NotAllowed) {
            ("CONFIG is not allowed here: replica migration could not be kept off".to_string(), Vec::new())
        } else {
            let summary =
                format!("replica migration is off on {} and {}", source.address, destination.address);
            (summary, vec![artifact(job, &job.source), artifact(job, &job.destination)])
        };
        Ok(Answer::Done(Evidence { summary, artifacts, ..Evidence::default() }))
    }

    async fn check(&self, job: &Job, stage: &Stage) -> Result<(), DriverError> {
        let (source, destination) = (&stage.source, &stage.destination);
        let refuse = |retry, detail: String| {
            DriverError::new(
                retry,
                system(&destination.address),
                format!("preparing {}", job.workload),
                detail,
            )
        };
        if !stage.owned_by_source() {
            return Err(refuse(Retry::Permanent, self.not_the_owner(job, stage)));
        }
        if destination.health == Health::Failed || stage.census.silent.contains(&destination.address) {
            return Err(refuse(Retry::Retryable, "the destination does not answer".into()));
        }
        if !stage.census.majority_says(stage.slot, &source.id) {
            let detail = "no majority of the masters answers and calls the source the owner; no failover could be voted";
            return Err(refuse(Retry::Retryable, detail.into()));
        }
        if let Some(wait) = stage.census.disagreement(stage.slot, &source.id) {
            return Err(refuse(Retry::Retryable, format!("waiting for {wait}")));
        }
        if let Some(open) = stage.census.views.iter().flat_map(|v| &v.nodes).find(|n| !n.open.is_empty()) {
            let detail = format!(
                "{} has half-moved slots {}; finish their move first",
                open.address,
                open.open.join(" ")
            );
            return Err(refuse(Retry::Retryable, detail));
        }
        let (ours, theirs) =
            (self.nodes.info(&source.address).await?, self.nodes.info(&destination.address).await?);
        if version(&ours) < 7 || version(&theirs) < 7 {
            return Err(refuse(
                Retry::Permanent,
                "expected Redis 7.0 or newer on both nodes (PEXPIRETIME)".into(),
            ));
        }
        if stage.follows() {
            return Ok(());
        }
        match &destination.role {
            Role::ReplicaOf(_) => Err(refuse(
                Retry::Permanent,
                "it is a replica of another shard, which would be left without; choose a replica of this shard or an empty node".into(),
            )),
            Role::Master if !destination.slots.is_empty() || theirs.keys() > 0 => Err(refuse(
                Retry::Permanent,
                "it is a master with slots or keys of its own; choose a replica of this shard or an empty node".into(),
            )),
            Role::Master => {
                let (needed, limit) =
                    (ours.whole("used_memory").unwrap_or(0), theirs.whole("maxmemory").unwrap_or(0));
                if limit > 0 && limit < needed {
                    let detail = format!("needs {needed} bytes, its maxmemory is {limit}; raise it or choose another node");
                    return Err(refuse(Retry::Permanent, detail));
                }
                Ok(())
            }
        }
    }

    /// What to say when neither side, or the wrong one, owns the shard.
    pub(super) fn not_the_owner(&self, job: &Job, stage: &Stage) -> String {
        let owner = stage
            .owner
            .as_ref()
            .and_then(|id| stage.census.best(stage.slot)?.node(id))
            .map_or_else(|| "nobody".to_string(), |n| n.address.clone());
        format!(
            "{} is owned by {owner}, not by {}; the plan is out of date",
            job.workload, stage.source.address
        )
    }

    /// Makes the destination a replica where it is none, and follows its first synchronisation.
    pub(super) async fn replicate(&self, job: &Job) -> Result<Answer, DriverError> {
        let stage = self.stage(job).await?;
        if stage.owned_by_destination() {
            return Ok(done("the destination owns the shard already"));
        }
        if !stage.follows() {
            self.check(job, &stage).await?;
            let mut cmd = redis::cmd("CLUSTER");
            cmd.arg("REPLICATE").arg(&stage.source.id);
            self.nodes.tell(&stage.destination.address, &cmd).await?;
            return Ok(working("the destination to begin its first synchronisation"));
        }
        let info = self.nodes.info(&stage.destination.address).await?;
        Ok(match sync_state(&info) {
            SyncState::Streaming if !self.knows_the_cluster(&stage).await? => {
                working("the destination to learn who owns which slot")
            }
            SyncState::Streaming => {
                done(format!("{} follows {}", stage.destination.address, stage.source.address))
            }
            SyncState::Copying { share } => working(format!("the first copy, {:.0} % there", share * 100.0)),
            SyncState::Broken => working(format!(
                "the destination to reach its master (down for {} s)",
                info.whole("master_link_down_since_seconds").unwrap_or(0)
            )),
        })
    }

    /// A node that has just joined refuses reads until it has heard of all slots.
    pub(super) async fn knows_the_cluster(&self, stage: &Stage) -> Result<bool, DriverError> {
        let address = &stage.destination.address;
        let info = self.nodes.cluster_info(address).await?;
        let owner = self.nodes.view(address).await?.owner_of(stage.slot).map(|n| n.id.clone());
        Ok(info.text("cluster_state") == Some("ok") && owner.as_ref() == Some(&stage.source.id))
    }

    /// A node that was empty before is emptied again; a replica that was there before stays one.
    pub(super) async fn stop_replication(&self, job: &Job) -> Result<Answer, DriverError> {
        let stage = self.stage(job).await?;
        let name = mark_name(job);
        let address = &stage.destination.address;
        let made = self.nodes.marks(address).await?.into_iter().any(|m| m.name == name && m.made_replica);
        if stage.owned_by_destination() {
            return Ok(done("the destination owns the shard; it is left as it is"));
        }
        if !made {
            return Ok(done("the destination was a replica before and stays one"));
        }
        if matches!(self.nodes.standing(address).await?, Standing::Replica { .. }) {
            let mut reset = redis::cmd("CLUSTER");
            self.nodes.tell(address, reset.arg("RESET").arg("SOFT")).await?;
        }
        let lonely = self.nodes.view(address).await?.nodes.len() < 2;
        if lonely {
            let mut meet = redis::cmd("CLUSTER");
            meet.arg("MEET").arg(stage.source.ip()).arg(stage.source.port());
            self.nodes.tell(address, &meet).await?;
            return Ok(working("the emptied destination to be known again"));
        }
        if !stage.destination.is_master() {
            return Ok(working("all nodes to know the destination as empty"));
        }
        Ok(done("the destination is an empty node again"))
    }

    /// Takes one mark away. A node that became a replica for a migration that did not happen is
    /// emptied first.
    pub(super) async fn cleanup(&self, job: &Job, artifact: &Artifact) -> Result<Answer, DriverError> {
        if artifact.partition == job.destination
            && artifact.name == mark_name(job)
            && artifact.kind == KIND
            && let Answer::Working { waiting_for } = self.stop_replication(job).await?
        {
            return Ok(Answer::Working { waiting_for });
        }
        let answer = self.take_mark(artifact).await?;
        self.work.end(&job.key("work"));
        Ok(answer)
    }

    /// Takes one mark away, and with it restores the settings that it changed.
    pub(super) async fn take_mark(&self, mark: &Artifact) -> Result<Answer, DriverError> {
        if mark.kind != KIND {
            return Err(DriverError::new(
                Retry::Permanent,
                format!("redis {}", self.options.cluster),
                format!("removing {} {}", mark.kind, mark.name),
                format!("expected an artifact of the kind {KIND}"),
            ));
        }
        let address = self.address_of(&mark.partition).await?;
        self.nodes.unmark(&address, &mark.name).await?;
        Ok(done(format!("{} is gone from {address}", mark.name)))
    }

    /// Takes a mark away by name alone, and with it restores what it changed. What the node is stays: a
    /// replica that nobody waits for any more does no harm.
    pub(super) async fn reap_mark(&self, artifact: &Artifact) -> Result<Answer, DriverError> {
        let address = self.address_of(&artifact.partition).await?;
        let mark = self.nodes.marks(&address).await?.into_iter().find(|m| m.name == artifact.name);
        let Some(mark) = mark.filter(|_| artifact.kind == KIND && artifact.is_ours()) else {
            return Ok(done(format!("there is no {} {} on {address}", artifact.kind, artifact.name)));
        };
        self.nodes.unmark(&address, &artifact.name).await?;
        let stays = match mark.made_replica {
            true => "; it was made a replica and stays one: CLUSTER RESET there empties it",
            false => "",
        };
        Ok(done(format!("the settings of {address} are as before{stays}")))
    }

    async fn address_of(&self, partition: &PartitionId) -> Result<String, DriverError> {
        let census = self.census().await?;
        let node = census.newest().and_then(|v| v.nodes.iter().find(|n| &self.partition_of(n) == partition));
        node.map(|n| n.address.clone()).ok_or_else(|| {
            DriverError::new(
                Retry::Permanent,
                format!("redis {}", self.options.cluster),
                format!("finding {partition}"),
                "no node of the cluster is that partition any more",
            )
        })
    }

    /// Every mark of ours on any node.
    pub(super) async fn marked(&self) -> Result<Vec<Artifact>, DriverError> {
        let census = self.census().await?;
        let Some(view) = census.newest() else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for node in view.nodes.iter().filter(|n| !census.silent.contains(&n.address)) {
            for mark in self.nodes.marks(&node.address).await? {
                found.push(Artifact {
                    kind: KIND.into(),
                    name: mark.name,
                    partition: self.partition_of(node),
                });
            }
        }
        found.sort();
        Ok(found)
    }
}

fn version(info: &Info) -> u32 {
    info.version().first().copied().unwrap_or(0)
}

/// How far a replica is.
pub(super) enum SyncState {
    /// The copy is complete and the stream runs.
    Streaming,
    /// The first copy is under way; share of 0 where the size is unknown.
    Copying { share: f64 },
    /// It does not reach its master.
    Broken,
}

/// How far the replica is whose `INFO` this is.
pub(super) fn sync_state(info: &Info) -> SyncState {
    if info.text("master_sync_in_progress") == Some("1") {
        let read = info.number("master_sync_read_bytes").unwrap_or(0.0);
        let total = info.number("master_sync_total_bytes").unwrap_or(0.0);
        SyncState::Copying { share: if total > 0.0 { (read / total).clamp(0.0, 1.0) } else { 0.0 } }
    } else if info.text("master_link_status") == Some("up") {
        SyncState::Streaming
    } else {
        SyncState::Broken
    }
}
