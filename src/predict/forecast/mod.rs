//! Forecasts of one metric: seasonal ridge autoregression, seasonal naive, ARIMA with automatic order,
//! exponential smoothing; the choice by rolling backtest, the median of what is chosen, and intervals from
//! the errors of that same backtest (conformal).

pub mod arima;
mod arima_fit;
pub mod candidate;
pub mod clean;
pub mod ets;
pub mod outlook;
pub mod ridge_ar;
pub mod seasonal_naive;
pub mod short;

pub use arima::{Arima, Order};
pub use candidate::{Fitted, Method, Seasons};
pub use outlook::{Outlook, outlook};
pub use short::{Effort, ShortForecast, crossing, short};
