//! An engine for tests: nothing is moved, and all that it knows is in memory.

use std::collections::HashMap;
use std::sync::Arc;

use super::brain::Brain;
use super::inventory::Inventory;
use super::{EngineOptions, Parts};
use crate::fleet::Timestamp;
use crate::plan::PlanOptions;
use crate::predict::{AssessOptions, HysteresisOptions};
use crate::protocol::ModelStatus;
use crate::state::MemoryStore;

pub(super) fn parts(now: Timestamp) -> Parts {
    let options = EngineOptions::default();
    Parts {
        brain: Brain::new(options.windows, AssessOptions::default(), HysteresisOptions::default(), now),
        options,
        plan: PlanOptions::default(),
        store: Arc::new(MemoryStore::new()),
        runner: None,
        movers: HashMap::new(),
        inventory: Inventory::default(),
        source_name: "a test".into(),
        models: ModelStatus::default(),
    }
}
