//! Rows to train on: history run through an assessor on the engine's own grid, its features taken every
//! so often. Samples reach it as their time comes, so nothing from after a row's time is in the row.

use std::sync::Arc;

use crate::engine::inventory::Inventory;
use crate::eval::backtest::BacktestError;
use crate::eval::backtest::feed::Feed;
use crate::fleet::{HostId, PartitionId, Span, Timestamp, Topology};
use crate::predict::failure::{FeatureSpec, live};
use crate::predict::models::FeatureMatrix;
use crate::predict::train::{Progress, Replayed};
use crate::predict::{AssessOptions, Assessor, Context};
use crate::telemetry::{PartitionIx, Source, Windows, WindowsConfig};

/// The assessor looks this often, and rows are a multiple of it apart.
const LOOK: Span = Span::minutes(5);
/// Rows that are kept at most; a fleet with more gets them further apart.
pub(super) const MOST_ROWS: i64 = 1_500_000;
/// Windows that are kept beside rows at most: 2 KB each.
const MOST_WINDOWS: usize = 20_000;
/// Rows begin when an assessor has learnt what is normal: after a sixth of the span, at most a day.
const LEARN_AT_MOST: Span = Span::days(1);

/// What is read.
pub(super) struct Past {
    /// Where samples come from.
    pub(super) source: Arc<dyn Source>,
    /// How assessments are made.
    pub(super) assess: AssessOptions,
    /// The grid.
    pub(super) windows: WindowsConfig,
    /// What stands where.
    pub(super) inventory: Inventory,
    /// The first sample.
    pub(super) from: Timestamp,
    /// The last.
    pub(super) until: Timestamp,
    /// What the rows hold.
    pub(super) spec: FeatureSpec,
    /// Most rows; a fleet with more gets them further apart.
    pub(super) most_rows: i64,
    /// Steps of the windows that are kept beside some of the rows; 0 = none.
    pub(super) window: usize,
}

/// Rows with whom and when each is of. Units are hosts: partitions of one host fail together, and must
/// not be learnt from on one side of a split and judged on the other.
pub(super) struct Rows {
    /// The rows and their units.
    pub(super) replayed: Replayed,
    /// Partition of each row, as an index into `partitions`.
    pub(super) of: Vec<u32>,
    /// Time of each row.
    pub(super) times: Vec<Timestamp>,
    /// All partitions.
    pub(super) partitions: Vec<PartitionId>,
    /// Samples read.
    pub(super) points: u64,
    /// Between two rows of a partition.
    pub(super) every: Span,
}

/// Reads it.
///
/// # Errors
/// The source fails.
pub(super) async fn gather(past: Past, progress: &mut dyn FnMut(Progress)) -> Result<Rows, BacktestError> {
    let Past { source, mut assess, windows, mut inventory, from, until, spec, most_rows, window } = past;
    // Forecasts and combinations are no feature; making them would be most of the time.
    assess.forecast.budget = 0;
    assess.combined.fits = 0;
    let mut assessor = Assessor::new(assess);
    let mut windows = Windows::new(windows, from);
    let mut feed = Feed::new(source, from, until, windows.config().step);
    let mut rows = Rows {
        replayed: Replayed { rows: FeatureMatrix::empty(spec.width()), ..Replayed::default() },
        of: Vec::new(),
        times: Vec::new(),
        partitions: Vec::new(),
        points: 0,
        every: LOOK,
    };
    let first = from + Span((until - from).0 / 6).min(LEARN_AT_MOST);
    let mut hosts: Vec<HostId> = Vec::new();
    let mut units: Vec<u32> = Vec::new();
    let mut on_host = std::collections::HashMap::new();
    let (mut now, mut next) = (from + LOOK, first);
    while now <= until {
        windows.advance(now);
        feed.until(now).await?.pour(&mut windows, &on_host);
        let seen = windows.partitions().len();
        if units.len() != seen {
            inventory.rebuild(windows.partitions(), windows.labels());
            on_host = places(inventory.topology());
            for partition in &windows.partitions()[units.len()..] {
                let host = partition.host();
                let known = hosts.iter().position(|h| *h == host);
                units.push(known.unwrap_or(hosts.len()) as u32);
                if known.is_none() {
                    hosts.push(host);
                }
            }
        }
        assessor.assess(&windows, &Context { topology: inventory.topology(), failures: &[] }, now);
        if now >= next && seen > 0 {
            if rows.times.is_empty() {
                rows.every = spacing(until - now, seen, most_rows);
            }
            take(&mut rows, &spec, &assessor, &windows, &units, now);
            if window > 0 {
                let all = (until - first).0 / rows.every.0.max(1) * seen as i64;
                keep_windows(&mut rows, (&spec, window), &assessor, &windows, now, all as usize);
            }
            next = now + rows.every;
        }
        let share = (now - from).0 as f64 / (until - from).0.max(1) as f64;
        progress(Progress { what: "replaying history".into(), share });
        now += LOOK;
    }
    rows.partitions = windows.partitions().to_vec();
    rows.points = feed.points;
    Ok(rows)
}

/// Far enough apart that so many partitions give no more than the most rows.
fn spacing(left: Span, partitions: usize, most: i64) -> Span {
    let all = (left.0 / LOOK.0.max(1)).saturating_mul(partitions as i64);
    Span(LOOK.0 * ((all + most - 1) / most).max(1))
}

fn take(
    rows: &mut Rows,
    spec: &FeatureSpec,
    assessor: &Assessor,
    windows: &Windows,
    units: &[u32],
    now: Timestamp,
) {
    let features = live::features(spec, assessor, windows);
    for (index, said) in assessor.assessments().iter().enumerate() {
        // A partition that is not known now is no row.
        if said.instability.is_none() || index >= features.rows() {
            continue;
        }
        rows.replayed.rows.push(features.row(index));
        rows.replayed.units.push(units[index]);
        rows.replayed.slots.push(0);
        rows.of.push(index as u32);
        rows.times.push(now);
    }
}

/// Keeps the windows beside some of the rows of this moment, of partitions in turn, so that of `all` rows that are
/// to be expected no more than the most have one.
fn keep_windows(
    rows: &mut Rows,
    (spec, steps): (&FeatureSpec, usize),
    assessor: &Assessor,
    windows: &Windows,
    now: Timestamp,
    all: usize,
) {
    let every = all.div_ceil(MOST_WINDOWS).max(1);
    let turn = (now.0 / LOOK.0) as usize;
    let of_now = rows.times.partition_point(|at| *at < now)..rows.times.len();
    for row in of_now.filter(|row| (row + turn).is_multiple_of(every)) {
        if let Some(window) = live::window_of(spec, assessor, windows, PartitionIx(rows.of[row]), steps) {
            rows.replayed.windows.extend(window);
            rows.replayed.window_rows.push(row);
        }
    }
}

/// Partitions by the name of their host, where they bear names of their own.
fn places(topology: &Topology) -> std::collections::HashMap<PartitionId, Vec<PartitionId>> {
    let mut on_host: std::collections::HashMap<PartitionId, Vec<PartitionId>> = Default::default();
    for partition in topology.partitions.iter().filter(|p| p.id.as_str() != p.host.as_str()) {
        on_host.entry(PartitionId::of(&partition.host, "")).or_default().push(partition.id.clone());
    }
    on_host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_fleet_gets_rows_further_apart() {
        assert_eq!(spacing(Span::days(30), 100, MOST_ROWS), LOOK);
        let apart = spacing(Span::days(30), 1000, MOST_ROWS);
        assert_eq!(apart, Span::minutes(30));
        assert!(Span::days(30).0 / apart.0 * 1000 <= MOST_ROWS);
    }
}
