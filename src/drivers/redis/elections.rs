//! How long ago the nodes of a shard were last elected, because Redis forgets to ask.
//!
//! Two rules of its source (`cluster.c`, 7.0.15; the same in what came of it):
//! - A node that asked for votes keeps the count of them. For 2 × `cluster-node-timeout` (at least 2 s)
//!   after that a failover that is asked of it again takes the old votes for new ones: it makes itself a
//!   master in an epoch that is over, beside the one that the others obey, and takes writes that are lost
//!   when it is told (seen here with 7.0.15: for 62 ms). Until 4 × the timeout it asks for no votes at all,
//!   and the failover is given up after 5 s, in which the master holds writes.
//! - A voter votes once in 2 × `cluster-node-timeout` about one master.
//!
//! No node says when it was elected. But it counts the votes it asked for (`CLUSTER INFO`), so a count that
//! stays the same while one looks is a time without an election; and a replica that was elected and then
//! lost has a new line to its new master, whose age it says (`CLIENT LIST TYPE master`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use redis::Value;

use super::RedisMover;
use super::nodes::{Lane, text};
use super::stage::Stage;
use super::view::{Health, Info, Node};
use crate::drivers::error::DriverError;

/// Redis' own default, where a node does not say.
const NODE_TIMEOUT: Duration = Duration::from_secs(15);
/// What `auth_timeout` is at least.
const LEAST: Duration = Duration::from_secs(2);

/// What one node said of the votes it asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Asked {
    votes: u64,
    /// Since when it says so to us.
    since: Instant,
    /// It said something else before.
    seen_to_change: bool,
}

/// What all nodes said, by id.
#[derive(Default)]
pub(super) struct Elections(HashMap<String, Asked>);

impl Elections {
    /// Takes in how many votes a node has asked for in its life.
    pub(super) fn notice(&mut self, node: &str, votes: u64, now: Instant) {
        let before = self.0.get(node).copied();
        if before.is_none_or(|b| b.votes != votes) {
            let asked = Asked { votes, since: now, seen_to_change: before.is_some() };
            self.0.insert(node.to_string(), asked);
        }
    }

    /// For how long a node has been in no election, at the least; `None` = it never was in one. `line` is
    /// the age of its line to the master that it follows.
    fn quiet_for(&self, node: &str, line: Option<Duration>, now: Instant) -> Option<Duration> {
        let Some(asked) = self.0.get(node) else { return Some(line.unwrap_or_default()) };
        if asked.votes == 0 {
            return None;
        }
        let seen = now.saturating_duration_since(asked.since);
        // An election that is seen may have been lost, and the line is the one from before it.
        let line = line.filter(|_| !asked.seen_to_change).unwrap_or_default();
        Some(seen.max(line))
    }
}

impl RedisMover {
    /// What still has to pass until Redis would hold a new election that makes `replica` the master in the
    /// place of `master`; `None` where nothing has.
    pub(super) async fn elected_too_lately(
        &self,
        stage: &Stage,
        replica: &Node,
        master: &Node,
    ) -> Result<Option<String>, DriverError> {
        let view = stage.census.best(stage.slot);
        let others = view.iter().flat_map(|v| v.replicas_of(&master.id));
        let others = others.filter(|n| n.id != replica.id && n.health != Health::Failed);
        let lately = |node| async move { (node, self.line_and_timeout(node).await) };
        let (own, theirs) = futures::join!(self.line_and_timeout(replica), join_all(others.map(lately)));
        let (line, timeout) = own?;
        let (now, twice) = (Instant::now(), (timeout * 2).max(LEAST));
        let quiet_for = |node: &Node, line| self.elections().quiet_for(&node.id, line, now);
        let own = (replica, quiet_for(replica, line), twice * 2, 4);
        let theirs = theirs.into_iter().filter_map(|(node, said)| {
            // Whoever does not answer was not elected lately by this engine, and a vote that is refused is
            // asked for again.
            Some((node, quiet_for(node, said.ok()?.0), timeout * 2, 2))
        });
        let wait = std::iter::once(own).chain(theirs).find_map(|(node, quiet, wanted, times)| {
            let left = wanted.checked_sub(quiet?).filter(|left| !left.is_zero())?;
            Some(format!(
                "{} s until Redis holds another election: {} may have been elected {} s ago, and after that it takes {times} × cluster-node-timeout",
                left.as_millis().div_ceil(1000),
                node.address,
                quiet?.as_secs()
            ))
        });
        Ok(wait)
    }

    /// Asks a node for its elections, the age of its line to its master, and `cluster-node-timeout`.
    async fn line_and_timeout(&self, node: &Node) -> Result<(Option<Duration>, Duration), DriverError> {
        let mut ask = redis::pipe();
        ask.cmd("CLUSTER").arg("INFO");
        ask.cmd("CLIENT").arg("LIST").arg("TYPE").arg("master");
        ask.cmd("CONFIG").arg("GET").arg("cluster-node-timeout");
        let mut answers = self.nodes.ask_many(&node.address, Lane::Control, &ask).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Value::Nil);
        self.notice_votes(&node.id, next());
        let line = age_of(&text(next()));
        let timeout = match next() {
            Value::Array(pair) => pair.into_iter().nth(1).map(text),
            Value::Map(pairs) => pairs.into_iter().next().map(|(_, v)| text(v)),
            _ => None,
        };
        let timeout = timeout.and_then(|t| t.parse().ok()).map_or(NODE_TIMEOUT, Duration::from_millis);
        Ok((line, timeout))
    }

    /// Takes in the answer of `CLUSTER INFO`; an error in its place says nothing.
    pub(super) fn notice_votes(&self, node: &str, info: Value) {
        let info = text(info);
        if info.contains("cluster_state:") {
            let votes = Info::parse(&info).whole("cluster_stats_messages_auth-req_sent").unwrap_or(0);
            self.elections().notice(node, votes, Instant::now());
        }
    }
}

/// The age in whole seconds of the first line in an answer of `CLIENT LIST`.
fn age_of(clients: &str) -> Option<Duration> {
    let first = clients.lines().next()?;
    let age = first.split(' ').find_map(|field| field.strip_prefix("age="))?;
    age.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_node_that_never_asked_for_votes_was_never_elected() {
        let (mut elections, start) = (Elections::default(), Instant::now());
        elections.notice("a", 0, start);
        assert_eq!(elections.quiet_for("a", None, start), None);
    }

    #[test]
    fn a_count_that_stays_the_same_is_a_time_without_an_election() {
        let (mut elections, start) = (Elections::default(), Instant::now());
        elections.notice("a", 2, start);
        elections.notice("a", 2, start + S(30));
        assert_eq!(elections.quiet_for("a", None, start + S(70)), Some(S(70)));
        elections.notice("a", 4, start + S(80));
        assert_eq!(elections.quiet_for("a", None, start + S(81)), Some(S(1)));
    }

    #[test]
    fn a_line_to_a_master_is_younger_than_the_election_before_it_unless_one_was_seen_since() {
        let (mut elections, start) = (Elections::default(), Instant::now());
        assert_eq!(elections.quiet_for("a", Some(S(9)), start), Some(S(9)), "nothing is known but the line");
        elections.notice("a", 2, start);
        assert_eq!(elections.quiet_for("a", Some(S(9)), start), Some(S(9)));
        // It asked again and was not elected: its line is the old one.
        elections.notice("a", 4, start + S(5));
        assert_eq!(elections.quiet_for("a", Some(S(14)), start + S(6)), Some(S(1)));
    }

    #[test]
    fn the_age_of_a_line_is_read() {
        assert_eq!(age_of("id=4 addr=127.0.0.1:7101 age=17 idle=0 flags=M\n"), Some(S(17)));
        assert_eq!(age_of(""), None);
        assert_eq!(age_of("ERR no such thing"), None);
    }
}
