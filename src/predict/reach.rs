//! How far hours of the day usually reach beyond their middle: what a batch job does every night is no failure.
//! History says so at once (`past.rs`); while the engine runs, an hour that was far off on three of twelve days is
//! found to reach so far, and one that has not been for sixteen days no more.

/// An hour is far off on so many of [`AMONG`] days, and it is usual.
const DAYS: u32 = 3;
/// Days that count, the newest as the lowest bit.
const AMONG: u16 = 0x0fff;
/// What lasts longer than so many hours is an incident or a new level, no job.
const LONGEST: usize = 6;
/// Units off their middle from which on an hour uses its reach.
const USED_FROM: u8 = 4;

/// How far an hour reaches under and over its middle, in units of its baseline; 0 = noise alone.
pub(super) type Sides = (u8, u8);

/// The reach of the hours of the day, UTC.
#[derive(Clone, Default, Debug)]
pub(super) struct Reach {
    hours: [OfHour; 24],
    /// What is far off and not over: the hour since 1970 in which it began, and what its hours reached.
    since: i64,
    hours_off: usize,
    reached: [Sides; LONGEST],
}

#[derive(Clone, Copy, Default, Debug)]
struct OfHour {
    usual: Sides,
    /// On which of the last sixteen days it was so far off; the lowest bit is [`OfHour::newest`].
    days: u16,
    /// The number of the last of these days, modulo 2^16.
    newest: u16,
    /// What was reached on the last three.
    last: [Sides; DAYS as usize],
}

impl OfHour {
    fn note(&mut self, day: u16, reached: Sides) {
        let later = u32::from(day.wrapping_sub(self.newest));
        if self.days != 0 && later == 0 {
            self.last[0] = larger(self.last[0], reached);
        } else {
            self.days = self.days.checked_shl(later).unwrap_or(0) | 1;
            self.newest = day;
            self.last.rotate_right(1);
            self.last[0] = reached;
        }
        if (self.days & AMONG).count_ones() >= DAYS {
            // The middle of three: an incident beside a job does not widen it.
            let mut under = self.last.map(|sides| sides.0);
            let mut over = self.last.map(|sides| sides.1);
            under.sort_unstable();
            over.sort_unstable();
            self.usual = larger(self.usual, (under[1], over[1]));
        }
    }

    fn is_over(&self, day: u16) -> bool {
        day.wrapping_sub(self.newest) >= u16::BITS as u16
    }
}

fn larger(a: Sides, b: Sides) -> Sides {
    (a.0.max(b.0), a.1.max(b.1))
}

/// Units off the middle on the side on which it is.
fn sides(off: f32) -> Sides {
    let units = off.abs().ceil().min(255.0) as u8;
    if off < 0.0 { (units, 0) } else { (0, units) }
}

fn day(hour: i64) -> u16 {
    hour.div_euclid(24).rem_euclid(1 << 16) as u16
}

fn of_day(hour: i64) -> usize {
    hour.rem_euclid(24) as usize
}

impl Reach {
    /// What history made, of which this is the last hour; `None` where no hour reaches further than noise.
    pub(super) fn of(usual: [Sides; 24], last_hour: i64) -> Option<Box<Self>> {
        let made = usual.map(|usual| match usual {
            (0, 0) => OfHour::default(),
            _ => OfHour { usual, days: 1, newest: day(last_hour), last: [usual; DAYS as usize] },
        });
        usual.iter().any(|sides| *sides != (0, 0)).then(|| Box::new(Self { hours: made, ..Self::default() }))
    }

    /// Of an hour of the day.
    pub(super) fn usual(&self, hour_of_day: usize) -> Sides {
        self.hours[hour_of_day].usual
    }

    /// A step in that hour since 1970 was unusual, so many units off its middle.
    pub(super) fn note_unusual(&mut self, hour: i64, off: f32) {
        if self.hours_off == 0 || hour < self.since {
            (self.since, self.reached) = (hour, [(0, 0); LONGEST]);
        }
        let at = usize::try_from(hour - self.since).unwrap_or(usize::MAX);
        self.hours_off = at.saturating_add(1);
        if let Some(reached) = self.reached.get_mut(at) {
            *reached = larger(*reached, sides(off));
        }
    }

    /// A step was usual: what was not is over. Says whether anything is left to remember.
    pub(super) fn note_usual(&mut self, hour: i64, off: f32) -> bool {
        if (1..=LONGEST).contains(&self.hours_off) {
            for (at, reached) in (self.since..).zip(self.reached).take(self.hours_off) {
                if reached != (0, 0) {
                    self.hours[of_day(at)].note(day(at), reached);
                }
            }
        }
        self.hours_off = 0;
        let (today, here) = (day(hour), &mut self.hours[of_day(hour)]);
        let reached = sides(off);
        if here.usual != (0, 0) && reached.0.max(reached.1) >= USED_FROM {
            here.note(today, reached);
        } else if here.days != 0 && here.is_over(today) {
            *here = OfHour::default();
        }
        self.hours.iter().any(|hour| hour.days != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Days of an hour that is usual but for what `job` says of an hour of a day.
    fn days(reach: &mut Reach, days: std::ops::Range<i64>, job: impl Fn(i64, i64) -> f32) -> bool {
        let mut kept = true;
        for hour in days.start * 24..days.end * 24 {
            let off = job(hour / 24, hour % 24);
            let (under, over) = reach.usual(of_day(hour));
            if off > f32::from(over) + 6.0 || off < -f32::from(under) - 6.0 {
                reach.note_unusual(hour, off);
            } else {
                kept = reach.note_usual(hour, off);
            }
        }
        kept
    }

    #[test]
    fn a_nightly_job_is_usual_from_the_fourth_night_on_and_no_more_when_it_has_ended() {
        let mut reach = Reach::default();
        days(&mut reach, 0..3, |day, hour| if hour == 2 { 40.0 + day as f32 } else { 0.0 });
        assert_eq!((reach.usual(2), reach.usual(3)), ((0, 41), (0, 0)));
        assert!(days(&mut reach, 3..40, |_, hour| if hour == 2 { 39.0 } else { 0.0 }));
        assert_eq!(reach.usual(2), (0, 41), "what is used stays");
        assert!(days(&mut reach, 40..54, |_, _| 1.0));
        assert!(!days(&mut reach, 54..58, |_, _| 1.0), "nothing is left to remember");
        assert_eq!(reach.usual(2), (0, 0));
    }

    #[test]
    fn incidents_do_not_become_usual() {
        let mut reach = Reach::default();
        // Once a week, twice in a row, or for half a day.
        days(&mut reach, 0..60, |day, hour| if day % 7 == 0 && hour == 9 { -50.0 } else { 0.0 });
        days(&mut reach, 60..62, |_, hour| if hour == 11 { 50.0 } else { 0.0 });
        days(&mut reach, 80..90, |_, hour| if hour < 12 { 50.0 } else { 0.0 });
        assert!((0..24).all(|hour| reach.usual(hour) == (0, 0)), "{reach:?}");
        // Beside a job it does not widen what the job reaches.
        days(&mut reach, 120..125, |day, hour| match (day, hour) {
            (122, 1) => 200.0,
            (_, 1) => 30.0,
            _ => 0.0,
        });
        assert_eq!(reach.usual(1), (0, 30));
    }

    #[test]
    fn odd_times_are_survived() {
        let mut reach = Reach::default();
        for hour in [i64::MIN / 4, 5, -3, i64::MAX / 4, 7] {
            reach.note_unusual(hour, f32::NAN);
            reach.note_unusual(hour, f32::INFINITY);
            reach.note_usual(hour, f32::NEG_INFINITY);
        }
        assert!(size_of::<Reach>() < 360, "{}", size_of::<Reach>());
    }
}
