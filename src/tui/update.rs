//! What happens: `update` takes the model and a message and changes the model; what must be done
//! outside is returned as effects. Pure: no clock, no terminal, no engine.

use std::sync::Arc;

use super::act;
use super::action::Kind;
use super::confirm::{Answer, Confirmed};
use super::key::{Code, Key};
use super::keymap::Meaning;
use super::model::{Model, Moment, Popup, Screen, Tone};
use super::palette;
use super::terminal::input::Input;
use crate::fleet::PartitionId;
use crate::protocol::{Command, Refusal, Reply, Snapshot};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Msg {
    /// A person did something.
    Input(Input),
    /// A new snapshot.
    Snapshot(Arc<Snapshot>),
    /// The engine answered.
    Answer {
        /// What it was asked.
        asked: Box<Command>,
        /// What it said.
        said: Box<Result<Reply, Refusal>>,
    },
    /// The engine is gone for good.
    Gone,
    /// The terminal has another size: columns, rows.
    Resize(u16, u16),
    /// Time passed.
    Tick,
}

/// Something that must be done outside of the model.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Ask the engine; the question changes nothing.
    Look(Command),
    /// Ask the engine for a change that a person confirmed.
    Perform(Confirmed),
    /// Put text into the clipboard.
    Copy(String),
    /// Paint the whole screen anew.
    Repaint,
    /// Turn mouse reports on or off, as the model says.
    Mouse,
    /// Suspend to the shell.
    Suspend,
    /// End the console.
    Quit,
}

/// Takes a message.
pub fn update(model: &mut Model, msg: Msg, now: Moment) -> Vec<Effect> {
    model.moment = now;
    model.toasts.retain(|t| t.until > now);
    match msg {
        Msg::Input(Input::Key(key)) => press(model, key),
        Msg::Input(Input::Paste(text)) => paste(model, &text),
        Msg::Input(Input::Click(x, y)) => act::click(model, x, y),
        Msg::Input(Input::Scroll(_, _, lines)) => act::scroll(model, isize::from(lines)),
        Msg::Snapshot(snapshot) => take(model, snapshot),
        Msg::Answer { asked, said } => answer(model, *asked, *said),
        Msg::Gone => {
            model.gone = true;
            model.say(Tone::Bad, "the engine is gone: what is shown is the last that it said");
            Vec::new()
        }
        Msg::Resize(columns, rows) => {
            model.size = (columns, rows);
            model.refresh_list();
            vec![Effect::Repaint]
        }
        Msg::Tick => Vec::new(),
    }
}

fn take(model: &mut Model, snapshot: Arc<Snapshot>) -> Vec<Effect> {
    model.gone = false;
    model.past.keep(&snapshot);
    if model.frozen {
        model.behind = Some(snapshot);
        return Vec::new();
    }
    model.snapshot = snapshot;
    model.arrived = model.moment;
    model.refresh_list();
    inspect(model)
}

/// Asks for the partition on the screen where what is shown of it is older than the snapshot.
pub(super) fn inspect(model: &mut Model) -> Vec<Effect> {
    let Screen::Partition(id) = model.screen().clone() else { return Vec::new() };
    let same = model.inspected.id.as_ref() == Some(&id);
    if !same {
        let zoom = model.inspected.zoom;
        model.inspected = super::model::Inspected { id: Some(id.clone()), zoom, ..Default::default() };
    }
    let inspected = &mut model.inspected;
    let answered = inspected.detail.is_some() || inspected.failed.is_some();
    let fresh = answered && (model.frozen || inspected.sequence == model.snapshot.sequence);
    if inspected.asking || fresh {
        return Vec::new();
    }
    inspected.asking = true;
    inspected.sequence = model.snapshot.sequence;
    vec![Effect::Look(Command::Inspect { partition: id })]
}

fn answer(model: &mut Model, asked: Command, said: Result<Reply, Refusal>) -> Vec<Effect> {
    let inspecting = |model: &Model, id: &PartitionId| model.inspected.id.as_ref() == Some(id);
    match (asked, said) {
        (Command::Inspect { partition }, said) => {
            if inspecting(model, &partition) {
                model.inspected.asking = false;
                match said {
                    Ok(Reply::Partition { detail }) => {
                        model.inspected.detail = Some(Arc::from(detail));
                        model.inspected.failed = None;
                    }
                    Ok(_) => model.inspected.failed = Some("the engine answered something else".to_string()),
                    Err(refusal) => model.inspected.failed = Some(refusal.to_string()),
                }
            }
        }
        (Command::TryEvacuate { host }, Ok(Reply::Proposed { view, .. })) => {
            model.what_if = Some(Arc::from(view));
            model.say(Tone::Plain, format!("what if {host} were emptied: nothing was touched"));
            return act::go(model, Screen::WhatIf);
        }
        (_, Ok(Reply::Proposed { proposal, view })) => {
            model.say(Tone::Good, format!("{} proposed: {}", view.id, view.title));
            if let Some(id) = proposal {
                return act::go(model, Screen::Proposal(id));
            }
        }
        (Command::Why { subject }, Ok(Reply::Why { sentences })) => {
            let migration = model.snapshot.migrations.iter().find(|m| m.id.to_string() == subject);
            let sentences = match migration {
                Some(m) => super::screens::migration::why(model, m, sentences),
                None => sentences,
            };
            model.popup = Some(Popup::Why { title: subject, sentences });
        }
        (_, Ok(Reply::Done { said })) => model.say(Tone::Good, said),
        (_, Ok(_)) => {}
        (_, Err(refusal)) => model.say(Tone::Bad, refusal.to_string()),
    }
    Vec::new()
}

/// Pasted text goes into fields that are being typed in; it never triggers an action.
fn paste(model: &mut Model, text: &str) -> Vec<Effect> {
    let line: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    match &mut model.popup {
        Some(Popup::Palette { typed, selected }) => {
            typed.push_str(&line);
            *selected = 0;
        }
        Some(Popup::Filter { .. }) => filter(model, |f| f.push_str(&line)),
        Some(Popup::Confirm(confirm)) => confirm.paste(&line),
        _ => model.say(Tone::Plain, "pasted text is only taken where text is typed"),
    }
    Vec::new()
}

fn press(model: &mut Model, key: Key) -> Vec<Effect> {
    match model.popup.take() {
        None => command(model, key),
        Some(Popup::Confirm(mut confirm)) => match confirm.press(key, model.moment) {
            Answer::Open => {
                model.popup = Some(Popup::Confirm(confirm));
                Vec::new()
            }
            Answer::Cancelled => Vec::new(),
            Answer::Perform(confirmed) => vec![Effect::Perform(confirmed)],
            Answer::Quit => vec![Effect::Quit],
            Answer::Suspend => vec![Effect::Suspend],
        },
        Some(Popup::Filter { before }) => {
            type_filter(model, before, key);
            Vec::new()
        }
        Some(Popup::Palette { typed, selected }) => type_command(model, typed, selected, key),
        Some(Popup::Help { scroll }) => {
            let page = model.size.1.saturating_sub(6).max(1);
            let scroll = match key.code {
                Code::Char('j') | Code::Down => scroll.saturating_add(1),
                Code::Char('k') | Code::Up => scroll.saturating_sub(1),
                Code::PageDown | Code::Char(' ') => scroll.saturating_add(page),
                Code::PageUp => scroll.saturating_sub(page),
                Code::Esc | Code::Enter | Code::Char('q' | '?') | Code::F(1) => return Vec::new(),
                _ => scroll,
            };
            model.popup = Some(Popup::Help { scroll: scroll.min(super::popups::help_lines(model)) });
            Vec::new()
        }
        // Any key closes an explanation.
        Some(Popup::Why { .. }) => Vec::new(),
    }
}

/// A key on the screen itself.
fn command(model: &mut Model, key: Key) -> Vec<Effect> {
    if key.code == Code::Esc && !model.pending.is_empty() {
        model.pending.clear();
        return Vec::new();
    }
    model.pending.push(key);
    let kind = model.screen().kind();
    let mut meaning = model.keymap.meaning(&model.pending, kind);
    if meaning == Meaning::Nothing && model.pending.len() > 1 {
        // The sequence led nowhere; the last key may still mean something alone.
        model.pending = vec![key];
        meaning = model.keymap.meaning(&model.pending, kind);
    }
    match meaning {
        Meaning::Begins => {
            if key == Key::ctrl('c') {
                model.say(Tone::Plain, "press C-c again to leave");
            }
            Vec::new()
        }
        Meaning::Nothing => {
            model.pending.clear();
            Vec::new()
        }
        Meaning::Action(action) => {
            model.pending.clear();
            act::act(model, action)
        }
    }
}

/// Edits one line of text; whether the key was an edit.
fn edit(line: &mut String, key: Key) -> bool {
    match key.code {
        Code::Backspace => drop(line.pop()),
        Code::Char('u') if key.ctrl => line.clear(),
        Code::Char('w') if key.ctrl => {
            let end = line.trim_end().rfind(' ').map_or(0, |at| at + 1);
            line.truncate(end);
        }
        Code::Char(c) if !key.ctrl && !key.alt && line.chars().count() < 200 => line.push(c),
        _ => return false,
    }
    true
}

fn filter(model: &mut Model, change: impl FnOnce(&mut String)) {
    if let Some(kind) = model.list_kind() {
        change(&mut model.list_mut(kind).filter);
        model.refresh_list();
    }
}

fn type_filter(model: &mut Model, before: String, key: Key) {
    match key.code {
        Code::Enter => return,
        Code::Esc => return filter(model, |f| *f = before),
        Code::Up => drop(act::scroll(model, -1)),
        Code::Down => drop(act::scroll(model, 1)),
        _ => {
            filter(model, |f| {
                edit(f, key);
            });
        }
    }
    model.popup = Some(Popup::Filter { before });
}

fn type_command(model: &mut Model, mut typed: String, selected: usize, key: Key) -> Vec<Effect> {
    let offers = palette::offers(model, &typed);
    let last = offers.len().saturating_sub(1);
    let mut selected = selected.min(last);
    match key.code {
        Code::Esc => return Vec::new(),
        Code::Enter => {
            return match offers.into_iter().nth(selected) {
                Some(offer) => act::take_offer(model, offer),
                None => {
                    model.say(Tone::Bad, format!("nothing is called {typed}"));
                    Vec::new()
                }
            };
        }
        Code::Down => selected = (selected + 1).min(last),
        Code::Up => selected = selected.saturating_sub(1),
        Code::Tab => {
            if let Some(offer) = offers.get(selected) {
                typed = offer.name.clone();
                selected = 0;
            }
        }
        Code::Backspace if typed.is_empty() => return Vec::new(),
        _ => {
            if edit(&mut typed, key) {
                selected = 0;
            }
        }
    }
    model.popup = Some(Popup::Palette { typed, selected });
    Vec::new()
}

/// Name of the partition, workload or host that is chosen.
pub(super) fn subject(model: &Model) -> Option<String> {
    match model.screen() {
        Screen::Top(Kind::Workloads) => model.chosen_workload().map(|w| w.id.to_string()),
        Screen::Top(Kind::Hosts) => model.chosen_host().map(|h| h.to_string()),
        _ => model
            .chosen_migration()
            .map(|m| m.id.to_string())
            .or_else(|| {
                model
                    .chosen_proposal()
                    .filter(|_| model.screen().kind() != Kind::Partition)
                    .map(|p| p.id.to_string())
            })
            .or_else(|| model.chosen_partition().map(|p| p.id.to_string())),
    }
}
