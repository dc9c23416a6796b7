//! One action of a migration: what, and which way.

use serde::{Deserialize, Serialize};

use crate::drivers::Action;
use crate::fleet::{Share, digits};

/// Which way an action goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// From source to destination.
    Forward,
    /// From destination back to source, at the next generation.
    Back,
}

/// What a driver is asked to do.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "deed")]
pub enum Deed {
    /// An action of the mover.
    Mover {
        /// The action.
        action: Action,
    },
    /// The router sends this share of the traffic to the plan's destination, the rest to its
    /// source.
    Route {
        /// 0 = all to the source, 1 = all to the destination.
        share: Share,
    },
}

/// One action of one direction.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Act {
    /// What.
    #[serde(flatten)]
    pub deed: Deed,
    /// Which way.
    pub side: Side,
}

impl Act {
    /// A forward action of the mover.
    pub fn forward(action: Action) -> Self {
        Self { deed: Deed::Mover { action }, side: Side::Forward }
    }

    /// An action of the mirrored job.
    pub fn back(action: Action) -> Self {
        Self { deed: Deed::Mover { action }, side: Side::Back }
    }

    /// Sends `share` of the traffic to the plan's destination.
    pub fn route(share: Share) -> Self {
        Self { deed: Deed::Route { share }, side: Side::Forward }
    }

    /// Whether it takes back what another action did.
    pub fn undoes(&self) -> bool {
        match &self.deed {
            Deed::Mover { action: Action::Unfence | Action::StopReplication | Action::Cleanup { .. } } => {
                true
            }
            Deed::Mover { action: Action::CanaryShare { share } } | Deed::Route { share } => {
                share.get() == 0.0
            }
            Deed::Mover { .. } => false,
        }
    }

    /// Whether it changes nothing.
    pub fn only_reads(&self) -> bool {
        matches!(&self.deed, Deed::Mover { action } if action.is_read_only())
    }

    /// The step's name in keys, journal and screens. A share is part of it, because each share is
    /// an action of its own.
    pub fn name(&self) -> String {
        let step = match &self.deed {
            Deed::Mover { action: Action::CanaryShare { share } } => percent("canary_share_", *share),
            Deed::Mover { action: Action::Cleanup { artifact } } => ["cleanup_", &artifact.name].concat(),
            Deed::Mover { action } => action.name().to_string(),
            Deed::Route { share } => percent("route_", *share),
        };
        match self.side {
            Side::Forward => step,
            // No rollback: it compares what follows.
            Side::Back if step == Action::Verify.name() => "verify_again".to_string(),
            Side::Back => ["rb_", &step].concat(),
        }
    }

    /// The same in words, for people.
    pub fn words(&self) -> String {
        self.name().replace('_', " ")
    }
}

/// A name that ends with a share in whole per cent, as `{:.0}` rounds it.
fn percent(name: &str, share: Share) -> String {
    let mut named = String::with_capacity(name.len() + 3);
    named.push_str(name);
    digits::push_number(&mut named, (share.get() * 100.0).round_ties_even() as u64, 1);
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_named_in_whole_per_cent_as_the_formatter_rounds_it() {
        for thousandths in 0..=1_000 {
            let share = Share::new(f64::from(thousandths) / 1_000.0).unwrap();
            let whole = format!("{:.0}", share.get() * 100.0);
            assert_eq!(Act::route(share).name(), format!("route_{whole}"));
            let canary = Act::back(Action::CanaryShare { share });
            assert_eq!(canary.name(), format!("rb_canary_share_{whole}"));
        }
    }
}
