//! The command line: what it offers for what was typed, best first. It names the same actions as the
//! keys do, and everything that has a name in the snapshot.

use super::action::{Action, TABLE};
use super::can::{Can, can};
use super::model::{Model, Screen};

/// What an offer does.
#[derive(Clone, PartialEq, Debug)]
pub enum Does {
    /// Runs an action.
    Act(Action),
    /// Goes to a screen.
    Go(Screen),
    /// Shows the partitions of a host.
    Host(String),
    /// Shows a workload in the footprint.
    Workload(String),
    /// Wears a theme.
    Theme(usize),
}

/// One line that is offered.
#[derive(Clone, PartialEq, Debug)]
pub struct Offer {
    /// Its name, which is completed.
    pub name: String,
    /// What it is.
    pub words: String,
    /// Why it cannot be done now.
    pub cannot: Option<String>,
    /// What it does.
    pub does: Does,
}

const MOST: usize = 50;

/// How well `name` matches `typed`: lower is better; `None` = not at all.
fn rank(name: &str, typed: &str) -> Option<usize> {
    if typed.is_empty() || name == typed {
        return Some(0);
    }
    let (name, typed) = (name.to_lowercase(), typed.to_lowercase());
    if name.starts_with(&typed) {
        return Some(1);
    }
    if let Some(at) = name.find(&typed) {
        return Some(2 + at);
    }
    // All letters in order, as far as they come.
    let mut rest = name.chars();
    let mut skipped = 0;
    for c in typed.chars() {
        skipped += rest.by_ref().position(|r| r == c)?;
    }
    Some(100 + skipped)
}

/// The offers for `typed`.
pub fn offers(model: &Model, typed: &str) -> Vec<Offer> {
    let typed = typed.trim();
    let mut found: Vec<(usize, Offer)> = Vec::new();
    let mut offer = |name: &str, bonus: usize, words: &str, cannot: Option<String>, does: Does| {
        if let Some(rank) = rank(name, typed) {
            let offer = Offer { name: name.to_string(), words: words.to_string(), cannot, does };
            found.push((rank + bonus, offer));
        }
    };
    for row in TABLE {
        let cannot = match can(model, row.action) {
            Can::Yes => None,
            Can::No(why) => Some(why),
            Can::NotHere => continue,
        };
        // Nobody looks for a way to go one row up; what is only done by keys comes last.
        let moves = Action::Up as usize..=Action::Palette as usize;
        let last = if moves.contains(&(row.action as usize)) { 50 } else { 0 };
        offer(row.name, last, row.words, cannot, Does::Act(row.action));
    }
    // The key that stopped everything releases it; who looks for that by name looks for this one.
    if model.snapshot.stopped.is_some() {
        let (words, act) = ("let go on what was stopped", Does::Act(Action::Stop));
        match can(model, Action::Stop) {
            Can::Yes => offer("release", 0, words, None, act),
            Can::No(why) => offer("release", 0, words, Some(why), act),
            Can::NotHere => {}
        }
    }
    for (i, look) in model.looks.iter().enumerate() {
        offer(&format!("theme {}", look.name), 1, "wear this theme", None, Does::Theme(i));
    }
    if !typed.is_empty() {
        let s = &model.snapshot;
        for p in s.proposals.iter() {
            offer(&p.id.to_string(), 1, &p.title, None, Does::Go(Screen::Proposal(p.id)));
        }
        for m in s.migrations.iter() {
            let words = format!("{} → {}", m.workload, m.destination);
            offer(&m.id.to_string(), 1, &words, None, Does::Go(Screen::Migration(m.id)));
        }
        for p in s.partitions.iter() {
            let does = Does::Go(Screen::Partition(p.id.clone()));
            offer(p.id.as_str(), 3, p.shown.word(), None, does);
        }
        for h in s.hosts.iter() {
            offer(h.id.as_str(), 2, "its partitions", None, Does::Host(h.id.to_string()));
        }
        for w in s.workloads.iter() {
            offer(w.id.as_str(), 4, "where it runs", None, Does::Workload(w.id.to_string()));
        }
    }
    found.sort_by_key(|(rank, _)| *rank);
    found.truncate(MOST);
    found.into_iter().map(|(_, offer)| offer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_beats_a_middle_and_a_middle_beats_letters() {
        let ranks: Vec<_> =
            ["approve", "dis-approve", "a-p-r"].iter().map(|n| rank(n, "appr").is_some()).collect();
        assert_eq!(ranks, [true, true, false]);
        assert!(rank("approve", "appr") < rank("dis-approve", "appr"));
        assert!(rank("next-step", "nst").is_some());
        assert!(rank("next-step", "xz").is_none());
    }
}
