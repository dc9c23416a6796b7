//! The port to what makes and retires hosts and instances.

use async_trait::async_trait;

use super::error::DriverError;
use super::mover::{Answer, Permit};
use crate::fleet::{HostId, PartitionId, WorkloadId};

/// The port.
#[async_trait]
pub trait Provisioner: Send + Sync {
    /// Its class: `command`.
    fn class(&self) -> &str;

    /// Makes an instance for `workload` on `host`; done again under the same key it changes
    /// nothing.
    ///
    /// # Errors
    /// As every driver call.
    async fn add(
        &self,
        workload: &WorkloadId,
        host: &HostId,
        key: &str,
        permit: &Permit,
    ) -> Result<Answer, DriverError>;

    /// Retires an instance; done again it changes nothing.
    ///
    /// # Errors
    /// As every driver call.
    async fn retire(
        &self,
        partition: &PartitionId,
        key: &str,
        permit: &Permit,
    ) -> Result<Answer, DriverError>;
}
