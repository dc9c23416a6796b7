//! The book of what was injected and what it cost: faults with what became of them, and how long
//! which workload was unavailable. Two runs of one seed, with and without an engine that acts, are
//! compared by it; nothing in it is assumed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::faults::FaultKind;
use crate::fleet::{HostId, PartitionId, Timestamp, WorkloadId};

/// One injected fault and what became of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// What.
    pub kind: FaultKind,
    /// It passes by itself.
    pub harmless: bool,
    /// Where.
    pub host: HostId,
    /// The partitions that it strikes.
    pub partitions: Vec<PartitionId>,
    /// When it was injected; of one without warning, when it kills.
    pub injected_at: Timestamp,
    /// Workloads on these partitions then.
    pub at_risk: usize,
    /// When the partitions died.
    pub died: Option<Timestamp>,
    /// Workloads that were still on them when they died.
    pub lost: usize,
}

impl Failure {
    /// It killed, and everything had been moved away before.
    pub fn averted(&self) -> bool {
        self.died.is_some() && self.at_risk > 0 && self.lost == 0
    }

    /// It killed, and took workloads along.
    pub fn missed(&self) -> bool {
        self.died.is_some() && self.lost > 0
    }
}

/// Why a workload was unavailable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Its partition died; until a copy was promoted or it was restored.
    Failure,
    /// Writes were held for the cut of a migration.
    Cut,
}

/// A time in which a workload was unavailable.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Outage {
    /// Which.
    pub workload: WorkloadId,
    /// Why.
    pub cause: Cause,
    /// From when.
    pub from: Timestamp,
    /// Until when; `None` = it still is.
    pub until: Option<Timestamp>,
}

/// The book.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// Faults injected so far, by time.
    pub failures: Vec<Failure>,
    /// Outages so far, by their beginning.
    pub outages: Vec<Outage>,
}

impl Ledger {
    /// Seconds that each workload was unavailable until `now`; those that never were are left out.
    pub fn unavailable_s(&self, now: Timestamp) -> BTreeMap<WorkloadId, f64> {
        let mut all = BTreeMap::new();
        for outage in &self.outages {
            let until = outage.until.unwrap_or(now).max(outage.from);
            *all.entry(outage.workload.clone()).or_insert(0.0) += (until - outage.from).as_seconds();
        }
        all
    }

    /// Seconds of all workloads together.
    pub fn total_unavailable_s(&self, now: Timestamp) -> f64 {
        self.unavailable_s(now).values().sum()
    }

    /// Whether a fault that kills was at work on `partition` at `at`: a move away from it then was
    /// no false one.
    pub fn failing(&self, partition: &PartitionId, at: Timestamp) -> bool {
        self.failures.iter().any(|f| {
            !f.harmless
                && f.injected_at <= at
                && f.died.is_none_or(|died| at <= died)
                && f.partitions.contains(partition)
        })
    }

    pub(crate) fn begin(&mut self, workload: &WorkloadId, cause: Cause, from: Timestamp) {
        if !self.outages.iter().any(|o| &o.workload == workload && o.until.is_none()) {
            self.outages.push(Outage { workload: workload.clone(), cause, from, until: None });
        }
    }

    /// Ends the outage of that cause, if there is one.
    pub(crate) fn end(&mut self, workload: &WorkloadId, cause: Cause, until: Timestamp) {
        for outage in self.outages.iter_mut().rev() {
            if &outage.workload == workload && outage.cause == cause && outage.until.is_none() {
                outage.until = Some(until.max(outage.from));
            }
        }
    }
}
