//! The backtest on the simulated fleet: its time passes with nobody acting, what its agents send is
//! recorded into an embedded store, and the failures that it injects are the failure history. From there
//! on everything is as with a fleet of flesh and blood.

use std::sync::Arc;

use anyhow::Result;

use super::inputs::{self, Labels};
use super::{BacktestArgs, core, rates, replay};
use crate::cli::{demo, settings};
use crate::config::Config;
use crate::drivers::Mover;
use crate::engine::failures::{Failure, Label, Origin};
use crate::engine::intake::EmbeddedIntake;
use crate::eval::backtest::{Report, Setup};
use crate::fleet::{Clock, HostId, ManualClock, Span, Timestamp, Topology};
use crate::protocol::Intake;
use crate::sim::{DemoOptions, SimFleet};
use crate::telemetry::Source;
use crate::telemetry::embedded::EmbeddedStore;

/// Between two steps of the fleet: what agents take between two collections.
const STEP: Span = Span::seconds(5);

pub(super) async fn run(args: &BacktestArgs) -> Result<Report> {
    of(args, &demo::config()).await
}

async fn of(args: &BacktestArgs, config: &Config) -> Result<Report> {
    let clock = Arc::new(ManualClock::at(demo::START));
    let mut fleet = SimFleet::new(args.seed, DemoOptions::new(clock.clone()));
    let class = fleet.mover().class().to_string();
    let topology = fleet.topology();
    let store = EmbeddedStore::in_memory()?;
    store.append_many(&fleet.history())?;
    let intake = EmbeddedIntake::new(store.clone(), clock.clone());
    let (from, to) = (demo::START, demo::START + args.length);
    while clock.now() < to {
        clock.advance(STEP);
        for message in fleet.step_to(clock.now()) {
            intake.take(message).await?;
        }
    }
    let labels = Labels::of(failures(&fleet, &topology, to), "the simulated fleet's own book");
    let core = core(config, &[(class, topology)]).await?;
    let source: Arc<dyn Source> = Arc::new(store);
    let mut notes = vec![format!(
        "this is the simulated fleet of seed {}: its failures come every 8 to 15 minutes, far more often than \
         anywhere else",
        args.seed
    )];
    let incidents = inputs::resolve(&labels, core.topology(), &*source, (from, to), &mut notes).await?;
    let setup = Setup {
        core,
        hysteresis: settings::hysteresis(config),
        history: source.clone(),
        source,
        from,
        to,
        told: labels.records(),
        incidents,
        rates: rates(args),
    };
    replay(setup, notes).await
}

/// What died until `to`, as an operator would have recorded it: the host where all of it died.
fn failures(fleet: &SimFleet, topology: &Topology, to: Timestamp) -> Vec<Failure> {
    let mut records = Vec::new();
    for fault in fleet.ledger().failures.iter().filter(|f| !f.harmless) {
        let Some(at) = fault.died.filter(|at| *at <= to) else { continue };
        let on_host = |host: &HostId| topology.partitions.iter().filter(|p| &p.host == host).count();
        let whole = on_host(&fault.host) == fault.partitions.len();
        let subjects = if whole {
            vec![fault.host.to_string()]
        } else {
            fault.partitions.iter().map(ToString::to_string).collect()
        };
        records.extend(subjects.into_iter().map(|subject| Failure {
            number: 0,
            at,
            subject,
            cause: fault.kind.words().into(),
            label: Label::Failed,
            origin: Origin::Import,
        }));
    }
    records
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::backtest::text;
    use crate::fleet::Share;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: BacktestArgs,
    }

    #[tokio::test]
    async fn what_was_predicted_and_could_go_nowhere_is_not_called_unforeseen() {
        let line = Line::parse_from(["backtest", "--demo", "--for", "1h"]);
        let mut config = demo::config();
        config.plan.most_load = Share::clamped(0.01).unwrap();
        let report = of(&line.args, &config).await.unwrap();
        assert_eq!((report.proposals.len(), report.configured.caught), (0, 0));
        assert!(report.missed_held > 0, "{:?}", report.failures);
        for failure in &report.failures {
            let held = report.held.iter().filter(|h| failure.partitions.contains(&h.partition));
            let foreseen = held.filter(|h| h.verdict == "right").count() > 0;
            assert_eq!(failure.held.is_some(), foreseen, "{failure:?}");
        }
        let said = text::render(&report);
        let counted = format!("missed ({} of them predicted in time, but held)", report.missed_held);
        for expected in
            [&counted, "before, held: no destination", "nearest way out: ", "raise plan.most_load"]
        {
            assert!(said.contains(expected), "{expected}: {said}");
        }
    }
}
