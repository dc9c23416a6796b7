//! The vocabulary of the house: names and ids, units, time, topology, states. Pure data; it depends
//! on no other room.

pub mod digits;
pub mod ids;
pub mod order;
pub mod rng;
pub mod state;
pub mod time;
pub mod topology;
pub mod units;

pub use ids::{
    ApplicationId, Epoch, Generation, HostId, MetricName, MigrationId, PartitionId, ProposalId, RackId,
    Revision, SiteId, WorkloadId,
};
pub use state::{Phase, PredictionState, ServingState, ShownState};
pub use time::{Clock, ManualClock, Span, SteadyClock, SystemClock, Timestamp};
pub use topology::{Host, Partition, Topology, Workload};
pub use units::{Bytes, HealthScore, Probability, Share};
