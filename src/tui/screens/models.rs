//! Screen 9: open alerts, the state of the data, which models speak.

use super::tables::{self, ago};
use crate::tui::field::ListKind;
use crate::tui::model::Model;
use crate::tui::text::{Pane, clock_or_date, short_number, wrap};
use crate::tui::theme::{Look, Token};
use crate::tui::widgets::table::{Cell, Column, left};

/// Rows for the table of alerts.
pub fn alert_rows(model: &Model, body: u16) -> u16 {
    let wanted = (model.snapshot.alerts.len() as u16).clamp(1, 200);
    wanted.min((body / 2).saturating_sub(2)).max(1)
}

pub(super) fn columns() -> Vec<Column<'static>> {
    vec![
        left("", 1, 0, 0, None),
        left("", 9, 0, 1, Some(1)),
        left("since", 11, 0, 0, Some(0)),
        left("about", 18, 1, 0, Some(2)),
        left("what", 30, 5, 0, Some(3)),
    ]
}

pub(super) fn alert(model: &Model, look: &Look, i: usize, column: usize) -> Cell {
    let a = &model.snapshot.alerts[i];
    let (glyph, word, style) = look.severity(a.severity);
    match column {
        0 => vec![(glyph.to_string(), style)],
        1 => vec![(word.to_string(), style)],
        2 => vec![(clock_or_date(a.at, model.now()), look[Token::Dim])],
        3 => vec![(a.subject.clone(), look[Token::Text])],
        _ => vec![(a.text.clone(), look[Token::Text])],
    }
}

/// Draws the screen.
pub fn draw(model: &Model, pane: &mut Pane<'_>) {
    let look = model.look();
    let rows = alert_rows(model, pane.height());
    tables::heading(model, pane, ListKind::Alerts, "ALERTS");
    {
        let mut part = pane.part(0, 1, pane.width(), rows + 1);
        if model.list(ListKind::Alerts).rows.is_empty() {
            let text =
                if model.snapshot.alerts.is_empty() { "no open alert" } else { "nothing matches the filter" };
            part.put(2, 1, text, look[Token::Dim]);
        } else {
            tables::table(model, &mut part, ListKind::Alerts);
        }
    }
    let mut below = pane.below(rows + 3);
    let y = data(model, &mut below);
    let mut below = below.below(y + 1);
    models(model, &mut below);
}

fn data(model: &Model, pane: &mut Pane<'_>) -> u16 {
    let look = model.look();
    let s = &model.snapshot;
    let (dim, text) = (look[Token::Dim], look[Token::Text]);
    pane.put(2, 0, "DATA", look[Token::Title]);
    let mut y = 1;
    let mut line = |pane: &mut Pane<'_>, label: &str, value: &str, style| {
        pane.put(2, y, label, dim);
        pane.put(20, y, value, style);
        y += 1;
    };
    line(pane, "source", &s.data.source, text);
    line(pane, "newest sample", &ago(s.data.newest, model.now()), text);
    if let Some((why, again)) = &s.data.failing {
        let left = crate::tui::field::left(*again, model.now());
        line(
            pane,
            "failing",
            &format!("{} {why}; tried again in {left}", look.glyphs.failed),
            look[Token::Bad],
        );
    }
    let dropped: Vec<String> = s
        .data
        .dropped
        .iter()
        .filter(|(_, n)| *n > 0)
        .map(|(why, n)| format!("{} {why}", short_number(*n as f64)))
        .collect();
    let dropped = if dropped.is_empty() { "none".to_string() } else { dropped.join(", ") };
    line(pane, "samples taken", &short_number(s.data.taken as f64), text);
    line(pane, "dropped", &dropped, text);
    match &s.data.sink_failing {
        Some(why) => {
            line(pane, "write-back", &format!("{} failing: {why}", look.glyphs.failed), look[Token::Watch])
        }
        None => line(pane, "write-back", "well", text),
    }
    line(pane, "last cycle", &format!("{:.0} ms", s.cycle_ms), text);
    y
}

fn models(model: &Model, pane: &mut Pane<'_>) {
    let look = model.look();
    let s = &model.snapshot;
    pane.put(2, 0, "MODELS", look[Token::Title]);
    let mut y = 0;
    for line in wrap(&s.models.runtime, usize::from(pane.width().saturating_sub(22))) {
        pane.put(20, y, &line, look[Token::Dim]);
        y += 1;
    }
    let mut y = y.max(1);
    if s.models.models.is_empty() {
        pane.put(
            2,
            y,
            "no model is loaded: probabilities come from instability alone and say so",
            look[Token::Watch],
        );
    }
    let drift = s.models.drift.iter().map(|text| (text, Token::Dim));
    let shadow = s.models.shadow.iter().map(|text| (text, Token::Text));
    for (text, token) in s.models.models.iter().map(|text| (text, Token::Text)).chain(shadow).chain(drift) {
        for line in wrap(text, usize::from(pane.width().saturating_sub(4))) {
            pane.put(2, y, &line, look[token]);
            y += 1;
        }
    }
}
