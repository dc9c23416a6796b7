//! The engines of one run: one that leads, one that starts after it died, and one that was deposed, or
//! is stopped in a call, and does not know it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::executor::block_on;

use super::drivers::{SimMover, SimRouter};
use super::fleet::{PLAIN, STATELESS, VOTING};
use super::outside::Hands;
use super::run::Run;
use super::store::SimStore;
use crate::drivers::{Mover, Router};
use crate::fleet::{Epoch, Timestamp};
use crate::migrate::approval::Authority;
use crate::migrate::error::MigrateError;
use crate::migrate::runner::Runner;
use crate::protocol::Mode;
use crate::state::{Leadership, Single, Store};

/// One incarnation of the engine.
pub(super) struct Engine {
    pub(super) runner: Runner,
    pub(super) incarnation: usize,
    pub(super) recovered: bool,
}

impl Run {
    /// A living, recovered engine, where that is possible now.
    pub(super) fn ensure_engine(&mut self) -> Result<(), String> {
        if self.engine.is_none() {
            let Some(engine) = self.start() else { return Ok(()) };
            self.engine = Some(engine);
        }
        let wall = self.wall();
        let Some(engine) = &mut self.engine else { return Ok(()) };
        if !engine.recovered {
            match block_on(engine.runner.recover(wall)) {
                Ok(()) => engine.recovered = true,
                Err(MigrateError::Store(_)) => {}
                Err(MigrateError::Deposed { .. }) => self.engine = None,
                Err(error) => return Err(format!("recovery: {error}")),
            }
        }
        self.bury();
        Ok(())
    }

    fn start(&mut self) -> Option<Engine> {
        let incarnation = {
            let mut outside = self.outside();
            outside.dead.push(false);
            outside.epochs.push(Epoch(0));
            outside.dead.len() - 1
        };
        let hands = Hands { outside: Arc::clone(&self.shared), incarnation };
        let store: Arc<dyn Store> =
            Arc::new(SimStore { inner: Arc::clone(&self.store), hands: hands.clone() });
        let epoch = block_on(Single::new(Arc::clone(&store)).campaign("engine")).ok()?;
        let movers = [PLAIN, VOTING, STATELESS].map(|class| {
            let mover: Arc<dyn Mover> = Arc::new(SimMover { class, hands: hands.clone() });
            (class.to_string(), mover)
        });
        // Traffic of one class with data goes through a router, too: never before its owner changed.
        let routers = [PLAIN, STATELESS].map(|class| {
            let router: Arc<dyn Router> = Arc::new(SimRouter { class, hands: hands.clone() });
            (class.to_string(), router)
        });
        let routers = BTreeMap::from(routers);
        let authority = Authority::of(Mode::Auto).ok()?;
        let runner =
            Runner::new(store, epoch, BTreeMap::from(movers), routers, self.options.clone(), &authority);
        Some(Engine { runner, incarnation, recovered: false })
    }

    /// Drops an engine whose process died.
    pub(super) fn bury(&mut self) {
        let dead = self.engine.as_ref().is_some_and(|e| self.outside().dead[e.incarnation]);
        if dead {
            self.deaths += 1;
            self.engine = None;
            self.forget();
            self.outside().say(|| "DEATH of the engine".to_string());
        }
    }

    /// An engine that was deposed, or is stopped in a call, and does not know it.
    pub(super) fn drive_zombie(&mut self, wall: Timestamp) {
        let Some((engine, left)) = &mut self.zombie else { return };
        *left = left.saturating_sub(1);
        let over = *left == 0;
        let is_stalled = {
            let mut outside = self.shared.lock().unwrap_or_else(|e| e.into_inner());
            match &mut outside.stalled {
                Some((incarnation, waker, released)) if *incarnation == engine.incarnation => {
                    if over {
                        *released = true;
                        if let Some(waker) = waker.take() {
                            waker.wake();
                        }
                    }
                    !over
                }
                _ => false,
            }
        };
        if is_stalled {
            return;
        }
        if engine.recovered {
            let _ = block_on(engine.runner.tick(wall));
        }
        if over {
            let mut outside = self.shared.lock().unwrap_or_else(|e| e.into_inner());
            outside.dead[engine.incarnation] = true;
            // Another's stall goes on: its engine is next to be deposed.
            outside.stalled = outside.stalled.take().filter(|(i, _, _)| *i != engine.incarnation);
            drop(outside);
            self.zombie = None;
        }
    }

    /// What an engine knew alone is gone with it.
    pub(super) fn forget(&mut self) {
        self.alerts.clear();
        self.asked_back.clear();
        self.changed = true;
        self.outside().checks.untold.clear();
    }
}
