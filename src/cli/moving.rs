//! Makes the runner of an engine: limits, policy, drivers; and lets it pick up what was running.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::Result;

use super::settings;
use crate::config::Config;
use crate::drivers::{Mover, Router};
use crate::fleet::{Clock, Epoch};
use crate::migrate::runner::{Driven, Options};
use crate::migrate::{Authority, Limits, Runner, Window};
use crate::protocol::Mode;
use crate::state::Store;

/// What a runner stands on.
pub struct Ground {
    /// Durable state.
    pub store: Arc<dyn Store>,
    /// The leader's epoch.
    pub epoch: Epoch,
    /// Movers by class.
    pub movers: HashMap<String, Arc<dyn Mover>>,
    /// Routers by class.
    pub routers: BTreeMap<String, Arc<dyn Router>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where migrations are driven.
    pub driven: Driven,
}

/// The runner of an engine in `mode`, recovered; `None` for a read-only one.
///
/// # Errors
/// Where the store cannot be used.
pub async fn runner(config: &Config, mode: Mode, ground: Ground) -> Result<Option<Runner>> {
    let Ok(authority) = Authority::of(mode) else { return Ok(None) };
    let options = Options {
        limits: limits(config),
        policy: settings::policy(config),
        call_limit: Some(config.migration.timeouts.call),
        driven: ground.driven,
        clock: ground.clock.clone(),
        ..Options::default()
    };
    let movers = ground.movers.into_iter().collect();
    let mut runner = Runner::new(ground.store, ground.epoch, movers, ground.routers, options, &authority);
    runner.recover(ground.clock.now()).await?;
    Ok(Some(runner))
}

pub(super) fn limits(config: &Config) -> Limits {
    let settings = &config.limits;
    Limits {
        fleet: settings.moves.fleet as u32,
        site: settings.moves.site as u32,
        rack: settings.moves.rack as u32,
        host: settings.moves.host as u32,
        hour: settings.moves_per_hour as u32,
        cool_down: config.plan.cool_down,
        windows: windows(config),
        outside_windows_from: settings.outside_windows_from,
        bytes_per_second: Some(settings.bytes_per_second),
    }
}

/// Weekly windows, each day of its own; a window over midnight becomes two.
fn windows(config: &Config) -> Vec<Window> {
    let mut out = Vec::new();
    for window in &config.limits.windows {
        let days: Vec<u8> = if window.days.is_empty() {
            (0..7).collect()
        } else {
            window.days.iter().map(|d| *d as u8).collect()
        };
        let (from, to) = (window.from.0, window.to.0);
        for day in days {
            if from < to {
                out.push(Window { day, from, to });
            } else {
                out.push(Window { day, from, to: 24 * 60 });
                out.push(Window { day: (day + 1) % 7, from: 0, to });
            }
        }
    }
    out
}
