//! The revisioned key-value port and what is built on it: leadership, claims, the journal's
//! storage.

pub mod store;

pub use store::{Change, Compare, Entry, Op, Store, StoreError, Txn, TxnOutcome, Watch};
