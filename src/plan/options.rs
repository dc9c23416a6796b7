//! What can be set about planning: thresholds, who may move, where to, how much at once. The
//! configuration maps onto these.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::proposal::{CanaryPlan, CanaryStep};
use crate::drivers::Capabilities;
use crate::fleet::{Bytes, Probability, Share, Span, Timestamp};
use crate::predict::WindowThreshold;
use crate::predict::hysteresis::HysteresisOptions;

/// How plans are made.
#[derive(Clone, PartialEq, Debug)]
pub struct PlanOptions {
    /// Probability per window that makes a partition a source; the prediction's state machine uses
    /// the same with k-of-n.
    pub thresholds: Vec<WindowThreshold>,
    /// A host's Failure Risk Score at or over which all its partitions that do not look well are
    /// sources.
    pub host_risk: Probability,
    /// Risks are counted over this window.
    pub window: Span,
    /// Who may move.
    pub candidates: CandidateRules,
    /// Where to.
    pub destinations: DestinationRules,
    /// How much at once.
    pub limits: Limits,
    /// When many predictions at once are taken for a measuring fault.
    pub storm: StormBrake,
    /// The canary of each move.
    pub canary: CanaryPlan,
    /// How long switched workloads are watched.
    pub soak: Span,
    /// How long a proposal may be approved.
    pub valid_for: Span,
    /// Classes of workloads and what their drivers can do; a class that is not here gets the
    /// defaults of [`ClassPolicy`].
    pub classes: Vec<ClassPolicy>,
    /// 0 to 1; higher = fewer shifts for the sake of the desired footprint.
    pub risk_tolerance: Share,
    /// Share of the workloads off the desired footprint that makes a plan; 1 = never.
    pub footprint_discrepancy: Share,
}

/// Which workloads may be moved by the engine's own initiative.
#[derive(Clone, PartialEq, Debug)]
pub struct CandidateRules {
    /// Only these kinds of state.
    pub state: StateRule,
    /// A workload with any of these labels stays: key and value, empty value = any.
    pub keep_labels: Vec<(String, String)>,
    /// Only workloads with all of these labels move: key and value, empty value = any; empty = all.
    pub only_labels: Vec<(String, String)>,
    /// Bigger ones stay.
    pub most_data: Option<Bytes>,
    /// Ones that change faster than this share of the copy's bandwidth stay: the copy would not
    /// catch up.
    pub most_write_share: f64,
}

/// Whether labels hold a wanted one: key and value, empty value = any.
pub(super) fn has_label(labels: &BTreeMap<String, String>, (key, value): &(String, String)) -> bool {
    labels.get(key).is_some_and(|found| value.is_empty() || found == value)
}

/// Whether workloads with state move.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateRule {
    /// All move.
    #[default]
    Any,
    /// Only those that need no copying of data.
    StatelessOnly,
}

/// Where workloads may go.
#[derive(Clone, PartialEq, Debug)]
pub struct DestinationRules {
    /// Only partitions of hosts with all of these labels: key and value, empty value = any; empty = all.
    pub only_labels: Vec<(String, String)>,
    /// A destination's probability of failing within the planning window is below this.
    pub most_probability: Probability,
    /// Its health score is at least this.
    pub least_health: f64,
    /// Share of its host's data capacity after the move.
    pub most_data: Share,
    /// Share of its host's processing after the move.
    pub most_load: Share,
    /// Whether copies of one workload may share a rack.
    pub apart_by_rack: Apart,
    /// Whether copies of one workload may share a site.
    pub apart_by_site: Apart,
    /// Targets set beforehand.
    pub preferred: Vec<Preferred>,
    /// What to do when such a target cannot be taken.
    pub preferred_unavailable: PreferredUnavailable,
}

/// How strictly copies are kept apart. On one host they never share.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Apart {
    /// Never together.
    Must,
    /// Together only where nothing else is left, and then it is stated as a risk.
    #[default]
    Prefer,
    /// It does not matter.
    Ignore,
}

/// A target set beforehand.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Preferred {
    /// Name of a workload, an application, a partition or a host that is emptied.
    pub subject: String,
    /// Name of the partition or host to go to.
    pub target: String,
}

/// What to do when a preferred target cannot be taken; it is alerted in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreferredUnavailable {
    /// Take the next best.
    #[default]
    NextBest,
    /// Leave the workload where it is.
    Hold,
}

/// How much may move at once. Zero means none.
#[derive(Clone, PartialEq, Debug)]
pub struct Limits {
    /// Moves running in the whole fleet.
    pub fleet: u32,
    /// Moves running from or to one site.
    pub site: u32,
    /// Moves running from or to one rack.
    pub rack: u32,
    /// Moves running from or to one host.
    pub host: u32,
    /// Moves started in any hour.
    pub per_hour: u32,
    /// A workload that has moved stays at least this long.
    pub cool_down: Span,
    /// Share of the fleet's hosts that may be emptied or emptying at once.
    pub share_of_hosts: Share,
    /// Nothing moves by the engine's own initiative in these times: from, until, why.
    pub freezes: Vec<(Timestamp, Timestamp, String)>,
}

/// Many predictions at once are more likely a measuring fault than many failures. Any one of these
/// holds everything automatic and alerts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StormBrake {
    /// More partitions than this are expected to fail.
    pub most_partitions: usize,
    /// More than this share of the partitions with data (and at least three).
    pub most_share: Share,
    /// More racks than this are affected (by at least three partitions).
    pub most_racks: usize,
}

/// What is known of a class of workloads and its driver.
#[derive(Clone, PartialEq, Debug)]
pub struct ClassPolicy {
    /// Its name.
    pub class: String,
    /// What its driver can do.
    pub capabilities: Capabilities,
    /// Where its driver can move to.
    pub places: Places,
    /// Copying, bytes per second.
    pub bandwidth: f64,
    /// What a move takes beside the copying: preparing, verifying, the cut.
    pub overhead: Span,
    /// How long writes are held at the cut.
    pub blackout: Span,
    /// How long a workload is away when its partition fails and a copy takes over.
    pub failover: Span,
    /// How long it is away when there is no copy: restored from a backup.
    pub restore: Span,
}

/// Where a driver can move to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Places {
    /// Any partition of the same class.
    #[default]
    SameClass,
    /// A partition that holds a copy already, or one of the class that holds nothing.
    CopyOrEmpty,
    /// Only a partition that holds a copy already.
    CopyOnly,
}

impl Default for PlanOptions {
    fn default() -> Self {
        let step = |share, minutes| CanaryStep {
            share: Share::clamped(share).unwrap_or(Share::MIN),
            duration: Span::minutes(minutes),
        };
        Self {
            thresholds: HysteresisOptions::default().thresholds,
            host_risk: p(0.6),
            window: Span::hours(1),
            candidates: CandidateRules::default(),
            destinations: DestinationRules::default(),
            limits: Limits::default(),
            storm: StormBrake::default(),
            canary: CanaryPlan {
                steps: vec![step(0.05, 2), step(0.25, 2), step(0.5, 1)],
                p99_tolerance: 0.25,
                latency_margin_ms: 0.5,
                min_samples: 200,
            },
            soak: Span::minutes(10),
            valid_for: Span::minutes(15),
            classes: Vec::new(),
            risk_tolerance: share(0.5),
            footprint_discrepancy: share(1.0),
        }
    }
}

impl Default for CandidateRules {
    fn default() -> Self {
        Self {
            state: StateRule::Any,
            keep_labels: Vec::new(),
            only_labels: Vec::new(),
            most_data: None,
            most_write_share: 0.8,
        }
    }
}

impl Default for DestinationRules {
    fn default() -> Self {
        Self {
            only_labels: Vec::new(),
            most_probability: p(0.1),
            least_health: 70.0,
            most_data: share(0.8),
            most_load: share(0.8),
            apart_by_rack: Apart::Prefer,
            apart_by_site: Apart::Ignore,
            preferred: Vec::new(),
            preferred_unavailable: PreferredUnavailable::NextBest,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fleet: 4,
            site: 3,
            rack: 2,
            host: 2,
            per_hour: 30,
            cool_down: Span::minutes(30),
            share_of_hosts: share(0.2),
            freezes: Vec::new(),
        }
    }
}

impl Default for StormBrake {
    fn default() -> Self {
        Self { most_partitions: 8, most_share: share(0.15), most_racks: 2 }
    }
}

impl ClassPolicy {
    /// A class of which only the name is known: any partition of the class, 40 MB/s, nothing
    /// promised of its driver.
    pub fn unknown(class: &str) -> Self {
        Self {
            class: class.to_string(),
            capabilities: Capabilities::default(),
            places: Places::SameClass,
            bandwidth: 40e6,
            overhead: Span::seconds(20),
            blackout: Span::seconds(1),
            failover: Span::minutes(3),
            restore: Span::minutes(30),
        }
    }
}

impl PlanOptions {
    /// The policy of a class, by name.
    pub fn class(&self, class: &str) -> ClassPolicy {
        self.classes.iter().find(|c| c.class == class).cloned().unwrap_or_else(|| ClassPolicy::unknown(class))
    }
}

fn p(x: f64) -> Probability {
    Probability::clamped(x).unwrap_or(Probability::MIN)
}

fn share(x: f64) -> Share {
    Share::clamped(x).unwrap_or(Share::MIN)
}
