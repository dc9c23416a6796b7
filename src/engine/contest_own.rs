//! Contests of single applications, beside that of the fleet: one a folder of versions, found while the
//! engine runs. Before its first version is put into use, the fleet's model stands in as its champion.

use std::collections::HashMap;

use super::contest::Contest;
use super::core::Core;
use crate::fleet::{ApplicationId, PartitionId, Timestamp, Topology};
use crate::predict::Evacuation;
use crate::predict::train::applications;
use crate::state::StoreError;

/// Contests of applications that have a folder of versions and none yet.
pub(super) fn found(fleet: &Contest, own: &[Contest]) -> Vec<Contest> {
    let known = |a: &ApplicationId| own.iter().any(|c| c.of.as_ref().is_some_and(|of| of.application == *a));
    let all = fleet.models.as_deref().map(applications).unwrap_or_default();
    all.iter().filter(|a| !known(a)).filter_map(|a| fleet.of_application(a)).collect()
}

impl Core {
    /// Their part of a cycle.
    pub(super) async fn step_own(
        &mut self,
        fleet: &Contest,
        own: &mut Vec<Contest>,
        (topology, evacuations): (&Topology, &HashMap<PartitionId, Evacuation>),
        now: Timestamp,
    ) -> Result<(), StoreError> {
        // What is in use there is followed below, and noted.
        own.extend(found(fleet, own));
        for contest in own {
            // What the fleet's model before said counts for nothing against an application's.
            if contest.fleet_speaks(fleet.champion()) {
                self.take_places(contest, now).await?;
            }
            self.step_of(contest, topology, evacuations, now).await?;
        }
        Ok(())
    }
}
