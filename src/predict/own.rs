//! Models of one application: each says the chances of failure of the partitions that do that application's
//! work, where it has a say; of all others, and where it has none, the fleet's model speaks. What the fleet's
//! model says of the others is the same with and without them.

use rayon::prelude::*;

use super::assess::{Assessor, BATCH};
use super::chances::{Heads, Outside, explain, has_a_say, heads_of, speak, speaks_on};
use super::failure::open::Opened;
use super::failure::{FailureModel, live};
use super::models::ModelError;
use super::models::runtime::Runtime;
use super::speaker::Lines;
use crate::fleet::{ApplicationId, Timestamp};
use crate::telemetry::{PartitionIx, Windows};

/// The model of one application.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) application: ApplicationId,
    pub(super) version: u32,
    pub(super) lines: Lines,
    pub(super) model: FailureModel,
    heads: Heads,
}

impl Assessor {
    /// From now on this model says the chances of failure of an application's partitions, instead of the
    /// one before, run by `runtime`.
    ///
    /// # Errors
    /// A file that the runtime cannot read; the one before goes on then.
    pub fn use_model_of(
        &mut self,
        application: ApplicationId,
        version: u32,
        runtime: &dyn Runtime,
        opened: Opened,
    ) -> Result<(), ModelError> {
        let heads = Heads::open(runtime, &opened.files)?;
        self.forget_model_of(&application);
        self.recall.tell_again();
        let lines = Lines::of(&opened.cards);
        self.own.push(Own { application, version, lines, model: opened.model, heads });
        self.own.sort_by(|a, b| a.application.cmp(&b.application));
        Ok(())
    }

    /// The fleet's model speaks of that application's partitions again.
    pub fn forget_model_of(&mut self, application: &ApplicationId) {
        self.own.retain(|own| own.application != *application);
        // Places in the list are no longer those of the last cycle.
        self.spoken.clear();
    }

    /// Whose model, and which version of it, said the chances of a partition in the last cycle; `None` =
    /// the fleet's.
    pub fn speaker(&self, partition: PartitionIx) -> Option<(&ApplicationId, u32)> {
        self.own_speaker(partition).map(|own| (&own.application, own.version))
    }

    /// The application's model that said the chances of a partition in the last cycle.
    pub(super) fn own_speaker(&self, partition: PartitionIx) -> Option<&Own> {
        self.own.get((*self.spoken.get(partition.0 as usize)?)? as usize)
    }

    /// Partitions, by their number, that did an application's work in the last cycle.
    pub fn partitions_of(&self, application: &ApplicationId) -> Vec<u32> {
        let all = self.derived.application.iter().enumerate();
        all.filter(|(_, a)| a.as_ref() == Some(application)).map(|(p, _)| p as u32).collect()
    }

    /// The model that speaks of an application's partitions.
    pub(super) fn model_of(&self, application: &ApplicationId) -> Option<&FailureModel> {
        let own = self.own.iter().find(|own| own.application == *application).map(|own| &own.model);
        own.or(self.failure_model.as_deref())
    }

    /// Lets the models of applications know of the failures that were recorded.
    pub(super) fn remind_own(&mut self) {
        let mut all = std::mem::take(&mut self.own);
        all.iter_mut().for_each(|own| self.remind(&mut own.model));
        self.own = all;
    }

    /// Lets each application's model speak of its partitions, before the fleet's speaks of the others.
    pub(super) fn say_own(&mut self, windows: &Windows, now: Timestamp, outside: &mut Outside) {
        self.spoken.clear();
        if self.own.is_empty() || !speaks_on(windows) {
            return;
        }
        let count = self.assessments.len().min(windows.partitions().len());
        self.spoken.resize(count, None);
        let mut all = std::mem::take(&mut self.own);
        for (k, own) in all.iter_mut().enumerate() {
            let mut which = self.partitions_of(&own.application);
            which.retain(|p| (*p as usize) < count && !self.assessments[*p as usize].failure.is_empty());
            if !which.is_empty() {
                self.say_of(k, own, &which, windows, now, outside);
            }
        }
        self.own = all;
    }

    fn say_of(
        &mut self,
        k: usize,
        own: &mut Own,
        which: &[u32],
        windows: &Windows,
        now: Timestamp,
        outside: &mut Outside,
    ) {
        let rows = live::features_of(&own.model.spec, self, windows, which);
        let margins = own.heads.margins(&rows).unwrap_or_else(|error| {
            let application = own.application.as_str();
            tracing::error!(%error, application, "the runtime cannot run its model; the built-in kernels do");
            own.heads = Heads::default();
            Vec::new()
        });
        let said = own.model.predict_from(&rows, &margins);
        let (heads, middle) = (heads_of(&own.model, &self.options.windows), self.options.middle());
        let mut place = vec![None; self.assessments.len()];
        which.iter().enumerate().for_each(|(row, p)| place[*p as usize] = Some(row));
        let mut assessments = std::mem::take(&mut self.assessments);
        let spoken: Vec<bool> = assessments
            .par_iter_mut()
            .zip(&place)
            .enumerate()
            .with_min_len(BATCH)
            .map(|(p, (out, row))| {
                let Some(row) = row.filter(|row| has_a_say(&own.model.spec, out, rows.row(*row))) else {
                    return false;
                };
                if let Some(head) = speak(&own.model, &heads, (said.row(row), said.givers(row)), out, middle)
                {
                    explain(&own.model, head, rows.row(row), &self.scene(p, &[], now), out, middle);
                }
                true
            })
            .collect();
        self.assessments = assessments;
        for (p, _) in spoken.iter().enumerate().filter(|(_, spoken)| **spoken) {
            self.spoken[p] = Some(k as u32);
            let row = place[p].map_or(&[][..], |row| rows.row(row));
            let far = outside.note(&own.model, &heads, row);
            if far > 0.0 {
                self.assessments[p].confidence.inside *= 1.0 - far;
            }
        }
    }
}
