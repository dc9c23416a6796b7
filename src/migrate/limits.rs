//! The limits (D9): how many moves at once per host, rack, site and fleet, how many an hour, how many
//! bytes a second, the cool-down of a workload, maintenance windows, and the quorum of a workload's copies. Tokens are
//! taken and given back in the same transaction as the change of state, under one guard key, so no
//! interleaving and no change of leader exceeds them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::pace::Pace;
use super::plan::{Place, Plan};
use crate::fleet::{
    Bytes, MigrationId, PartitionId, Probability, ProposalId, ServingState, Span, Timestamp, Topology,
    WorkloadId,
};

/// The key whose revision every taking and giving back of tokens compares.
pub const GUARD_KEY: &str = "/limits/guard";
/// Prefix of the tokens that are held.
pub const TOKEN_PREFIX: &str = "/limits/token/";
/// Prefix of tokens given back of late.
pub const RECENT_PREFIX: &str = "/limits/recent/";

/// A stretch of a week in which moves may begin, in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Window {
    /// Day of the week, 0 = Monday.
    pub day: u8,
    /// From this minute of the day ...
    pub from: u16,
    /// ... to this one (at most 1,440).
    pub to: u16,
}

/// Bounds on moves. Zero forbids.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// At once in the whole fleet.
    pub fleet: u32,
    /// At once touching one site.
    pub site: u32,
    /// At once touching one rack.
    pub rack: u32,
    /// At once touching one host.
    pub host: u32,
    /// Begun within one hour.
    pub hour: u32,
    /// A workload that was moved is left alone this long, other than for a prediction of failure.
    pub cool_down: Span,
    /// When moves may begin; empty = always.
    pub windows: Vec<Window>,
    /// A failure predicted with at least this probability is averted outside the windows, too.
    pub outside_windows_from: Probability,
    /// Data that begins to be copied in a second, all moves together; `None` = any.
    pub bytes_per_second: Option<Bytes>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fleet: 8,
            site: 4,
            rack: 2,
            host: 2,
            hour: 60,
            cool_down: Span::minutes(30),
            windows: Vec::new(),
            outside_windows_from: Probability::MAX,
            bytes_per_second: None,
        }
    }
}

/// What one migration holds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Token {
    /// The migration.
    pub migration: MigrationId,
    /// Its proposal.
    pub proposal: ProposalId,
    /// What is moved.
    pub workload: WorkloadId,
    /// From.
    pub source: Place,
    /// To.
    pub destination: Place,
    /// Taken.
    pub taken: Timestamp,
    /// Given back.
    pub given_back: Option<Timestamp>,
    /// The workload was at the destination then; what did not move cools nothing down.
    #[serde(default)]
    pub moved: bool,
    /// Its data claims the rate of copying until then.
    #[serde(default)]
    pub copies_until: Option<Timestamp>,
}

impl Token {
    /// The token of a plan that is admitted now.
    pub fn of(plan: &Plan, now: Timestamp) -> Self {
        Self {
            migration: plan.id,
            proposal: plan.proposal,
            workload: plan.workload.clone(),
            source: plan.source_place.clone(),
            destination: plan.destination_place.clone(),
            taken: now,
            given_back: None,
            moved: false,
            copies_until: None,
        }
    }

    /// The same, which claims the rate of copying behind all that claim it now.
    pub fn paced(self, pace: Option<&Pace>, tokens: &Tokens, data: Bytes) -> Self {
        let copies = pace.filter(|_| data.0 > 0).map(|pace| {
            let begins = tokens.copies_until().map_or(self.taken, |until| until.max(self.taken));
            begins + pace.claim(data)
        });
        Self { copies_until: copies, ..self }
    }

    /// The same, given back. What was never copied whole claims nothing any more.
    pub fn back(self, now: Timestamp, copied: bool, moved: bool) -> Self {
        let copies = self.copies_until.map(|until| if copied { until } else { until.min(now) });
        Self { given_back: Some(now), moved, copies_until: copies, ..self }
    }

    /// The key while it is held.
    pub fn key(migration: MigrationId) -> String {
        format!("{TOKEN_PREFIX}{migration}")
    }

    /// The key after it was given back.
    pub fn recent_key(migration: MigrationId) -> String {
        format!("{RECENT_PREFIX}{migration}")
    }
}

/// All tokens, as the leader knows them.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Tokens {
    /// Held now.
    pub held: BTreeMap<MigrationId, Token>,
    /// Given back within the last hour or cool-down.
    pub recent: BTreeMap<MigrationId, Token>,
}

impl Tokens {
    /// When the rate of copying is free again; `None` = nothing ever claimed it.
    pub fn copies_until(&self) -> Option<Timestamp> {
        self.held.values().chain(self.recent.values()).filter_map(|t| t.copies_until).max()
    }
}

/// Why a move may not begin now.
#[derive(Clone, PartialEq, Debug)]
pub struct NotNow {
    /// In words, with the nearest relaxation.
    pub reason: String,
    /// Ask again then.
    pub again: Timestamp,
}

/// How soon a limit is asked again that another migration's end can lift.
const SOON: Span = Span::seconds(1);

/// How long the maintenance windows are still shut for `plan`, and why, at `wall`, which is the time
/// that people see.
pub fn shut(limits: &Limits, plan: &Plan, wall: Timestamp) -> Option<(Span, String)> {
    if plan.probability.is_some_and(|p| p >= limits.outside_windows_from) {
        return None;
    }
    let left = shut_until(&limits.windows, wall)? - wall;
    let urgent = match plan.predicted {
        true => format!("; from {} on a failure is averted outside it", limits.outside_windows_from),
        false => String::new(),
    };
    Some((left, format!("outside the maintenance window for {left} more{urgent}")))
}

/// Whether `plan` may begin now under `limits`; the windows are [`shut`]'s.
pub fn refuse(
    limits: &Limits,
    tokens: &Tokens,
    pace: Option<&Pace>,
    plan: &Plan,
    now: Timestamp,
) -> Option<NotNow> {
    let soon = |reason: String| Some(NotNow { reason, again: now + SOON });
    if let (Some(pace), Some(until)) = (pace, tokens.copies_until())
        && plan.data.0 > 0
        && until > now
    {
        let reason =
            format!("copying is limited to {}; that is taken for {} more", pace.words(), until - now);
        // Sooner, where a move that claims it ends early.
        return Some(NotNow { reason, again: until.min(now + Span(SOON.0 * 5)) });
    }
    let held = tokens.held.values();
    let at_once = held.clone().count() as u32;
    if at_once >= limits.fleet {
        return soon(format!("{at_once} moves run, the fleet's limit is {}", limits.fleet));
    }
    for place in [&plan.source_place, &plan.destination_place] {
        let count = |touches: &dyn Fn(&Place) -> bool| {
            held.clone().filter(|t| touches(&t.source) || touches(&t.destination)).count() as u32
        };
        let of_host = count(&|p| p.host == place.host);
        if of_host >= limits.host {
            return soon(format!("{of_host} moves touch host {}, its limit is {}", place.host, limits.host));
        }
        let of_rack = count(&|p| p.rack == place.rack && p.site == place.site);
        if of_rack >= limits.rack {
            return soon(format!("{of_rack} moves touch rack {}, its limit is {}", place.rack, limits.rack));
        }
        let of_site = count(&|p| p.site == place.site);
        if of_site >= limits.site {
            return soon(format!("{of_site} moves touch site {}, its limit is {}", place.site, limits.site));
        }
    }
    let hour_ago = now - Span::hours(1);
    let begun = || held.clone().chain(tokens.recent.values()).filter(|t| t.taken > hour_ago);
    if begun().count() as u32 >= limits.hour {
        let oldest = begun().map(|t| t.taken).min().unwrap_or(now);
        let again = oldest + Span::hours(1);
        return Some(NotNow {
            reason: format!(
                "{} moves began within the last hour, the limit is {}",
                begun().count(),
                limits.hour
            ),
            again,
        });
    }
    let moved = tokens
        .recent
        .values()
        .filter(|t| t.moved && t.workload == plan.workload && t.proposal != plan.proposal)
        .filter_map(|t| t.given_back)
        .max();
    match moved {
        Some(moved) if !plan.predicted && now < moved + limits.cool_down => Some(NotNow {
            reason: format!("{} was moved {} ago and cools down", plan.workload, now - moved),
            // Soon, so that the words stay true.
            again: (now + Span::seconds(10)).min(moved + limits.cool_down),
        }),
        _ => None,
    }
}

/// When the next window opens; `None` = one is open now.
pub fn shut_until(windows: &[Window], now: Timestamp) -> Option<Timestamp> {
    const DAY: i64 = 86_400_000;
    if windows.is_empty() {
        return None;
    }
    let day = now.0.div_euclid(DAY);
    // 1970-01-01 was a Thursday, day 3 counted from Monday.
    let weekday = |day: i64| (day + 3).rem_euclid(7) as u8;
    let mut opens: Option<i64> = None;
    for ahead in 0..8 {
        for window in windows.iter().filter(|w| w.day == weekday(day + ahead)) {
            let from = (day + ahead) * DAY + i64::from(window.from) * 60_000;
            let to = (day + ahead) * DAY + i64::from(window.to) * 60_000;
            if (from..to).contains(&now.0) {
                return None;
            }
            if from > now.0 {
                opens = Some(opens.map_or(from, |o| o.min(from)));
            }
        }
    }
    // No window at all opens within a week: ask again in a day.
    Some(Timestamp(opens.unwrap_or(now.0 + DAY)))
}

/// Why the copies of the workload forbid the move: moving a member that the quorum hangs on, while
/// it is well itself. Members that are predicted to fail do not count.
pub fn quorum(topology: &Topology, plan: &Plan, failing: impl Fn(&PartitionId) -> bool) -> Option<String> {
    let workload = topology.workload(&plan.workload)?;
    let members = workload.replicas.len() + 1;
    if members < 3 || failing(&plan.source) {
        return None;
    }
    let serves = |p: &PartitionId| topology.partition(p).is_some_and(|p| p.serving != ServingState::Fenced);
    let well = workload.replicas.iter().filter(|p| serves(p) && !failing(p)).count();
    let needed = members / 2;
    (well < needed).then(|| {
        format!(
            "only {well} of its {} other copies are well; {needed} must be, or its quorum hangs on this one",
            members - 1
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_opens_and_shuts_on_its_minute() {
        // 2026-11-21 is a Saturday (5). 02:00 to 04:00.
        let windows = [Window { day: 5, from: 120, to: 240 }];
        let midnight = 1_795_219_200_000;
        assert_eq!(shut_until(&windows, Timestamp(midnight)), Some(Timestamp(midnight + 120 * 60_000)));
        assert_eq!(shut_until(&windows, Timestamp(midnight + 120 * 60_000)), None);
        assert_eq!(shut_until(&windows, Timestamp(midnight + 240 * 60_000 - 1)), None);
        let next = midnight + 7 * 86_400_000 + 120 * 60_000;
        assert_eq!(shut_until(&windows, Timestamp(midnight + 240 * 60_000)), Some(Timestamp(next)));
        assert_eq!(shut_until(&[], Timestamp(midnight)), None);
    }

    fn token(taken: i64, copies_until: Option<i64>) -> Token {
        let place = Place { host: "h".into(), rack: "r".into(), site: "s".into() };
        Token {
            migration: MigrationId(taken as u64),
            proposal: ProposalId(1),
            workload: "w".into(),
            source: place.clone(),
            destination: place,
            taken: Timestamp(taken),
            given_back: None,
            moved: false,
            copies_until: copies_until.map(Timestamp),
        }
    }

    #[test]
    fn copies_claim_the_rate_one_behind_the_other() {
        let pace = Pace::new(Bytes(1000));
        let mut tokens = Tokens::default();
        let first = token(5_000, None).paced(Some(&pace), &tokens, Bytes(2_000));
        assert_eq!(first.copies_until, Some(Timestamp(7_000)));
        tokens.held.insert(first.migration, first.clone());
        let second = token(6_000, None).paced(Some(&pace), &tokens, Bytes(3_000));
        assert_eq!(second.copies_until, Some(Timestamp(10_000)));
        // Nothing to copy claims nothing, and without a limit nothing does.
        assert_eq!(token(6_000, None).paced(Some(&pace), &tokens, Bytes(0)).copies_until, None);
        assert_eq!(token(6_000, None).paced(None, &tokens, Bytes(9)).copies_until, None);
        // What was copied claims its time to the end, what was given up does not.
        assert_eq!(first.clone().back(Timestamp(5_500), true, true).copies_until, Some(Timestamp(7_000)));
        assert_eq!(first.clone().back(Timestamp(5_500), false, false).copies_until, Some(Timestamp(5_500)));
        let back = first.back(Timestamp(5_500), true, true);
        tokens.held.clear();
        tokens.recent.insert(back.migration, back);
        assert_eq!(tokens.copies_until(), Some(Timestamp(7_000)));
    }
}
