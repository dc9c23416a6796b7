//! Why the runner cannot go on.

use thiserror::Error;

use super::journal::Broken;
use crate::fleet::{Epoch, MigrationId};
use crate::state::StoreError;

/// Why the runner cannot go on.
#[derive(Debug, Error)]
pub enum MigrateError {
    /// Another engine leads. Permanent: this runner changes nothing any more.
    #[error("the engine of epoch {epoch} no longer leads; another one goes on with its migrations")]
    Deposed {
        /// The epoch that was deposed.
        epoch: Epoch,
    },
    /// The store failed. Retryable unless it says that it holds something broken.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal does not verify.
    #[error(transparent)]
    Journal(#[from] Broken),
    /// What is stored of a migration cannot be read. Permanent.
    #[error(
        "{migration}: its {what} in the store cannot be read: {detail}; restore the store or remove the migration"
    )]
    Unreadable {
        /// The migration.
        migration: MigrationId,
        /// Plan, state or ledger.
        what: &'static str,
        /// What is wrong.
        detail: String,
    },
}
