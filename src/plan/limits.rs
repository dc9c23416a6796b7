//! How much may move at once. The planner asks before it proposes and the engine before it starts a
//! move; both get the same answer from the same function.

use super::input::{Ended, Running};
use super::options::Limits;
use crate::fleet::{PartitionId, Span, Timestamp, Topology, WorkloadId};

/// Why a move may not start now.
#[derive(Clone, PartialEq, Debug)]
pub struct Denied {
    /// In words: `2 of 2 moves of rack r3 are running`.
    pub reason: String,
    /// When it may, where that is known.
    pub until: Option<Timestamp>,
    /// What would let it start, in words.
    pub relax: String,
}

/// What has moved and moves.
#[derive(Clone, Copy, Debug)]
pub struct Traffic<'a> {
    /// Migrations that have not ended.
    pub running: &'a [Running],
    /// Migrations that have ended of late.
    pub ended: &'a [Ended],
}

/// Whether the workload may move at all now: not while it moves already, nor in its cool-down.
///
/// # Errors
/// The reason why not.
pub fn may_move(
    workload: &WorkloadId,
    traffic: Traffic,
    limits: &Limits,
    now: Timestamp,
) -> Result<(), Denied> {
    if let Some(running) = traffic.running.iter().find(|r| &r.workload == workload) {
        return Err(Denied {
            reason: format!("it is being moved already ({} to {})", running.migration, running.destination),
            until: None,
            relax: format!("wait until {} ends", running.migration),
        });
    }
    let last = traffic.ended.iter().filter(|e| e.moved && &e.workload == workload).map(|e| e.ended).max();
    if let Some(last) = last {
        let until = last + limits.cool_down;
        if until > now {
            return Err(Denied {
                reason: format!("it moved {} ago and stays for {}", last.age(now), limits.cool_down),
                until: Some(until),
                relax: format!("wait {} or shorten the cool-down", until - now),
            });
        }
    }
    Ok(())
}

/// Whether a move from `source` to `destination` may start now, beside those that run.
///
/// # Errors
/// The first limit that it would break.
pub fn may_start(
    source: &PartitionId,
    destination: &PartitionId,
    traffic: Traffic,
    topology: &Topology,
    limits: &Limits,
    now: Timestamp,
) -> Result<(), Denied> {
    let running = traffic.running.len();
    if running >= limits.fleet as usize {
        return Err(full("the fleet", running, limits.fleet));
    }
    let hour = started_within_hour(traffic, now);
    if hour.len() >= limits.per_hour as usize {
        let until = hour.iter().min().map(|at| *at + Span::hours(1));
        return Err(Denied {
            reason: format!("{} moves were started within the hour, {} may", hour.len(), limits.per_hour),
            until,
            relax: "wait or raise the moves per hour".to_string(),
        });
    }
    // Each of the two ends counts once in its host, rack and site, a move within one also once.
    for (what, limit, place) in [
        ("host", limits.host, Level::Host),
        ("rack", limits.rack, Level::Rack),
        ("site", limits.site, Level::Site),
    ] {
        for end in [source, destination] {
            let Some(name) = place_of(topology, end, place) else { continue };
            let count = traffic
                .running
                .iter()
                .filter(|r| {
                    place_of(topology, &r.source, place) == Some(name)
                        || place_of(topology, &r.destination, place) == Some(name)
                })
                .count();
            if count >= limit as usize {
                return Err(full(&format!("{what} {}", name.1), count, limit));
            }
        }
    }
    Ok(())
}

/// Whether everything automatic is frozen now, and why.
pub fn freeze(limits: &Limits, now: Timestamp) -> Option<Denied> {
    limits.freezes.iter().find(|(from, until, _)| *from <= now && now < *until).map(|(_, until, why)| {
        Denied {
            reason: format!("frozen: {why}"),
            until: Some(*until),
            relax: format!("wait {} or end the freeze", *until - now),
        }
    })
}

/// How many moves may still be started in the hour that ends at `now`.
pub fn left_this_hour(traffic: Traffic, limits: &Limits, now: Timestamp) -> usize {
    (limits.per_hour as usize).saturating_sub(started_within_hour(traffic, now).len())
}

fn started_within_hour(traffic: Traffic, now: Timestamp) -> Vec<Timestamp> {
    let since = now - Span::hours(1);
    let started = traffic.running.iter().map(|r| r.started).chain(traffic.ended.iter().map(|e| e.started));
    started.filter(|at| *at > since).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Host,
    Rack,
    Site,
}

/// The site and the name of the place; racks of two sites may bear one name.
fn place_of<'a>(topology: &'a Topology, partition: &PartitionId, level: Level) -> Option<(&'a str, &'a str)> {
    let host = topology.host_of(partition)?;
    Some(match level {
        Level::Host => ("", host.id.as_str()),
        Level::Rack => (host.site.as_str(), host.rack.as_str()),
        Level::Site => ("", host.site.as_str()),
    })
}

fn full(place: &str, running: usize, limit: u32) -> Denied {
    Denied {
        reason: format!("{running} of {limit} moves of {place} are running"),
        until: None,
        relax: "wait until one ends or raise the limit".to_string(),
    }
}
