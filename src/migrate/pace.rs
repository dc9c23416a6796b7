//! How fast data is let begin to be copied, all moves together: additive increase, multiplicative
//! decrease (Chiu and Jain 1989). The systems copy by themselves and most cannot be slowed, so it is
//! what begins that is metered: a copy claims the time that its bytes take at the rate of that moment,
//! and the next one begins when the claims before it have passed. One that is slower than that simply
//! overlaps with the next.

use crate::fleet::{Bytes, Span, Timestamp};

/// The rate is not halved again before this has passed: what was begun at the old rate goes on.
const REACT: Span = Span::seconds(15);
/// Calm for this long makes the rate one step faster.
const CALM: Span = Span::seconds(10);
/// Steps from nothing to the limit.
const STEPS: f64 = 16.0;
/// It is never slower than this share of the limit, so that nothing stands still for ever.
const LEAST: f64 = 1.0 / 32.0;

/// The rate of the moment.
#[derive(Clone, PartialEq, Debug)]
pub struct Pace {
    /// Bytes a second, at the most.
    limit: f64,
    /// Bytes a second, now.
    rate: f64,
    /// When it changed last.
    changed: Timestamp,
    /// Why it was halved last; empty where it is at its limit.
    because: String,
}

impl Pace {
    /// At its limit (bytes a second).
    pub fn new(limit: Bytes) -> Self {
        let limit = (limit.0 as f64).max(1.0);
        Self { limit, rate: limit, changed: Timestamp(i64::MIN / 2), because: String::new() }
    }

    /// Bytes a second, now.
    pub fn rate(&self) -> Bytes {
        Bytes(self.rate as u64)
    }

    /// A look at what copies do to the fleet: `strain` says in words what suffers, if anything does.
    pub fn look(&mut self, strain: Option<&str>, now: Timestamp) {
        match strain {
            Some(strain) if now - self.changed >= REACT || self.because.is_empty() => {
                self.rate = (self.rate / 2.0).max(self.limit * LEAST);
                self.changed = now;
                self.because = strain.to_string();
            }
            // It goes on: neither a step up nor a second halving yet.
            Some(_) => {}
            None if self.rate < self.limit && now - self.changed >= CALM => {
                self.rate = (self.rate + self.limit / STEPS).min(self.limit);
                self.changed = now;
                if self.rate >= self.limit {
                    self.because.clear();
                }
            }
            None => {}
        }
    }

    /// How long a copy of so many bytes claims.
    pub fn claim(&self, data: Bytes) -> Span {
        Span((data.0 as f64 / self.rate * 1000.0).min(i64::MAX as f64 / 4.0) as i64)
    }

    /// In words: `200.0 MB a second`, and why where it is slower than it may be.
    pub fn words(&self) -> String {
        match self.because.as_str() {
            "" => format!("{} a second", self.rate()),
            because => format!("{} a second (of {}), since {because}", self.rate(), Bytes(self.limit as u64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(1_795_219_200_000 + seconds * 1000)
    }

    #[test]
    fn strain_halves_it_once_in_fifteen_seconds_and_calm_brings_it_back_in_steps() {
        let mut pace = Pace::new(Bytes(160_000_000));
        pace.look(None, at(0));
        assert_eq!(pace.rate(), Bytes(160_000_000));
        for second in 0..15 {
            pace.look(Some("h03: disk write latency 48 ms"), at(second));
            assert_eq!(pace.rate(), Bytes(80_000_000), "after {second} s");
        }
        pace.look(Some("h03: disk write latency 60 ms"), at(15));
        assert_eq!(pace.rate(), Bytes(40_000_000));
        assert!(pace.words().contains("h03: disk write latency 60 ms"), "{}", pace.words());
        let mut last = pace.rate();
        let mut steps = 0;
        for second in 16..400 {
            pace.look(None, at(second));
            assert!(pace.rate() >= last && pace.rate().0 - last.0 <= 10_000_000);
            steps += u32::from(pace.rate() > last);
            last = pace.rate();
        }
        assert_eq!((last, steps), (Bytes(160_000_000), 12));
        assert_eq!(pace.words(), Pace::new(Bytes(160_000_000)).words());
    }

    #[test]
    fn it_never_stands_still() {
        let mut pace = Pace::new(Bytes(320));
        for minute in 0..1000 {
            pace.look(Some("everything suffers"), at(60 * minute));
        }
        assert_eq!(pace.rate(), Bytes(10));
        assert_eq!(pace.claim(Bytes(100)), Span::seconds(10));
        assert!(Pace::new(Bytes(0)).claim(Bytes(u64::MAX)) > Span::days(365));
    }
}
