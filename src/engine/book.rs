//! The book of proposals: which wait, what became of the others. A proposal keeps its number and
//! its plan as long as the planner proposes the same moves; when these change, the old one is stale
//! and its successor shows the difference.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fleet::{MigrationId, PartitionId, ProposalId, Timestamp};
use crate::plan::{Move, Proposal, Trigger};

/// How many decided proposals are kept for the screens.
const KEPT: usize = 100;

/// What became of a proposal.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum Status {
    /// Waits for a decision.
    Waiting,
    /// Approved; its migrations run or ran.
    Approved {
        /// Who.
        by: String,
        /// When.
        at: Timestamp,
        /// What came of it.
        migrations: Vec<MigrationId>,
    },
    /// A person said no.
    Denied {
        /// Who.
        by: String,
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// The world changed under it.
    Stale {
        /// How.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// Nobody decided in time.
    Expired {
        /// When.
        at: Timestamp,
    },
}

impl Status {
    /// As the screens show it.
    pub fn words(&self) -> String {
        match self {
            Status::Waiting => "waiting".into(),
            Status::Approved { by, .. } => format!("approved by {by}"),
            Status::Denied { by, reason, .. } => format!("denied by {by}: {reason}"),
            Status::Stale { reason, .. } => format!("stale: {reason}"),
            Status::Expired { .. } => "expired".into(),
        }
    }
}

/// A proposal and what became of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The proposal.
    pub proposal: Proposal,
    /// What became of it.
    pub status: Status,
    /// For the successor of a stale one: what differs from it.
    pub difference: Vec<String>,
}

/// Something that changed in the book, for alerts, audit and automatic mode.
#[derive(Clone, PartialEq, Debug)]
pub enum BookChange {
    /// A new proposal waits.
    Opened(ProposalId),
    /// It went stale.
    Stale(ProposalId, String),
    /// It expired.
    Expired(ProposalId),
}

/// The book.
#[derive(Clone, Debug, Default)]
pub struct Book {
    entries: BTreeMap<ProposalId, Entry>,
}

/// What a proposal is about; one waits at a time.
fn subject(trigger: &Trigger) -> String {
    match trigger {
        Trigger::PredictiveFailure { partition, .. } => format!("partition {partition}"),
        Trigger::Operator { host, .. } => format!("host {host}"),
        Trigger::Footprint { .. } => "footprint".into(),
    }
}

fn same_moves(a: &[Move], b: &[Move]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            (&a.workload, &a.source, &a.destination, a.generation)
                == (&b.workload, &b.source, &b.destination, b.generation)
        })
}

/// The same workloads leave the same places at the same generations, wherever they go.
fn same_work(a: &[Move], b: &[Move]) -> bool {
    let work = |moves: &[Move]| {
        let mut all: Vec<_> =
            moves.iter().map(|m| (m.workload.clone(), m.source.clone(), m.generation)).collect();
        all.sort();
        all
    };
    work(a) == work(b)
}

/// What differs between two plans, a sentence a move.
pub fn difference(old: &Proposal, new: &Proposal) -> Vec<String> {
    let find = |moves: &[Move], m: &Move| moves.iter().find(|o| o.workload == m.workload).cloned();
    let mut out = Vec::new();
    for m in &new.moves {
        match find(&old.moves, m) {
            None => out.push(format!("+ {} {} → {}", m.workload, m.source, m.destination)),
            Some(o) if o.destination != m.destination => {
                out.push(format!("{}: to {} instead of {}", m.workload, m.destination, o.destination));
            }
            Some(o) if o.source != m.source => {
                out.push(format!("{}: now on {}, was on {}", m.workload, m.source, o.source));
            }
            Some(o) if o.generation != m.generation => {
                out.push(format!("{}: generation {} instead of {}", m.workload, m.generation, o.generation));
            }
            Some(_) => {}
        }
    }
    for o in &old.moves {
        if find(&new.moves, o).is_none() {
            out.push(format!("− {} {} → {}", o.workload, o.source, o.destination));
        }
    }
    if out.is_empty() {
        out.push("the order of the moves".into());
    }
    out
}

impl Book {
    /// A book from stored entries.
    pub fn restore(entries: impl IntoIterator<Item = Entry>) -> Self {
        Self { entries: entries.into_iter().map(|e| (e.proposal.id, e)).collect() }
    }

    /// Partitions whose proposal a person rejected since then, with who and when.
    pub fn rejected_since(&self, since: Timestamp) -> impl Iterator<Item = (&PartitionId, &str, Timestamp)> {
        self.entries.values().filter_map(move |e| match (&e.proposal.trigger, &e.status) {
            (Trigger::PredictiveFailure { partition, .. }, Status::Denied { by, at, .. }) if *at > since => {
                Some((partition, by.as_str(), *at))
            }
            _ => None,
        })
    }

    /// The entry of that number.
    pub fn get(&self, id: ProposalId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// All entries, waiting ones first (most urgent first), then the newest.
    pub fn entries(&self) -> Vec<&Entry> {
        let mut all: Vec<&Entry> = self.entries.values().collect();
        all.sort_by(|a, b| {
            let urgency = |e: &Entry| match &e.proposal.trigger {
                Trigger::PredictiveFailure { probability, .. } => probability.get(),
                Trigger::Operator { .. } => 1.0,
                Trigger::Footprint { .. } => 0.0,
            };
            let waits = |e: &Entry| e.status == Status::Waiting;
            waits(b)
                .cmp(&waits(a))
                .then(if waits(a) { urgency(b).total_cmp(&urgency(a)) } else { std::cmp::Ordering::Equal })
                .then(b.proposal.id.cmp(&a.proposal.id))
        });
        all
    }

    /// Proposals that wait.
    pub fn waiting(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|e| e.status == Status::Waiting)
    }

    /// Takes what the planner proposes now. A plan that moves the same work to destinations that
    /// are still `acceptable` keeps its number, so that it does not change under a person's eyes
    /// because another destination is a little better this minute; only what explains it is
    /// refreshed. `next_id` numbers what is new.
    pub fn refresh(
        &mut self,
        fresh: Vec<Proposal>,
        now: Timestamp,
        acceptable: impl Fn(&PartitionId) -> bool,
        mut next_id: impl FnMut() -> ProposalId,
    ) -> Vec<BookChange> {
        let mut changes = self.expire(now);
        let mut seen = Vec::new();
        for mut new in fresh {
            let about = subject(&new.trigger);
            seen.push(about.clone());
            let open = self
                .entries
                .values_mut()
                .find(|e| e.status == Status::Waiting && subject(&e.proposal.trigger) == about);
            let mut differs = Vec::new();
            if let Some(entry) = open {
                if same_moves(&entry.proposal.moves, &new.moves) {
                    explain(&mut entry.proposal, new);
                    continue;
                }
                if same_work(&entry.proposal.moves, &new.moves)
                    && entry.proposal.moves.iter().all(|m| acceptable(&m.destination))
                {
                    entry.proposal.blocked = new.blocked;
                    continue;
                }
                differs = difference(&entry.proposal, &new);
                let reason = format!("the plan changed: {}", differs.join("; "));
                entry.status = Status::Stale { reason: reason.clone(), at: now };
                changes.push(BookChange::Stale(entry.proposal.id, reason));
            }
            new.id = next_id();
            changes.push(BookChange::Opened(new.id));
            self.entries
                .insert(new.id, Entry { proposal: new, status: Status::Waiting, difference: differs });
        }
        for entry in self.entries.values_mut().filter(|e| e.status == Status::Waiting) {
            let by_prediction = matches!(
                entry.proposal.trigger,
                Trigger::PredictiveFailure { .. } | Trigger::Footprint { .. }
            );
            if by_prediction && !seen.contains(&subject(&entry.proposal.trigger)) {
                let reason = "what it was made for is no longer so".to_string();
                entry.status = Status::Stale { reason: reason.clone(), at: now };
                changes.push(BookChange::Stale(entry.proposal.id, reason));
            }
        }
        self.forget_old();
        changes
    }

    /// Takes what explains proposals that wait, as it is known now.
    pub fn explain(&mut self, looked_at: Vec<Proposal>) {
        for new in looked_at {
            if let Some(entry) = self.entries.get_mut(&new.id)
                && entry.status == Status::Waiting
            {
                explain(&mut entry.proposal, new);
            }
        }
    }

    /// Adds one proposal that a person asked for.
    pub fn add(&mut self, proposal: Proposal) {
        let about = subject(&proposal.trigger);
        for entry in self.entries.values_mut() {
            if entry.status == Status::Waiting && subject(&entry.proposal.trigger) == about {
                entry.status =
                    Status::Stale { reason: format!("replaced by {}", proposal.id), at: proposal.made };
            }
        }
        self.entries.insert(proposal.id, Entry { proposal, status: Status::Waiting, difference: Vec::new() });
    }

    /// Writes down a decision or another change of status.
    pub fn decide(&mut self, id: ProposalId, status: Status) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.status = status;
        }
    }

    fn expire(&mut self, now: Timestamp) -> Vec<BookChange> {
        let mut changes = Vec::new();
        for (id, entry) in &mut self.entries {
            if entry.status == Status::Waiting && entry.proposal.expires <= now {
                entry.status = Status::Expired { at: now };
                changes.push(BookChange::Expired(*id));
            }
        }
        changes
    }

    fn forget_old(&mut self) {
        let decided: Vec<ProposalId> =
            self.entries.values().filter(|e| e.status != Status::Waiting).map(|e| e.proposal.id).collect();
        for id in decided.iter().take(decided.len().saturating_sub(KEPT)) {
            self.entries.remove(id);
        }
    }
}

/// Refreshes what explains a proposal; what its hash covers stays.
fn explain(old: &mut Proposal, new: Proposal) {
    old.outlook = new.outlook;
    old.rejected = new.rejected;
    old.risks = new.risks;
    old.blocked = new.blocked;
    for (old, new) in old.moves.iter_mut().zip(new.moves) {
        old.in_time = new.in_time;
        old.disruption = new.disruption;
        old.duration = new.duration;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::Capabilities;
    use crate::fleet::{Bytes, Generation, Probability, Revision, Span};
    use crate::plan::{CanaryPlan, Outlook};

    fn proposal(to: &str, made: i64) -> Proposal {
        Proposal {
            id: ProposalId(0),
            trigger: Trigger::PredictiveFailure {
                partition: "h1/p1".into(),
                within: Span::hours(1),
                probability: Probability::MAX,
            },
            title: "evacuate h1/p1".into(),
            moves: vec![Move {
                workload: "w1".into(),
                class: "sim".into(),
                source: "h1/p1".into(),
                destination: to.into(),
                generation: Generation(1),
                because: String::new(),
                data: Bytes(1),
                duration: Span::seconds(1),
                blackout: Span::ZERO,
                disruption: 0.0,
                capabilities: Capabilities::default(),
                in_time: None,
            }],
            canary: CanaryPlan::default(),
            soak: Span::ZERO,
            made: Timestamp(made),
            expires: Timestamp(made + 1000),
            topology: Revision(1),
            outlook: Outlook::default(),
            rejected: Vec::new(),
            risks: Vec::new(),
            blocked: None,
        }
    }

    fn numbers() -> impl FnMut() -> ProposalId {
        let mut n = 0;
        move || {
            n += 1;
            ProposalId(n)
        }
    }

    #[tokio::test]
    async fn what_a_person_has_rejected_is_not_proposed_again_after_a_restart_either() {
        use crate::engine::core::{Core, PROPOSALS};
        use crate::engine::{Parts, test_parts};
        use crate::state::{MemoryStore, Op, Store, Txn};

        let store: std::sync::Arc<dyn Store> = std::sync::Arc::new(MemoryStore::new());
        let at = Timestamp(Span::days(20_000).0);
        let status = Status::Denied { by: "eve".into(), reason: "release day".into(), at };
        let proposal = proposal("h2/p1", at.0);
        let trigger = proposal.trigger.clone();
        let entry = Entry { proposal, status, difference: Vec::new() };
        let op = Op::Put(format!("{PROPOSALS}000000000001"), serde_json::to_vec(&entry).unwrap());
        store.txn(Txn { compares: Vec::new(), ops: vec![op] }).await.unwrap();
        for (since, held) in [(Span::minutes(1), true), (Span::days(1), false)] {
            let parts = Parts { store: store.clone(), ..test_parts::parts(at + since) };
            let core = Core::start(parts, at + since).await.unwrap();
            assert_eq!(core.is_denied(&trigger), held, "{since} after it");
        }
    }

    #[test]
    fn the_same_moves_keep_number_and_plan() {
        let (mut book, mut next) = (Book::default(), numbers());
        book.refresh(vec![proposal("h2/p1", 0)], Timestamp(0), |_| false, &mut next);
        let before = book.get(ProposalId(1)).unwrap().proposal.hash();
        let mut again = proposal("h2/p1", 500);
        again.outlook.if_nothing = "worse".into();
        assert!(book.refresh(vec![again], Timestamp(500), |_| false, &mut next).is_empty());
        let entry = book.get(ProposalId(1)).unwrap();
        assert_eq!(entry.proposal.hash(), before, "an explanation does not change the plan");
        assert_eq!(entry.proposal.outlook.if_nothing, "worse");
    }

    #[test]
    fn a_changed_plan_is_stale_and_its_successor_shows_the_difference() {
        let (mut book, mut next) = (Book::default(), numbers());
        book.refresh(vec![proposal("h2/p1", 0)], Timestamp(0), |_| false, &mut next);
        book.refresh(vec![proposal("h3/p1", 10)], Timestamp(10), |_| false, &mut next);
        assert!(matches!(book.get(ProposalId(1)).unwrap().status, Status::Stale { .. }));
        let successor = book.get(ProposalId(2)).unwrap();
        assert_eq!(successor.difference, ["w1: to h3/p1 instead of h2/p1"]);
    }

    #[test]
    fn a_plan_does_not_change_under_a_persons_eyes_while_its_destination_is_well() {
        let (mut book, mut next) = (Book::default(), numbers());
        book.refresh(vec![proposal("h2/p1", 0)], Timestamp(0), |_| true, &mut next);
        assert!(book.refresh(vec![proposal("h3/p1", 10)], Timestamp(10), |_| true, &mut next).is_empty());
        assert_eq!(book.get(ProposalId(1)).unwrap().status, Status::Waiting);
    }

    #[test]
    fn nobody_can_approve_what_expired_or_is_no_longer_so() {
        let (mut book, mut next) = (Book::default(), numbers());
        book.refresh(vec![proposal("h2/p1", 0)], Timestamp(0), |_| false, &mut next);
        let changes = book.refresh(Vec::new(), Timestamp(10), |_| false, &mut next);
        assert!(matches!(changes[..], [BookChange::Stale(ProposalId(1), _)]));
        book.refresh(vec![proposal("h2/p1", 20)], Timestamp(20), |_| false, &mut next);
        let changes = book.refresh(vec![proposal("h2/p1", 2000)], Timestamp(2000), |_| false, &mut next);
        assert_eq!(changes[0], BookChange::Expired(ProposalId(2)));
        assert_eq!(changes[1], BookChange::Opened(ProposalId(3)));
    }
}
