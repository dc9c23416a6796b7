//! The revisioned key-value port and what is built on it: leadership, claims, the journal's
//! storage.

mod batch;
pub mod claims;
mod history;
pub mod leadership;
pub mod memory;
pub mod redb;
mod shelf;
pub mod store;
mod stored;

pub use claims::{Claim, ClaimError, Claims, HostEntry};
pub use history::{HISTORY_CAPACITY, WATCH_CAPACITY};
pub use leadership::{Leader, Leadership, Single};
pub use memory::MemoryStore;
pub use redb::RedbStore;
pub use store::{Change, Compare, Entry, Op, Store, StoreError, Txn, TxnOutcome, Watch};
pub use stored::{read_stored, stored};
