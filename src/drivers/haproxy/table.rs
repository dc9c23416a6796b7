//! What an instance says of its servers (`show servers state`, `show stat`) and which commands lead
//! from there to what is wanted. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::drivers::router::ServerState;

/// HAProxy's greatest weight.
const HEAVIEST: f64 = 256.0;

/// One server of a backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Server {
    /// As set by whoever sets it, also while the server is in maintenance.
    pub(super) weight: u32,
    pub(super) state: ServerState,
}

/// What is wanted of a server: its weight, where it is to be ready, and its state.
pub(super) type Wanted = BTreeMap<String, Server>;

/// Reads `show servers state BACKEND`.
///
/// # Errors
/// What could not be read.
pub(super) fn read_servers(text: &str) -> Result<BTreeMap<String, Server>, String> {
    let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
    match lines.next() {
        Some("1") => {}
        Some(other) => return Err(format!("expected the state file version 1, got {other:?}")),
        None => return Err("expected a table of servers, got nothing".into()),
    }
    let mut columns: Vec<&str> = Vec::new();
    let mut servers = BTreeMap::new();
    for line in lines {
        if let Some(header) = line.strip_prefix('#') {
            columns = header.split_ascii_whitespace().collect();
            continue;
        }
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let field = |name: &str| {
            let at = columns.iter().position(|c| *c == name);
            at.and_then(|i| fields.get(i)).copied().ok_or_else(|| format!("no {name} in {line:?}"))
        };
        let number = |name: &str| {
            field(name)?.parse::<u32>().map_err(|_| format!("{name} is not a number in {line:?}"))
        };
        let state = state_of(number("srv_admin_state")?);
        servers.insert(field("srv_name")?.to_string(), Server { weight: number("srv_uweight")?, state });
    }
    Ok(servers)
}

/// Bits of `srv_admin_state` (management.txt, "show servers state"): forced, inherited, configured
/// and resolution maintenance are 1, 2, 4 and 32; forced and inherited drain are 8 and 16.
fn state_of(admin: u32) -> ServerState {
    if admin & (0x01 | 0x02 | 0x04 | 0x20) != 0 {
        ServerState::Maintenance
    } else if admin & (0x08 | 0x10) != 0 {
        ServerState::Drain
    } else {
        ServerState::Ready
    }
}

/// Reads open sessions a server from `show stat`.
pub(super) fn read_sessions(text: &str, backend: &str) -> BTreeMap<String, u64> {
    let of = column(text, backend, "scur").into_iter();
    of.filter_map(|(server, current)| Some((server, current.parse().ok()?))).collect()
}

/// Reads from `show stat` which servers are backups.
pub(super) fn read_backups(text: &str, backend: &str) -> BTreeSet<String> {
    let of = column(text, backend, "bck").into_iter();
    of.filter(|(_, backup)| backup == "1").map(|(server, _)| server).collect()
}

/// A column of `show stat` for the servers of a backend.
fn column(text: &str, backend: &str, name: &str) -> Vec<(String, String)> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default().trim_start_matches(['#', ' ']);
    let at = |name: &str| header.split(',').position(|c| c == name);
    let (Some(proxy), Some(server), Some(wanted)) = (at("pxname"), at("svname"), at(name)) else {
        return Vec::new();
    };
    lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            (fields.get(proxy) == Some(&backend)).then_some(())?;
            let server = fields.get(server).filter(|name| **name != "BACKEND" && **name != "FRONTEND")?;
            Some((server.to_string(), fields.get(wanted)?.to_string()))
        })
        .collect()
}

/// Whole weights for shares: the greatest share gets the greatest weight, any share above 0 gets at
/// least 1. With two servers the error is at most half a percent of the whole.
pub(super) fn weights_of(shares: &BTreeMap<String, f64>) -> BTreeMap<String, u32> {
    let most = shares.values().copied().fold(0.0, f64::max);
    let weight = |share: f64| {
        if share <= 0.0 || most <= 0.0 { 0 } else { (share / most * HEAVIEST).round().max(1.0) as u32 }
    };
    shares.iter().map(|(name, share)| (name.clone(), weight(*share))).collect()
}

/// The commands that lead to what is wanted: first those that give traffic, then those that take
/// it, so that at no time nobody gets any. Empty where all is as wanted.
///
/// # Errors
/// A server that the instance does not have.
pub(super) fn commands(
    backend: &str,
    now: &BTreeMap<String, Server>,
    wanted: &Wanted,
) -> Result<Vec<String>, String> {
    let (mut give, mut take) = (Vec::new(), Vec::new());
    for (name, want) in wanted {
        let have = now.get(name).ok_or_else(|| {
            let known: Vec<&str> = now.keys().map(String::as_str).collect();
            format!("no server {name} in the backend {backend}; it has {}", known.join(", "))
        })?;
        if have.weight != want.weight {
            let list = if want.weight > have.weight { &mut give } else { &mut take };
            list.push(format!("set server {backend}/{name} weight {}", want.weight));
        }
        if have.state != want.state {
            let (list, word) = match want.state {
                ServerState::Ready => (&mut give, "ready"),
                ServerState::Drain => (&mut take, "drain"),
                ServerState::Maintenance => (&mut take, "maint"),
            };
            list.push(format!("set server {backend}/{name} state {word}"));
        }
    }
    give.append(&mut take);
    Ok(give)
}

/// Share of new traffic of every server: its weight among those that are ready.
pub(super) fn shares(servers: &BTreeMap<String, Server>) -> BTreeMap<String, f64> {
    let weight = |s: &Server| if s.state == ServerState::Ready { f64::from(s.weight) } else { 0.0 };
    let all: f64 = servers.values().map(weight).sum();
    servers.iter().map(|(name, s)| (name.clone(), if all > 0.0 { weight(s) / all } else { 0.0 })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change
3 cart 1 s1 127.0.0.1 2 0 100 100 3
3 cart 2 s2 127.0.0.1 0 1 50 100 3
3 cart 3 s3 127.0.0.1 2 8 7 100 3
";

    #[test]
    fn states_and_weights_are_read_also_in_maintenance() {
        let servers = read_servers(STATE).unwrap();
        assert_eq!(servers["s2"], Server { weight: 50, state: ServerState::Maintenance });
        assert_eq!(servers["s3"].state, ServerState::Drain);
        assert_eq!(shares(&servers)["s1"], 1.0);
        assert!(read_servers("No such backend.").unwrap_err().contains("No such backend"));
    }

    #[test]
    fn traffic_is_given_before_it_is_taken_and_nothing_is_sent_twice() {
        let now = read_servers(STATE).unwrap();
        let wanted = BTreeMap::from([
            ("s1".to_string(), Server { weight: 0, state: ServerState::Drain }),
            ("s2".to_string(), Server { weight: 256, state: ServerState::Ready }),
        ]);
        let commands = commands("cart", &now, &wanted).unwrap();
        assert_eq!(
            commands,
            [
                "set server cart/s2 weight 256",
                "set server cart/s2 state ready",
                "set server cart/s1 weight 0",
                "set server cart/s1 state drain"
            ]
        );
        let mut after = now;
        after.extend(wanted.clone());
        assert!(super::commands("cart", &after, &wanted).unwrap().is_empty());
    }

    proptest::proptest! {
        #[test]
        fn shares_survive_whole_weights_within_half_a_percent(share in 0.0f64..=1.0) {
            let shares = BTreeMap::from([("a".to_string(), share), ("b".to_string(), 1.0 - share)]);
            let weights = weights_of(&shares);
            let got = f64::from(weights["a"]) / f64::from(weights["a"] + weights["b"]);
            proptest::prop_assert!((got - share).abs() < 0.005, "{} {:?}", share, weights);
            proptest::prop_assert_eq!(share == 0.0, weights["a"] == 0);
        }
    }
}
