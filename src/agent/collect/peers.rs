//! Latency and loss to peers, by opening TCP connections in tasks of their own. A refused connection
//! has crossed the network as well as an accepted one; no answer within a second is a loss.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpStream, lookup_host};
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Metrics, put};
use crate::fleet::Span;

const NO_ANSWER: Duration = Duration::from_secs(1);

/// The probes since the last look.
#[derive(Default)]
struct Probes {
    asked: u32,
    lost: u32,
    millis: f64,
}

/// The tasks and what they found.
#[derive(Default)]
pub(super) struct Peers {
    probes: Arc<Mutex<Probes>>,
    tasks: Vec<AbortHandle>,
}

impl Peers {
    pub(super) fn start(peers: &[String], every: Span) -> Self {
        let probes: Arc<Mutex<Probes>> = Arc::default();
        let tasks = peers
            .iter()
            .map(|peer| tokio::spawn(probe_for_ever(peer.clone(), every, probes.clone())).abort_handle())
            .collect();
        Self { probes, tasks }
    }

    pub(super) fn read(&self, metrics: &mut Metrics) {
        let probes = std::mem::take(&mut *self.probes.lock().unwrap_or_else(PoisonError::into_inner));
        let answered = f64::from(probes.asked - probes.lost);
        put(metrics, "net.latency", (answered > 0.0).then(|| probes.millis / answered));
        let asked = f64::from(probes.asked);
        put(metrics, "net.loss", (asked > 0.0).then(|| f64::from(probes.lost) / asked * 100.0));
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn probe_for_ever(peer: String, every: Span, probes: Arc<Mutex<Probes>>) {
    let mut ticks = interval(every.max(Span::seconds(1)).to_std());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let millis = probe(&peer).await;
        let mut probes = probes.lock().unwrap_or_else(PoisonError::into_inner);
        probes.asked += 1;
        match millis {
            Some(millis) => probes.millis += millis,
            None => probes.lost += 1,
        }
    }
}

/// Milliseconds of one way and back; `None` = lost.
async fn probe(peer: &str) -> Option<f64> {
    let address = timeout(NO_ANSWER, lookup_host(peer)).await.ok()?.ok()?.next()?;
    let begin = Instant::now();
    match timeout(NO_ANSWER, TcpStream::connect(address)).await.ok()? {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        Err(_) => return None,
    }
    Some(begin.elapsed().as_secs_f64() * 1000.0)
}
