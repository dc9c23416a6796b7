//! What `foreshift train --app` learns from: the rows of the partitions that do one application's work, where
//! they hold failures enough, and how good the fleet's model is on the same rows.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use super::train::labels;
use super::train_rows::Rows;
use crate::eval::backtest::Truth;
use crate::fleet::{ApplicationId, HostId, PartitionId, Topology};
use crate::predict::Outcome;
use crate::predict::context::application_of;
use crate::predict::failure::FailureModel;
use crate::predict::models::FeatureMatrix;
use crate::predict::train::card::{FLEETS_AUPRC, FLEETS_BRIER, FLEETS_ECE};
use crate::predict::train::failure::{HeadFile, Part, part_of};
use crate::predict::train::{Replayed, Trained, compare};

/// Fewest recorded failures of an application's partitions …
pub(super) const LEAST_FAILURES: usize = 20;
/// … and fewest hosts that they struck: three fifths of these teach, a fifth chooses, a fifth judges.
pub(super) const LEAST_HOSTS: usize = 10;

/// The rows of the partitions that do an application's work now.
///
/// # Errors
/// No partition does, or too little has failed there; the words name the number and the bound.
pub(super) fn only(
    rows: Rows,
    application: &ApplicationId,
    topology: &Topology,
    truth: &Truth,
) -> Result<Rows> {
    let does = |p: &PartitionId| application_of(topology.on_partition(p)) == Some(application);
    let chosen: Vec<bool> = rows.partitions.iter().map(does).collect();
    let own: Vec<&PartitionId> =
        rows.partitions.iter().zip(&chosen).filter(|(_, chosen)| **chosen).map(|(p, _)| p).collect();
    if own.is_empty() {
        let known: BTreeSet<&str> = topology.workloads.iter().map(|w| w.application.as_str()).collect();
        bail!(
            "no partition with samples does the work of {application}; applications that are known: {}",
            if known.is_empty() { "none".into() } else { known.into_iter().collect::<Vec<_>>().join(", ") }
        );
    }
    let failed =
        |p: &&PartitionId| truth.events(p).iter().filter(|event| event.outcome == Outcome::Failed).count();
    let failures: usize = own.iter().map(failed).sum();
    let hosts: BTreeSet<HostId> = own.iter().filter(|p| failed(p) > 0).map(|p| host(p, topology)).collect();
    if failures < LEAST_FAILURES || hosts.len() < LEAST_HOSTS {
        bail!(
            "{failures} failures on {} hosts are recorded of the {} partitions of {application}; a model of its own \
             needs {LEAST_FAILURES} on {LEAST_HOSTS}: the fleet's model goes on speaking of it",
            hosts.len(),
            own.len()
        );
    }
    Ok(select(rows, &chosen))
}

fn host(partition: &PartitionId, topology: &Topology) -> HostId {
    topology.partition(partition).map_or_else(|| partition.host(), |p| p.host.clone())
}

/// The rows of these partitions; their units stay those of the whole fleet, so that the same hosts are held
/// back.
fn select(rows: Rows, chosen: &[bool]) -> Rows {
    let kept: Vec<usize> = (0..rows.of.len()).filter(|r| chosen[rows.of[*r] as usize]).collect();
    let mut number = Vec::with_capacity(chosen.len());
    let mut next = 0;
    for chosen in chosen {
        number.push(next);
        next += u32::from(*chosen);
    }
    Rows {
        replayed: Replayed {
            rows: rows.replayed.rows.select(&kept),
            units: kept.iter().map(|r| rows.replayed.units[*r]).collect(),
            slots: kept.iter().map(|r| rows.replayed.slots[*r]).collect(),
            ..Replayed::default()
        },
        of: kept.iter().map(|r| number[rows.of[*r] as usize]).collect(),
        times: kept.iter().map(|r| rows.times[*r]).collect(),
        partitions: rows.partitions.into_iter().zip(chosen).filter(|(_, c)| **c).map(|(p, _)| p).collect(),
        ..rows
    }
}

/// The rows of hosts that were held back of which it is known what became of them within a head's window,
/// and that.
pub(super) fn held_back(
    rows: &Rows,
    truth: &Truth,
    file: &HeadFile,
    seed: u64,
) -> Option<(FeatureMatrix, Vec<bool>)> {
    let known = labels(rows, truth, file.card.within()?);
    let held: Vec<usize> = (0..known.len())
        .filter(|r| known[*r].is_some() && part_of(rows.replayed.units[*r], seed) == Part::HeldBack)
        .collect();
    let truths = held.iter().filter_map(|r| known[*r]).collect();
    Some((rows.replayed.rows.select(&held), truths))
}

/// Writes into the cards whose model it is, and how good the fleet's is on the same held-back rows.
pub(super) fn sign(
    trained: &mut Trained,
    application: &ApplicationId,
    fleet: &FailureModel,
    (rows, truth): (&Rows, &Truth),
    seed: u64,
) {
    let model = &trained.model;
    for file in &mut trained.files {
        let held = held_back(rows, truth, file, seed);
        let verdict = held
            .zip(file.card.within())
            .and_then(|((rows, truths), within)| compare(fleet, model, &rows, &truths, within));
        file.card.application = Some(application.clone());
        if let Some(fleets) = verdict.map(|v| v.champion) {
            let measures =
                [(FLEETS_AUPRC, fleets.auprc), (FLEETS_BRIER, fleets.brier), (FLEETS_ECE, fleets.ece)];
            file.card.measures.extend(measures.map(|(name, value)| (name.to_string(), value)));
        }
    }
}
