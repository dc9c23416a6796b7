//! What can be set about assessments: windows, weights, bounds, times. The configuration maps onto
//! these.

use super::combined::CombinedOptions;
use crate::fleet::Span;

/// How assessments are made.
#[derive(Clone, PartialEq, Debug)]
pub struct AssessOptions {
    /// Failure windows, shortest first; the middle one is explained.
    pub windows: Vec<Span>,
    /// An assessment must not be acted on longer than this after its newest sample.
    pub time_to_live: Span,
    /// A partition whose newest sample is older than this is unknown.
    pub max_age: Span,
    /// Spacing at which baselines learn; values are averaged over it.
    pub learn_every: Span,
    /// After this span of own data a partition has its own location and scale.
    pub own_scale_after: Span,
    /// After this span of own data a partition has its own full baseline.
    pub own_after: Span,
    /// Memory of the location: after this span old behaviour counts for about a third.
    pub memory: Span,
    /// A metric that stays unusual this long is taken for the new normal and learnt anew.
    pub freeze_at_most: Span,
    /// All metrics of a partition bit-identical for this long: its source stands still, unknown.
    pub flat_line: Span,
    /// Slots of the window that are averaged into the present level.
    pub level_slots: usize,
    /// Fewest slots with data before anything is said.
    pub least_slots: usize,
    /// Fewest partitions that are compared with each other as peers.
    pub least_peers: usize,
    /// Weight of a metric in health and probability where it is not 1.
    pub weights: Vec<MetricWeight>,
    /// Bounds that a forecast may cross, beside those of `telemetry::schema`.
    pub bounds: Vec<(String, f32)>,
    /// Forecasts: how far and how often.
    pub forecast: ForecastOptions,
    /// Models of metrics together.
    pub combined: CombinedOptions,
}

/// The weight of one metric, for all or for one kind of workload.
#[derive(Clone, PartialEq, Debug)]
pub struct MetricWeight {
    /// Canonical name.
    pub metric: String,
    /// `None` = whatever is hosted; else where this kind of workload is most of what is hosted.
    pub kind: Option<String>,
    /// 0 ignores the metric; 1 is normal.
    pub weight: f64,
}

/// How far and how often forecasts are made.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ForecastOptions {
    /// Width of a forecast's step; a multiple of the window's step.
    pub step: Span,
    /// How many steps ahead.
    pub horizon: usize,
    /// Every partition is refreshed once in so many cycles.
    pub every_cycles: u32,
    /// Suspects are refreshed once in so many cycles.
    pub suspects_every_cycles: u32,
    /// Metrics forecast for a partition: bounded ones and the most unusual first.
    pub metrics: usize,
    /// Most series forecast in one cycle; suspects come first, the rest waits for the next cycle.
    pub budget: usize,
    /// Of these at most so many with a network among the candidates, suspects first.
    pub networks: usize,
    /// Series of suspects, at most, for which ARIMA with automatic order is among the candidates too.
    pub arimas: usize,
}

impl Default for ForecastOptions {
    /// Steps of 2 minutes for an hour; each partition every 40 cycles, suspects every 2; 3 metrics;
    /// at most 4,000 series a cycle, 300 of them with a network and 12 with ARIMA.
    fn default() -> Self {
        Self {
            step: Span::minutes(2),
            horizon: 30,
            every_cycles: 40,
            suspects_every_cycles: 2,
            metrics: 3,
            budget: 4_000,
            networks: 300,
            arimas: 12,
        }
    }
}

impl Default for AssessOptions {
    fn default() -> Self {
        Self {
            windows: vec![Span::minutes(15), Span::hours(1), Span::hours(24)],
            time_to_live: Span::minutes(3),
            max_age: Span::minutes(2),
            learn_every: Span::minutes(5),
            own_scale_after: Span::hours(4),
            own_after: Span::days(1),
            memory: Span::days(2),
            freeze_at_most: Span::days(1),
            flat_line: Span::minutes(30),
            level_slots: 4,
            least_slots: 3,
            least_peers: 4,
            weights: vec![
                weight("mem.used", Some("cache"), 1.3),
                weight("mem.pressure", Some("cache"), 1.3),
                weight("disk.write_latency", Some("cache"), 0.6),
                weight("disk.write_latency", Some("oltp"), 1.3),
                weight("disk.read_latency", Some("oltp"), 1.2),
                weight("cpu.busy", Some("batch"), 0.4),
                weight("disk.throughput", None, 0.5),
                weight("net.throughput", None, 0.5),
                weight("cpu.busy", None, 0.7),
            ],
            bounds: Vec::new(),
            forecast: ForecastOptions::default(),
            combined: CombinedOptions::default(),
        }
    }
}

impl AssessOptions {
    /// The weight of `metric` where `kind` is most of what is hosted: the one for the kind, else
    /// the one for all, else 1; never negative.
    pub fn weight_of(&self, metric: &str, kind: Option<&str>) -> f64 {
        let of = |wanted: Option<&str>| {
            self.weights
                .iter()
                .find(|w| w.metric == metric && w.kind.as_deref() == wanted)
                .map(|w| w.weight.max(0.0))
        };
        kind.and_then(|kind| of(Some(kind))).or_else(|| of(None)).unwrap_or(1.0)
    }

    /// Index of the window that is explained.
    pub fn middle(&self) -> usize {
        self.windows.len() / 2
    }
}

fn weight(metric: &str, kind: Option<&str>, weight: f64) -> MetricWeight {
    MetricWeight { metric: metric.to_string(), kind: kind.map(str::to_string), weight }
}
