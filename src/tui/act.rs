//! Carries out an action on the model. What changes the fleet opens a confirmation and nothing else.

use std::sync::Arc;

use super::action::{Action, Kind, Reach};
use super::ask;
use super::can::{Can, can};
use super::field::ListKind;
use super::model::{Engine, Model, Popup, Screen, Tone, ZOOMS};
use super::palette::{Does, Offer};
use super::screens::{self, pulse};
use super::update::{Effect, inspect, subject};
use crate::protocol::{Command, Snapshot};

/// Carries out `action`, or says why not.
pub(super) fn act(model: &mut Model, action: Action) -> Vec<Effect> {
    if action == Action::Stop && model.looking_back().is_some() {
        // Whether there is a stop to release is a question about now.
        freeze(model);
    }
    match can(model, action) {
        Can::Yes => {}
        Can::No(why) => {
            model.say(Tone::Bad, format!("{}: {why}", action.row().name));
            return Vec::new();
        }
        Can::NotHere => {
            if action.row().reach == Reach::Change {
                model.say(Tone::Plain, format!("{}: nothing here to do that with", action.row().name));
            }
            return Vec::new();
        }
    }
    if action.row().reach == Reach::Change {
        model.popup = ask::confirmation(model, action).map(|c| Popup::Confirm(Box::new(c)));
        return Vec::new();
    }
    if let Some(kind) = action.screen() {
        return top(model, kind);
    }
    view(model, action)
}

fn view(model: &mut Model, action: Action) -> Vec<Effect> {
    let page = model.page() as isize;
    match action {
        Action::Open => return open(model),
        Action::Back => return back(model),
        Action::Up => return scroll(model, -1),
        Action::Down => return scroll(model, 1),
        Action::First => return scroll(model, isize::MIN),
        Action::Last => return scroll(model, isize::MAX),
        Action::HalfUp => return scroll(model, -(page / 2).max(1)),
        Action::HalfDown => return scroll(model, (page / 2).max(1)),
        Action::PageUp => return scroll(model, -page.max(1)),
        Action::PageDown => return scroll(model, page.max(1)),
        Action::Filter => {
            if let Some(kind) = model.list_kind() {
                model.popup = Some(Popup::Filter { before: model.list(kind).filter.clone() });
            }
        }
        Action::ClearFilter => set_filter(model, String::new()),
        Action::Sort => sort(model),
        Action::Reverse => {
            if let Some(kind) = model.list_kind() {
                let list = model.list_mut(kind);
                list.reversed = !list.reversed;
                model.refresh_list();
            }
        }
        Action::Palette => model.popup = Some(Popup::Palette { typed: String::new(), selected: 0 }),
        Action::Help => model.popup = Some(Popup::Help { scroll: 0 }),
        Action::Why => return why(model),
        Action::WhatIf => {
            return model
                .chosen_host()
                .map(|host| Effect::Look(Command::TryEvacuate { host }))
                .into_iter()
                .collect();
        }
        Action::ToProposal => {
            if let Some(id) = model.chosen_proposal().map(|p| p.id) {
                return go(model, Screen::Proposal(id));
            }
        }
        Action::Commands => {
            model.commands = !model.commands;
            model.scroll = 0;
        }
        Action::NextMetric => metric(model, 1),
        Action::PreviousMetric => metric(model, -1),
        Action::ZoomIn => model.inspected.zoom = model.inspected.zoom.saturating_sub(1),
        Action::ZoomOut => model.inspected.zoom = (model.inspected.zoom + 1).min(ZOOMS.len() - 1),
        Action::LogLess => model.log.less(),
        Action::LogMore => model.log.more(),
        Action::Copy => return copy(model),
        Action::NextTheme => wear(model, model.look + 1),
        Action::Freeze => return freeze(model),
        Action::Earlier => earlier(model),
        Action::Later => return later(model),
        Action::Mouse => {
            model.mouse = !model.mouse;
            model.say(Tone::Plain, if model.mouse { "mouse on" } else { "mouse off" });
            return vec![Effect::Mouse];
        }
        Action::Repaint => return vec![Effect::Repaint],
        Action::Suspend => match ask::suspend(model) {
            Some(confirm) => model.popup = Some(Popup::Confirm(Box::new(confirm))),
            None => return vec![Effect::Suspend],
        },
        Action::Quit => {
            if model.engine == Engine::Embedded && model.running() > 0 {
                model.popup = Some(Popup::Confirm(Box::new(ask::quit(model))));
            } else {
                return vec![Effect::Quit];
            }
        }
        _ => {}
    }
    Vec::new()
}

/// Goes to a screen; escape comes back from it.
pub(super) fn go(model: &mut Model, screen: Screen) -> Vec<Effect> {
    const DEEPEST: usize = 32;
    if *model.screen() != screen {
        if model.stack.len() >= DEEPEST {
            model.stack.remove(1);
        }
        model.stack.push(screen);
    }
    arrive(model)
}

/// Goes to one of the nine; escape leads to the pulse.
fn top(model: &mut Model, kind: Kind) -> Vec<Effect> {
    model.stack = vec![Screen::Top(Kind::Pulse)];
    if kind != Kind::Pulse {
        model.stack.push(Screen::Top(kind));
    }
    arrive(model)
}

fn arrive(model: &mut Model) -> Vec<Effect> {
    model.scroll = 0;
    model.commands = false;
    model.refresh_list();
    inspect(model)
}

fn back(model: &mut Model) -> Vec<Effect> {
    if !model.toasts.is_empty() {
        model.toasts.clear();
    }
    if model.commands {
        model.commands = false;
        return Vec::new();
    }
    if model.stack.len() > 1 {
        model.stack.pop();
        return arrive(model);
    }
    Vec::new()
}

fn open(model: &mut Model) -> Vec<Effect> {
    let s = Arc::clone(&model.snapshot);
    if let Some(next) = model.successor().map(|p| p.id) {
        model.stack.pop();
        return go(model, Screen::Proposal(next));
    }
    if *model.screen() == Screen::Top(Kind::Pulse) {
        let screen = match model.pulse.chosen() {
            Some(pulse::Row::Risk(i)) => {
                s.partitions.get(i as usize).map(|p| Screen::Partition(p.id.clone()))
            }
            Some(pulse::Row::Waiting(i)) => s.proposals.get(i as usize).map(|p| Screen::Proposal(p.id)),
            Some(pulse::Row::Moving(i) | pulse::Row::Asking(i)) => {
                s.migrations.get(i as usize).map(|m| Screen::Migration(m.id))
            }
            None => None,
        };
        return screen.map_or_else(Vec::new, |screen| go(model, screen));
    }
    let Some(kind) = model.list_kind() else { return Vec::new() };
    let Some(i) = model.list(kind).chosen() else { return Vec::new() };
    match kind {
        ListKind::Hosts => s.hosts.get(i).map_or_else(Vec::new, |h| to_host(model, h.id.as_str())),
        ListKind::Partitions => {
            s.partitions.get(i).map_or_else(Vec::new, |p| go(model, Screen::Partition(p.id.clone())))
        }
        ListKind::Workloads => {
            s.workloads.get(i).map_or_else(Vec::new, |w| go(model, Screen::Partition(w.partition.clone())))
        }
        ListKind::Proposals => {
            s.proposals.get(i).map_or_else(Vec::new, |p| go(model, Screen::Proposal(p.id)))
        }
        ListKind::Migrations => {
            s.migrations.get(i).map_or_else(Vec::new, |m| go(model, Screen::Migration(m.id)))
        }
        ListKind::Alerts => {
            let Some(alert) = s.alerts.get(i) else { return Vec::new() };
            let subject = alert.subject.clone();
            if let Some(p) = s.partitions.iter().find(|p| p.id.as_str() == subject) {
                return go(model, Screen::Partition(p.id.clone()));
            }
            if let Some(m) = s.migrations.iter().find(|m| m.id.to_string() == subject) {
                return go(model, Screen::Migration(m.id));
            }
            let text = alert.text.clone();
            model.popup = Some(Popup::Why { title: subject, sentences: vec![text] });
            Vec::new()
        }
        ListKind::Audit => Vec::new(),
    }
}

fn to_host(model: &mut Model, host: &str) -> Vec<Effect> {
    let effects = go(model, Screen::Top(Kind::Partitions));
    set_filter(model, format!("host={host}"));
    effects
}

fn set_filter(model: &mut Model, text: String) {
    if let Some(kind) = model.list_kind() {
        model.list_mut(kind).filter = text;
        model.refresh_list();
    }
}

fn sort(model: &mut Model) {
    let Some(kind) = model.list_kind() else { return };
    let fields = kind.fields().len();
    let list = model.list_mut(kind);
    list.sort = match list.sort {
        None => Some(0),
        Some(i) if i + 1 < fields => Some(i + 1),
        Some(_) => Some(0),
    };
    list.reversed = false;
    model.refresh_list();
}

/// Moves the selection, or the text where there is none.
pub(super) fn scroll(model: &mut Model, steps: isize) -> Vec<Effect> {
    let page = model.page();
    if let Some(kind) = model.list_kind() {
        let snapshot = Arc::clone(&model.snapshot);
        let list = model.list_mut(kind);
        match steps {
            isize::MIN => list.select(0, page, &snapshot),
            isize::MAX => list.select(usize::MAX, page, &snapshot),
            steps => list.step(steps, page, &snapshot),
        }
    } else if *model.screen() == Screen::Top(Kind::Pulse) {
        pulse::step(model, steps);
    } else if *model.screen() == Screen::Top(Kind::Log) {
        model.log.scroll(steps);
    } else {
        let most = i64::from(screens::most_scroll(model));
        let steps = i64::try_from(steps).unwrap_or(0).clamp(-100_000, 100_000);
        model.scroll = (i64::from(model.scroll) + steps).clamp(0, most) as u16;
    }
    Vec::new()
}

/// A click selects the row under it.
pub(super) fn click(model: &mut Model, _x: u16, y: u16) -> Vec<Effect> {
    if model.popup.is_some() {
        return Vec::new();
    }
    let page = model.page();
    if let Some(kind) = model.list_kind() {
        let first = screens::table_top(model);
        let snapshot = Arc::clone(&model.snapshot);
        let list = model.list_mut(kind);
        if y >= first && usize::from(y - first) < page {
            let at = list.offset + usize::from(y - first);
            if at < list.rows.len() {
                list.select(at, page, &snapshot);
            }
        }
    } else if *model.screen() == Screen::Top(Kind::Pulse) {
        pulse::click(model, y);
    }
    Vec::new()
}

fn metric(model: &mut Model, step: isize) {
    let count = model.inspected.detail.as_ref().map_or(0, |d| d.metrics.len());
    if count > 0 {
        let at = model.inspected.metric.min(count - 1) as isize + step;
        model.inspected.metric = at.rem_euclid(count as isize) as usize;
    }
}

fn wear(model: &mut Model, at: usize) {
    model.look = at % model.looks.len().max(1);
    let name = model.look().name.clone();
    model.say(Tone::Plain, format!("theme {name}"));
}

fn freeze(model: &mut Model) -> Vec<Effect> {
    model.frozen = !model.frozen;
    if model.frozen {
        return Vec::new();
    }
    if let Some(newest) = model.behind.take() {
        model.snapshot = newest;
        model.arrived = model.moment;
        model.refresh_list();
    }
    inspect(model)
}

/// Looks a step further back; what comes in meanwhile waits, as while frozen.
fn earlier(model: &mut Model) {
    let Some(earlier) = model.past.before(&model.snapshot) else {
        model.say(Tone::Plain, "nothing earlier is kept");
        return;
    };
    if !model.frozen {
        model.frozen = true;
        model.behind = Some(Arc::clone(&model.snapshot));
    }
    look_at(model, earlier);
}

/// Comes a step forward, in the end back to now.
fn later(model: &mut Model) -> Vec<Effect> {
    if !model.frozen {
        return Vec::new();
    }
    let newest = model.behind.as_ref().map_or(0, |newest| newest.sequence);
    match model.past.after(&model.snapshot).filter(|later| later.sequence < newest) {
        Some(later) => {
            look_at(model, later);
            Vec::new()
        }
        None => freeze(model),
    }
}

fn look_at(model: &mut Model, snapshot: Arc<Snapshot>) {
    model.snapshot = snapshot;
    model.arrived = model.moment;
    model.refresh_list();
}

fn copy(model: &mut Model) -> Vec<Effect> {
    let text = if model.screen().kind() == Kind::Proposal && model.commands {
        model
            .chosen_proposal()
            .map(|p| p.moves.iter().flat_map(|m| m.commands.clone()).collect::<Vec<_>>().join("\n"))
    } else {
        subject(model)
    };
    match text {
        Some(text) => {
            let first = text.lines().next().unwrap_or_default().to_string();
            model.say(Tone::Plain, format!("copied {first}"));
            vec![Effect::Copy(text)]
        }
        None => {
            model.say(Tone::Plain, "nothing is selected to copy");
            Vec::new()
        }
    }
}

/// Explains what is chosen: from what is known here, else by asking the engine.
fn why(model: &mut Model) -> Vec<Effect> {
    if let Some(p) = model.chosen_proposal().filter(|_| model.screen().kind() != Kind::Partition) {
        let (title, sentences) = screens::proposal::why(p);
        model.popup = Some(Popup::Why { title, sentences });
        return Vec::new();
    }
    if let Some(p) = model.chosen_partition() {
        let (title, sentences) = screens::why::partition(model, p);
        model.popup = Some(Popup::Why { title, sentences });
        return Vec::new();
    }
    if *model.screen() == Screen::Top(Kind::Hosts)
        && let Some(h) = model.chosen_host_row()
    {
        let (title, sentences) = screens::why::host(model, h);
        model.popup = Some(Popup::Why { title, sentences });
        return Vec::new();
    }
    subject(model).map(|subject| Effect::Look(Command::Why { subject })).into_iter().collect()
}

/// Does what a line of the palette offers.
pub(super) fn take_offer(model: &mut Model, offer: Offer) -> Vec<Effect> {
    if let Some(why) = offer.cannot {
        model.say(Tone::Bad, format!("{}: {why}", offer.name));
        return Vec::new();
    }
    match offer.does {
        Does::Act(action) => act(model, action),
        Does::Go(screen) => go(model, screen),
        Does::Host(host) => to_host(model, &host),
        Does::Workload(name) => {
            let effects = go(model, Screen::Top(Kind::Workloads));
            set_filter(model, format!("workload={name}"));
            effects
        }
        Does::Theme(at) => {
            wear(model, at);
            Vec::new()
        }
    }
}
