//! A network for the forecasts of one application: trained from its stretches, and as two files, ONNX and
//! card. What the card says of how the network is to be fed is under a seal together with the ONNX file, so
//! that no changed byte of either feeds it wrongly.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::card::{Card, Data, hash};
use super::failure::HeadFile;
use super::stretches::{Stretches, TRAINING};
use crate::fleet::{Span, Timestamp};
use crate::predict::failure::features::FeatureSpec;
use crate::predict::forecast::{Network, Shape};
use crate::predict::models::ModelError;
use crate::predict::models::onnx::{self, Model};

/// It is used only where its error on stretches held back is under this share of that of the last value.
const BETTER: f64 = 0.98;

/// A network with what it is for.
#[derive(Clone, PartialEq, Debug)]
pub struct ForecastModel {
    /// The network.
    pub network: Network,
    /// The application (`class/kind`) whose series it was trained on.
    pub application: String,
    /// Steps of the series.
    pub step: Span,
    /// When it was trained.
    pub trained: Timestamp,
    /// Nothing later than this was looked at: what it says of windows that begin later is blind.
    pub until: Timestamp,
    /// Its mean absolute error on what was held back, and that of the last value.
    pub errors: [f64; 2],
    /// Series and stretches that it was trained on.
    pub trained_on: [usize; 2],
}

/// The part of a card that says how a network for forecasts is fed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ForecastSpec {
    /// See [`ForecastModel::application`].
    pub application: String,
    /// Steps of the series, in milliseconds.
    pub step_ms: i64,
    /// When it was trained, in milliseconds.
    pub trained: i64,
    /// See [`ForecastModel::until`], in milliseconds.
    pub until: i64,
    /// See [`Shape`].
    pub patch: usize,
    /// See [`Shape`].
    pub steps: usize,
    /// See [`Shape`].
    pub season: usize,
    /// See [`Shape`].
    pub long: usize,
    /// See [`Shape`].
    pub ahead: usize,
    /// BLAKE3 of the ONNX file's hash and all of the above, in hex.
    pub seal: String,
}

/// Why no network came of a training.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
pub enum NoForecaster {
    /// Not enough history.
    #[error("there is too little history for a network")]
    TooLittle,
    /// It says nothing that the last value does not say.
    #[error("on history held back its error is {error:.3}, that of the last value {base_error:.3}")]
    NotBetter {
        /// Of the network, in deviations.
        error: f64,
        /// Of the last value.
        base_error: f64,
    },
}

impl ForecastModel {
    /// Trains one.
    ///
    /// # Errors
    /// Too little history, or what came of it is not better than the last value.
    pub fn train(
        application: &str,
        stretches: &Stretches,
        step: Span,
        (trained, until): (Timestamp, Timestamp),
    ) -> Result<ForecastModel, NoForecaster> {
        let learnt = stretches.train(&TRAINING).ok_or(NoForecaster::TooLittle)?;
        let (error, base_error) = (learnt.error, learnt.base_error);
        if !(error.is_finite() && error < BETTER * base_error) {
            return Err(NoForecaster::NotBetter { error, base_error });
        }
        Ok(ForecastModel {
            network: learnt.network,
            application: application.to_string(),
            step,
            trained,
            until,
            errors: [error, base_error],
            trained_on: [stretches.series(), learnt.stretches[0]],
        })
    }

    fn spec(&self, onnx_hash: &str) -> ForecastSpec {
        let Shape { patch, steps, season, long, ahead } = self.network.shape();
        let mut spec = ForecastSpec {
            application: self.application.clone(),
            step_ms: self.step.0,
            trained: self.trained.0,
            until: self.until.0,
            patch,
            steps,
            season,
            long,
            ahead,
            seal: String::new(),
        };
        spec.seal = spec.sealed(onnx_hash);
        spec
    }

    /// As two files.
    pub fn to_files(&self, name: &str) -> HeadFile {
        let file = Model::Forecaster(self.network.model());
        let onnx = onnx::encode(&file);
        let of_file = hash(&onnx);
        let spec = self.spec(&of_file);
        let card = Card {
            title: format!("forecaster of {}, {} steps of {} ahead", spec.application, spec.ahead, self.step),
            application: None,
            kind: file.kind().into(),
            chosen: format!("{}, {} epochs", self.network.name(), TRAINING.epochs),
            hash: of_file,
            trained_by: concat!("foreshift ", env!("CARGO_PKG_VERSION")).into(),
            seed: TRAINING.seed,
            within_seconds: None,
            calibration: None,
            data: Data {
                source: "the engine's history".into(),
                until: self.until,
                rows: self.trained_on[1],
                ..Data::default()
            },
            features: FeatureSpec::default(),
            quality: None,
            measures: BTreeMap::from([
                ("error_on_held_back_stretches".to_string(), self.errors[0]),
                ("error_of_the_last_value".to_string(), self.errors[1]),
                ("series".to_string(), self.trained_on[0] as f64),
            ]),
            calibrator: None,
            ranges: None,
            forecast: Some(spec),
        };
        HeadFile { name: name.into(), onnx, card }
    }

    /// Reads what [`ForecastModel::to_files`] wrote; `file` is named in errors.
    ///
    /// # Errors
    /// A card of another file, a broken seal, no network for forecasts, a shape that is not the file's.
    pub fn read(onnx: &[u8], card: &str, file: &str) -> Result<ForecastModel, ModelError> {
        let card = Card::read(card, onnx, file)?;
        let wrong = |detail: &str| ModelError::Card { file: file.into(), detail: detail.into() };
        let spec = card.forecast.ok_or_else(|| wrong("it says nothing of forecasts"))?;
        if spec.seal != spec.sealed(&card.hash) {
            return Err(wrong("what it says of the network's inputs was changed: its seal is broken"));
        }
        let Model::Forecaster(model) = onnx::decode(onnx, file)? else {
            return Err(wrong("its file is no network for forecasts"));
        };
        let ForecastSpec { patch, steps, season, long, ahead, .. } = spec;
        let shape = Shape { patch, steps, season, long, ahead };
        let network = Network::new(shape, &model)
            .ok_or_else(|| wrong("the network is not of the shape that the card gives"))?;
        let measure = |name: &str| card.measures.get(name).copied().unwrap_or(f64::NAN);
        Ok(ForecastModel {
            network,
            application: spec.application,
            step: Span(spec.step_ms),
            trained: Timestamp(spec.trained),
            until: Timestamp(spec.until),
            errors: [measure("error_on_held_back_stretches"), measure("error_of_the_last_value")],
            trained_on: [measure("series") as usize, card.data.rows],
        })
    }
}

impl ForecastSpec {
    fn sealed(&self, onnx_hash: &str) -> String {
        let ForecastSpec { application, step_ms, trained, until, patch, steps, season, long, ahead, .. } =
            self;
        let all = [patch, steps, season, long, ahead];
        hash(format!("{onnx_hash} {application:?} {step_ms} {trained} {until} {all:?}").as_bytes())
    }
}
