//! What can stop the agent; everything else is logged, counted and tried again.

use thiserror::Error;

/// Why the agent does not start. None of these goes away by itself.
#[derive(Clone, Debug, Error)]
pub enum AgentError {
    /// The folder for waiting messages cannot be used.
    #[error("agent.spool_dir {path}: {detail}; name a folder that this user may write to")]
    Spool {
        /// The folder.
        path: String,
        /// What the system said.
        detail: String,
    },
    /// A place to send to is not understood.
    #[error("{key}: {detail}")]
    Target {
        /// The key of the configuration.
        key: String,
        /// Expected and got.
        detail: String,
    },
    /// A secret cannot be read.
    #[error("{key}: {detail}")]
    Secret {
        /// The key of the configuration.
        key: String,
        /// What is wrong, without the secret.
        detail: String,
    },
    /// An address cannot be listened on.
    #[error("agent.statsd {address}: {detail}; name a free UDP address, for example 127.0.0.1:8125")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        detail: String,
    },
}
