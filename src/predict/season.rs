//! When in the day and the week a time is, and how fast baselines learn.

use super::past::HOUR_MS;
use crate::fleet::{Span, Timestamp};

/// Where in the day and the week a time is; the same for the whole fleet in one cycle.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Season {
    pub(super) hour: usize,
    pub(super) next: usize,
    pub(super) share: f32,
    pub(super) week_hour: usize,
    /// The hour that it is in.
    pub(super) since_1970: i64,
}

impl Season {
    /// The season at `at`, in UTC; between the middles of two hours the daily profile is read by
    /// linear interpolation.
    pub fn at(at: Timestamp) -> Self {
        let shifted = at.0.saturating_sub(HOUR_MS / 2);
        let hour = shifted.div_euclid(HOUR_MS);
        let share = shifted.rem_euclid(HOUR_MS) as f32 / HOUR_MS as f32;
        let first = hour.rem_euclid(24) as usize;
        Self {
            hour: first,
            next: (first + 1) % 24,
            share,
            week_hour: at.0.div_euclid(HOUR_MS).rem_euclid(168) as usize,
            since_1970: at.0.div_euclid(HOUR_MS),
        }
    }
}

/// How fast a baseline learns; derived once from the options.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pace {
    /// Learning steps after which own location and scale speak.
    pub own_scale: u16,
    /// Learning steps of a day.
    pub day: u16,
    /// Learning steps of the location's memory.
    pub memory: u16,
    /// Frozen learning steps after which the baseline is learnt anew.
    pub freeze: u16,
    /// Width of one learning step.
    pub step: Span,
}

impl Pace {
    /// The day's profile is used from here on.
    pub(super) fn daily(self) -> u16 {
        self.day.saturating_mul(2)
    }

    /// The week's profile is used from here on.
    pub(super) fn weekly(self) -> u16 {
        self.day.saturating_mul(10)
    }
}
