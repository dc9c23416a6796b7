//! What frames every screen: the header (where am I, is the data live, who may do what), the footer
//! (what can I do here), the messages above it.

use ratatui::style::{Modifier, Style};
use unicode_width::UnicodeWidthStr;

use crate::fleet::Span;
use crate::protocol::{Mode, Severity};
use crate::tui::action::{Action, Reach, TABLE};
use crate::tui::can::{Can, can};
use crate::tui::field::left;
use crate::tui::model::{Model, Screen, Tone};
use crate::tui::screens::{migration, partition, proposal};
use crate::tui::text::{Pane, Piece, clip, coarse};
use crate::tui::theme::Token;

/// One thing in the header; those that matter least are left out first.
pub struct Item {
    /// Its pieces.
    pub pieces: Vec<Piece>,
    /// 0 is always shown.
    pub drop: u8,
}

impl Item {
    /// An item of one piece.
    pub fn one(text: impl Into<String>, style: Style, drop: u8) -> Item {
        Item { pieces: vec![(text.into(), style)], drop }
    }

    fn width(&self) -> usize {
        self.pieces.iter().map(|(text, _)| text.width()).sum()
    }
}

const GAP: usize = 3;

/// Draws `left` from the left and `right` to the right, leaving out what does not fit.
pub fn bar(pane: &mut Pane<'_>, y: u16, mut left: Vec<Item>, mut right: Vec<Item>) {
    let width = usize::from(pane.width()).saturating_sub(2);
    let total = |items: &[Item]| items.iter().map(|i| i.width() + GAP).sum::<usize>();
    while total(&left) + total(&right) > width + GAP {
        let worst = |items: &[Item]| {
            items.iter().enumerate().map(|(i, item)| (item.drop, i)).filter(|(d, _)| *d > 0).max()
        };
        match (worst(&left), worst(&right)) {
            (Some(a), Some(b)) if a.0 >= b.0 => drop(left.remove(a.1)),
            (Some(a), None) => drop(left.remove(a.1)),
            (_, Some(b)) => drop(right.remove(b.1)),
            (None, None) => break,
        }
    }
    let mut x = pane.width().saturating_sub(1) + GAP as u16;
    for item in right.iter().rev() {
        x = x.saturating_sub((item.width() + GAP) as u16);
        pane.pieces(x, y, &item.pieces);
    }
    let limit = if right.is_empty() { pane.width() } else { x.saturating_sub(1) };
    let mut at = 1;
    for item in &left {
        for (text, style) in &item.pieces {
            at = pane.put_in(at, y, limit.saturating_sub(at), text, *style);
        }
        at += GAP as u16;
    }
}

/// The header: the fleet's on the nine screens, the thing's own on the others.
pub fn header(model: &Model, pane: &mut Pane<'_>) {
    let (left, right) = match model.screen() {
        Screen::Top(_) => (fleet(model), counts(model)),
        Screen::Partition(id) => (partition::title(model, id), state(model)),
        Screen::Proposal(_) | Screen::WhatIf => (proposal::title(model), state(model)),
        Screen::Migration(id) => (migration::title(model, *id), state(model)),
    };
    bar(pane, 0, left, right);
    pane.rule(1);
}

/// On the screen of one thing: may anything happen, is the data live, is this now.
fn state(model: &Model) -> Vec<Item> {
    let mut items = vec![mode(model), data(model)];
    items.extend(not_now(model));
    items
}

/// Why what is shown is not how things are now.
fn not_now(model: &Model) -> Option<Item> {
    let look = model.look();
    let key = |action| model.keymap.shown(action);
    if model.gone {
        return Some(Item::one("engine gone", look[Token::Bad], 0));
    }
    if let Some(back) = model.looking_back() {
        let (earlier, later, now) = (key(Action::Earlier), key(Action::Later), key(Action::Freeze));
        let text = format!("{} AGO ({earlier} {later}, {now} now)", coarse(back));
        return Some(Item::one(text, look[Token::Watch].add_modifier(Modifier::REVERSED), 0));
    }
    if model.frozen {
        return Some(Item::one(format!("FROZEN ({})", key(Action::Freeze)), look[Token::Watch], 0));
    }
    let silent = model.silent_for();
    (silent >= 30_000).then(|| {
        Item::one(format!("engine silent {}", coarse(Span::millis(silent as i64))), look[Token::Watch], 0)
    })
}

fn fleet(model: &Model) -> Vec<Item> {
    let s = &model.snapshot;
    let look = model.look();
    let dim = look[Token::Dim];
    let mut items = vec![
        Item::one("foreshift", look[Token::Accent].add_modifier(Modifier::BOLD), 6),
        Item::one(s.fleet_name.clone(), look[Token::Header], 2),
        mode(model),
    ];
    if s.leader.is_empty() {
        items.push(Item::one("no leader", look[Token::Watch], 1));
    } else {
        items.push(Item {
            pieces: vec![("leader ".into(), dim), (s.leader.clone(), look[Token::Text])],
            drop: 7,
        });
    }
    items.push(data(model));
    if let Some(item) = not_now(model) {
        items.push(item);
    } else if s.data.failing.is_none() {
        let next = left(s.next_cycle, model.now());
        let words = if next.0 < 1000 { "now".to_string() } else { next.to_string() };
        items.push(Item { pieces: vec![("next cycle ".into(), dim), (words, look[Token::Text])], drop: 8 });
    }
    items
}

fn mode(model: &Model) -> Item {
    let s = &model.snapshot;
    let look = model.look();
    let mut pieces = vec![match s.mode {
        Mode::ReadOnly => (s.mode.word().to_string(), look[Token::Unknown]),
        Mode::Advise => (s.mode.word().to_string(), look[Token::Accent]),
        Mode::Auto => (s.mode.word().to_string(), look[Token::Watch]),
    }];
    if s.stopped.is_some() {
        pieces.push((format!(" {} STOPPED", look.glyphs.failing), look[Token::Bad]));
    } else if s.frozen.is_some() {
        pieces.push((format!(" {} auto held", look.glyphs.suspect), look[Token::Watch]));
    }
    Item { pieces, drop: 0 }
}

fn data(model: &Model) -> Item {
    let s = &model.snapshot;
    let look = model.look();
    if let Some((why, _)) = &s.data.failing {
        let why = clip(why, 32, look.glyphs.ellipsis).into_owned();
        // Ages tick by the minute, and the next try is on screen 9: a source that stays away is
        // no reason to write to the terminal all the time.
        let age =
            s.data.newest.map_or("none".to_string(), |at| format!("{} old", coarse(at.age(model.now()))));
        let text = format!("{} data {age}: {why}", look.glyphs.failing);
        return Item::one(text, look[Token::Bad], 0);
    }
    let Some(newest) = s.data.newest else { return Item::one("no data yet", look[Token::Watch], 0) };
    let old = newest.age(model.now());
    let style = if old > Span::minutes(2) { look[Token::Watch] } else { look[Token::Text] };
    Item { pieces: vec![("data ".into(), look[Token::Dim]), (coarse(old), style)], drop: 0 }
}

fn counts(model: &Model) -> Vec<Item> {
    let look = model.look();
    let s = &model.snapshot;
    let mut items = Vec::new();
    let mut count = |n: usize, one: &str, many: &str, style: Style| {
        if n > 0 {
            items.push(Item::one(format!("{n} {}", if n == 1 { one } else { many }), style, 5));
        }
    };
    count(model.waiting(), "proposal", "proposals", look[Token::Accent]);
    count(model.asking(), "asks", "ask", look[Token::Watch]);
    count(model.running(), "moving", "moving", look[Token::Moving]);
    let mut pieces = Vec::new();
    for severity in [Severity::Critical, Severity::Warning, Severity::Info] {
        let n = s.alerts.iter().filter(|a| a.severity == severity).count();
        if n == 0 {
            continue;
        }
        let (glyph, _, style) = look.severity(severity);
        let style = if severity == Severity::Info { look[Token::Dim] } else { style };
        let gap = if pieces.is_empty() { "" } else { " " };
        pieces.push((format!("{gap}{glyph} {n}"), style));
    }
    if !pieces.is_empty() {
        items.push(Item { pieces, drop: 4 });
    }
    items
}

/// The footer: what can be done here, what cannot is greyed; messages stand above it.
pub fn footer(model: &Model, pane: &mut Pane<'_>) {
    let y = pane.height() - 1;
    pane.rule(y - 1);
    toasts(model, pane, y - 1);
    let look = model.look();
    let mut x = 1;
    if !model.pending.is_empty() {
        let keys: Vec<String> = model.pending.iter().map(|k| k.to_string()).collect();
        x = pane.put(x, y, &format!("{} … ", keys.join(" ")), look[Token::Accent]);
    }
    // Help and back are always there; the rest as far as there is room.
    let always = [Action::Back, Action::Stop, Action::Help];
    // Where nothing can ever be changed, nothing that changes is offered; help says why.
    let offered = |action: Action| model.snapshot.mode != Mode::ReadOnly || action.row().reach == Reach::View;
    let tail: Vec<Piece> = always
        .into_iter()
        .filter(|a| offered(*a))
        .filter(|a| *a != Action::Back || model.stack.len() > 1 || model.commands)
        .flat_map(|a| entry(model, a, matches!(can(model, a), Can::No(_))))
        .collect();
    let tail_width: usize = tail.iter().map(|(t, _)| t.width()).sum();
    let limit = usize::from(pane.width()).saturating_sub(tail_width + 1);
    let entries = TABLE
        .iter()
        .filter(|row| !row.short.is_empty() && !always.contains(&row.action) && offered(row.action))
        .filter_map(|row| match can(model, row.action) {
            Can::Yes => Some((entry(model, row.action, false), false)),
            Can::No(_) => Some((entry(model, row.action, true), true)),
            Can::NotHere => None,
        });
    for pieces in fitting(entries.collect(), limit.saturating_sub(usize::from(x))) {
        x = pane.pieces(x, y, &pieces);
    }
    pane.pieces(x, y, &tail);
}

/// What fits of the entries, each with whether it is greyed: what can be done now comes before what cannot, the
/// earlier before the later.
fn fitting(entries: Vec<(Vec<Piece>, bool)>, mut room: usize) -> Vec<Vec<Piece>> {
    let mut kept = vec![false; entries.len()];
    for greyed in [false, true] {
        for (i, (pieces, _)) in entries.iter().enumerate().filter(|(_, (_, is))| *is == greyed) {
            let width: usize = pieces.iter().map(|(t, _)| t.width()).sum();
            kept[i] = width <= room;
            room -= if kept[i] { width } else { 0 };
        }
    }
    entries.into_iter().zip(kept).filter_map(|((pieces, _), kept)| kept.then_some(pieces)).collect()
}

fn entry(model: &Model, action: Action, disabled: bool) -> Vec<Piece> {
    let look = model.look();
    let key = model.keymap.shown(action);
    if key.is_empty() {
        return Vec::new();
    }
    let short = if action == Action::Stop && model.snapshot.stopped.is_some() {
        "release stop"
    } else {
        action.row().short
    };
    let (key_style, style) = if disabled {
        (look[Token::Disabled], look[Token::Disabled])
    } else {
        (look[Token::Key], look[Token::Dim])
    };
    let gap = if model.size.0 < 100 { "  " } else { "   " };
    vec![(key, key_style), (format!(" {short}{gap}"), style)]
}

fn toasts(model: &Model, pane: &mut Pane<'_>, bottom: u16) {
    for (i, toast) in model.toasts.iter().rev().enumerate() {
        let Some(y) = bottom.checked_sub(i as u16) else { return };
        let look = model.look();
        let (glyph, token) = match toast.tone {
            Tone::Good => (look.glyphs.done, Token::Good),
            Tone::Plain => (look.glyphs.info, Token::Accent),
            Tone::Bad => (look.glyphs.failed, Token::Bad),
        };
        let blank = " ".repeat(usize::from(pane.width()));
        pane.put(0, y, &blank, look[Token::Popup]);
        let popup = look[Token::Popup];
        let x = pane.put(1, y, glyph, popup.patch(Style { bg: None, ..look[token] }));
        pane.put_in(x + 1, y, pane.width().saturating_sub(x + 2), &toast.text, popup);
    }
}
