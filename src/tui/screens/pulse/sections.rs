//! The sections of the pulse screen: most at risk, waiting for a decision, moving.

use super::Row;
use crate::fleet::{Bytes, ShownState, Span};
use crate::protocol::{MigrationView, ProposalView, Snapshot, StepState};
use crate::tui::field::left;
use crate::tui::model::Model;
use crate::tui::screens::cells::{
    TREND, because, chance, health, in_time, short_partition, step_piece, takes, trend_style, window_heading,
};
use crate::tui::screens::migration::{stands_still, ways_out};
use crate::tui::text::{Pane, Piece, coarse};
use crate::tui::theme::{Look, Token};
use crate::tui::widgets::sparkline::trend_line;
use crate::tui::widgets::table::{self, Column, Table, left as column, right};

pub(super) fn risk_section(model: &Model, pane: &mut Pane<'_>, y: u16, rows: &[u32], before: usize) -> u16 {
    let look = model.look();
    let s = &model.snapshot;
    let height = rows.len().max(1) as u16 + 1;
    let names: Vec<String> = (0..3).map(|w| window_heading(model, w)).collect();
    let columns = [
        column("", 1, 0, 0, None),
        column("", 18, 1, 0, None),
        right("health", 8, 0, None),
        column("trend 2 h", 12, 0, 2, None),
        right(&names[0], 7, 3, None),
        right(&names[1], 7, 0, None),
        right(&names[2], 7, 4, None),
        column("because", 14, 5, 1, None),
    ];
    let mut part = pane.part(0, y, pane.width(), height);
    let selected = model.pulse.selected.checked_sub(before).filter(|at| *at < rows.len());
    // Headings of nothing are noise.
    let columns: &[Column<'_>] = if rows.is_empty() { &[] } else { &columns };
    Table { columns, offset: 0, rows: rows.len(), selected, sorted: None }.draw(&mut part, |row, col| {
        let Some(p) = s.partitions.get(rows[row] as usize) else { return Vec::new() };
        let (glyph, style) = look.state(p.shown);
        match col {
            0 => vec![(glyph.to_string(), style)],
            1 => vec![(p.id.to_string(), look[Token::Text])],
            2 => health(look, p),
            3 => vec![(trend_line(look, &p.trend, 12, TREND.0, TREND.1), trend_style(look, p, style))],
            4..=6 => vec![chance(look, p, col - 4)],
            _ => vec![(because(p, model), look[Token::Text])],
        }
    });
    let x = part.put(2, 0, "MOST AT RISK", look[Token::Title]);
    let all = model.pulse.at_risk;
    if rows.len() < all {
        part.put(x + 1, 0, &format!("{} of {all}", rows.len()), look[Token::Watch]);
    } else if rows.is_empty() {
        let (glyph, style) = look.state(ShownState::Active);
        part.put(2, 1, glyph, style);
        part.put(4, 1, &nothing_at_risk(s), look[Token::Dim]);
    }
    y + height + 1
}

/// Within its own normal is what has at least this health; what has less and is not listed is named.
const NORMAL_HEALTH: f64 = 80.0;

/// What is said where no partition is listed: which are well without being at work, and the least healthy one where
/// it is not quite within its normal.
fn nothing_at_risk(s: &Snapshot) -> String {
    if s.partitions.is_empty() {
        return "–".to_string();
    }
    let others: Vec<String> =
        [ShownState::Migrating, ShownState::Standby, ShownState::Probation, ShownState::Decommissioned]
            .into_iter()
            .map(|state| (s.partitions.iter().filter(|p| p.shown == state).count(), state.word()))
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
    let working = s.partitions.iter().filter(|p| p.shown != ShownState::Decommissioned);
    let scores = working.filter_map(|p| Some((p.health?.get(), p)));
    let lowest = scores.min_by(|a, b| a.0.total_cmp(&b.0)).filter(|(health, _)| *health < NORMAL_HEALTH);
    let rest = match (others.is_empty(), lowest) {
        (true, None) => "every partition is within its own normal".to_string(),
        (false, None) => "every other partition is within its own normal".to_string(),
        (_, Some((health, p))) => {
            format!("none is at risk; the least healthy is {}, {health:.0} of 100", p.id)
        }
    };
    match others.is_empty() {
        true => format!("nothing: {rest}"),
        false => format!("{}; {rest}", others.join(", ")),
    }
}

const WAITING: [Column<'static>; 7] = [
    column("", 6, 0, 0, None),
    column("", 40, 2, 0, None),
    right("moves", 5, 2, None),
    right("data", 7, 3, None),
    right("takes", 7, 1, None),
    right("in time", 8, 4, None),
    right("expires", 7, 0, None),
];

pub(super) fn waiting_section(
    model: &Model,
    pane: &mut Pane<'_>,
    y: u16,
    rows: &[Row],
    before: usize,
) -> u16 {
    let look = model.look();
    let s = &model.snapshot;
    let height = rows.len().max(1) as u16 + 1;
    let mut part = pane.part(0, y, pane.width(), height);
    let selected = model.pulse.selected.checked_sub(before).filter(|at| *at < rows.len());
    let columns: &[Column<'_>] = if rows.is_empty() { &[] } else { &WAITING };
    Table { columns, offset: 0, rows: rows.len(), selected, sorted: None }.draw(&mut part, |row, col| {
        let Row::Waiting(i) = rows[row] else { return Vec::new() };
        s.proposals.get(i as usize).map_or_else(Vec::new, |p| waiting_cell(model, look, p, col))
    });
    for (at, row) in rows.iter().enumerate() {
        if let Row::Asking(i) = row
            && let Some(m) = s.migrations.get(*i as usize)
        {
            asking_row(model, &mut part, at as u16 + 1, m, selected == Some(at));
        }
    }
    part.put(2, 0, "WAITING FOR YOU", look[Token::Title]);
    if rows.is_empty() {
        let words = match model.waiting() + model.asking() {
            0 => "nothing waits for a decision".to_string(),
            n => format!("{n}: there is no room for them here"),
        };
        part.put(2, 1, &words, look[Token::Dim]);
    }
    y + height + 1
}

/// A migration that stands until a person decides: why, and the keys that are a way out of it.
fn asking_row(model: &Model, part: &mut Pane<'_>, y: u16, m: &MigrationView, selected: bool) {
    let look = model.look();
    let x = part.put(2, y, &m.id.to_string(), look[Token::Accent]).max(8) + 2;
    let keys: Vec<Piece> = ways_out(model, m)
        .into_iter()
        .flat_map(|(key, verb)| {
            [(format!("  {key} "), look[Token::Key]), (verb.to_string(), look[Token::Dim])]
        })
        .collect();
    let width: usize = keys.iter().map(|(text, _)| text.chars().count()).sum();
    let keys_at = part.width().saturating_sub(width as u16 + 1);
    let words = format!("{} {}: {}", look.glyphs.suspect, m.workload, m.waiting);
    part.put_in(x, y, keys_at.saturating_sub(x), &words, look[Token::Watch]);
    part.pieces(keys_at, y, &keys);
    if selected {
        table::select(part, y);
        part.put(0, y, look.glyphs.cursor, look[Token::Selection]);
    }
}

fn waiting_cell(model: &Model, look: &Look, p: &ProposalView, col: usize) -> table::Cell {
    let text = look[Token::Text];
    match col {
        0 => vec![(p.id.to_string(), look[Token::Accent])],
        1 => match &p.blocked {
            Some(why) => vec![
                (format!("{} ", p.title), text),
                (format!("{} {why}", look.glyphs.fenced), look[Token::Watch]),
            ],
            None => vec![(p.title.clone(), text)],
        },
        2 => vec![(p.moves.len().to_string(), text)],
        3 => match p.moves.iter().map(|m| m.data).sum::<Bytes>() {
            Bytes(0) => vec![(look.glyphs.dash.to_string(), look[Token::Dim])],
            data => vec![(data.to_string(), text)],
        },
        4 => vec![(takes(p).to_string(), text)],
        5 => match in_time(p).and_then(crate::fleet::Probability::clamped) {
            Some(t) => {
                vec![(t.to_string(), if t.get() < 0.8 { look[Token::Watch] } else { look[Token::Good] })]
            }
            None => vec![(look.glyphs.dash.to_string(), look[Token::Dim])],
        },
        _ => {
            let rest = left(p.expires, model.now());
            let style = if rest < Span::minutes(2) { look[Token::Watch] } else { look[Token::Dim] };
            vec![(coarse(rest), style)]
        }
    }
}

pub(super) fn moving_section(model: &Model, pane: &mut Pane<'_>, y: u16, rows: &[u32], before: usize) {
    let look = model.look();
    let mut part = pane.part(0, y, pane.width(), rows.len().max(1) as u16 + 1);
    part.put(2, 0, "MOVING", look[Token::Title]);
    if rows.is_empty() {
        part.put(2, 1, "nothing moves", look[Token::Dim]);
    }
    for (i, row) in rows.iter().enumerate() {
        let Some(m) = model.snapshot.migrations.get(*row as usize) else { continue };
        let y = i as u16 + 1;
        moving_row(model, &mut part, y, m);
        if model.pulse.selected == before + i {
            table::select(&mut part, y);
            part.put(0, y, look.glyphs.cursor, look[Token::Selection]);
        }
    }
}

fn moving_row(model: &Model, part: &mut Pane<'_>, y: u16, m: &MigrationView) {
    let look = model.look();
    let (text, dim) = (look[Token::Text], look[Token::Dim]);
    let mut x = part.put(2, y, &m.id.to_string(), look[Token::Accent]).max(8) + 2;
    x = part.put(x, y, m.workload.as_str(), text) + 2;
    let route = format!("{} {} {}", m.source, look.glyphs.arrow, short_partition(&m.destination, &m.source));
    x = part.put(x, y, &route, dim) + 2;
    let rest = m.left.map(|l| format!("{l} left")).unwrap_or_default();
    let right = part.width().saturating_sub(1);
    let end = part.put_right(right, y, &rest, dim).saturating_sub(2);
    if stands_still(m) {
        part.put_in(
            x,
            y,
            end.saturating_sub(x),
            &format!("{} {}", look.glyphs.suspect, m.waiting),
            look[Token::Watch],
        );
        return;
    }
    // From the running step on, with as many done before it as fit.
    let steps: Vec<Vec<Piece>> = m.steps.iter().map(|s| vec![step_piece(look, s.state, &s.name)]).collect();
    let at =
        m.steps.iter().position(|s| matches!(s.state, StepState::Running | StepState::Failed)).unwrap_or(0);
    let width = |from: usize| -> usize {
        steps[from..=at.min(steps.len().saturating_sub(1))]
            .iter()
            .flatten()
            .map(|(t, _)| t.chars().count() + 1)
            .sum()
    };
    let room = usize::from(end.saturating_sub(x));
    let from = (0..=at).find(|from| !steps.is_empty() && width(*from) <= room).unwrap_or(at);
    for pieces in steps.iter().skip(from) {
        for (piece, style) in pieces {
            if usize::from(x) + piece.chars().count() > usize::from(end) {
                return;
            }
            x = part.put(x, y, piece, *style) + 1;
        }
    }
}
