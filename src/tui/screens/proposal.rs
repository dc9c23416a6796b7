//! A proposal: what exactly will happen if I press `a`? The moves, before and after, what happens if
//! nothing is done, the canary, the way back, what was not chosen, the risks.

use super::cells::{in_time, percent, short_partition, takes, window_name};
use super::chrome::Item;
use crate::fleet::{Bytes, Span};
use crate::protocol::{MoveView, ProposalView};
use crate::tui::action::Action;
use crate::tui::field::left as rest;
use crate::tui::model::{Model, Screen};
use crate::tui::text::{Pane, Piece, coarse, wrap};
use crate::tui::theme::{Look, Token};
use crate::tui::widgets::table::{Table, left, right};

/// The header of the screen.
pub fn title(model: &Model) -> Vec<Item> {
    let look = model.look();
    let dim = look[Token::Dim];
    let back = (format!("{} ", look.glyphs.back), dim);
    let Some(p) = model.chosen_proposal() else {
        return vec![Item {
            pieces: vec![back, ("no such proposal any more".into(), look[Token::Watch])],
            drop: 0,
        }];
    };
    let name = if *model.screen() == Screen::WhatIf { "what if".to_string() } else { p.id.to_string() };
    let mut items = vec![
        Item { pieces: vec![back, (name, look[Token::Accent])], drop: 0 },
        Item::one(p.title.clone(), look[Token::Header], 1),
    ];
    let plan: String = p.plan.chars().take(8).collect();
    items.push(Item { pieces: vec![("plan ".into(), dim), (plan, look[Token::Text])], drop: 5 });
    if p.open {
        let valid = coarse(rest(p.expires, model.now()));
        items.push(Item { pieces: vec![("valid ".into(), dim), (valid, look[Token::Text])], drop: 2 });
    } else {
        items.push(Item::one(p.status.clone(), look[Token::Watch], 1));
        if let Some(next) = model.successor() {
            let key = model.keymap.shown(Action::Open);
            items.push(Item::one(format!("{key}: {}", next.id), look[Token::Accent], 0));
        }
    }
    items
}

/// Lines that the screen would fill.
pub fn height(model: &Model, p: &ProposalView) -> u16 {
    lines(model, p, model.size.0).len() as u16 + move_rows(model, p)
}

fn move_rows(model: &Model, p: &ProposalView) -> u16 {
    if model.commands { 0 } else { p.moves.len() as u16 + 2 }
}

/// Draws the screen.
pub fn draw(model: &Model, pane: &mut Pane<'_>) {
    let look = model.look();
    let Some(p) = model.chosen_proposal() else {
        pane.put(2, 1, "It was superseded or is too old to be kept.", look[Token::Dim]);
        return;
    };
    let lines = lines(model, p, pane.width());
    let scroll = i32::from(model.scroll);
    let top = i32::from(move_rows(model, p));
    if !model.commands {
        moves(model, p, pane);
    }
    for (i, line) in lines.iter().enumerate() {
        let y = top + i as i32 - scroll;
        if y >= 0 && y < i32::from(pane.height()) && (i as i32 >= scroll - top || model.commands) {
            pane.pieces(0, y as u16, line);
        }
    }
    let all = lines.len() as i32 + top;
    if all - scroll > i32::from(pane.height()) {
        let more = format!("{} more below", look.glyphs.down);
        pane.put_right(pane.width().saturating_sub(1), pane.height() - 1, &more, look[Token::Accent]);
    }
}

fn moves(model: &Model, p: &ProposalView, pane: &mut Pane<'_>) {
    let look = model.look();
    let skip = usize::from(model.scroll).min(p.moves.len());
    if skip > 0 && usize::from(model.scroll) > p.moves.len() {
        return;
    }
    let columns = [
        left("workload", 14, 1, 0, None),
        left("from", 13, 1, 5, None),
        left("to", 13, 1, 0, None),
        right("data", 7, 2, None),
        right("blackout", 8, 2, None),
        right("disruption", 10, 1, None),
        right("in time", 7, 1, None),
        left("way back", 13, 2, 3, None),
        left("why there", 18, 3, 6, None),
    ];
    let rows = p.moves.len();
    let mut part = pane.part(0, 0, pane.width(), (rows - skip) as u16 + 1);
    let table = Table { columns: &columns, offset: skip, rows, selected: None, sorted: None };
    table.draw(&mut part, |row, column| move_cell(look, &p.moves[row], column));
}

fn move_cell(look: &Look, m: &MoveView, column: usize) -> Vec<Piece> {
    let (text, dim) = (look[Token::Text], look[Token::Dim]);
    match column {
        0 => vec![(m.workload.to_string(), look[Token::Title])],
        1 => vec![(m.source.to_string(), dim)],
        2 => {
            vec![(format!("{} ", look.glyphs.arrow), dim), (short_partition(&m.destination, &m.source), text)]
        }
        3 => vec![(m.data.to_string(), text)],
        4 => vec![(format!("~{}", m.blackout), text)],
        5 => {
            let word = match m.disruption {
                d if d < 15.0 => "low",
                d if d < 45.0 => "med",
                _ => "high",
            };
            let style = if m.disruption >= 45.0 { look[Token::Watch] } else { text };
            vec![(format!("{word} {:3.0}", m.disruption), style)]
        }
        6 => match m.in_time {
            Some(t) => {
                vec![(t.to_string(), if t.get() < 0.8 { look[Token::Watch] } else { look[Token::Good] })]
            }
            None => vec![(look.glyphs.dash.to_string(), dim)],
        },
        7 => {
            let style = if m.way_back == "none" { look[Token::Watch] } else { text };
            vec![(m.way_back.clone(), style)]
        }
        _ => vec![(m.because.clone(), dim)],
    }
}

const LABEL: usize = 13;

/// A labelled text over as many lines as it needs.
fn labelled(look: &Look, out: &mut Vec<Vec<Piece>>, label: &str, text: &str, width: u16, token: Token) {
    let room = usize::from(width).saturating_sub(LABEL + 3);
    for (i, line) in wrap(text, room).into_iter().enumerate() {
        let label = if i == 0 { label } else { "" };
        out.push(vec![(format!("  {label:<LABEL$}"), look[Token::Dim]), (line, look[token])]);
    }
}

fn lines(model: &Model, p: &ProposalView, width: u16) -> Vec<Vec<Piece>> {
    let look = model.look();
    if model.commands {
        return command_lines(look, p, width);
    }
    let mut out = Vec::new();
    let small = model.size.1 < 30;
    if let Some(why) = &p.blocked {
        labelled(look, &mut out, "blocked", &format!("{} {why}", look.glyphs.fenced), width, Token::Watch);
    }
    labelled(look, &mut out, "because", &p.trigger, width, Token::Text);
    for text in &p.difference {
        labelled(look, &mut out, "changed", text, width, Token::Watch);
    }
    if !small {
        out.push(Vec::new());
    }
    before_after(model, p, width, &mut out);
    if !small {
        out.push(Vec::new());
    }
    let data: Bytes = p.moves.iter().map(|m| m.data).sum();
    let sure =
        in_time(p).map(|t| format!(", off before the failure with {}", percent(look, t))).unwrap_or_default();
    let takes = format!("{} moves, {data}, about {}{sure}", p.moves.len(), takes(p));
    labelled(look, &mut out, "takes", &takes, width, Token::Text);
    labelled(look, &mut out, "way back", &p.way_back, width, Token::Text);
    for risk in &p.risks {
        labelled(look, &mut out, "risk", &format!("{} {risk}", look.glyphs.suspect), width, Token::Watch);
    }
    let steps: Vec<String> =
        p.canary.iter().map(|(share, span)| format!("{share} {}", brief(*span))).collect();
    let arrow = format!(" {} ", look.glyphs.arrow);
    let tried = if steps.is_empty() { String::new() } else { format!(": {}", steps.join(&arrow)) };
    let words = format!("{}{tried}; then watched {}", p.canary_carries, brief(p.soak));
    labelled(look, &mut out, "canary", &words, width, Token::Text);
    for (i, (candidate, why)) in p.rejected.iter().enumerate() {
        let label = if i == 0 { "not chosen" } else { "" };
        labelled(look, &mut out, label, &format!("{candidate}: {why}"), width, Token::Dim);
    }
    out
}

/// A span without the seconds where it has none: `2 m`, `45 s`.
fn brief(span: Span) -> String {
    if span.0 % 3_600_000 == 0 && span.0 > 0 {
        format!("{} h", span.0 / 3_600_000)
    } else if span.0 % 60_000 == 0 && span.0 > 0 {
        window_name(span)
    } else {
        span.to_string()
    }
}

/// What the fleet is like before and after, beside what happens if nothing is done.
fn before_after(model: &Model, p: &ProposalView, width: u16, out: &mut Vec<Vec<Piece>>) {
    let look = model.look();
    let (dim, text) = (look[Token::Dim], look[Token::Text]);
    const NAME: usize = 26;
    const VALUE: usize = 9;
    let side = usize::from(width) >= 100;
    let mut rows: Vec<Vec<Piece>> = vec![vec![
        (format!("  {:NAME$}", ""), dim),
        (format!("{:>VALUE$}", "before"), look[Token::Title]),
        (format!("{:>VALUE$}", "after"), look[Token::Title]),
    ]];
    let better = if p.risk.1 < p.risk.0 { look[Token::Good] } else { look[Token::Watch] };
    rows.push(vec![
        (format!("  {:<NAME$}", "workloads expected lost"), dim),
        (format!("{:>VALUE$.2}", p.risk.0), text),
        (format!("{:>VALUE$.2}", p.risk.1), better),
    ]);
    for (host, before, after) in &p.loads {
        let style = if *after >= 0.8 { look[Token::Watch] } else { text };
        rows.push(vec![
            (format!("  {:<NAME$}", format!("load of {host}")), dim),
            (format!("{:>7.0} %", before * 100.0), text),
            (format!("{:>7.0} %", after * 100.0), style),
        ]);
    }
    if p.if_nothing.is_empty() {
        out.append(&mut rows);
        return;
    }
    if !side {
        out.append(&mut rows);
        labelled(look, out, "if nothing", &p.if_nothing, width, Token::Text);
        return;
    }
    let at = 2 + NAME + 2 * VALUE;
    let room = usize::from(width).saturating_sub(at + 6);
    let mut nothing = vec![("IF NOTHING IS DONE".to_string(), look[Token::Title])];
    nothing.extend(wrap(&p.if_nothing, room).into_iter().map(|line| (line, text)));
    for i in 0..rows.len().max(nothing.len()) {
        let mut row = rows.get(i).cloned().unwrap_or_else(|| vec![(" ".repeat(at), dim)]);
        if let Some(piece) = nothing.get(i) {
            row.push(("     ".to_string(), dim));
            row.push(piece.clone());
        }
        out.push(row);
    }
}

fn command_lines(look: &Look, p: &ProposalView, width: u16) -> Vec<Vec<Piece>> {
    let mut out = vec![vec![("  EXACT COMMANDS".to_string(), look[Token::Title])]];
    for (n, m) in p.moves.iter().enumerate() {
        out.push(vec![
            (format!("  {} ", n + 1), look[Token::Dim]),
            (m.workload.to_string(), look[Token::Accent]),
            (format!("  {} {} {}", m.source, look.glyphs.arrow, m.destination), look[Token::Dim]),
        ]);
        if m.commands.is_empty() {
            out.push(vec![("    the driver names no commands".to_string(), look[Token::Dim])]);
        }
        for command in &m.commands {
            // What the driver moves in stays moved in; what goes on in the next line is moved in further.
            let deep = 4 + command.len() - command.trim_start().len();
            for (n, line) in wrap(command, usize::from(width).saturating_sub(deep + 4)).iter().enumerate() {
                let deep = if n == 0 { deep } else { deep + 2 };
                out.push(vec![(format!("{:deep$}{line}", ""), look[Token::Text])]);
            }
        }
        out.push(Vec::new());
    }
    out
}

/// The explanation in sentences, for the popup.
pub fn why(p: &ProposalView) -> (String, Vec<String>) {
    let mut says = vec![p.trigger.clone()];
    says.extend(p.blocked.iter().map(|why| format!("it cannot be approved now: {why}")));
    says.extend(p.moves.iter().map(|m| format!("{} to {}: {}", m.workload, m.destination, m.because)));
    says.extend(p.rejected.iter().map(|(candidate, why)| format!("not {candidate}: {why}")));
    (format!("{} {}", p.id, p.title), says)
}
