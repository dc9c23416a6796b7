//! Whose network the LSTM voter of a partition's detector runs: one of its own as long as all of them together
//! are not larger than [`MOST_BYTES`], else that of a partition of the same application with the same
//! metrics. Either is used only where it wins on held-back history of the partition itself.

use std::sync::{Arc, Weak};

use super::teach::Due;
use crate::fleet::{MetricName, PartitionId};
use crate::predict::anomaly::model::SEQUENCE;
use crate::predict::models::lstm::forward::PredictorRun;

/// Most bytes of networks that are trained here: 300 of 16 metrics, and about 3 s of training each a day.
/// Those from before a restart count from their next training on.
pub const MOST_BYTES: usize = 8 << 20;

/// Most detectors that an LSTM votes in: it takes 1.3 µs of a core for a row of 16 metrics, beside 1.4
/// for the linear voters, and 1.2 KB a partition.
pub const MOST_VOTERS: usize = 10_000;

/// Whose network a partition's voter may run.
#[derive(Clone, Debug)]
pub enum Lent {
    /// One of its own, which is to be trained.
    Own,
    /// Another partition's.
    Of(Arc<PredictorRun>),
    /// There is room for none, and none to borrow.
    None,
}

/// The networks that were trained here, for as long as a detector runs them.
#[derive(Debug, Default)]
pub struct Networks(Vec<Trained>);

#[derive(Debug)]
struct Trained {
    owner: PartitionId,
    application: String,
    metrics: Vec<MetricName>,
    network: Weak<PredictorRun>,
    bytes: usize,
}

impl Networks {
    /// Whose a partition of these metrics may run.
    pub fn lent_to(&mut self, due: &Due, metrics: &[MetricName]) -> Lent {
        self.0.retain(|one| one.network.strong_count() > 0);
        // What it has itself makes room for what is trained instead.
        let held: usize = self.0.iter().filter(|one| one.owner != due.partition).map(|one| one.bytes).sum();
        if held + PredictorRun::bytes_of(metrics.len(), SEQUENCE.hidden) <= MOST_BYTES {
            return Lent::Own;
        }
        let voters: usize = self.0.iter().map(|one| one.network.strong_count()).sum();
        if voters >= MOST_VOTERS {
            return Lent::None;
        }
        let peers = self.0.iter().rev().filter(|one| one.application == due.application);
        let mut fitting = peers.filter(|one| one.metrics == metrics);
        fitting.find_map(|one| one.network.upgrade()).map_or(Lent::None, Lent::Of)
    }

    /// A partition's own was trained, and won.
    pub fn note(&mut self, due: &Due, metrics: &[MetricName], network: &Arc<PredictorRun>) {
        self.0.push(Trained {
            owner: due.partition.clone(),
            application: due.application.clone(),
            metrics: metrics.to_vec(),
            network: Arc::downgrade(network),
            bytes: PredictorRun::bytes_of(network.metrics(), network.hidden()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::models::lstm::Predictor;
    use crate::predict::models::lstm::{Dense, Layer};

    fn due(partition: usize, application: &str) -> Due {
        let partition = PartitionId::from(format!("h{partition}/p1"));
        Due { partition, sources: Vec::new(), application: application.into() }
    }

    fn network(metrics: usize, hidden: usize) -> Arc<PredictorRun> {
        let w = vec![0.0; 4 * hidden * metrics];
        let layer =
            Layer { inputs: metrics, hidden, w, r: vec![0.0; 4 * hidden * hidden], b: vec![0.0; 4 * hidden] };
        let weights = vec![0.0; hidden * metrics];
        let head = Dense { inputs: hidden, outputs: metrics, weights, bias: vec![0.0; metrics] };
        Arc::new(PredictorRun::new(&Predictor { layer, head }))
    }

    #[test]
    fn when_there_is_no_room_for_more_networks_peers_share_those_that_are_there() {
        let names = |n: usize| (0..n).map(|m| MetricName::from(format!("m{m}"))).collect::<Vec<_>>();
        let (metrics, fewer) = (names(16), names(8));
        let mut networks = Networks::default();
        let mut running = Vec::new();
        while let Lent::Own = networks.lent_to(&due(running.len(), "db"), &metrics) {
            let trained = network(16, SEQUENCE.hidden);
            networks.note(&due(running.len(), "db"), &metrics, &trained);
            running.push(trained);
        }
        assert_eq!(running.len(), MOST_BYTES / PredictorRun::bytes_of(16, SEQUENCE.hidden), "8 MB of them");
        let Lent::Of(lent) = networks.lent_to(&due(1000, "db"), &metrics) else { panic!("a peer's") };
        assert!(
            Arc::ptr_eq(&lent, running.last().expect("there are some")),
            "the newest of the same application"
        );
        assert!(matches!(networks.lent_to(&due(1000, "web"), &metrics), Lent::None), "of others none");
        assert!(matches!(networks.lent_to(&due(1000, "db"), &fewer), Lent::None), "nor of other metrics");
        assert!(matches!(networks.lent_to(&due(7, "db"), &metrics), Lent::Own), "its own is renewed");
        let borrowed = vec![lent; MOST_VOTERS];
        assert!(matches!(networks.lent_to(&due(1000, "db"), &metrics), Lent::None), "enough of them vote");
        drop(borrowed);
        running.remove(0);
        assert!(matches!(networks.lent_to(&due(1000, "db"), &metrics), Lent::Own), "what is gone makes room");
    }
}
