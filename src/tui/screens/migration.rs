//! A migration: where is it, is it well, can I still go back? The line of steps, the canary's
//! comparison of both sides, the way back, what happened.

use super::cells::step_piece;
use super::chrome::Item;
use super::tables::{gauge, migration_mark};
use crate::fleet::{MigrationId, Phase};
use crate::protocol::{MigrationView, StepState, StepView};
use crate::tui::action::Action;
use crate::tui::field::left as rest;
use crate::tui::model::Model;
use crate::tui::text::{Pane, Piece, clock_or_date, coarse};
use crate::tui::theme::Token;
use crate::tui::widgets::table::{Table, left};

/// The header of the screen.
pub fn title(model: &Model, id: MigrationId) -> Vec<Item> {
    let look = model.look();
    let dim = look[Token::Dim];
    let back = (format!("{} ", look.glyphs.back), dim);
    let Some(m) = model.chosen_migration() else {
        return vec![Item {
            pieces: vec![back, (format!("{id} is too old to be kept"), look[Token::Watch])],
            drop: 0,
        }];
    };
    let (glyph, style) = migration_mark(look, m);
    let step = m
        .canary
        .filter(|_| m.phase == Phase::Canary)
        .map(|(k, n)| format!(" {k} of {n}"))
        .unwrap_or_default();
    let mut items = vec![
        Item { pieces: vec![back, (m.id.to_string(), look[Token::Accent])], drop: 0 },
        Item::one(m.workload.to_string(), look[Token::Header], 1),
        Item::one(format!("{} {} {}", m.source, look.glyphs.arrow, m.destination), look[Token::Text], 3),
        Item::one(format!("{glyph} {}{step}", m.phase.word()), style, 0),
    ];
    match m.ended {
        Some(end) => items.push(Item::one(format!("took {}", end - m.started), dim, 5)),
        None => {
            items.push(Item::one(format!("{} so far", coarse(m.started.age(model.now()))), dim, 6));
            if let Some(left) = m.left {
                items.push(Item::one(format!("{} left", coarse(left)), dim, 5));
            }
        }
    }
    let plan: String = m.plan.chars().take(8).collect();
    items.push(Item::one(format!("by {}, plan {plan}", m.by), dim, 8));
    items
}

/// Lines that the screen would fill.
pub fn height(model: &Model, m: &MigrationView) -> u16 {
    upper_height(model, m) + m.log.len() as u16
}

fn upper_height(model: &Model, m: &MigrationView) -> u16 {
    let judge = if m.judge.is_empty() { 0 } else { m.judge.len() as u16 + 2 };
    step_lines(model, m, model.size.0).len() as u16 + judge + 6
}

/// Draws the screen.
pub fn draw(model: &Model, pane: &mut Pane<'_>) {
    let look = model.look();
    let Some(m) = model.chosen_migration() else {
        pane.put(2, 1, "Only the newest migrations are kept here; the journal has all.", look[Token::Dim]);
        return;
    };
    let (dim, text) = (look[Token::Dim], look[Token::Text]);
    let mut y = 0;
    for line in step_lines(model, m, pane.width()) {
        pane.pieces(2, y, &line);
        y += 1;
    }
    y = progress(model, m, pane, y);
    if !m.waiting.is_empty() {
        let (words, token) = match stands_still(m) {
            true => (format!("{} waits: {}", look.glyphs.suspect, m.waiting), Token::Watch),
            false => (m.waiting.clone(), Token::Dim),
        };
        y = pane.put_wrapped(2, y, &words, look[token]);
    }
    y += 1;
    if !m.judge.is_empty() {
        y = judge(model, m, pane, y) + 1;
    }
    let x = pane.put(2, y, "way back     ", dim);
    y = match (&m.can.roll_back, m.ended) {
        (_, Some(_)) => pane.put_wrapped(x, y, &format!("it has ended: {}", m.phase.word()), dim),
        (None, _) if !m.way_back.is_empty() => pane.put_wrapped(x, y, &m.way_back, text),
        (None, _) => pane.put_wrapped(x, y, "none", look[Token::Watch]),
        (Some(why), _) => pane.put_wrapped(x, y, why, look[Token::Watch]),
    };
    if !m.canary_carries.is_empty() {
        let x = pane.put(2, y, "canary       ", dim);
        y = pane.put_wrapped(x, y, &m.canary_carries, text);
    }
    y += 1;
    pane.put(2, y, "WHAT HAPPENED", look[Token::Title]);
    y += 1;
    for (at, words) in m.log.iter().skip(usize::from(model.scroll)) {
        if y >= pane.height() {
            break;
        }
        let x = pane.put(2, y, &clock_or_date(*at, model.now()), dim) + 2;
        pane.put(x, y, words, text);
        y += 1;
    }
}

/// Whether it waits for something outside of itself, rather than being at work.
pub fn stands_still(m: &MigrationView) -> bool {
    let held = matches!(m.phase, Phase::Approved | Phase::Hold | Phase::Stuck | Phase::SourceLost);
    held && !m.waiting.is_empty()
}

/// Whether it stands until a person says how it goes on.
pub fn asks(m: &MigrationView) -> bool {
    m.ended.is_none() && matches!(m.phase, Phase::Hold | Phase::Stuck)
}

/// The cut was made, and it was not made undone: the destination serves.
pub fn is_switched(m: &MigrationView) -> bool {
    let through = |s: &StepView| s.name == Phase::Redirecting.word() && s.state == StepState::Done;
    m.steps.iter().any(through)
}

/// What a person can do with it now, the safest first: key and verb.
pub fn ways_out(model: &Model, m: &MigrationView) -> Vec<(String, &'static str)> {
    let promote = if is_switched(m) { "keep" } else { "promote" };
    [
        (Action::Undo, &m.can.roll_back, "undo"),
        (Action::Resume, &m.can.resume, "resume"),
        (Action::NextStep, &m.can.step, "next step"),
        (Action::Promote, &m.can.promote, promote),
    ]
    .into_iter()
    .filter(|(_, refused, _)| refused.is_none())
    .map(|(action, _, verb)| (model.keymap.shown(action), verb))
    .filter(|(key, _)| !key.is_empty())
    .collect()
}

/// The explanation in sentences: what the engine said of it, and the keys that lead on.
pub fn why(model: &Model, m: &MigrationView, mut said: Vec<String>) -> Vec<String> {
    if m.ended.is_some() {
        return said;
    }
    let ways: Vec<String> = ways_out(model, m)
        .into_iter()
        .map(|(key, verb)| match verb {
            "keep" => format!("{key} keeps it at {}, which serves", m.destination),
            "undo" if m.way_back.is_empty() => format!("{key} undoes it"),
            "undo" => format!("{key} undoes it: {}", m.way_back),
            "resume" => format!("{key} lets it go on from where it stands"),
            "promote" => format!("{key} skips the rest of the canary; the cut follows"),
            _ => format!("{key} goes to the next canary step"),
        })
        .collect();
    said.extend(ways);
    said.extend(m.can.roll_back.iter().map(|why| format!("it cannot be undone now: {why}")));
    said
}

/// The steps with what was seen, wrapped at the width.
fn step_lines(model: &Model, m: &MigrationView, width: u16) -> Vec<Vec<Piece>> {
    let look = model.look();
    let room = usize::from(width).saturating_sub(4);
    let mut lines: Vec<Vec<Piece>> = vec![Vec::new()];
    let mut used = 0;
    for step in &m.steps {
        let (name, style) = step_piece(look, step.state, &step.name);
        let mut chars = name.chars();
        let glyph = chars.next().map(String::from).unwrap_or_default();
        let mut pieces = vec![(format!("{glyph} {}", chars.as_str()), style)];
        if !step.evidence.is_empty() {
            let style = if step.state == StepState::Failed { look[Token::Bad] } else { look[Token::Dim] };
            pieces.push((format!(" {}", step.evidence), style));
        }
        let length: usize = pieces.iter().map(|(t, _)| t.chars().count()).sum();
        if used + length > room && used > 0 {
            lines.push(Vec::new());
            used = 0;
        }
        used += length + 3;
        if let Some(line) = lines.last_mut() {
            line.extend(pieces);
            line.push(("   ".to_string(), look[Token::Text]));
        }
    }
    lines
}

fn progress(model: &Model, m: &MigrationView, pane: &mut Pane<'_>, y: u16) -> u16 {
    let look = model.look();
    if m.ended.is_some() {
        return y;
    }
    let mut x = 2;
    if let Some(part) = m.progress {
        let width = usize::from(pane.width() / 3).clamp(10, 48);
        x = pane.pieces(x, y, &gauge(look, part.get(), width)) + 1;
        x = pane.put(x, y, &part.to_string(), look[Token::Text]) + 2;
    }
    if let Some(deadline) = m.deadline {
        let words = format!("this step ends in {} at the latest", coarse(rest(deadline, model.now())));
        x = pane.put(x, y, &words, look[Token::Dim]);
    }
    if x > 2 { y + 1 } else { y }
}

fn judge(model: &Model, m: &MigrationView, pane: &mut Pane<'_>, y: u16) -> u16 {
    let look = model.look();
    let columns = [
        left("", 17, 0, 0, None),
        left("source", 14, 1, 0, None),
        left("destination", 16, 2, 0, None),
        left("verdict", 12, 2, 0, None),
    ];
    let rows = m.judge.len();
    let mut part = pane.part(0, y, pane.width(), rows as u16 + 1);
    Table { columns: &columns, offset: 0, rows, selected: None, sorted: None }.draw(
        &mut part,
        |row, column| {
            let line = &m.judge[row];
            match column {
                0 => vec![(line.what.clone(), look[Token::Dim])],
                1 => vec![(line.source.clone(), look[Token::Text])],
                2 => vec![(line.destination.clone(), look[Token::Text])],
                _ => {
                    let (glyph, token) = match line.verdict.split_whitespace().next() {
                        Some("pass") => (look.glyphs.done, Token::Good),
                        Some("fail") => (look.glyphs.failed, Token::Bad),
                        _ => (look.glyphs.unknown, Token::Watch),
                    };
                    vec![(format!("{glyph} {}", line.verdict), look[token])]
                }
            }
        },
    );
    y + rows as u16 + 1
}
