//! Why a partition is no destination, in words, and how near it came.

use crate::fleet::{PartitionId, PredictionState, ServingState};

/// Why a partition is no destination; later variants come nearer to being one.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::plan) enum Reject {
    Class,
    Draining,
    Serving(ServingState),
    Place(&'static str),
    Label(String),
    Veto(String),
    Failed(String),
    Unknown,
    State(PredictionState),
    Risk(f64),
    Health(f64),
    CopyOnHost,
    CopyInSite(String),
    CopyInRack(String),
    Data(f64, f64),
    Load(f64, f64),
    Worse(String),
}

impl Reject {
    /// How near it came; nearer is greater.
    pub(super) fn stage(&self) -> u8 {
        match self {
            Reject::Class => 0,
            Reject::Draining => 1,
            Reject::Serving(_) => 2,
            Reject::Place(_) => 3,
            Reject::Label(_) => 4,
            Reject::Veto(_) | Reject::Failed(_) => 5,
            Reject::Unknown => 6,
            Reject::State(_) => 7,
            Reject::Risk(_) => 8,
            Reject::Health(_) => 9,
            Reject::CopyOnHost => 10,
            Reject::CopyInSite(_) => 11,
            Reject::CopyInRack(_) => 12,
            Reject::Data(..) => 13,
            Reject::Load(..) => 14,
            Reject::Worse(_) => 15,
        }
    }

    /// In words.
    pub(in crate::plan) fn words(&self) -> String {
        match self {
            Reject::Class => "of another class".to_string(),
            Reject::Draining => "its host is being emptied itself".to_string(),
            Reject::Serving(state) => format!("it is {}", serving_word(*state)),
            Reject::Place(words) => (*words).to_string(),
            Reject::Label(key) => format!("its host has not the label {key} that a destination must have"),
            Reject::Veto(reason) => reason.clone(),
            Reject::Failed(why) => format!("a move there failed of late: {why}"),
            Reject::Unknown => "nothing is known of it now".to_string(),
            Reject::State(state) => format!("it is {} itself", state_word(*state)),
            Reject::Risk(p) => format!("itself at {:.1} %", 100.0 * p),
            Reject::Health(h) => format!("its own health is {h:.0}"),
            Reject::CopyOnHost => "its host holds a copy already".to_string(),
            Reject::CopyInSite(site) => format!("site {site} holds a copy already"),
            Reject::CopyInRack(rack) => format!("rack {rack} holds a copy already"),
            Reject::Data(after, most) => {
                format!("would pass {:.0} % of its space (to {:.0} %)", 100.0 * most, 100.0 * after)
            }
            Reject::Load(after, most) => {
                format!("would pass {:.0} % load (to {:.0} %)", 100.0 * most, 100.0 * after)
            }
            Reject::Worse(words) => words.clone(),
        }
    }
}

/// Why there is no place, from the reasons of those that came nearest.
pub(super) fn nowhere(rejected: &[(&PartitionId, Reject)]) -> (String, String) {
    let Some((id, nearest)) = rejected.first() else {
        return ("there is no other partition".to_string(), "add a host".to_string());
    };
    let relax = match nearest {
        Reject::Data(..) => "add capacity, or raise plan.fill_limit",
        Reject::Load(..) => "add capacity, or raise plan.most_load",
        Reject::CopyInRack(_) | Reject::CopyInSite(_) | Reject::CopyOnHost => "add a host in another rack",
        Reject::Risk(_) | Reject::Health(_) | Reject::State(_) => "wait until another partition is well",
        Reject::Unknown => "mend the data of the other partitions",
        Reject::Place(_) => "add a copy or an empty partition",
        _ => "add a host of this class",
    };
    (format!("no destination; nearest was {id}: {}", nearest.words()), relax.to_string())
}

fn serving_word(state: ServingState) -> &'static str {
    match state {
        ServingState::Active => "active",
        ServingState::Passive => "passive",
        ServingState::Fenced => "fenced",
        ServingState::Migrating => "migrating",
        ServingState::Standby => "standby",
        ServingState::Decommissioned => "decommissioned",
    }
}

fn state_word(state: PredictionState) -> &'static str {
    match state {
        PredictionState::Unknown => "unknown",
        PredictionState::Healthy => "healthy",
        PredictionState::Suspect => "suspect",
        PredictionState::PredictiveFailure => "expected to fail",
        PredictionState::Evacuating => "being emptied",
        PredictionState::Evacuated => "emptied",
        PredictionState::Probation => "on probation",
    }
}
