//! Whether a service is well, and how long it takes to say so.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::fleet::Span;

/// Asks services for their health; keeps connections.
#[derive(Clone)]
pub(super) struct Prober {
    /// Why there is none, where there is none.
    client: Result<reqwest::Client, String>,
    patience: Duration,
}

impl Prober {
    pub(super) fn new(patience: Span) -> Self {
        let patience = patience.to_std();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(patience)
            .build()
            .map_err(|e| deepest(&e));
        Self { client, patience }
    }

    /// Milliseconds until it said that it is well.
    ///
    /// # Errors
    /// What it said instead, for people.
    pub(super) async fn ask(&self, address: &str) -> Result<f64, String> {
        let start = Instant::now();
        if let Some(address) = address.strip_prefix("tcp://") {
            match tokio::time::timeout(self.patience, TcpStream::connect(address)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(format!("{address}: {error}")),
                Err(_) => return Err(format!("{address}: no connection within {:?}", self.patience)),
            }
        } else {
            let answer = self.client.clone()?.get(address).send().await.map_err(|e| deepest(&e))?;
            let status = answer.status();
            // Read to the end, so that the connection is kept.
            let _ = answer.bytes().await;
            if !status.is_success() {
                return Err(format!("{address} says {status}"));
            }
        }
        Ok(start.elapsed().as_secs_f64() * 1000.0)
    }
}

/// The error that lies under all others.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    format!("{error}: {cause}")
}
