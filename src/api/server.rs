//! Binds, serves, stops.

use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::auth::Access;
use super::routes::{self, Served};
use crate::protocol::{Intake, Link};

/// Why the server did not start.
#[derive(Debug, Error)]
pub enum ApiError {
    /// The address cannot be used.
    #[error("cannot listen on {address}: {source}; change [engine] listen, or stop what uses the address")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The address must not be used without tokens.
    #[error("refused to listen: {0}")]
    Open(String),
}

/// A running server. It stops when `stop` is cancelled.
#[derive(Debug)]
pub struct ApiServer {
    /// The address that it really listens on.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl ApiServer {
    /// Binds `address` and serves until `stop`.
    ///
    /// # Errors
    /// Where the address cannot or must not be used.
    pub async fn start(
        address: SocketAddr,
        access: Access,
        link: Arc<dyn Link>,
        intake: Option<Arc<dyn Intake>>,
        stop: CancellationToken,
    ) -> Result<Self, ApiError> {
        if let Some(reason) = access.refuses_to_listen(address) {
            return Err(ApiError::Open(reason));
        }
        let listener =
            TcpListener::bind(address).await.map_err(|source| ApiError::Bind { address, source })?;
        let address = listener.local_addr().map_err(|source| ApiError::Bind { address, source })?;
        let app = routes::router(Served { access, link, intake, stop: stop.clone() });
        let task = tokio::spawn(async move {
            let served = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await;
            if let Err(error) = served {
                tracing::error!(%error, "the API server stopped");
            }
        });
        Ok(Self { address, task })
    }

    /// Waits until it has stopped (at most two seconds after `stop`).
    pub async fn stopped(self) {
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), self.task).await;
    }
}
