//! Sections `plan`, `limits` and `migration`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::quantity::{self, TimeOfDay};
use crate::fleet::{Bytes, Probability, Share, Span};

fn probability(value: f64) -> Probability {
    Probability::clamped(value).unwrap_or(Probability::MIN)
}

fn share(value: f64) -> Share {
    Share::clamped(value).unwrap_or(Share::MIN)
}

/// Section `[plan]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// From which probability on, for which window, a partition is expected to fail.
    pub thresholds: Vec<Threshold>,
    /// How often a threshold must be crossed before it counts.
    pub confirm: Confirm,
    /// Failure Risk Score from which on a host is listed and emptied.
    #[serde(with = "quantity::probability")]
    pub host_risk: Probability,
    /// Higher = fewer moves for the sake of the desired footprint: how low a workload's Health Projection
    /// Score may be before it counts as misplaced.
    #[serde(with = "quantity::share")]
    pub risk_tolerance: Share,
    /// Share of misplaced workloads that makes a plan; 100 % = never.
    #[serde(with = "quantity::share")]
    pub footprint_from: Share,
    /// A proposal that is older than this can no longer be approved.
    #[serde(with = "quantity::span")]
    pub max_proposal_age: Span,
    /// Many predictions at once are likely a measuring fault: automatic mode freezes.
    pub storm: Storm,
    /// What copies of one workload must not share.
    pub anti_affinity: Vec<AntiAffinity>,
    /// How long a partition is left alone after a move.
    #[serde(with = "quantity::span")]
    pub cool_down: Span,
    /// A destination is not filled beyond this share of its capacity.
    #[serde(with = "quantity::share")]
    pub fill_limit: Share,
    /// A destination and its host are not loaded beyond this share of their processing.
    #[serde(with = "quantity::share")]
    pub most_load: Share,
    /// What happens where a preferred target is not available: `next_best` or `hold`.
    pub preferred_unavailable: PreferredUnavailable,
    /// Only workloads with these labels are moved; empty = all.
    pub candidates: BTreeMap<String, String>,
    /// Only hosts with these labels are destinations; empty = all.
    pub destinations: BTreeMap<String, String>,
}

impl Default for Plan {
    fn default() -> Self {
        let threshold = |within, on, off| Threshold { within, on: probability(on), off: probability(off) };
        Self {
            thresholds: vec![
                threshold(Span::minutes(15), 0.5, 0.3),
                threshold(Span::hours(1), 0.6, 0.4),
                threshold(Span::hours(24), 0.8, 0.6),
            ],
            confirm: Confirm::default(),
            host_risk: probability(0.6),
            risk_tolerance: share(0.5),
            footprint_from: share(1.0),
            max_proposal_age: Span::minutes(15),
            storm: Storm::default(),
            anti_affinity: vec![AntiAffinity::Host, AntiAffinity::Rack],
            cool_down: Span::minutes(30),
            fill_limit: share(0.85),
            most_load: share(0.8),
            preferred_unavailable: PreferredUnavailable::NextBest,
            candidates: BTreeMap::new(),
            destinations: BTreeMap::new(),
        }
    }
}

/// A threshold with hysteresis: `[[plan.thresholds]]`.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// The window; one of `predict.windows`.
    #[serde(with = "quantity::span")]
    pub within: Span,
    /// At or over this probability it counts as crossed.
    #[serde(with = "quantity::probability")]
    pub on: Probability,
    /// Under this one it counts as well again; below `on`.
    #[serde(with = "quantity::probability")]
    pub off: Probability,
}

/// `[plan.confirm]`: k of the last n cycles must cross.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Confirm {
    /// So many cycles …
    pub k: usize,
    /// … of the last so many.
    pub n: usize,
}

impl Default for Confirm {
    fn default() -> Self {
        Self { k: 3, n: 4 }
    }
}

/// `[plan.storm]`: the storm brake.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storm {
    /// More than this share of all partitions predicted to fail at once freezes automatic mode …
    #[serde(with = "quantity::share")]
    pub share: Share,
    /// … where they are at least so many.
    pub number: usize,
    /// It is released when it has been calm for so long.
    #[serde(with = "quantity::span")]
    pub calm: Span,
}

impl Default for Storm {
    fn default() -> Self {
        Self { share: share(0.1), number: 5, calm: Span::minutes(10) }
    }
}

/// What two copies of one workload must not share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AntiAffinity {
    /// A host.
    Host,
    /// A rack.
    Rack,
    /// A site.
    Site,
}

/// What happens where a preferred target is not available.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreferredUnavailable {
    /// The next best is taken, and it is recorded and told.
    #[default]
    NextBest,
    /// Nothing is moved, and it is told.
    Hold,
}

/// Section `[limits]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How many moves may run at once.
    pub moves: MovesLimit,
    /// How many moves may start within any hour.
    pub moves_per_hour: usize,
    /// How fast data may begin to be copied, all moves together; less while that is a strain.
    #[serde(with = "quantity::bytes")]
    pub bytes_per_second: Bytes,
    /// The share of the fleet's hosts that may be emptied or being emptied at once.
    #[serde(with = "quantity::share")]
    pub fleet_share: Share,
    /// When automatic moves may start; none = always.
    pub windows: Vec<MaintenanceWindow>,
    /// A failure at least this probable may be averted outside the windows, too.
    #[serde(with = "quantity::probability")]
    pub outside_windows_from: Probability,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            moves: MovesLimit::default(),
            moves_per_hour: 60,
            bytes_per_second: Bytes(200_000_000),
            fleet_share: share(0.2),
            windows: Vec::new(),
            outside_windows_from: probability(0.9),
        }
    }
}

/// `[limits.moves]`: how many moves may run at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MovesLimit {
    /// In the whole fleet.
    pub fleet: usize,
    /// From or to one site.
    pub site: usize,
    /// From or to one rack.
    pub rack: usize,
    /// From or to one host.
    pub host: usize,
}

impl Default for MovesLimit {
    fn default() -> Self {
        Self { fleet: 8, site: 6, rack: 4, host: 2 }
    }
}

/// A weekly range of time, in UTC: `[[limits.windows]]`. One that ends before it begins goes over
/// midnight and belongs to the day it begins on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceWindow {
    /// The days it begins on; empty = every day.
    #[serde(default)]
    pub days: Vec<Weekday>,
    /// When it begins.
    pub from: TimeOfDay,
    /// When it ends.
    pub to: TimeOfDay,
}

/// A day of the week.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weekday {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// Section `[migration]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Migration {
    /// The canary's steps, growing; none = no canary.
    pub canary: Vec<CanarySetting>,
    /// The canary stops where the destination's p99 is over the source's by more than this share, and by
    /// more than `latency_margin_ms`.
    pub p99_tolerance: f64,
    /// A destination that is slower by less than so many milliseconds is not called slow, however certain it is.
    pub latency_margin_ms: f64,
    /// Fewest samples of a side before a canary step is judged.
    pub min_samples: u64,
    /// How long the new owner is watched before the source is let go.
    #[serde(with = "quantity::span")]
    pub soak: Span,
    /// Whether all of both sides is compared once more after that, where the driver can.
    pub compare_after_soak: bool,
    /// How often a failed move is tried again.
    pub retries: u32,
    /// The wait before the first retry; it doubles with each.
    #[serde(with = "quantity::span")]
    pub retry_after: Span,
    /// Longest time that writes may be held at the cut; missed = let go and try later.
    #[serde(with = "quantity::span")]
    pub fence_budget: Span,
    /// What becomes of the source: `standby` or `decommission`.
    pub after: AfterMove,
    /// How long the single phases may take.
    pub timeouts: Timeouts,
}

impl Default for Migration {
    fn default() -> Self {
        let step = |percent: f64, hold| CanarySetting { share: share(percent / 100.0), hold };
        Self {
            canary: vec![
                step(5.0, Span::seconds(30)),
                step(25.0, Span::seconds(30)),
                step(100.0, Span::seconds(30)),
            ],
            p99_tolerance: 0.25,
            latency_margin_ms: 0.5,
            min_samples: 100,
            soak: Span::minutes(2),
            compare_after_soak: true,
            retries: 3,
            retry_after: Span::seconds(5),
            fence_budget: Span::millis(500),
            after: AfterMove::Standby,
            timeouts: Timeouts::default(),
        }
    }
}

/// One canary step: `[[migration.canary]]`.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanarySetting {
    /// Share of reads (stateful) or of traffic (stateless).
    #[serde(with = "quantity::share")]
    pub share: Share,
    /// For how long, at least.
    #[serde(with = "quantity::span")]
    pub hold: Span,
}

/// What becomes of the emptied source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterMove {
    /// It stays as a copy and is watched.
    #[default]
    Standby,
    /// It is taken out of service.
    Decommission,
}

/// `[migration.timeouts]`: how long the single phases may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// Making what the destination needs.
    #[serde(with = "quantity::span")]
    pub prepare: Span,
    /// Copying, at least; longer for larger workloads, by `copy_rate`.
    #[serde(with = "quantity::span")]
    pub copy: Span,
    /// A second; slower is too slow, and the migration holds.
    #[serde(with = "quantity::bytes")]
    pub copy_rate: Bytes,
    /// Catching up with the stream, at least; longer for larger workloads, by `copy_rate`.
    #[serde(with = "quantity::span")]
    pub catch_up: Span,
    /// Comparing both sides, at least; longer for larger workloads, by `copy_rate`.
    #[serde(with = "quantity::span")]
    pub verify: Span,
    /// Any single call of a driver.
    #[serde(with = "quantity::span")]
    pub call: Span,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            prepare: Span::minutes(2),
            copy: Span::seconds(60),
            copy_rate: Bytes(10_000_000),
            catch_up: Span::seconds(60),
            verify: Span::seconds(60),
            call: Span::seconds(10),
        }
    }
}
