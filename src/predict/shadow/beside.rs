//! What two models say of the same partitions, from the assessor's last cycle: by what they were trained on. What is
//! remembered of failures since is no merit of either. Reads alone.

use crate::fleet::ApplicationId;
use crate::predict::Assessor;
use crate::predict::chances::{has_a_say, heads_of, speaks_on};
use crate::predict::failure::{FailureModel, live};
use crate::telemetry::Windows;

/// What both said; rows in the order of `which`, one number a window, NaN where a model has no head for it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Said {
    /// Partitions by their number in the windows; those of which a model has nothing to say are left out.
    pub which: Vec<u32>,
    /// `[partition][window]`, of the model that speaks.
    pub champion: Vec<f64>,
    /// `[partition][window]`, of the other.
    pub shadow: Vec<f64>,
}

impl Assessor {
    /// The chances that the model in use and `other` give those of the partitions `which` that both can
    /// speak of, within each of the assessor's windows. `None` where no model is in use or the grid is not
    /// theirs. Changes nothing.
    pub fn beside(&self, other: &FailureModel, windows: &Windows, which: &[u32]) -> Option<Said> {
        self.both(self.failure_model.as_deref()?, other, windows, which)
    }

    /// The same of the model that speaks of an application's partitions: its own, or the fleet's.
    pub fn beside_of(
        &self,
        application: &ApplicationId,
        other: &FailureModel,
        windows: &Windows,
        which: &[u32],
    ) -> Option<Said> {
        self.both(self.model_of(application)?, other, windows, which)
    }

    fn both(
        &self,
        own: &FailureModel,
        other: &FailureModel,
        windows: &Windows,
        which: &[u32],
    ) -> Option<Said> {
        if !speaks_on(windows) {
            return None;
        }
        let which: Vec<u32> =
            which.iter().copied().filter(|p| (*p as usize) < self.assessments().len()).collect();
        let own_rows = live::features_of(&own.spec, self, windows, &which);
        let same = own.spec == other.spec;
        let other_rows =
            if same { None } else { Some(live::features_of(&other.spec, self, windows, &which)) };
        let other_rows = other_rows.as_ref().unwrap_or(&own_rows);
        let (a, b) = (own.predict_learnt(&own_rows), other.predict_learnt(other_rows));
        let windows = &self.options().windows;
        let (own_heads, other_heads) = (heads_of(own, windows), heads_of(other, windows));
        let mut said = Said::default();
        for (row, &p) in which.iter().enumerate() {
            let assessment = &self.assessments()[p as usize];
            if !has_a_say(&own.spec, assessment, own_rows.row(row))
                || !has_a_say(&other.spec, assessment, other_rows.row(row))
            {
                continue;
            }
            said.which.push(p);
            for (heads, of, into) in
                [(&own_heads, a.row(row), &mut said.champion), (&other_heads, b.row(row), &mut said.shadow)]
            {
                into.extend(heads.iter().map(|h| h.map_or(f64::NAN, |h| of[h])));
            }
        }
        Some(said)
    }
}
