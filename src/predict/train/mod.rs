//! Training in the product: history is replayed through the very assessor that runs live
//! ([`replay`]), heads are fitted and judged on partitions that were held back ([`failure`]), an
//! autoencoder is trained on what was healthy ([`autoencoder`]), a network for forecasts on stretches of an
//! application's series ([`stretches`], [`forecaster`]), and models stand on disk as ONNX with
//! a card ([`card`]) in versions that can be promoted and reverted ([`registry`]), one of which runs in shadow
//! ([`standing`]). Deterministic by seed; time comes in as an argument.

pub mod applications;
pub mod autoencoder;
pub mod card;
pub mod failure;
pub mod forecaster;
pub mod registry;
pub mod replay;
pub mod standing;
pub mod stretches;

pub use applications::applications;
pub use card::Card;
pub use failure::{TrainOptions, Trained, Verdict, compare, train_failure};
pub use forecaster::ForecastModel;
pub use registry::Registry;
pub use replay::{History, Replayed, Sampling, replay};
pub use standing::{Chapter, Contender, Seat, Standing};
pub use stretches::Stretches;

/// A step of training, for a progress bar.
#[derive(Clone, PartialEq, Debug)]
pub struct Progress {
    /// What is being done: `replaying history`, `fitting the 1 h window`.
    pub what: String,
    /// 0 to 1 of it.
    pub share: f64,
}

/// Is told of each step.
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress);
