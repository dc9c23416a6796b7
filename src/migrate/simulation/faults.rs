//! Which call is hit by which fault: decided by the seed alone, spread over the whole run, and over
//! after enough of them, so that every run can come to its end.

use crate::fleet::rng::Random;

/// Where a fault hits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Point {
    /// The store's call never leaves.
    StoreBeforeSend,
    /// The store's call is lost, nobody knows.
    StoreAfterSend,
    /// The store did it, the answer is lost.
    StoreBeforeAnswer,
    /// The process dies before the store's call leaves.
    StoreDeathBefore,
    /// The process dies after the store did it.
    StoreDeathAfter,
    /// The driver's call never leaves.
    DriverBeforeSend,
    /// The driver's call is lost, nobody knows.
    DriverAfterSend,
    /// The system did it, the answer is lost.
    DriverBeforeAnswer,
    /// The process dies before the driver's call leaves.
    DriverDeathBefore,
    /// The process dies after the system did it.
    DriverDeathAfter,
    /// The process is stopped in the call, is deposed, and wakes up later.
    DriverStall,
}

impl Point {
    /// All of the store.
    pub const STORE: [Point; 5] = [
        Point::StoreBeforeSend,
        Point::StoreAfterSend,
        Point::StoreBeforeAnswer,
        Point::StoreDeathBefore,
        Point::StoreDeathAfter,
    ];
    /// All of a driver.
    pub const DRIVER: [Point; 6] = [
        Point::DriverBeforeSend,
        Point::DriverAfterSend,
        Point::DriverBeforeAnswer,
        Point::DriverDeathBefore,
        Point::DriverDeathAfter,
        Point::DriverStall,
    ];
}

/// Faults of one run.
pub(super) struct Faults {
    random: Random,
    /// Calls until the next one.
    gap: usize,
    /// How many are still to come.
    left: u32,
    pub(super) hit: u32,
    /// Those that are left come close together.
    hasty: bool,
}

impl Faults {
    pub(super) fn new(random: Random) -> Self {
        let mut faults = Self { random, gap: 0, left: 0, hit: 0, hasty: false };
        faults.left = 12 + faults.random.below(8) as u32;
        faults.next_gap();
        faults
    }

    fn next_gap(&mut self) {
        // Mostly one here and there, sometimes several close together.
        let close = self.random.chance(0.25) || self.hasty;
        self.gap = if close { self.random.below(4) } else { self.random.below(60) };
    }

    /// What is left comes soon.
    pub(super) fn hasten(&mut self) {
        self.hasty = true;
        self.gap = self.gap.min(4);
    }

    /// No more faults.
    pub(super) fn quiet(&mut self) {
        self.left = 0;
    }

    pub(super) fn over(&self) -> bool {
        self.left == 0
    }

    /// Whether the call that comes now is hit.
    pub(super) fn next(&mut self, points: &[Point]) -> Option<Point> {
        if self.left == 0 {
            return None;
        }
        if self.gap > 0 {
            self.gap -= 1;
            return None;
        }
        self.next_gap();
        self.left -= 1;
        self.hit += 1;
        Some(points[self.random.below(points.len())])
    }

    /// Whether a call that only reads is hit: it does not answer.
    pub(super) fn read_fails(&mut self) -> bool {
        self.left > 0 && self.random.chance(0.004)
    }
}
