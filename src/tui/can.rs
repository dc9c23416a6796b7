//! Whether an action is possible now, and if not, why not: the footer greys it, help says why, the
//! key answers with the reason.

use super::action::{Action, Kind, Reach};
use super::model::{Model, Screen};
use super::text::coarse;
use crate::fleet::ShownState;
use crate::protocol::{Mode, ProposalView, Role};

/// Whether an action is possible.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Can {
    /// Yes.
    Yes,
    /// Not now, because.
    No(String),
    /// There is nothing here that it could act on.
    NotHere,
}

/// Whether `action` is possible now.
pub fn can(model: &Model, action: Action) -> Can {
    let row = action.row();
    if !row.on.has(model.screen().kind()) {
        return Can::NotHere;
    }
    let here = target(model, action);
    if here != Can::Yes {
        return here;
    }
    if row.reach == Reach::Change {
        if model.snapshot.mode == Mode::ReadOnly {
            return Can::No("this engine is read-only".to_string());
        }
        let needed = if action == Action::ChangeMode { Role::Admin } else { Role::Operator };
        if model.actor.role < needed {
            let (needed, is) = (role(needed), role(model.actor.role));
            return Can::No(format!("this needs the role {needed}; {} is {is}", model.actor.name));
        }
        if let Some(back) = model.looking_back().filter(|_| action != Action::Stop) {
            let now = model.keymap.shown(Action::Freeze);
            return Can::No(format!("this is how it was {} ago: {now} shows now", coarse(back)));
        }
        if model.gone {
            return Can::No("the engine is gone".to_string());
        }
    }
    Can::Yes
}

/// A role as a word.
pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

fn some<T>(thing: Option<T>) -> Can {
    if thing.is_some() { Can::Yes } else { Can::NotHere }
}

fn unless(reason: &Option<String>) -> Can {
    reason.as_ref().map_or(Can::Yes, |why| Can::No(why.clone()))
}

/// Whether there is something to act on, and whether that thing allows it.
fn target(model: &Model, action: Action) -> Can {
    match action {
        Action::Approve | Action::Reject => {
            model.chosen_proposal().map_or(Can::NotHere, |p| decide(model, p, action))
        }
        Action::Commands => some(model.chosen_proposal()),
        Action::NextStep | Action::Promote | Action::Hold | Action::Resume | Action::Undo => {
            let Some(m) = model.chosen_migration() else { return Can::NotHere };
            if m.ended.is_some() {
                return Can::No(format!("{} has ended: {}", m.id, m.phase.word()));
            }
            unless(match action {
                Action::NextStep => &m.can.step,
                Action::Promote => &m.can.promote,
                Action::Hold => &m.can.pause,
                Action::Resume => &m.can.resume,
                _ => &m.can.roll_back,
            })
        }
        Action::RevertModels => some(model.snapshot.models.way_back.as_ref()),
        Action::ToProposal => match model.chosen_proposal() {
            Some(_) => Can::Yes,
            None => Can::No("no proposal concerns this partition".to_string()),
        },
        Action::Evacuate | Action::WhatIf => some(model.chosen_host()),
        Action::Veto | Action::ReleaseVeto | Action::RecordFailure => match model.screen() {
            Screen::Top(Kind::Workloads) => some(model.chosen_workload()),
            Screen::Top(Kind::Hosts) => some(model.chosen_host()),
            _ => some(model.chosen_partition()),
        },
        Action::Decommission | Action::Recommission => retire(model, action),
        Action::Why => match model.screen() {
            Screen::Top(Kind::Workloads) => some(model.chosen_workload()),
            Screen::Top(Kind::Hosts) => some(model.chosen_host_row()),
            _ if model.chosen_partition().is_some()
                || model.chosen_proposal().is_some()
                || model.chosen_migration().is_some() =>
            {
                Can::Yes
            }
            _ => Can::NotHere,
        },
        Action::NextMetric | Action::PreviousMetric | Action::ZoomIn | Action::ZoomOut => {
            some(model.inspected.detail.as_ref().filter(|d| !d.metrics.is_empty()))
        }
        Action::Open => match model.screen() {
            Screen::Proposal(_) => some(model.successor()),
            Screen::Top(Kind::Pulse) => some(model.pulse.chosen()),
            _ => match model.list_kind() {
                Some(kind) => some(model.list(kind).chosen()),
                None => Can::NotHere,
            },
        },
        Action::Filter | Action::ClearFilter if model.list_kind().is_none() => Can::NotHere,
        _ => Can::Yes,
    }
}

/// Only what is empty goes out of service, and only what is out of it comes back.
fn retire(model: &Model, action: Action) -> Can {
    let on_hosts = *model.screen() == Screen::Top(Kind::Hosts);
    let (host, one) = (model.chosen_host(), model.chosen_partition().map(|p| p.id.clone()));
    let here: Vec<_> = model
        .snapshot
        .partitions
        .iter()
        .filter(|p| if on_hosts { Some(&p.host) == host.as_ref() } else { Some(&p.id) == one.as_ref() })
        .collect();
    let Some(first) = here.first() else { return Can::NotHere };
    let name = if on_hosts { first.host.to_string() } else { first.id.to_string() };
    let out = here.iter().all(|p| p.shown == ShownState::Decommissioned);
    let workloads: u32 = here.iter().map(|p| p.workloads).sum();
    match (action, out) {
        (Action::Decommission, true) => Can::No(format!("{name} is decommissioned")),
        (Action::Decommission, false) if workloads > 0 => {
            Can::No(format!("{name} holds work: evacuate it first"))
        }
        (Action::Recommission, false) => Can::No(format!("{name} is not decommissioned")),
        _ => Can::Yes,
    }
}

fn decide(model: &Model, proposal: &ProposalView, action: Action) -> Can {
    if *model.screen() == Screen::WhatIf {
        return Can::No("this is a what-if; propose it with e on the host".to_string());
    }
    if !proposal.open {
        return Can::No(format!("{} is decided: {}", proposal.id, proposal.status));
    }
    if action == Action::Approve {
        return unless(&proposal.blocked);
    }
    Can::Yes
}
