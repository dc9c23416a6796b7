//! Time as an argument: points and spans in whole milliseconds, and the one clock port.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// A span of time in milliseconds; may be negative.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(pub i64);

impl Timestamp {
    /// The point `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Seconds since the Unix epoch, with fraction.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// The latest multiple of `step` at or before this point; the point itself where `step` ≤ 0.
    pub fn floor(self, step: Span) -> Self {
        if step.0 <= 0 { self } else { Self(self.0.div_euclid(step.0) * step.0) }
    }

    /// How long before `now` this point is; zero where it is later.
    pub fn age(self, now: Timestamp) -> Span {
        Span(now.0.saturating_sub(self.0).max(0))
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// A span of whole milliseconds.
    pub const fn millis(n: i64) -> Self {
        Self(n)
    }

    /// A span of whole seconds.
    pub const fn seconds(n: i64) -> Self {
        Self(n * 1000)
    }

    /// A span of whole minutes.
    pub const fn minutes(n: i64) -> Self {
        Self(n * 60_000)
    }

    /// A span of whole hours.
    pub const fn hours(n: i64) -> Self {
        Self(n * 3_600_000)
    }

    /// A span of whole days of 24 hours.
    pub const fn days(n: i64) -> Self {
        Self(n * 86_400_000)
    }

    /// The largest unit of which it is a whole number, as people call a window: `24 h`, `15 m`, `90 s`.
    pub fn as_window(self) -> String {
        match self.0 / 1000 {
            s if s % 3600 == 0 => format!("{} h", s / 3600),
            s if s % 60 == 0 => format!("{} m", s / 60),
            s => format!("{s} s"),
        }
    }

    /// Its length in seconds.
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// Its length as the standard library's type; a negative span is zero there.
    pub fn to_std(self) -> Duration {
        Duration::from_millis(self.0.max(0) as u64)
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Add<Span> for Timestamp {
    type Output = Timestamp;
    fn add(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_add(span.0))
    }
}

impl AddAssign<Span> for Timestamp {
    fn add_assign(&mut self, span: Span) {
        *self = *self + span;
    }
}

impl Sub<Span> for Timestamp {
    type Output = Timestamp;
    fn sub(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_sub(span.0))
    }
}

impl Sub for Timestamp {
    type Output = Span;
    fn sub(self, other: Timestamp) -> Span {
        Span(self.0.saturating_sub(other.0))
    }
}

impl Add for Span {
    type Output = Span;
    fn add(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }
}

impl Sub for Span {
    type Output = Span;
    fn sub(self, other: Span) -> Span {
        Span(self.0.saturating_sub(other.0))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}ms", self.0)
    }
}

/// Short for people: `4 s`, `2 m 05`, `3 h 20`, `2 d 4 h`; milliseconds below one second.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "−" } else { "" };
        let ms = self.0.unsigned_abs();
        let s = ms / 1000;
        let text = match s {
            0 if ms == 0 => "0 s".to_string(),
            0 => format!("{sign}{ms} ms"),
            1..60 => format!("{sign}{s} s"),
            60..3600 => format!("{sign}{} m {:02}", s / 60, s % 60),
            3600..86_400 => format!("{sign}{} h {:02}", s / 3600, s % 3600 / 60),
            _ => format!("{sign}{} d {} h", s / 86_400, s % 86_400 / 3600),
        };
        f.pad(&text)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// Where the shell gets the time from. Pure code never holds one: it is given a [`Timestamp`].
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A clock that begins with the wall clock's time and then runs evenly, however the wall clock is
/// set.
#[derive(Clone, Copy, Debug)]
pub struct SteadyClock {
    began: Instant,
    at: Timestamp,
}

impl Default for SteadyClock {
    fn default() -> Self {
        Self { began: Instant::now(), at: SystemClock.now() }
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.at.0.saturating_add(passed))
    }
}

/// A clock that stands still until it is set: simulations and tests.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.0))
    }

    /// Sets the time; it may go backwards, as real clocks do.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::SeqCst);
    }

    /// Moves the time on by `span`.
    pub fn advance(&self, span: Span) {
        self.0.fetch_add(span.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_say_them() {
        assert_eq!(Span::seconds(4).to_string(), "4 s");
        assert_eq!(Span::seconds(125).to_string(), "2 m 05");
        assert_eq!(Span::minutes(200).to_string(), "3 h 20");
        assert_eq!(Span::hours(52).to_string(), "2 d 4 h");
        assert_eq!(Span::millis(45).to_string(), "45 ms");
    }

    #[test]
    fn floor_goes_down_also_before_the_epoch() {
        assert_eq!(Timestamp(61_000).floor(Span::minutes(1)), Timestamp(60_000));
        assert_eq!(Timestamp(-1).floor(Span::minutes(1)), Timestamp(-60_000));
    }
}
