//! A backtest's report for a person: the sum first, then failures, proposals, a chart of both over time,
//! calibration, thresholds with their cost as bars, and what to set.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::eval::backtest::Report;
use crate::eval::backtest::calibration::Calibrated;
use crate::eval::backtest::report::{Curve, Failed};
use crate::eval::backtest::tally::Tally;
use crate::fleet::{Span, Timestamp};

/// Rows of a list; the rest is in the JSON.
const ROWS: usize = 40;
/// Columns of the chart over time.
const COLUMNS: usize = 72;
/// Columns of a bar.
const BAR: usize = 24;

/// A number with a comma at the thousands.
pub(super) fn count(n: f64) -> String {
    let digits = format!("{:.0}", n.max(0.0));
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

fn span(seconds: f64) -> Span {
    Span((seconds * 1000.0) as i64)
}

fn lead(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "–".into(), |s| span(s).to_string())
}

fn percent(p: f64) -> String {
    match p * 100.0 {
        p if p > 0.0 && p < 1.0 => format!("{p:.1} %"),
        p => format!("{p:.0} %"),
    }
}

fn minute(at: &str) -> String {
    at.chars().take(16).collect::<String>().replace('T', " ")
}

/// The whole report.
pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    head(&mut out, report);
    failures(&mut out, report);
    proposals(&mut out, report);
    held(&mut out, report);
    timeline(&mut out, report);
    report.calibration.iter().for_each(|c| calibration(&mut out, c));
    report.curves.iter().for_each(|c| thresholds(&mut out, c));
    line(&mut out, "\nWhat to set");
    report.recommendations.iter().for_each(|r| line(&mut out, &format!("  {}", r.words)));
    for between in report.recommendations.iter().filter_map(|r| r.between.map(|b| (r.within_s, b))) {
        let (within, (low, high)) = between;
        let (low, high) = (percent(low), percent(high));
        line(
            &mut out,
            &format!(
                "  within {}: drawing as many failures anew, the cheapest lies between {low} and {high} in 9 of 10",
                span(within).as_window()
            ),
        );
    }
    if !report.notes.is_empty() {
        line(&mut out, "\nTo be known beside");
        report.notes.iter().for_each(|n| line(&mut out, &format!("  {n}")));
    }
    out
}

fn line(out: &mut String, text: &str) {
    let _ = writeln!(out, "{}", text.trim_end());
}

fn head(out: &mut String, report: &Report) {
    line(out, &format!("Backtest of {}", report.source));
    line(
        out,
        &format!(
            "  {} to {}: {} cycles of {}, {} partitions, {} samples",
            minute(&report.from),
            minute(&report.to),
            count(report.cycles as f64),
            span(report.cycle_s),
            report.partitions,
            count(report.points as f64)
        ),
    );
    line(out, &format!("  what stood where: {}", report.placement));
    line(out, &format!("  {}", report.carried_out));
    let t = &report.configured;
    line(out, "\nAs configured");
    let held = match report.missed_held {
        0 => String::new(),
        n => format!(" ({n} of them predicted in time, but held)"),
    };
    line(
        out,
        &format!("  failures   {} recorded: {} caught, {} missed{held}", t.failures, t.caught, t.missed),
    );
    let leads = format!("median {}, a tenth shorter than {}", lead(t.lead_median_s), lead(t.lead_p10_s));
    line(out, &format!("  lead       {leads}"));
    line(
        out,
        &format!("  proposals  {} partitions to be emptied: {}", report.proposals.len(), verdicts(report, t)),
    );
    if !report.held.is_empty() {
        let n = report.held.len();
        line(out, &format!("  held       {n} predictions of which nothing could be moved: listed below"));
    }
    line(
        out,
        &format!(
            "  cost       {:.1}, doing nothing {:.1} (a move {}, a crash {}; a lead under {} is too late)",
            t.cost,
            t.cost_of_nothing,
            report.rates.move_cost,
            report.rates.crash_cost,
            report.rates.least_lead
        ),
    );
    if report.outcomes_unknown > 0 {
        let n = report.outcomes_unknown;
        line(out, &format!("  unknown    {n} recorded as moved away in time: they count for nothing"));
    }
}

fn verdicts(report: &Report, t: &Tally) -> String {
    let blocked = report.proposals.iter().filter(|p| p.verdict == "blocked").count();
    let all = [
        (t.right, "right"),
        (t.too_late, "too late"),
        (t.needless, "needless"),
        (t.outcome_unknown, "of unknown outcome"),
        (t.undecided, "undecided, the data end first"),
        (blocked, "blocked by a limit"),
    ];
    let said: Vec<String> =
        all.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    if said.is_empty() { "none".into() } else { said.join(", ") }
}

fn failures(out: &mut String, report: &Report) {
    if report.failures.is_empty() {
        return;
    }
    line(out, "\nFailures            what                   in time  lead       highest     cause");
    for f in report.failures.iter().take(ROWS) {
        let said = f.highest.map_or_else(|| "nothing".into(), percent);
        let in_time = format!("{}/{}", f.in_time, f.partitions.len());
        line(
            out,
            &format!(
                "  {}  {:<22} {:<8} {:<10} {:<11} {}",
                minute(&f.at),
                f.subject,
                in_time,
                lead(f.lead_s),
                said,
                because(f)
            ),
        );
    }
    rest(out, report.failures.len());
}

/// The cause, and what was predicted of it and held.
fn because(f: &Failed) -> String {
    match &f.held {
        Some(held) => {
            let (before, why) = (span(held.lead_s), held.reasons.join("; "));
            format!("{} [predicted {before} before, held: {why}]", f.cause)
        }
        None => f.cause.clone(),
    }
}

fn held(out: &mut String, report: &Report) {
    if report.held.is_empty() {
        return;
    }
    line(
        out,
        "\nPredicted, held     off                    chance          came of it      lead       held because",
    );
    for h in report.held.iter().take(ROWS) {
        let chance = format!("{} in {}", percent(h.probability), span(h.within_s).as_window());
        let after = h.proposed_at.as_ref().map_or(String::new(), |at| format!(" (proposed {})", minute(at)));
        let because = h.reasons.join("; ");
        line(
            out,
            &format!(
                "  {}  {:<22} {:<15} {:<15} {:<10} {because}{after}",
                minute(&h.at),
                h.partition,
                chance,
                h.verdict,
                lead(h.lead_s)
            ),
        );
    }
    rest(out, report.held.len());
    let mut ways: Vec<&str> = report.held.iter().flat_map(|h| &h.relax).map(String::as_str).collect();
    ways.sort_unstable();
    ways.dedup();
    line(out, &format!("  nearest way out: {}", ways.join("; ")));
}

fn proposals(out: &mut String, report: &Report) {
    if report.proposals.is_empty() {
        return;
    }
    line(
        out,
        "\nProposed            off                    chance          came of it      lead       because",
    );
    for p in report.proposals.iter().take(ROWS) {
        let chance = format!("{} in {}", percent(p.probability), span(p.within_s).as_window());
        let because =
            p.blocked.as_ref().map_or_else(|| p.because.clone(), |b| format!("[{b}] {}", p.because));
        line(
            out,
            &format!(
                "  {}  {:<22} {:<15} {:<15} {:<10} {because}",
                minute(&p.at),
                p.partition,
                chance,
                p.verdict,
                lead(p.lead_s)
            ),
        );
    }
    rest(out, report.proposals.len());
}

fn rest(out: &mut String, all: usize) {
    if all > ROWS {
        line(out, &format!("  … {} more; all of them are in --json", all - ROWS));
    }
}

fn moment(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>().ok().map(|t| Timestamp(t.as_millisecond()))
}

/// Failures and proposals of each partition over time.
fn timeline(out: &mut String, report: &Report) {
    let Some((from, to)) = moment(&report.from).zip(moment(&report.to)) else { return };
    let width = (to - from).0.max(1) as f64;
    let column = |at: &str| {
        let share = (moment(at)? - from).0 as f64 / width;
        Some(((share * COLUMNS as f64) as usize).min(COLUMNS - 1))
    };
    let mut rows: BTreeMap<&str, Vec<char>> = BTreeMap::new();
    let empty = || vec!['·'; COLUMNS];
    for p in &report.proposals {
        let mark = match p.verdict.as_str() {
            "right" => '▲',
            "needless" => '△',
            _ => '▵',
        };
        if let Some(at) = column(&p.at) {
            rows.entry(&p.partition).or_insert_with(empty)[at] = mark;
        }
    }
    for f in &report.failures {
        for partition in &f.partitions {
            if let Some(at) = column(&f.at) {
                rows.entry(partition).or_insert_with(empty)[at] = '✖';
            }
        }
    }
    if rows.is_empty() {
        return;
    }
    line(out, "\nOver time   ▲ proposed and right   △ needless   ▵ other   ✖ failed");
    let most = rows.len();
    for (partition, marks) in rows.into_iter().take(ROWS) {
        line(out, &format!("  {partition:<22} {}", marks.into_iter().collect::<String>()));
    }
    rest(out, most);
}

fn calibration(out: &mut String, c: &Calibrated) {
    let number = |n: Option<f64>, digits| n.map_or_else(|| "–".into(), |n| format!("{n:.digits$}"));
    let (skill, brier, ece) = (number(c.brier_skill, 3), number(c.brier, 5), number(c.ece, 5));
    line(
        out,
        &format!(
            "\nWithin {}: {} rows, {} of them before a failure; Brier {brier}, skill {skill}, calibration error {ece}",
            span(c.within_s).as_window(),
            count(c.rows as f64),
            count(c.rows_failed as f64)
        ),
    );
    if c.rows == 0 {
        return;
    }
    line(out, "  stated           rows         mean stated   failed");
    for bin in &c.bins {
        let range = format!("{:.0} to {:.0} %", bin.from * 100.0, bin.to * 100.0);
        let bar = "█".repeat((bin.happened * BAR as f64).round() as usize);
        line(
            out,
            &format!(
                "  {range:<15}  {:<11}  {:<12}  {:<7} {bar}",
                count(bin.rows as f64),
                percent(bin.stated),
                percent(bin.happened)
            ),
        );
    }
}

fn thresholds(out: &mut String, curve: &Curve) {
    line(out, &format!("\nThresholds within {}   (* as configured)", span(curve.within_s).as_window()));
    line(out, "  from      caught   needless   undecided   lead       cost");
    let most = curve.points.iter().map(|p| p.tally.cost).fold(0.0, f64::max).max(1e-9);
    for p in &curve.points {
        let t = &p.tally;
        let from = format!("{}{}", percent(p.threshold), if p.configured { " *" } else { "" });
        let bar = "█".repeat((t.cost / most * BAR as f64).round() as usize);
        line(
            out,
            &format!(
                "  {from:<8}  {:<7}  {:<9}  {:<10}  {:<9}  {:<7.1} {bar}",
                format!("{}/{}", t.caught, t.failures),
                t.needless,
                t.undecided,
                lead(t.lead_median_s),
                t.cost
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        assert_eq!([count(0.0), count(999.0), count(1_234_567.4)], ["0", "999", "1,234,567"]);
        assert_eq!([percent(0.0), percent(0.005), percent(0.5)], ["0 %", "0.5 %", "50 %"]);
        assert_eq!(lead(Some(260.0)), "4 m 20");
    }
}
