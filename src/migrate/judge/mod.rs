//! The judge of a canary step or a soak: destination against source over the same minutes. Latency
//! is compared by the Mann–Whitney rank sum test (Mann and Whitney 1947, normal approximation with
//! tie correction) with the Hodges–Lehmann shift (1963) as effect size, in the manner of Kayenta's
//! `MannWhitneyClassifier`; errors by the two-proportion z test; a differing value fails at once.
//! Too few samples, or none, is never a pass: it is inconclusive.

mod ranks;

use ranks::{hodges_lehmann, mann_whitney, quantile, sorted, upper_tail};
use serde::{Deserialize, Serialize};

use crate::drivers::CanarySample;
use crate::fleet::digits;
use crate::protocol::JudgeLine;

/// What the judge says of one metric or of all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    /// Nothing speaks against the destination.
    Pass,
    /// Not enough to say anything.
    Inconclusive,
    /// The destination is worse.
    Fail,
}

/// A ruling with its lines.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Judgement {
    /// The worst of the lines; a critical line that fails decides alone.
    pub ruling: Ruling,
    /// A critical metric failed: stop at once.
    pub critical: bool,
    /// Why, in words.
    pub why: String,
    /// One line a metric.
    pub lines: Vec<JudgeLine>,
}

/// What the judge goes by.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bounds {
    /// The destination's latency may be higher by this share of the source's.
    pub tolerance: f64,
    /// A latency that is higher by less than so many milliseconds is no effect, however significant: a hop
    /// on the network costs as much.
    pub margin_ms: f64,
    /// Fewest samples of a side.
    pub min_samples: u64,
    /// Which look at the same data this is, from 1; the level of each look is spent so that all
    /// looks together err with at most 5 % (α·1/(k(k+1)), Bonferroni over the metrics).
    pub look: u32,
}

/// Error level of all looks and metrics together.
const ALPHA: f64 = 0.05;
/// Metrics that are tested by chance (errors, latency).
const METRICS: f64 = 2.0;
/// An error share that is higher by less than this is no effect, however significant.
const ERROR_EFFECT: f64 = 0.005;
/// The least margin of latency, in milliseconds, where the source was measured before and not in the same
/// minutes.
const LATENCY_EFFECT_EARLIER: f64 = 5.0;

/// Judges what was measured.
pub fn judge(source: &CanarySample, destination: &CanarySample, bounds: Bounds) -> Judgement {
    let k = f64::from(bounds.look.max(1));
    let level = ALPHA / (METRICS * k * (k + 1.0));
    let parts = [
        Some(errors(source, destination, bounds.min_samples, level)),
        Some(latency(source, destination, bounds, level)),
        values(destination),
    ];
    let all = || parts.iter().flatten();
    let critical = all().any(|p| p.critical && p.ruling == Ruling::Fail);
    let ruling = all().map(|p| p.ruling).max().unwrap_or(Ruling::Inconclusive);
    let why = all()
        .filter(|p| p.ruling == ruling && ruling != Ruling::Pass)
        .map(|p| format!("{}: {}", p.line.what, p.line.verdict))
        .collect::<Vec<_>>()
        .join("; ");
    Judgement { ruling, critical, why, lines: parts.into_iter().flatten().map(|p| p.line).collect() }
}

/// The judgement where nothing could be measured.
pub fn no_data(why: &str) -> Judgement {
    Judgement {
        ruling: Ruling::Inconclusive,
        critical: false,
        why: format!("nothing was measured: {why}"),
        lines: Vec::new(),
    }
}

struct Part {
    ruling: Ruling,
    critical: bool,
    line: JudgeLine,
}

/// Words with numbers between them, in one piece of memory and without the machinery of formatting: the judge looks
/// often.
struct Words(String);

impl Words {
    fn of(text: &str) -> Self {
        Self(String::with_capacity(48)).then(text)
    }

    fn then(mut self, text: &str) -> Self {
        self.0.push_str(text);
        self
    }

    /// With two decimals.
    fn number(mut self, number: f64) -> Self {
        digits::push_hundredths(&mut self.0, number);
        self
    }

    /// With two decimals and its sign.
    fn change(self, number: f64) -> Self {
        if number.is_sign_negative() { self.number(number) } else { self.then("+").number(number) }
    }

    fn count(mut self, count: u64) -> Self {
        digits::push_number(&mut self.0, count, 1);
        self
    }
}

fn part(what: &str, sides: (String, String), ruling: Ruling, words: String) -> Part {
    let said = match ruling {
        Ruling::Pass => "pass",
        Ruling::Inconclusive => "inconclusive",
        Ruling::Fail => "fail",
    };
    let verdict = match words.is_empty() {
        true => said.to_string(),
        false => Words::of(said).then(" (").then(&words).then(")").0,
    };
    Part {
        ruling,
        critical: false,
        line: JudgeLine { what: what.to_string(), source: sides.0, destination: sides.1, verdict },
    }
}

fn errors(source: &CanarySample, destination: &CanarySample, least: u64, level: f64) -> Part {
    let side = |s: &CanarySample| match s.requests {
        0 => "no requests".to_string(),
        n => Words::of("").number(100.0 * s.errors as f64 / n as f64).then(" % (n ").count(n).then(")").0,
    };
    let sides = (side(source), side(destination));
    if destination.requests < least.max(1) || source.requests < least.max(1) {
        let few = format!("fewer than {} requests on a side", least.max(1));
        return part("errors", sides, Ruling::Inconclusive, few);
    }
    let (n, m) = (source.requests as f64, destination.requests as f64);
    let (p, q) = (source.errors as f64 / n, destination.errors as f64 / m);
    let pooled = (source.errors + destination.errors) as f64 / (n + m);
    let spread = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
    let z = if spread > 0.0 { (q - p) / spread } else { 0.0 };
    let chance = upper_tail(z);
    let worse = chance < level && q - p > ERROR_EFFECT;
    let ruling = if worse { Ruling::Fail } else { Ruling::Pass };
    part("errors", sides, ruling, Words::of("p ").number(chance).0)
}

fn latency(source: &CanarySample, destination: &CanarySample, bounds: Bounds, level: f64) -> Part {
    let (a, b) = (sorted(&source.latencies_ms), sorted(&destination.latencies_ms));
    let side = |v: &[f64]| match v.is_empty() {
        true => "not measured".to_string(),
        false => Words::of("").number(quantile(v, 0.5)).then(" / ").number(quantile(v, 0.99)).then(" ms").0,
    };
    let sides = (side(&a), side(&b));
    let least = (bounds.min_samples.max(1)) as usize;
    if a.len() < least || b.len() < least {
        let few = format!("{} and {} samples, {least} are needed", a.len(), b.len());
        return part("latency p50 / p99", sides, Ruling::Inconclusive, few);
    }
    let chance = mann_whitney(&a, &b);
    let shift = hodges_lehmann(&a, &b);
    let tolerance = bounds.tolerance.max(0.0);
    let margin = bounds.margin_ms.max(0.0);
    let least = if source.earlier { margin.max(LATENCY_EFFECT_EARLIER) } else { margin };
    let allowed = |of: f64| (tolerance * quantile(&a, of)).max(least);
    let tail = quantile(&b, 0.99) - quantile(&a, 0.99) > allowed(0.99);
    let shifted = chance < level && shift > allowed(0.5);
    // The tail alone decides only where there are enough samples for a 99th percentile.
    let heavy = tail && chance < level && a.len().min(b.len()) >= 500;
    let ruling = if shifted || heavy { Ruling::Fail } else { Ruling::Pass };
    let words = Words::of("p ").number(chance).then(", Δ ").change(shift).then(" ms").0;
    part("latency p50 / p99", sides, ruling, words)
}

/// `None` where no values were compared: that is neither well nor bad.
fn values(destination: &CanarySample) -> Option<Part> {
    let (n, bad) = (destination.compared, destination.mismatches);
    if n == 0 && bad == 0 {
        return None;
    }
    let ruling = if bad > 0 { Ruling::Fail } else { Ruling::Pass };
    let words = match bad {
        0 => String::new(),
        _ => format!("differ: {}", destination.examples.join(", ")),
    };
    let equal = Words::of("").count(n.saturating_sub(bad)).then(" equal, ").count(bad).then(" differ").0;
    let sides = (String::new(), equal);
    Some(Part { critical: true, ..part("values compared", sides, ruling, words) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::rng::Random;

    fn sample(random: &mut Random, n: usize, mean: f64, errors: u64) -> CanarySample {
        CanarySample {
            latencies_ms: (0..n).map(|_| mean * (1.0 + 0.2 * random.normal()).max(0.1)).collect(),
            requests: n as u64,
            errors,
            compared: n as u64,
            ..CanarySample::default()
        }
    }

    const BOUNDS: Bounds = Bounds { tolerance: 0.25, margin_ms: 0.2, min_samples: 50, look: 1 };

    #[test]
    fn equal_sides_pass_and_a_slow_destination_fails() {
        let mut random = Random::new(3);
        let (a, b) = (sample(&mut random, 400, 1.0, 0), sample(&mut random, 300, 1.0, 0));
        assert_eq!(judge(&a, &b, BOUNDS).ruling, Ruling::Pass);
        let slow = sample(&mut random, 300, 1.6, 0);
        let judgement = judge(&a, &slow, BOUNDS);
        assert_eq!(judgement.ruling, Ruling::Fail);
        assert!(judgement.why.contains("latency"), "{}", judgement.why);
        let slightly = sample(&mut random, 300, 1.1, 0);
        assert_eq!(judge(&a, &slightly, BOUNDS).ruling, Ruling::Pass, "within the tolerance");
    }

    #[test]
    fn a_hundredth_of_a_millisecond_is_no_reason_to_go_back() {
        let mut random = Random::new(7);
        let (a, b) = (sample(&mut random, 2000, 0.04, 0), sample(&mut random, 2000, 0.06, 0));
        let judgement = judge(&a, &b, BOUNDS);
        assert_eq!(judgement.ruling, Ruling::Pass, "{}", judgement.why);
        let slow = sample(&mut random, 2000, 0.4, 0);
        assert_eq!(judge(&a, &slow, BOUNDS).ruling, Ruling::Fail);
        // Unless the operator said that a hop may cost as much.
        assert_eq!(judge(&a, &slow, Bounds { margin_ms: 1.0, ..BOUNDS }).ruling, Ruling::Pass);
    }

    #[test]
    fn what_was_measured_at_another_time_is_compared_less_strictly() {
        let mut random = Random::new(8);
        let (mut a, b) = (sample(&mut random, 200, 1.0, 0), sample(&mut random, 200, 2.5, 0));
        assert_eq!(judge(&a, &b, BOUNDS).ruling, Ruling::Fail);
        a.earlier = true;
        assert_eq!(judge(&a, &b, BOUNDS).ruling, Ruling::Pass);
        assert_eq!(judge(&a, &sample(&mut random, 200, 20.0, 0), BOUNDS).ruling, Ruling::Fail);
        assert_eq!(judge(&a, &sample(&mut random, 200, 1.0, 30), BOUNDS).ruling, Ruling::Fail, "errors");
    }

    #[test]
    fn too_few_samples_are_inconclusive_and_never_a_pass() {
        let mut random = Random::new(4);
        let (a, b) = (sample(&mut random, 400, 1.0, 0), sample(&mut random, 10, 9.0, 5));
        assert_eq!(judge(&a, &b, BOUNDS).ruling, Ruling::Inconclusive);
        assert_eq!(
            judge(&CanarySample::default(), &CanarySample::default(), BOUNDS).ruling,
            Ruling::Inconclusive
        );
        assert_eq!(no_data("no answer").ruling, Ruling::Inconclusive);
    }

    #[test]
    fn one_differing_value_fails_at_once_and_is_named() {
        let mut random = Random::new(5);
        let (a, mut b) = (sample(&mut random, 400, 1.0, 0), sample(&mut random, 10, 1.0, 0));
        b.mismatches = 1;
        b.examples = vec!["user:17".to_string()];
        let judgement = judge(&a, &b, BOUNDS);
        assert!(judgement.critical && judgement.ruling == Ruling::Fail);
        assert!(judgement.why.contains("user:17"), "{}", judgement.why);
    }

    #[test]
    fn errors_at_the_destination_fail() {
        let mut random = Random::new(6);
        let (a, b) = (sample(&mut random, 1000, 1.0, 1), sample(&mut random, 500, 1.0, 25));
        assert_eq!(judge(&a, &b, BOUNDS).ruling, Ruling::Fail);
    }

    #[test]
    fn looking_often_at_equal_sides_seldom_fails_them() {
        let mut failed = 0;
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let (mut a, mut b) = (sample(&mut random, 60, 1.0, 0), sample(&mut random, 60, 1.0, 0));
            for look in 1..10 {
                a.latencies_ms.extend(sample(&mut random, 20, 1.0, 0).latencies_ms);
                b.latencies_ms.extend(sample(&mut random, 20, 1.0, 0).latencies_ms);
                if judge(&a, &b, Bounds { tolerance: 0.0, margin_ms: 0.2, min_samples: 50, look }).ruling
                    == Ruling::Fail
                {
                    failed += 1;
                    break;
                }
            }
        }
        assert!(failed <= 5, "{failed} of 100 equal pairs failed");
    }
}
