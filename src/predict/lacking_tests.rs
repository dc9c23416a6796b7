//! Fleets that do not measure everything: what the shipped models make of metrics that are not there.

use super::models::runtime::kernels::Kernels;
use super::test_fleet::{Fleet, NORMAL};
use super::*;
use crate::fleet::Span;
use crate::telemetry::CANONICAL;

/// What a partition lacks, one a line: nothing, each metric alone that agents often have not, and what
/// Telegraf's cpu, mem, disk, diskio and net leave out, in two breadths.
const LACKS: [&[&str]; 10] = [
    &[],
    &["net.loss"],
    &["temp"],
    &["power.volts"],
    &["log.errors"],
    &["queue.depth", "request.latency"],
    &["net.latency", "net.loss"],
    &["power.volts", "temp"],
    &["power.volts", "temp", "queue.depth", "request.latency", "log.errors"],
    &[
        "mem.pressure",
        "net.latency",
        "net.loss",
        "log.errors",
        "temp",
        "power.volts",
        "queue.depth",
        "request.latency",
    ],
];

const WINDOWS: [Span; 3] = [Span::minutes(15), Span::hours(1), Span::hours(24)];

/// A fleet in which partition `p` lacks what line `p` says, with the shipped models.
fn fleet_that_lacks() -> (Fleet, Assessor) {
    let mut fleet = Fleet::new(LACKS.len());
    let mut assessor = Assessor::new(AssessOptions::default());
    assessor.use_models(&Kernels, failure::open(None).unwrap()).unwrap();
    let there = |p: usize, m: usize, v| if lacks(p, CANONICAL[m].name) { f32::NAN } else { v };
    assessor.observe_history(&fleet.history_of(3, there));
    fleet.run(Span::hours(1), there);
    fleet.run(Span::hours(3), measured);
    (fleet, assessor)
}

fn lacks(p: usize, metric: &str) -> bool {
    LACKS[p].contains(&metric)
}

/// What is measured of `v`: supplies and disks are steadier than the rest, errors whole numbers.
fn measured(p: usize, m: usize, v: f32) -> f32 {
    let name = CANONICAL[m].name;
    match name {
        _ if lacks(p, name) => f32::NAN,
        "power.volts" | "disk.used" => NORMAL[m] + 0.05 * (v - NORMAL[m]),
        "log.errors" => (NORMAL[m] + 10.0 * (v - NORMAL[m])).round().max(0.0),
        _ => v,
    }
}

fn chances(of: &Assessment) -> [f64; 3] {
    WINDOWS.map(|within| of.failure_within(within).unwrap().get())
}

#[test]
fn a_healthy_partition_is_not_said_to_fail_for_what_it_does_not_measure() {
    let (fleet, mut assessor) = fleet_that_lacks();
    let all = fleet.assess(&mut assessor);
    let whole = chances(&all[0]);
    for (lacks, a) in LACKS.iter().zip(&all) {
        let said = chances(a);
        assert_eq!(a.failure[2].calibration, Calibration::Shipped);
        for (said, whole) in said.iter().zip(whole) {
            assert!((said - whole).abs() < 0.03, "{said} against {whole} without {lacks:?}");
        }
    }
}

#[test]
fn a_sick_partition_stands_out_whatever_it_does_not_measure() {
    let (mut fleet, mut assessor) = fleet_that_lacks();
    let calm: Vec<_> = fleet.assess(&mut assessor).iter().map(chances).collect();
    let highest = |w: usize| calm.iter().map(|c| c[w]).fold(0.0, f64::max);
    fleet.run(Span::minutes(15), |p, m, v| match CANONICAL[m].name {
        "disk.write_latency" | "disk.read_latency" => 6.0 * measured(p, m, v),
        "log.errors" => 12.0 * measured(p, m, v),
        _ => measured(p, m, v),
    });
    for (lacks, a) in LACKS.iter().zip(&fleet.assess(&mut assessor)) {
        let said = chances(a);
        for (w, said) in said.into_iter().enumerate().skip(1) {
            assert!(said > 0.1 && said > 3.0 * highest(w), "{said} against {} without {lacks:?}", highest(w));
        }
    }
}
