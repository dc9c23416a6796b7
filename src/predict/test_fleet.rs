//! A fleet for the tests of the assessor.

use super::*;
use crate::fleet::rng::Random;
use crate::fleet::{PartitionId, Span, Timestamp, Topology};
use crate::telemetry::{CANONICAL, Ingest, Windows, WindowsConfig};

pub(crate) const NORMAL: [f32; 16] =
    [35.0, 2.0, 55.0, 1.0, 48.0, 2.0, 7.0, 4e7, 2e7, 0.8, 0.1, 2.0, 41.0, 12.0, 8.0, 15.0];

/// A fleet whose metrics wander around their normal.
pub(crate) struct Fleet {
    pub(crate) windows: Windows,
    pub(crate) topology: Topology,
    pub(crate) ids: Vec<PartitionId>,
    pub(crate) now: Timestamp,
    pub(crate) random: Random,
}

impl Fleet {
    pub(crate) fn new(partitions: usize) -> Self {
        let now = Timestamp(Span::days(20_000).0);
        Fleet {
            windows: Windows::new(WindowsConfig::default(), now),
            topology: Topology::default(),
            ids: (0..partitions).map(|i| PartitionId::from(format!("h{i:04}/p1"))).collect(),
            now,
            random: Random::new(11),
        }
    }

    pub(crate) fn history(&mut self, days: i64) -> Windows {
        self.history_of(days, as_it_is)
    }

    /// History in which `change` may change what was measured.
    pub(crate) fn history_of(&mut self, days: i64, change: impl Fn(usize, usize, f32) -> f32) -> Windows {
        let step = Span::minutes(5);
        let len = (Span::days(days).0 / step.0) as usize;
        let config = WindowsConfig { step, len, ..WindowsConfig::default() };
        let mut history = Windows::new(config, self.now);
        for slot in 0..len {
            let at = history.tail() + Span(step.0 * slot as i64);
            for (p, id) in self.ids.iter().enumerate() {
                for (m, metric) in CANONICAL.iter().enumerate() {
                    let series = history.series(id, metric.name);
                    history.push(series, at, change(p, m, value(m, &mut self.random)));
                }
            }
        }
        history
    }

    /// Time goes on by `span`; `change` may change what is measured.
    pub(crate) fn run(&mut self, span: Span, mut change: impl FnMut(usize, usize, f32) -> f32) {
        let step = self.windows.config().step;
        for _ in 0..span.0 / step.0 {
            self.now += step;
            self.windows.advance(self.now);
            for (p, id) in self.ids.iter().enumerate() {
                for (m, metric) in CANONICAL.iter().enumerate() {
                    let series = self.windows.series(id, metric.name);
                    let v = change(p, m, value(m, &mut self.random));
                    self.windows.push(series, self.now, v);
                }
            }
        }
    }

    pub(crate) fn assess(&self, assessor: &mut Assessor) -> Vec<Assessment> {
        let context = Context { topology: &self.topology, failures: &[] };
        assessor.assess(&self.windows, &context, self.now).to_vec()
    }
}

pub(crate) fn value(metric: usize, random: &mut Random) -> f32 {
    NORMAL[metric] * (1.0 + 0.05 * random.normal() as f32)
}

pub(crate) fn as_it_is(_: usize, _: usize, v: f32) -> f32 {
    v
}

pub(crate) fn metric(name: &str) -> usize {
    CANONICAL.iter().position(|m| m.name == name).unwrap()
}

pub(crate) fn warmed(partitions: usize) -> (Fleet, Assessor) {
    let mut fleet = Fleet::new(partitions);
    let mut assessor = Assessor::new(AssessOptions::default());
    assessor.observe_history(&fleet.history(3));
    fleet.run(Span::hours(1), as_it_is);
    (fleet, assessor)
}
