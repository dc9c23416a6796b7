//! Foreshift watches every partition of a fleet, predicts which will fail, and moves the work away
//! before it does: observe → predict → decide → migrate → show.
//!
//! The rooms stand on floors; a room uses only rooms on floors below its own (see ARCHITECTURE.md,
//! `tests/floors.rs` reads the imports and fails where a floor is broken).

/// Everything is allocated by jemalloc: the store's writer frees what other threads made, transition by
/// transition, which the C library's allocator answers by giving memory back and asking for it again.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

// floor 0
pub mod fleet;
// floor 1
pub mod config;
pub mod drivers;
pub mod protocol;
pub mod state;
pub mod telemetry;
// floor 2
pub mod agent;
pub mod predict;
pub mod sim;
// floor 3
pub mod plan;
// floor 4
pub mod alert;
pub mod migrate;
// floor 5
pub mod engine;
// floor 6
pub mod api;
pub mod eval;
// floor 7
pub mod tui;
// floor 8
pub mod cli;
