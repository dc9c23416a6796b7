//! What both models said, kept until it is known what happened, and what came of it: per window the
//! measures of both over all rows, and evidence by host and block.
//!
//! A row is judged when its window and the grace after it are over: the partition failed within it, or it
//! survived, or nobody can know (its work was moved away, it went silent, nobody was looking): such rows
//! count for nothing. Rows of one host in one block depend on each other and make one gain: the sum of
//! the differences of the two Brier scores, over as many rows as a failure has before it (and partitions),
//! cut at ±1: in one block a host weighs at most as much as one failure seen by one model and missed by
//! the other.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::wager::{Alarm, Wager};
use super::{Said, ShadowOptions};
use crate::fleet::{HostId, PartitionId, Span, Timestamp};
use crate::predict::failure::Reliability;

/// Log-odds beyond this are kept as this.
const EDGE: f64 = 16.0;
/// The code of no number.
const NOTHING: u16 = u16::MAX;
/// Nobody was looking where two looks are further apart than so many times the usual.
const BLIND_AFTER: i64 = 3;
/// The champion's failures are too many or too few beyond this factor of what it stated.
const FACTOR: f64 = 2.0;

/// What both models said at one time.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Look {
    /// When.
    pub at: Timestamp,
    partitions: Vec<PartitionId>,
    /// `[partition][window]`, log-odds in 65,535 steps from −16 to 16.
    champion: Vec<u16>,
    shadow: Vec<u16>,
}

fn code(p: f64) -> u16 {
    if p.is_nan() {
        return NOTHING;
    }
    let odds = (p / (1.0 - p)).ln().clamp(-EDGE, EDGE);
    ((odds + EDGE) / (2.0 * EDGE) * f64::from(NOTHING - 1)).round() as u16
}

fn chance(code: u16) -> Option<f64> {
    let odds = f64::from(code) / f64::from(NOTHING - 1) * 2.0 * EDGE - EDGE;
    (code != NOTHING).then(|| 1.0 / (1.0 + (-odds).exp()))
}

impl Look {
    /// Of what was said at `at`; `names` are the windows' partitions.
    pub fn new(at: Timestamp, said: &Said, names: &[PartitionId]) -> Self {
        let codes = |chances: &[f64]| chances.iter().map(|p| code(*p)).collect();
        Self {
            at,
            partitions: said.which.iter().map(|p| names[*p as usize].clone()).collect(),
            champion: codes(&said.champion),
            shadow: codes(&said.shadow),
        }
    }

    /// Partitions in it.
    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }
}

/// One host's rows of one block, one window.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Block {
    /// Brier score of the champion less that of the shadow.
    gain: f64,
    /// Failures beyond [`FACTOR`] times what the champion stated.
    under: f64,
    /// What it stated, by [`FACTOR`], beyond the failures.
    over: f64,
    failed: bool,
    at: Timestamp,
    of_look: u32,
    most: u32,
}

/// One window's account.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) within: Span,
    /// Looks up to this one are judged.
    judged: Option<Timestamp>,
    open: BTreeMap<i64, BTreeMap<HostId, Block>>,
    pub(super) champion: Reliability,
    pub(super) shadow: Reliability,
    /// Closed blocks, and those of a host that failed.
    pub(super) blocks: u64,
    pub(super) failed: u64,
    /// Rows of which nobody knows what happened.
    pub(super) unknown: u64,
    /// The shadow is better; worse.
    pub(super) better: Wager,
    pub(super) worse: Wager,
    /// The shadow has become better; more fail than the champion states; fewer.
    pub(super) overtaken: Alarm,
    pub(super) under: Alarm,
    pub(super) over: Alarm,
}

impl Account {
    fn new(within: Span) -> Self {
        Self {
            within,
            judged: None,
            open: BTreeMap::new(),
            champion: Reliability::new(within),
            shadow: Reliability::new(within),
            blocks: 0,
            failed: 0,
            unknown: 0,
            better: Wager::default(),
            worse: Wager::default(),
            overtaken: Alarm::default(),
            under: Alarm::default(),
            over: Alarm::default(),
        }
    }

    fn take(&mut self, host: HostId, at: Timestamp, block: Span, (a, b): (f64, f64), failed: bool) {
        let y = f64::from(u8::from(failed));
        self.champion.add(a, failed);
        self.shadow.add(b, failed);
        let of = self.open.entry(at.0.div_euclid(block.0.max(1))).or_default().entry(host).or_default();
        of.gain += (a - y).powi(2) - (b - y).powi(2);
        of.under += y - FACTOR * a;
        of.over += a / FACTOR - y;
        of.failed |= failed;
        of.of_look = if of.at == at { of.of_look + 1 } else { 1 };
        (of.at, of.most) = (at, of.most.max(of.of_look));
    }

    /// Bets on the blocks whose every row is judged.
    fn close(&mut self, options: &ShadowOptions, now: Timestamp) {
        let length = options.block.0.max(1);
        let rows = (self.within.0.min(length) / options.every.0.max(1)).max(1) as f64;
        while let Some(entry) = self.open.first_entry() {
            let end = Timestamp((entry.key() + 1) * length);
            if end + self.within + options.grace > now {
                return;
            }
            for block in entry.remove().into_values() {
                let share = 1.0 / (rows * f64::from(block.most.max(1)));
                self.blocks += 1;
                self.failed += u64::from(block.failed);
                self.better.take(block.gain * share);
                self.worse.take(-block.gain * share);
                self.overtaken.take(block.gain * share);
                self.under.take(block.under * share);
                self.over.take(block.over * share);
            }
        }
    }
}

/// What became of a partition within a span after a time; `None` = nobody knows.
pub type LabelOf<'a> = &'a dyn Fn(&PartitionId, Timestamp, Span) -> Option<bool>;

/// The account of two models. What is in it but the looks is kept as it is; the looks are kept apart.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Ledger {
    pub(super) started: Timestamp,
    last: Option<Timestamp>,
    /// Nobody was looking.
    blind: Vec<(Timestamp, Timestamp)>,
    pub(super) accounts: Vec<Account>,
    #[serde(skip)]
    looks: VecDeque<Look>,
}

impl Ledger {
    /// Nothing said yet, within these windows.
    pub fn new(windows: &[Span], started: Timestamp) -> Self {
        Self {
            started,
            last: None,
            blind: Vec::new(),
            accounts: windows.iter().map(|w| Account::new(*w)).collect(),
            looks: VecDeque::new(),
        }
    }

    /// The windows that it judges.
    pub fn windows(&self) -> Vec<Span> {
        self.accounts.iter().map(|a| a.within).collect()
    }

    /// Takes kept looks back, oldest first.
    pub fn restore(&mut self, looks: impl IntoIterator<Item = Look>) {
        for look in looks {
            let numbers = look.partitions.len() * self.accounts.len();
            if look.champion.len() == numbers && look.shadow.len() == numbers {
                self.last = self.last.max(Some(look.at));
                self.looks.push_back(look);
            }
        }
    }

    /// Whether the next look is due.
    pub fn is_due(&self, options: &ShadowOptions, now: Timestamp) -> bool {
        self.last.is_none_or(|last| now - last >= options.every || now < last)
    }

    /// Which of these partitions, by their numbers, are looked at at `now`: all, or of a large fleet those
    /// of the hosts whose day it is.
    pub fn turn(&self, options: &ShadowOptions, names: &[PartitionId], now: Timestamp) -> Vec<u32> {
        let turns = names.len().div_ceil(options.most.max(1)) as u64;
        let day = now.0.div_euclid(options.block.0.max(1)) as u64;
        let has_turn = |name: &PartitionId| {
            let digest = blake3::hash(name.host().as_str().as_bytes());
            let number = digest.as_bytes()[..8].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
            turns <= 1 || number.wrapping_add(day).is_multiple_of(turns)
        };
        let which = (0..names.len()).filter(|&p| has_turn(&names[p])).map(|p| p as u32);
        which.take(options.most).collect()
    }

    /// Takes what was said.
    pub fn note(&mut self, look: Look, options: &ShadowOptions) {
        if let Some(last) = self.last
            && look.at - last > Span(options.every.0 * BLIND_AFTER)
        {
            self.blind.push((last, look.at));
        }
        self.last = Some(look.at);
        self.looks.push_back(look);
    }

    /// Time of the oldest look that is kept.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.looks.front().map(|l| l.at)
    }

    /// Judges what can be judged by now. Returns the times of the looks that are no longer needed.
    pub fn settle(&mut self, label: LabelOf<'_>, options: &ShadowOptions, now: Timestamp) -> Vec<Timestamp> {
        let windows = self.accounts.len();
        for (w, account) in self.accounts.iter_mut().enumerate() {
            for look in &self.looks {
                if account.judged.is_some_and(|judged| look.at <= judged) {
                    continue;
                }
                let end = look.at + account.within;
                if end + options.grace > now {
                    break;
                }
                let unseen = self.blind.iter().any(|(from, to)| *from < end && *to > look.at);
                for (p, partition) in look.partitions.iter().enumerate() {
                    let at = p * windows + w;
                    let Some(said) = chance(look.champion[at]).zip(chance(look.shadow[at])) else { continue };
                    match label(partition, look.at, account.within).filter(|_| !unseen) {
                        Some(failed) => {
                            account.take(partition.host(), look.at, options.block, said, failed);
                        }
                        None => account.unknown += 1,
                    }
                }
                account.judged = Some(look.at);
            }
            account.close(options, now);
        }
        let done = |at: Timestamp| self.accounts.iter().all(|a| a.judged.is_some_and(|j| j >= at));
        let mut gone = Vec::new();
        while self.looks.front().is_some_and(|l| done(l.at)) {
            gone.extend(self.looks.pop_front().map(|l| l.at));
        }
        let longest = self.accounts.iter().map(|a| a.within).max().unwrap_or_default();
        self.blind.retain(|(_, to)| *to + longest + options.grace + options.block > now);
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::shadow::Decision;

    const OPTIONS: ShadowOptions = ShadowOptions {
        every: Span::minutes(15),
        most: 1000,
        grace: Span::minutes(10),
        block: Span::days(1),
        least_failures: 10,
        certainty: 20.0,
        at_least: Span::days(1),
        at_most: Span::days(30),
        false_revert_every: Span::days(365),
    };

    fn names() -> Vec<PartitionId> {
        (0..20).map(|p| PartitionId::from(format!("h{p}/p"))).collect()
    }

    /// Host `p` fails on day `p mod 7` of each week, at noon.
    fn fails(p: usize, at: Timestamp, within: Span) -> bool {
        let day = 86_400_000;
        (0..60).any(|d| {
            let noon = d * day + day / 2;
            d % 7 == p as i64 % 7 && noon > at.0 && noon <= at.0 + within.0
        })
    }

    /// Runs days of a champion and a shadow, each a chance by whether the host fails within two hours.
    fn days(ledger: &mut Ledger, from: i64, to: i64, champion: (f64, f64), shadow: (f64, f64)) -> Timestamp {
        let names = names();
        let label = |partition: &PartitionId, at: Timestamp, within: Span| {
            let p = names.iter().position(|n| n == partition).unwrap();
            Some(fails(p, at, within))
        };
        let mut now = Timestamp(from * 86_400_000);
        while now < Timestamp(to * 86_400_000) {
            if ledger.is_due(&OPTIONS, now) {
                let which = ledger.turn(&OPTIONS, &names, now);
                let say = |says: (f64, f64)| -> Vec<f64> {
                    let of = |p: &u32| if fails(*p as usize, now, Span::hours(2)) { says.0 } else { says.1 };
                    which.iter().map(of).collect()
                };
                let said = Said { champion: say(champion), shadow: say(shadow), which: which.clone() };
                ledger.note(Look::new(now, &said, &names), &OPTIONS);
            }
            ledger.settle(&label, &OPTIONS, now);
            now += OPTIONS.every;
        }
        now
    }

    fn hour() -> Ledger {
        Ledger::new(&[Span::hours(1)], Timestamp(0))
    }

    #[test]
    fn what_is_kept_of_a_chance_is_the_chance() {
        for p in [1e-6, 0.001, 0.02, 0.5, 0.97, 0.999_999] {
            let back = chance(code(p)).unwrap();
            assert!((back - p).abs() <= 4e-4 * p.min(1.0 - p) + 1e-9, "{p}: {back}");
        }
        assert_eq!((chance(code(f64::NAN)), chance(code(1.0)).is_some()), (None, true));
    }

    #[test]
    fn a_better_challenger_is_promoted_and_an_equal_or_a_worse_one_is_not() {
        let (good, poor) = ((0.6, 0.004), (0.15, 0.01));
        let mut ledger = hour();
        let mut promoted = None;
        for day in 0..12 {
            let now = days(&mut ledger, day, day + 1, poor, good);
            if let Decision::Promote(why) = ledger.judge_challenger(&OPTIONS, now) {
                promoted = Some((day, why));
                break;
            }
        }
        let (day, why) = promoted.expect("a much better one is promoted");
        assert!(day >= 3, "not before ten failures: day {day}");
        assert!(why.contains("Brier") && why.contains("failures"), "{why}");
        let mut ledger = hour();
        let now = days(&mut ledger, 0, 20, good, good);
        assert!(matches!(ledger.judge_challenger(&OPTIONS, now), Decision::Wait(_)));
        let now = days(&mut ledger, 20, 31, good, good);
        let Decision::Retire(why) = ledger.judge_challenger(&OPTIONS, now) else {
            panic!("30 days are over")
        };
        assert!(why.contains("not better within"), "{why}");
        let mut ledger = hour();
        let now = days(&mut ledger, 0, 12, good, poor);
        let Decision::Retire(why) = ledger.judge_challenger(&OPTIONS, now) else { panic!("it is worse") };
        assert!(why.contains("it is worse"), "{why}");
    }

    #[test]
    fn one_that_goes_wrong_after_long_being_right_is_taken_back() {
        let (good, poor) = ((0.5, 0.0004), (0.2, 0.001));
        let mut ledger = hour();
        let now = days(&mut ledger, 0, 20, good, poor);
        assert!(matches!(ledger.judge_former(&OPTIONS, now), Decision::Wait(_)));
        let now = days(&mut ledger, 20, 40, (0.0005, 0.0004), poor);
        let Decision::Revert(why) = ledger.judge_former(&OPTIONS, now) else {
            panic!("{:?}", ledger.judge_former(&OPTIONS, now))
        };
        assert!(why.contains("evidence"), "{why}");
        // Where both are wrong, going back is no help.
        let mut ledger = hour();
        let lost = (0.0005, 0.0004);
        let now = days(&mut ledger, 0, 40, lost, lost);
        assert!(matches!(ledger.judge_former(&OPTIONS, now), Decision::Drifted(_)));
    }

    #[test]
    fn what_nobody_can_know_counts_for_nothing() {
        let mut ledger = hour();
        let names = names();
        let said = Said { which: vec![0, 1], champion: vec![0.9, 0.9], shadow: vec![0.1, f64::NAN] };
        ledger.note(Look::new(Timestamp(0), &said, &names), &OPTIONS);
        let later = Timestamp(0) + Span::days(3);
        assert_eq!(ledger.settle(&|_, _, _| None, &OPTIONS, later), [Timestamp(0)]);
        let figures = &ledger.figures()[0];
        assert_eq!((figures.rows, figures.unknown, figures.evidence), (0, 1, 1.0));
        // Nobody was looking for three days: even a survival is not known then.
        ledger.note(Look::new(later, &said, &names), &OPTIONS);
        ledger.note(Look::new(later + Span::hours(5), &said, &names), &OPTIONS);
        ledger.settle(&|_, _, _| Some(false), &OPTIONS, later + Span::hours(20));
        let figures = &ledger.figures()[0];
        assert_eq!((figures.rows, figures.unknown), (1, 2), "{figures:?}");
    }

    #[test]
    fn a_ledger_that_was_put_away_goes_on_where_it_was() {
        let mut ledger = hour();
        days(&mut ledger, 0, 4, (0.2, 0.01), (0.5, 0.01));
        let text = serde_json::to_vec(&ledger).unwrap();
        let looks = serde_json::to_vec(&ledger.looks).unwrap();
        let mut back: Ledger = serde_json::from_slice(&text).unwrap();
        back.restore(serde_json::from_slice::<Vec<Look>>(&looks).unwrap());
        assert_eq!((&back.looks, back.last), (&ledger.looks, ledger.last));
        let (a, b) = (
            days(&mut ledger, 4, 9, (0.2, 0.01), (0.5, 0.01)),
            days(&mut back, 4, 9, (0.2, 0.01), (0.5, 0.01)),
        );
        let words = |ledger: &Ledger| ledger.figures().iter().map(|f| f.words()).collect::<Vec<_>>();
        assert_eq!((a, words(&back), &back.looks), (b, words(&ledger), &ledger.looks));
    }

    #[test]
    fn of_a_large_fleet_hosts_take_turns_and_a_host_keeps_its_day() {
        let options = ShadowOptions { most: 100, ..OPTIONS };
        let many: Vec<PartitionId> = (0..400).map(|p| PartitionId::from(format!("h{p}/p"))).collect();
        let ledger = hour();
        let day =
            |d: i64, minute: i64| ledger.turn(&options, &many, Timestamp(d * 86_400_000 + minute * 60_000));
        assert_eq!(day(3, 0), day(3, 700));
        let mut seen: Vec<u32> = (0..4).flat_map(|d| day(d, 0)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert!((0..4).all(|d| day(d, 0).len() <= 100) && seen.len() > 380, "{}", seen.len());
    }
}
