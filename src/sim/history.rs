//! A few days of the fleet's past, written ahead, so that baselines exist at the first glance: fine
//! for the newest hours, coarse before.

use rayon::prelude::*;

use super::fleet::Layout;
use super::load::{Effects, METRICS, reading, rhythm};
use super::noise::Noise;
use crate::fleet::rng::Random;
use crate::fleet::{PartitionId, Span, Timestamp};
use crate::telemetry::{Batch, CANONICAL};

/// How much past is written, and how finely.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct HistoryPlan {
    /// All of it.
    pub span: Span,
    /// Time between two samples of the older part.
    pub coarse: Span,
    /// The newest part that is fine.
    pub fine_for: Span,
    /// Time between two samples of it.
    pub fine: Span,
}

impl Default for HistoryPlan {
    /// Three days in steps of 5 minutes, the newest 2 h 10 in steps of 30 s.
    fn default() -> Self {
        Self {
            span: Span::days(3),
            coarse: Span::minutes(5),
            fine_for: Span::minutes(130),
            fine: Span::seconds(30),
        }
    }
}

impl HistoryPlan {
    /// The points in time of a history that ends before `end`.
    fn times(&self, end: Timestamp) -> Vec<Timestamp> {
        let fine_from = (end - self.fine_for).floor(self.coarse);
        let mut times = Vec::new();
        let mut at = (end - self.span).floor(self.coarse);
        while at < end {
            times.push(at);
            at += if at < fine_from { self.coarse } else { self.fine };
        }
        times
    }
}

/// The past of every partition before `end`, in order of the partitions; on all cores.
pub(crate) fn history(
    seed: u64,
    layout: &Layout,
    plan: &HistoryPlan,
    end: Timestamp,
) -> Vec<(PartitionId, Batch)> {
    let times = plan.times(end);
    let root = Random::new(seed).fork("history");
    // Traffic of an application at each point, once for all partitions.
    let rhythms: Vec<Vec<f32>> = layout
        .applications
        .par_iter()
        .map(|a| times.iter().map(|at| rhythm(a.kind, a.seed, a.zone_h, *at)).collect())
        .collect();
    layout
        .partitions
        .par_iter()
        .enumerate()
        .map(|(p, partition)| {
            let mut asked = vec![0.0f32; layout.applications.len()];
            for w in layout.workloads.iter().filter(|w| w.partition == p) {
                asked[w.application] += (w.requests_per_s / partition.capacity) as f32;
            }
            let mut noise = Noise::new(root.fork(partition.id.as_str()));
            let mut columns: Vec<Vec<f32>> = (0..METRICS).map(|_| Vec::with_capacity(times.len())).collect();
            let mut before = times.first().copied().unwrap_or(end);
            for (i, &at) in times.iter().enumerate() {
                let load: f32 = asked.iter().zip(&rhythms).map(|(a, r)| a * r[i]).sum();
                let step_s = (at - before).as_seconds().max(5.0) as f32;
                let values = reading(&partition.traits, load, at, step_s, &mut noise, &Effects::NONE);
                columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
                before = at;
            }
            let batch = CANONICAL
                .iter()
                .zip(columns)
                .fold(Batch::new(times.clone()), |batch, (m, column)| batch.with_column(m.name, column));
            (partition.id.clone(), batch)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_days_are_written_at_more_than_a_million_points_a_second() {
        let layout = Layout::draw(1);
        let started = std::time::Instant::now();
        let batches = history(1, &layout, &HistoryPlan::default(), Timestamp(1_700_000_000_000));
        let seconds = started.elapsed().as_secs_f64();
        let points: u64 = batches.iter().map(|(_, b)| b.samples()).sum();
        println!("{points} points in {seconds:.3} s: {:.1} M/s", points as f64 / seconds / 1e6);
        assert_eq!(batches.len(), 66);
        assert!(points as f64 / seconds > 1e6, "{points} points in {seconds} s");
        let times = batches[0].1.times();
        assert!(times.is_sorted_by(|a, b| a < b) && *times.last().unwrap() < Timestamp(1_700_000_000_000));
    }
}
