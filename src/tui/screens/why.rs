//! Why a number is what it is: its parts in whole points that sum to what is shown, and the sentences of the popup
//! about a partition or a host.

use super::cells::{percent, window_name};
use crate::fleet::{ShownState, Span};
use crate::protocol::{HostView, PartitionDetail, PartitionView, Reason, Sure, WindowReasons};
use crate::tui::field::{middle_window, out_of_service, partitions_of, probability};
use crate::tui::model::Model;
use crate::tui::text::clock_or_date;

/// One part of a number.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Part<'a> {
    /// What it is of.
    pub what: &'a str,
    /// Whole points.
    pub points: f64,
    /// It speaks for failing.
    pub is_bad: bool,
    /// What is known of it.
    pub words: &'a str,
}

/// What the engine and the screens call all that has no row of its own.
const REST: &str = "all else";
/// Most parts of a number in the popup, on a screen of this height: what stands below them is to be seen, too.
fn most(height: u16) -> usize {
    usize::from(height / 5).clamp(4, 9)
}

/// The parts of the probability of the middle window, in at most `rows` rows.
pub fn of_failure(detail: &PartitionDetail, probability: f64, rows: usize) -> Vec<Part<'_>> {
    with_base(&detail.why_failure, detail.failure_base, rows, probability)
}

fn with_base(reasons: &[Reason], base: f64, rows: usize, probability: f64) -> Vec<Part<'_>> {
    let base = Part { what: "any partition, any day", points: base, is_bad: true, words: "" };
    let parts = reasons.iter().map(|r| part(r, 1.0)).chain(std::iter::once(base));
    that_sum(parts.collect(), rows, 100.0 * probability)
}

/// The parts of what is missing of the health, in at most `rows` rows; without a score they are as they come.
pub fn of_health(detail: &PartitionDetail, health: Option<f64>, rows: usize) -> Vec<Part<'_>> {
    let parts: Vec<Part<'_>> = detail.why_health.iter().map(|r| part(r, -1.0)).collect();
    let total = health.map_or(parts.iter().map(|p| p.points).sum(), |h| h.round() - 100.0);
    that_sum(parts, rows, total)
}

/// What is taken off the health arrives as a positive number: it is shown with its `sign`.
fn part(reason: &Reason, sign: f64) -> Part<'_> {
    Part {
        what: &reason.what,
        points: sign * reason.amount,
        is_bad: reason.amount > 0.0,
        words: &reason.words,
    }
}

/// The weightiest of `parts`, in their order, in whole points. What has no row, and what rounding leaves, stands in one
/// more, so that all of them sum to `total`.
fn that_sum(parts: Vec<Part<'_>>, rows: usize, total: f64) -> Vec<Part<'_>> {
    let engines = parts.iter().find(|p| p.what == REST).copied();
    let mut shown: Vec<Part<'_>> = parts.into_iter().filter(|p| p.what != REST).collect();
    shown.iter_mut().for_each(|p| p.points = p.points.round());
    shown.retain(|p| p.points != 0.0);
    let left = |shown: &[Part<'_>]| total.round() - shown.iter().map(|p| p.points).sum::<f64>();
    while shown.len() + usize::from(left(&shown) != 0.0) > rows.max(1) {
        let least =
            (0..shown.len()).rev().min_by(|a, b| shown[*a].points.abs().total_cmp(&shown[*b].points.abs()));
        let Some(least) = least else { break };
        shown.remove(least);
    }
    let points = left(&shown);
    if points != 0.0 {
        // Taken off the health is bad, added to the chance is.
        let is_bad = (points > 0.0) == (total >= 0.0);
        let words = engines.map_or("all else, each less than these", |e| e.words);
        shown.push(Part { what: REST, points, is_bad, words });
    }
    shown
}

/// Points as people read them: with their sign.
pub fn signed(points: f64) -> String {
    if points.round() == 0.0 { "0".to_string() } else { format!("{points:+.0}").replace('-', "−") }
}

/// Another window's chance and its parts, in one sentence.
fn other_window(why: &WindowReasons) -> String {
    const PARTS: usize = 5;
    let parts = with_base(&why.parts, why.base, PARTS, why.probability.get());
    let named: Vec<String> = parts.iter().map(|p| format!("{} {}", signed(p.points), p.what)).collect();
    let within = window_name(why.within);
    match named.is_empty() {
        true => format!("{} within {within}: nothing makes up as much as a point of it", why.probability),
        false => format!("{} within {within}: {}", why.probability, named.join(", ")),
    }
}

/// How sure it is and what makes that up: `sure 69 %: 90 % known of its normal × …`.
fn confidence(model: &Model, value: f64, sure: &Sure) -> String {
    let look = model.look();
    format!("confidence {}: {}", percent(look, value), shares(model, sure))
}

fn shares(model: &Model, sure: &Sure) -> String {
    let look = model.look();
    let calibrated = match sure.calibrated {
        c if c >= 1.0 => "calibrated on this fleet",
        c if c > 0.5 => "calibrated on other fleets",
        _ => "not calibrated",
    };
    format!(
        "{} for how much is known of its normal × {} of its metrics have data × {} for a model that is {calibrated} \
         × {} within what that was trained on",
        percent(look, sure.known),
        percent(look, sure.there),
        percent(look, sure.calibrated),
        percent(look, sure.inside),
    )
}

/// Why a host's score is what it is: its partitions, the likeliest to fail first, and what makes up the confidence.
pub fn host(model: &Model, h: &HostView) -> (String, Vec<String>) {
    const NAMED: usize = 6;
    let s = &model.snapshot;
    let mut says = Vec::new();
    let all = h.partitions.len();
    let out = partitions_of(s, h).filter(|p| p.shown == ShownState::Fenced).count();
    if out_of_service(s, h) > 0.0 {
        says.push(format!("{out} of its {all} partitions are out of service"));
    }
    let (Some(risk), Some(sure)) = (h.risk, &h.sure) else {
        says.push("no score: nothing is known of any of its partitions now".to_string());
        return (h.id.to_string(), says);
    };
    let window = (0..s.windows.len()).min_by_key(|w| (s.windows[*w].0 - sure.within.0).abs()).unwrap_or(0);
    let named = s.windows.get(window).map(|w| window_name(*w)).unwrap_or_default();
    says.push(format!(
        "{risk} within {named}: the chance that at least one of its {} fails, as if each failed for itself",
        match all {
            1 => "one partition".to_string(),
            n => format!("{n} partitions"),
        }
    ));
    let mut known: Vec<(f64, &PartitionView)> =
        partitions_of(s, h).filter_map(|p| Some((probability(p, window)?, p))).collect();
    known.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (_, p) in known.iter().take(NAMED) {
        let health = p.health.map(|health| format!(", health {health}")).unwrap_or_default();
        let because = if p.because.is_empty() { String::new() } else { format!(": {}", p.because) };
        says.push(format!("{} {}{health}{because}", p.id, p.failure[window]));
    }
    if let Some((_, next)) = known.get(NAMED) {
        says.push(format!("{} more, none over {}", known.len() - NAMED, next.failure[window]));
    }
    says.push(match all == sure.known as usize {
        true => format!("confidence {}: that of {}, the least sure of them", percent(model.look(), h.confidence), sure.least),
        false => format!(
            "confidence {}: that of {}, the least sure of them, × {} of {all} partitions of which anything is known",
            percent(model.look(), h.confidence),
            sure.least,
            sure.known,
        ),
    });
    says.push(shares(model, &sure.parts));
    (h.id.to_string(), says)
}

/// Why it serves nobody: nothing that is predicted matters any more.
fn why_out(model: &Model, p: &PartitionView) -> Vec<String> {
    let mut says = vec![
        format!("fenced: out of service since {}", clock_or_date(p.since, model.now())),
        if p.because.is_empty() { "nobody says why".to_string() } else { format!("why: {}", p.because) },
    ];
    says.push(match p.seen {
        Some(seen) => format!("last heard from at {}", clock_or_date(seen, model.now())),
        None => "never heard from".to_string(),
    });
    says.push(match p.workloads {
        0 => "no workload is there".to_string(),
        n => format!("{n} workloads have their place there and are served by nobody unless a copy took over"),
    });
    says.push("nothing is moved to or from it until its system answers again".to_string());
    says
}

/// The explanation in sentences, for the popup.
pub fn partition(model: &Model, p: &PartitionView) -> (String, Vec<String>) {
    if p.shown == ShownState::Fenced {
        return (p.id.to_string(), why_out(model, p));
    }
    let mut says = Vec::new();
    let name = |w: Span| window_name(w);
    let chances: Vec<String> = model
        .snapshot
        .windows
        .iter()
        .zip(&p.failure)
        .map(|(w, f)| format!("{f} within {}", name(*w)))
        .collect();
    if chances.is_empty() {
        says.push("no failure probability: there is not enough data".to_string());
    } else {
        says.push(format!("expected to fail: {} ({})", chances.join(", "), p.calibration));
    }
    if let Some(health) = p.health {
        says.push(format!("health {health} of 100; {}", p.because));
    }
    let detail = model.inspected.detail.as_ref().filter(|d| d.id == p.id);
    if let Some(detail) = detail {
        let middle = middle_window(&model.snapshot);
        let shown = p.failure.get(middle).zip(model.snapshot.windows.get(middle));
        if let Some((chance, window)) = shown {
            let parts = of_failure(detail, chance.get(), most(model.size.1));
            if !parts.is_empty() {
                says.push(format!("what makes up the {chance} within {}, in points:", name(*window)));
            }
            for part in parts {
                let words = if part.words.is_empty() { part.what } else { part.words };
                says.push(format!("{} {words}", signed(part.points)));
            }
        }
        says.extend(detail.why_others.iter().map(other_window));
        if let Some(sure) = &detail.sure {
            says.push(confidence(model, detail.confidence, sure));
        }
        for text in [&detail.track_record, &detail.model, &detail.maturity] {
            if !text.is_empty() {
                says.push(text.clone());
            }
        }
    } else {
        if let Some(instability) = p.instability {
            says.push(format!("{instability:.1} robust standard deviations from its own baseline"));
        }
        says.push("open it for metrics, contributions and the record of the model".to_string());
    }
    (p.id.to_string(), says)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_shown_sums_to_the_number_however_few_rows_there_are(
            amounts in proptest::collection::vec(-40.0..60.0f64, 0..20),
            rows in 1usize..12,
            unnamed in -3.0..3.0f64,
        ) {
            let parts = amounts.iter().map(|a| Part { what: "x", points: *a, is_bad: *a > 0.0, words: "" });
            let total = amounts.iter().sum::<f64>() + unnamed;
            let shown = that_sum(parts.collect(), rows, total);
            prop_assert!(shown.len() <= rows);
            prop_assert_eq!(shown.iter().map(|p| p.points).sum::<f64>(), total.round());
            prop_assert!(shown.iter().all(|p| p.points != 0.0));
        }
    }

    #[test]
    fn the_weightiest_have_the_rows_and_the_rest_is_called_so() {
        let of = |what, points| Part { what, points, is_bad: points > 0.0, words: "" };
        let parts = vec![of("a", 30.4), of("b", 1.2), of("c", 20.4), of("d", 0.3), of("e", -5.0)];
        let shown = that_sum(parts, 3, 47.3);
        let read: Vec<(&str, f64)> = shown.iter().map(|p| (p.what, p.points)).collect();
        assert_eq!(read, [("a", 30.0), ("c", 20.0), (REST, -3.0)]);
    }
}
