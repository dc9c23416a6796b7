//! `foreshift simulate`: the migration machine against faults, seed by seed. Everything follows from
//! the seed, so a seed that fails is printed and can be run again with its timeline.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;

use crate::migrate::simulation::{Outcome, Setting, run_seed, wanted_coverage};

/// Runs the migration machine on simulated time with faults at every call.
#[derive(Clone, Debug, Args)]
pub struct SimulateArgs {
    /// Seeds to run: `A..B` runs A to B−1, a single number runs that seed.
    #[arg(long, value_name = "A..B", value_parser = parse_seeds, default_value = "0..200")]
    pub seeds: Seeds,

    /// Print the timeline of every seed (of a failing seed it is printed anyway).
    #[arg(long)]
    pub trace: bool,

    /// Threads; seeds are independent of each other.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
}

/// A range of seeds; the end is not in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seeds {
    /// The first.
    pub from: u64,
    /// One after the last.
    pub to: u64,
}

fn parse_seeds(text: &str) -> Result<Seeds, String> {
    let number = |part: &str| {
        part.trim().parse::<u64>().map_err(|_| format!("expected A..B or one number, got {text:?}"))
    };
    match text.split_once("..") {
        Some((from, to)) => {
            let (from, to) = (number(from)?, number(to)?);
            (from < to)
                .then_some(Seeds { from, to })
                .ok_or_else(|| format!("expected A smaller than B, got {text:?}: there is no seed in it"))
        }
        None => number(text).map(|seed| Seeds { from: seed, to: seed + 1 }),
    }
}

/// Sums over seeds.
#[derive(Default)]
struct Totals {
    passed: u64,
    failed: u64,
    coverage: BTreeSet<(crate::fleet::Phase, crate::migrate::simulation::Point)>,
    ends: [u64; 4],
    faults: u64,
    deaths: u64,
    acknowledged: u64,
    commits: u64,
    hosts: [u32; 2],
    least: [u32; 2],
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        match outcome.violation {
            None => self.passed += 1,
            Some(_) => self.failed += 1,
        }
        self.coverage.extend(outcome.coverage.iter().copied());
        for (sum, n) in self.ends.iter_mut().zip(outcome.ends) {
            *sum += u64::from(n);
        }
        self.faults += u64::from(outcome.faults);
        self.deaths += u64::from(outcome.deaths);
        self.acknowledged += outcome.acknowledged;
        self.commits += outcome.commits;
        let migrations: u32 = outcome.ends.iter().sum();
        let first = self.passed + self.failed == 1;
        let low = |seen: u32, n: u32| if first { n } else { seen.min(n) };
        self.hosts = [low(self.hosts[0], outcome.hosts), self.hosts[1].max(outcome.hosts)];
        self.least = [low(self.least[0], migrations), low(self.least[1], outcome.faults)];
    }
}

/// Runs the seeds and writes to `out`; the exit status is 1 where one failed.
///
/// # Errors
/// Where `out` cannot be written to.
pub fn run(args: &SimulateArgs, out: &mut dyn Write) -> std::io::Result<ExitCode> {
    let began = Instant::now();
    let mut totals = Totals::default();
    let threads = args.threads.clamp(1, 64) as u64;
    let Seeds { from, to } = args.seeds;
    let mut next = from;
    while next < to {
        let batch: Vec<u64> = (next..to.min(next + threads * 16)).collect();
        next += batch.len() as u64;
        for outcome in outcomes(&batch, threads as usize, args.trace) {
            totals.add(&outcome);
            report(out, &outcome, args.trace)?;
        }
    }
    summary(out, &totals, began.elapsed().as_secs_f64())?;
    Ok(if totals.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn outcomes(seeds: &[u64], threads: usize, trace: bool) -> Vec<Outcome> {
    let setting = Setting { trace, ..Setting::default() };
    if threads <= 1 {
        return seeds.iter().map(|seed| run_seed(*seed, setting)).collect();
    }
    let share = seeds.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let parts: Vec<_> = seeds
            .chunks(share)
            .map(|part| {
                scope.spawn(move || part.iter().map(|seed| run_seed(*seed, setting)).collect::<Vec<_>>())
            })
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
    })
}

fn report(out: &mut dyn Write, outcome: &Outcome, trace: bool) -> std::io::Result<()> {
    let failed = outcome.violation.is_some();
    if failed || trace {
        let replayed = match (failed, trace) {
            (true, false) => run_seed(outcome.seed, Setting { trace: true, ..Setting::default() }).trace,
            _ => outcome.trace.clone(),
        };
        for line in replayed {
            writeln!(out, "  {line}")?;
        }
    }
    if let Some(violation) = &outcome.violation {
        let seed = outcome.seed;
        writeln!(out, "seed {seed} FAILED: {violation}")?;
        writeln!(out, "  again: foreshift simulate --seeds {seed} --trace")?;
    }
    Ok(())
}

fn summary(out: &mut dyn Write, totals: &Totals, seconds: f64) -> std::io::Result<()> {
    let seeds = totals.passed + totals.failed;
    let [done, rolled_back, aborted, other] = totals.ends;
    writeln!(
        out,
        "migrations: {done} done, {rolled_back} rolled back, {aborted} aborted, {other} other ends; \
         {} faults, {} engines died or were deposed, {} writes acknowledged and none lost in what passed, \
         {} commits",
        totals.faults, totals.deaths, totals.acknowledged, totals.commits
    )?;
    writeln!(
        out,
        "each seed: {} to {} hosts, at least {} migrations and {} faults",
        totals.hosts[0], totals.hosts[1], totals.least[0], totals.least[1]
    )?;
    let wanted = wanted_coverage();
    let missing: Vec<String> = wanted
        .difference(&totals.coverage)
        .map(|(phase, point)| format!("{} × {point:?}", phase.word()))
        .collect();
    let hit = wanted.len() - missing.len();
    writeln!(out, "coverage: {hit} of {} pairs of state and fault point", wanted.len())?;
    if !missing.is_empty() {
        writeln!(out, "  not hit: {}", missing.join(", "))?;
    }
    writeln!(out, "{seeds} seeds in {seconds:.1} s, {:.0} seeds/s", seeds as f64 / seconds.max(1e-9))?;
    writeln!(out, "{seeds} seeds, {} passed, {} failed", totals.passed, totals.failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_read_with_the_end_left_out() {
        assert_eq!(parse_seeds("3..7"), Ok(Seeds { from: 3, to: 7 }));
        assert_eq!(parse_seeds("42"), Ok(Seeds { from: 42, to: 43 }));
        assert!(parse_seeds("7..3").unwrap_err().contains("no seed"));
        assert!(parse_seeds("x..3").is_err());
    }
}
