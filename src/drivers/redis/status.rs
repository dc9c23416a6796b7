//! Where a job is, what a canary measured, and the exact commands, for people.

use std::time::Duration;

use super::canary;
use super::compare::Pair;
use super::prepare::{SyncState, mark_name, sync_state};
use super::view::{Health, Node};
use super::{AfterMove, RedisMover, done};
use crate::drivers::error::DriverError;
use crate::drivers::mover::{Answer, CanarySample, Job, JobStatus};
use crate::fleet::{Bytes, PartitionId, Share, Span, Timestamp};

impl RedisMover {
    pub(super) async fn job_status(&self, job: &Job) -> Result<JobStatus, DriverError> {
        let stage = self.stage(job).await?;
        let (owner, other) = stage.owner_and_other();
        let (ours, theirs) = futures::join!(self.nodes.info(&owner.address), self.nodes.info(&other.address));
        let alive = |node: &Node, answered: bool| answered && node.health != Health::Failed;
        let (source_answers, destination_answers) = if stage.owned_by_destination() {
            (theirs.is_ok(), ours.is_ok())
        } else {
            (ours.is_ok(), theirs.is_ok())
        };
        let size = ours.as_ref().ok().and_then(|i| i.whole("used_memory_dataset")).unwrap_or(0);
        let follows = theirs.as_ref().is_ok_and(|i| i.text("role") == Some("slave"));
        let sync = theirs.as_ref().ok().filter(|_| follows).map(sync_state);
        let (copied, streaming) = match sync {
            Some(SyncState::Streaming) => (size, true),
            Some(SyncState::Copying { share }) => ((size as f64 * share) as u64, false),
            _ => (0, false),
        };
        let lag = if streaming {
            match self.pair(&stage).wait_until_applied(Duration::from_millis(200)).await {
                Ok(behind) => Some(Span::from(behind)),
                // More than it could be watched for: the master's own count, in whole seconds.
                Err(_) => ours.as_ref().ok().and_then(|i| slave_lag(i.text("slave0"))),
            }
        } else {
            None
        };
        let mut notes = Vec::new();
        if let Ok(info) = &ours {
            if info.text("rdb_bgsave_in_progress") == Some("1") {
                let copied = Bytes(info.whole("current_cow_size").unwrap_or(0));
                notes.push(format!("fork for the snapshot: {copied} copied on write"));
            }
            let (backlog, writes) = (
                info.whole("repl_backlog_size").unwrap_or(0),
                info.number("instantaneous_input_kbps").unwrap_or(0.0),
            );
            if writes * 1024.0 * 10.0 > backlog as f64 {
                notes.push(format!(
                    "the replication backlog of {} holds under 10 s of writes",
                    Bytes(backlog)
                ));
            }
        }
        let owner = stage.owner.as_ref().and_then(|id| stage.census.best(stage.slot)?.node(id));
        Ok(JobStatus {
            copied: Bytes(copied),
            total: Bytes(size),
            streaming,
            lag,
            source_alive: alive(&stage.source, source_answers),
            destination_alive: alive(&stage.destination, destination_answers),
            owner: owner.map(|n| self.partition_of(n)),
            note: notes.join("; "),
            broken: None,
            can_call_off: false,
        })
    }

    /// Starts canary reads at a share of the configured rate, or ends them.
    pub(super) async fn canary(&self, job: &Job, share: Share) -> Result<Answer, DriverError> {
        if share.get() == 0.0 {
            self.with_work(job, |w| w.sampler = None);
            return Ok(done("no canary reads"));
        }
        let rate = self.canary_rate(share);
        if self.with_work(job, |w| w.sampler.as_ref().map(|s| s.rate)) != Some(rate) {
            self.sample(job, rate).await?;
        }
        Ok(done(format!(
            "{rate} real reads a second on both sides, compared by value; clients stay where they are"
        )))
    }

    /// Reads per second of a step: clients can't be steered, so the share scales our own reads.
    pub(super) fn canary_rate(&self, share: Share) -> u32 {
        let rate = f64::from(self.options.canary_reads_per_s) * share.get();
        (rate.ceil() as u32).max(10)
    }

    async fn sample(&self, job: &Job, rate: u32) -> Result<(), DriverError> {
        let stage = self.stage(job).await?;
        let pair = Pair {
            owner: stage.source.address.clone(),
            other: stage.destination.address.clone(),
            ..self.pair(&stage)
        };
        self.with_work(job, |w| w.sampler = Some(canary::start(pair, stage.slot, rate)));
        Ok(())
    }

    pub(super) async fn measured(
        &self,
        job: &Job,
        since: Timestamp,
    ) -> Result<(CanarySample, CanarySample), DriverError> {
        if !self.with_work(job, |w| w.sampler.is_some()) {
            self.sample(job, self.options.canary_reads_per_s).await?;
        }
        Ok(self.with_work(job, |w| w.sampler.as_ref().map(|s| s.since(since))).unwrap_or_default())
    }

    /// What will be sent, in order.
    pub(super) fn commands(&self, job: &Job) -> Vec<String> {
        let known = self.known.lock().map(|v| v.clone()).unwrap_or_default();
        let find = |partition: &PartitionId| known.nodes.iter().find(|n| &self.partition_of(n) == partition);
        let (source_node, destination_node) = (find(&job.source), find(&job.destination));
        let address = |node: Option<&Node>, partition: &PartitionId| {
            node.map_or_else(|| partition.to_string(), |n| n.address.clone())
        };
        let (source, destination) =
            (address(source_node, &job.source), address(destination_node, &job.destination));
        let mark = mark_name(job);
        let set = format!("CONFIG SET proc-title-template \"… {mark}\" cluster-allow-replica-migration no");
        let follows = source_node
            .zip(destination_node)
            .is_some_and(|(s, d)| d.role == super::view::Role::ReplicaOf(s.id.clone()));
        let at_once = if follows { "" } else { " repl-diskless-sync-delay 0" };
        let load = if follows { "" } else { " repl-diskless-load on-empty-db" };
        let mut lines = vec![format!("{destination}> {set}{load}"), format!("{source}> {set}{at_once}")];
        if !follows {
            let id = source_node.map_or("<id of the source>", |n| n.id.as_str());
            lines.push(format!("{destination}> CLUSTER REPLICATE {id}"));
        }
        lines.extend([
            format!(
                "{source}> SCAN, then GETRANGE/HSCAN/SSCAN/ZRANGE/LRANGE/XRANGE + PEXPIRETIME of every key"
            ),
            format!("{destination}> READONLY, then the same reads"),
            format!("{source}> CLIENT PAUSE {} WRITE", self.options.pause_budget.0),
            format!("{source}> CLIENT UNPAUSE"),
            format!("{destination}> CLUSTER FAILOVER"),
            "every node> CLUSTER NODES".to_string(),
            "both> the same reads once more after the watch (migration.compare_after_soak)".to_string(),
        ]);
        if self.options.after_move == AfterMove::Forget {
            let id = source_node.map_or("<id of the source>", |n| n.id.as_str());
            lines.push(format!("{source}> CLUSTER RESET SOFT"));
            lines.push(format!("every other node> CLUSTER FORGET {id}"));
        }
        let restore = "CONFIG SET proc-title-template \"…\" cluster-allow-replica-migration <as before>";
        let delay = if follows { "" } else { " repl-diskless-sync-delay <as before>" };
        let load = if follows { "" } else { " repl-diskless-load <as before>" };
        lines.extend([format!("{destination}> {restore}{load}"), format!("{source}> {restore}{delay}")]);
        lines.push(format!("way back: {source}> CLUSTER FAILOVER"));
        lines
    }
}

/// `ip=…,lag=1` of a master's `slave0` line.
fn slave_lag(line: Option<&str>) -> Option<Span> {
    let seconds = line?.split(',').find_map(|f| f.strip_prefix("lag="))?.parse::<i64>().ok()?;
    Some(Span::seconds(seconds.max(1)))
}
