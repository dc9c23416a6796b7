//! Forecasts of one metric: seasonal ridge autoregression, seasonal naive, ARIMA with automatic order,
//! exponential smoothing, and an LSTM that was trained on many series; the choice by rolling backtest, the median of what is chosen, and intervals from
//! the errors of that same backtest (conformal).

pub mod arima;
mod arima_fit;
pub mod candidate;
pub mod clean;
pub mod ets;
pub mod network;
pub mod outlook;
pub mod ridge_ar;
pub mod seasonal_naive;
pub mod short;

pub use arima::{Arima, Order};
pub use candidate::{Fitted, Method, Seasons};
pub use network::{Network, Shape};
pub use outlook::{Outlook, before_backtest, outlook};
pub use short::{Effort, ShortForecast, crossing, short};

#[cfg(test)]
mod network_tests;
