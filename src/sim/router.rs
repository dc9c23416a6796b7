//! What sends traffic in the simulated system: class `sim`. Until somebody sets weights, all of a
//! workload's traffic goes to its owner.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::fleet::CLASS;
use super::mover::locked;
use super::world::World;
use crate::drivers::{DriverError, Permit, Retry, Router, ServerState, Weight};
use crate::fleet::{Clock, Share, WorkloadId};

/// The router of the simulated system.
#[derive(Clone)]
pub struct SimRouter {
    world: Arc<Mutex<World>>,
    clock: Arc<dyn Clock>,
}

impl SimRouter {
    pub(crate) fn new(world: Arc<Mutex<World>>, clock: Arc<dyn Clock>) -> Self {
        Self { world, clock }
    }
}

fn missing(workload: &WorkloadId) -> DriverError {
    DriverError::new(Retry::Permanent, CLASS, "weights", format!("there is no workload {workload}"))
}

#[async_trait]
impl Router for SimRouter {
    fn class(&self) -> &str {
        CLASS
    }

    async fn weights(&self, workload: &WorkloadId) -> Result<Vec<Weight>, DriverError> {
        let mut world = locked(&self.world);
        world.catch_up(self.clock.now());
        let w = *world.layout.workload_index.get(workload).ok_or_else(|| missing(workload))?;
        Ok(world.weights.get(&w).cloned().unwrap_or_else(|| {
            vec![Weight {
                partition: world.layout.partitions[world.workloads[w].owner].id.clone(),
                share: Share::MAX,
                state: ServerState::Ready,
                sessions: None,
            }]
        }))
    }

    async fn set(
        &self,
        workload: &WorkloadId,
        weights: &[Weight],
        permit: &Permit,
    ) -> Result<(), DriverError> {
        let mut world = locked(&self.world);
        world.catch_up(self.clock.now());
        let w = *world.layout.workload_index.get(workload).ok_or_else(|| missing(workload))?;
        if permit.epoch() < world.epoch {
            let detail = format!("{} is deposed: {} was seen; stop acting", permit.epoch(), world.epoch);
            return Err(DriverError::new(Retry::Permanent, CLASS, "set weights", detail));
        }
        if let Some(unknown) =
            weights.iter().find(|weight| !world.layout.partition_index.contains_key(&weight.partition))
        {
            let detail = format!("there is no partition {}", unknown.partition);
            return Err(DriverError::new(Retry::Permanent, CLASS, "set weights", detail));
        }
        world.epoch = permit.epoch();
        world.weights.insert(w, weights.to_vec());
        Ok(())
    }
}
