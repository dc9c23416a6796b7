//! From what is known of one partition in one cycle to its assessment: health with its reasons, and the
//! mapping of instability to the chances of failure that stands in where no model speaks.

use super::assess::{Row, SMALLEST};
use super::assessment::{Assessment, Calibration, Confidence, Contribution, FailureForecast, Maturity};
use super::column::Column;
use super::health::{self, Evidence};
use super::missing::Last;
use super::options::AssessOptions;
use crate::fleet::{HealthScore, MetricName, Probability, Span, Timestamp};

/// What is missing is called unusual where it was so far from normal.
const NAMED: f64 = 3.0;

/// All that goes into one assessment.
pub(super) struct Scene<'a> {
    pub(super) columns: &'a [Column],
    pub(super) row: &'a Row,
    pub(super) options: &'a AssessOptions,
    pub(super) bases: &'a [f64],
    pub(super) normal: &'a [(f32, f32)],
    pub(super) levels: &'a [f32],
    pub(super) deviations: &'a [f32],
    pub(super) last: &'a [Last],
    pub(super) kind: usize,
    pub(super) past: f64,
    pub(super) now: Timestamp,
}

impl Scene<'_> {
    /// Writes health, probabilities and reasons; nothing where the partition is not known now.
    pub(super) fn write(&self, out: &mut Assessment) {
        out.failure.clear();
        out.why_health.clear();
        out.why_failure.clear();
        out.anomaly = None;
        out.given_by = None;
        out.at = self.row.seen.unwrap_or(Timestamp(0));
        out.expires = out.at + self.options.time_to_live;
        out.maturity = self.row.maturity;
        if self.row.gap.is_some() {
            (out.health, out.instability, out.failure_base) = (None, None, 0.0);
            out.confidence = Confidence::default();
            return;
        }
        let middle = self.options.middle();
        let evidence: Vec<Evidence> = (0..self.columns.len()).map(|m| self.evidence(m, middle)).collect();
        let own: f64 = evidence.iter().map(Evidence::points).sum();
        let points = own + health::past_points(self.past);
        out.health = HealthScore::clamped(100.0 - points);
        out.instability = Some(f64::from(self.row.instability));
        self.why_health(out, &evidence, points);
        self.probabilities(out, &evidence, middle);
        let known = match self.row.maturity {
            Maturity::Untrained => 0.15,
            Maturity::Pooled => 0.4,
            Maturity::OwnScale => 0.7,
            Maturity::Own => 0.9,
        };
        out.confidence = Confidence {
            known,
            there: f64::from(self.row.coverage),
            calibrated: Calibration::Uncalibrated.trust(),
            inside: 1.0,
        };
    }

    /// The column of a metric, where it has a value now.
    pub(super) fn column(&self, metric: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name.as_str() == metric).filter(|&m| !self.levels[m].is_nan())
    }

    fn evidence(&self, m: usize, window: usize) -> Evidence {
        let column = &self.columns[m];
        let deviation = health::bad_deviation(f64::from(self.deviations[m]), column.bad_direction);
        let weight = column.weights.get(self.kind).copied().unwrap_or(1.0);
        Evidence { deviation, breach: self.breach(m, self.options.windows[window]), weight }
    }

    /// Probability that the bound of metric `m` is crossed within `window`, from the forecast's
    /// median crossing and its 90 % interval, read as a piecewise linear distribution.
    fn breach(&self, m: usize, window: Span) -> f64 {
        let name = &self.columns[m].name;
        if self.levels[m].is_nan() && !self.last[m].is_missed {
            return 0.0;
        }
        let crossing = self.row.forecasts.iter().find(|f| &f.metric == name).and_then(|f| f.crossing);
        crossing.map_or(0.0, |c| super::breach::within(&c, self.now, window))
    }

    fn why_health(&self, out: &mut Assessment, evidence: &[Evidence], points: f64) {
        let mut rest = out.health.map_or(0.0, |h| 100.0 - h.get());
        for (m, e) in evidence.iter().enumerate() {
            let amount = health::worth(e.points(), points);
            // What is missing is named, whatever it costs.
            if amount >= SMALLEST || self.last[m].is_missed {
                out.why_health.push(Contribution {
                    metric: self.columns[m].name.clone(),
                    amount,
                    words: self.words(m),
                });
                rest -= amount;
            }
        }
        let past = health::worth(health::past_points(self.past), points);
        if past >= SMALLEST {
            out.why_health.push(past_failures(past));
            rest -= past;
        }
        out.why_health.sort_by(|a, b| b.amount.total_cmp(&a.amount));
        if rest.abs() > 1e-9 {
            let (what, words) = match points > 100.0 {
                true => ("several at once", self.several(evidence, points)),
                false => ("all else", "all else, each too small to name".to_string()),
            };
            out.why_health.push(Contribution { metric: MetricName::from(what), amount: rest, words });
        }
    }

    /// The largest of those that were not named, because the score is as bad without any one of them.
    fn several(&self, evidence: &[Evidence], points: f64) -> String {
        const NAMED: usize = 3;
        let mut largest: Vec<(f64, usize)> = evidence
            .iter()
            .map(Evidence::points)
            .enumerate()
            .filter(|(_, part)| *part >= SMALLEST && health::worth(*part, points) < SMALLEST)
            .map(|(m, part)| (part, m))
            .collect();
        largest.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        if largest.is_empty() {
            return "several at once: no single one is enough to explain it".to_string();
        }
        let words: Vec<String> = largest.iter().take(NAMED).map(|(_, m)| self.words(*m)).collect();
        words.join("; ")
    }

    fn probabilities(&self, out: &mut Assessment, evidence: &[Evidence], middle: usize) {
        let past = health::past_odds(self.past);
        let mut floor = 0.0f64;
        for (w, (&window, &base)) in self.options.windows.iter().zip(self.bases).enumerate() {
            let odds: f64 = evidence
                .iter()
                .enumerate()
                .map(|(m, e)| e.odds(if w == middle { e.breach } else { self.breach(m, window) }))
                .sum();
            // Longer windows never show less, whatever the order in which windows were configured.
            let p = health::probability(base + odds + past).get().max(floor);
            floor = p;
            out.failure.push(FailureForecast {
                within: window,
                probability: Probability::clamped(p).unwrap_or(Probability::MIN),
                calibration: Calibration::Uncalibrated,
            });
        }
        out.failure_base = 100.0 * health::probability(self.bases[middle]).get();
        let total: f64 = evidence.iter().map(|e| e.odds(e.breach)).sum::<f64>() + past;
        let gained = 100.0 * out.failure[middle].probability.get() - out.failure_base;
        if total <= 0.0 {
            return;
        }
        // f(Σ s) − f(0) shared by s_m / Σ s: the Aumann–Shapley value of a function of a sum.
        let mut rest = gained;
        for (m, e) in evidence.iter().enumerate() {
            let amount = gained * e.odds(e.breach) / total;
            if amount >= SMALLEST {
                let metric = self.columns[m].name.clone();
                out.why_failure.push(Contribution { metric, amount, words: self.words(m) });
                rest -= amount;
            }
        }
        if gained * past / total >= SMALLEST {
            out.why_failure.push(past_failures(gained * past / total));
            rest -= gained * past / total;
        }
        out.why_failure.sort_by(|a, b| b.amount.total_cmp(&a.amount));
        if rest.abs() > 1e-9 {
            out.why_failure.push(Contribution {
                metric: MetricName::from("all else"),
                amount: rest,
                words: "all else, each too small to name".to_string(),
            });
        }
    }

    /// `disk write latency 48 ms, own normal 6–9 ms, reaches 95 ms in 40 m 00`.
    pub(super) fn words(&self, m: usize) -> String {
        let column = &self.columns[m];
        let last = &self.last[m];
        if last.is_missed {
            let mut words = format!("{} is missing for {}", column.label, last.at.age(self.now));
            if last.level.is_finite() {
                let unusual = health::bad_deviation(f64::from(last.deviation), column.bad_direction) >= NAMED;
                let how = if unusual { "unusual, and counts on" } else { "as usual" };
                words.push_str(&format!("; it was {}, {how}", column.value(last.level)));
            }
            return words;
        }
        let whose = match self.row.maturity {
            Maturity::Untrained => "usual elsewhere",
            Maturity::Pooled => "normal of its like",
            Maturity::OwnScale | Maturity::Own => "own normal",
        };
        let (location, sd) = self.normal[m];
        let mut words = format!("{} {}", column.label, column.value(self.levels[m]));
        if location.is_finite() {
            let (low, high) =
                (column.shape.from(location - 2.0 * sd), column.shape.from(location + 2.0 * sd));
            let low = if column.unit.is_some() { low.max(0.0) } else { low };
            words.push_str(&format!(", {whose} {}", column.range(low, high)));
        }
        let forecast = self.row.forecasts.iter().find(|f| f.metric == column.name);
        if let Some(crossing) = forecast.and_then(|f| f.crossing) {
            let left = Span((crossing.at - self.now).0.max(0));
            words.push_str(&format!(", reaches {} in {left}", column.value(crossing.bound)));
        }
        words
    }
}

fn past_failures(amount: f64) -> Contribution {
    Contribution {
        metric: MetricName::from("past failures"),
        amount,
        words: "it failed before, of late".to_string(),
    }
}
