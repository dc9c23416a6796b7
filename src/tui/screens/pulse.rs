//! Screen 1: is anything wrong, and what should I do? The whole fleet as a strip, the partitions most
//! at risk, what waits for the person, what moves.

mod legend;
mod sections;

use self::sections::{moving_section, risk_section, waiting_section};
use super::migration::asks;
use super::nothing;
use crate::fleet::ShownState;
use crate::protocol::{PartitionView, Snapshot};
use crate::tui::action::{Kind, TABLE};
use crate::tui::field::{badness, middle_window, probability};
use crate::tui::model::Model;
use crate::tui::text::{Pane, clock_or_date};
use crate::tui::theme::Token;
use crate::tui::widgets::heat_strip;

/// A row that can be selected: an index into the snapshot's list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Row {
    /// A partition at risk.
    Risk(u32),
    /// A migration that stands until a person says how it goes on.
    Asking(u32),
    /// A proposal that waits.
    Waiting(u32),
    /// A migration that runs.
    Moving(u32),
}

/// The rows of the screen and which is selected.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selection {
    /// All rows, from top to bottom.
    pub rows: Vec<Row>,
    /// The selected one.
    pub selected: usize,
    /// How many partitions are at risk, also where there is no room for all.
    pub at_risk: usize,
    anchor: Option<String>,
    /// A person has moved the selection.
    moved: bool,
}

impl Selection {
    /// The selected row.
    pub fn chosen(&self) -> Option<Row> {
        self.rows.get(self.selected).copied()
    }
}

fn key(snapshot: &Snapshot, row: Row) -> String {
    match row {
        Row::Risk(i) => snapshot.partitions[i as usize].id.to_string(),
        Row::Waiting(i) => snapshot.proposals[i as usize].id.to_string(),
        Row::Moving(i) | Row::Asking(i) => snapshot.migrations[i as usize].id.to_string(),
    }
}

/// From these on a partition is listed whatever its state: the states change only after several readings, and what
/// is far from its own normal is to be seen before that, and also where no failure is expected of it.
const LISTED_CHANCE: f64 = 0.05;
const LISTED_HEALTH: f64 = 60.0;
const LISTED_INSTABILITY: f64 = 5.0;

/// What is off of a partition whose state is that of one at work.
fn stands_out(p: &PartitionView, chance: f64) -> bool {
    chance >= LISTED_CHANCE
        || p.health.is_some_and(|h| h.get() < LISTED_HEALTH)
        || p.instability.is_some_and(|i| i >= LISTED_INSTABILITY)
}

/// A partition is listed when its state, its probability, its health or its instability asks for it: first what
/// serves nobody, then what is expected to fail, then what nothing is heard of, the least healthy first among equals.
fn at_risk(snapshot: &Snapshot) -> Vec<u32> {
    use ShownState as S;
    let window = middle_window(snapshot);
    let mut risky: Vec<(u8, f64, f64, u32)> = snapshot
        .partitions
        .iter()
        .enumerate()
        .filter_map(|(i, p)| {
            let probability = probability(p, window).unwrap_or(0.0);
            let listed = match p.shown {
                S::Fenced | S::PredictiveFailure | S::Unknown | S::Suspect => true,
                S::Decommissioned => false,
                _ => stands_out(p, probability),
            };
            let health = p.health.map_or(100.0, |h| h.get());
            listed.then(|| (badness(p.shown).min(badness(S::Migrating)), -probability, health, i as u32))
        })
        .collect();
    risky.sort_by(|a, b| {
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.total_cmp(&b.2)).then(a.3.cmp(&b.3))
    });
    risky.into_iter().map(|row| row.3).collect()
}

/// How many rows the strip and the sections get at this height.
struct Plan {
    strip: u16,
    risk: usize,
    waiting: usize,
    moving: usize,
}

fn plan(model: &Model, risk: usize, waiting: usize, moving: usize) -> Plan {
    let body = model.size.1.saturating_sub(super::CHROME);
    let most_strip = (body / 3).max(2);
    let strip =
        heat_strip::lay_out(&model.snapshot, usize::from(model.size.0), usize::from(most_strip)).height();
    // Legend, blank lines and headings; an empty section still says so in one row.
    let mut room = usize::from(body.saturating_sub(strip + 1 + 1 + 3 + 2));
    let mut give = |want: usize, least: usize| {
        let given = want.max(1).min(least.min(room));
        room -= given;
        given
    };
    let mut plan = Plan { strip, risk: give(risk, 3), waiting: give(waiting, 3), moving: give(moving, 2) };
    // What is left goes to who still wants it, the most urgent first.
    for (given, want) in [(&mut plan.risk, risk), (&mut plan.waiting, waiting), (&mut plan.moving, moving)] {
        let more = want.saturating_sub(*given).min(room);
        *given += more;
        room -= more;
    }
    plan
}

/// Takes the rows from the snapshot; the selection stays on the same thing.
pub fn refresh(model: &mut Model) {
    let s = std::sync::Arc::clone(&model.snapshot);
    let risk = at_risk(&s);
    let waiting: Vec<u32> = (0..s.proposals.len() as u32).filter(|i| s.proposals[*i as usize].open).collect();
    let running = (0..s.migrations.len() as u32).filter(|i| s.migrations[*i as usize].ended.is_none());
    let (asking, moving): (Vec<u32>, Vec<u32>) = running.partition(|i| asks(&s.migrations[*i as usize]));
    let waiting: Vec<Row> =
        asking.into_iter().map(Row::Asking).chain(waiting.into_iter().map(Row::Waiting)).collect();
    let plan = plan(model, risk.len(), waiting.len(), moving.len());
    let pulse = &mut model.pulse;
    pulse.at_risk = risk.len();
    pulse.rows.clear();
    pulse.rows.extend(risk.into_iter().take(plan.risk).map(Row::Risk));
    // What asks only stands; a proposal expires.
    let proposal = waiting.iter().take(plan.waiting).position(|row| matches!(row, Row::Waiting(_)));
    let first_waiting = pulse.rows.len() + proposal.unwrap_or(0);
    pulse.rows.extend(waiting.into_iter().take(plan.waiting));
    pulse.rows.extend(moving.into_iter().take(plan.moving).map(Row::Moving));
    // Until a person moves it, the selection rests on what waits for them.
    let anchor = pulse.anchor.as_ref().filter(|_| pulse.moved);
    let found = anchor.and_then(|a| pulse.rows.iter().position(|row| key(&s, *row) == *a));
    pulse.selected = match found {
        Some(at) => at,
        None if !pulse.moved && first_waiting < pulse.rows.len() => first_waiting,
        None if !pulse.moved => 0,
        None => pulse.selected.min(pulse.rows.len().saturating_sub(1)),
    };
    pulse.anchor = pulse.rows.get(pulse.selected).map(|row| key(&s, *row));
}

/// Moves the selection.
pub fn step(model: &mut Model, steps: isize) {
    let last = model.pulse.rows.len().saturating_sub(1);
    let to = match steps {
        isize::MIN => 0,
        isize::MAX => last,
        steps => model.pulse.selected.saturating_add_signed(steps).min(last),
    };
    select(model, to);
}

fn select(model: &mut Model, to: usize) {
    model.pulse.selected = to;
    model.pulse.moved = true;
    model.pulse.anchor = model.pulse.rows.get(to).map(|row| key(&model.snapshot, *row));
}

/// Selects the row on the screen's line `y`.
pub fn click(model: &mut Model, y: u16) {
    let lines = lines(model);
    if let Some(at) = lines.iter().position(|line| line.map(|l| l + 2) == Some(y)) {
        select(model, at);
    }
}

fn section(model: &Model, of: fn(Row) -> Option<u32>) -> Vec<u32> {
    model.pulse.rows.iter().filter_map(|row| of(*row)).collect()
}

fn risk_rows(model: &Model) -> Vec<u32> {
    section(model, |row| if let Row::Risk(i) = row { Some(i) } else { None })
}

fn waiting_rows(model: &Model) -> Vec<Row> {
    let waits = |row: &Row| matches!(row, Row::Asking(_) | Row::Waiting(_));
    model.pulse.rows.iter().copied().filter(waits).collect()
}

fn moving_rows(model: &Model) -> Vec<u32> {
    section(model, |row| if let Row::Moving(i) = row { Some(i) } else { None })
}

fn strip_height(model: &Model) -> u16 {
    plan(model, 1, 1, 1).strip
}

/// The body's line of every row.
fn lines(model: &Model) -> Vec<Option<u16>> {
    let mut y = strip_height(model) + 2;
    let mut lines = Vec::new();
    for rows in [risk_rows(model).len(), waiting_rows(model).len(), moving_rows(model).len()] {
        y += 1;
        lines.extend((0..rows as u16).map(|i| Some(y + i)));
        y += rows.max(1) as u16 + 1;
    }
    lines
}

/// Sections are not drawn wider than this.
const WIDEST: u16 = 150;

/// Draws the screen.
pub fn draw(model: &Model, pane: &mut Pane<'_>) {
    let s = &model.snapshot;
    let strip_height = strip_height(model);
    let mut whole = pane.part(0, 0, pane.width(), pane.height());
    let pane = &mut whole;
    if s.partitions.is_empty() {
        nothing(pane, 0, "no partition is known yet: the first appears with the first data");
    }
    let strip = heat_strip::lay_out(s, usize::from(pane.width()), usize::from(strip_height.max(1)));
    strip.draw(pane);
    legend::draw(model, pane, strip_height, &strip.note());
    // Numbers that stand far from their names are hard to read across.
    let mut narrow = pane.part(0, 0, pane.width().min(WIDEST), pane.height());
    let pane = &mut narrow;
    let mut y = strip_height + 2;
    let (risk, waiting, moving) = (risk_rows(model), waiting_rows(model), moving_rows(model));
    let mut before = 0;
    y = risk_section(model, pane, y, &risk, before);
    before += risk.len();
    y = waiting_section(model, pane, y, &waiting, before);
    before += waiting.len();
    moving_section(model, pane, y, &moving, before);
    y += moving.len().max(1) as u16 + 2;
    alerts_section(model, pane, y);
    if model.snapshot.alerts.is_empty() && y + 1 < pane.height() {
        other_screens(model, pane);
    }
}

/// Where else one can go, in the last row, while nothing more urgent wants it.
fn other_screens(model: &Model, pane: &mut Pane<'_>) {
    let look = model.look();
    let mut x = 2;
    for row in TABLE.iter().filter(|row| row.action.screen().is_some_and(|kind| kind != Kind::Pulse)) {
        let key = model.keymap.shown(row.action);
        if key.is_empty() || usize::from(x) + key.len() + row.name.len() + 3 > usize::from(pane.width()) {
            continue;
        }
        x = pane.put(x, pane.height() - 1, &key, look[Token::Key]) + 1;
        x = pane.put(x, pane.height() - 1, row.name, look[Token::Dim]) + 2;
    }
}

/// Open alerts, as far as there is room left; all of them are on screen 9.
fn alerts_section(model: &Model, pane: &mut Pane<'_>, y: u16) {
    let look = model.look();
    let alerts = &model.snapshot.alerts;
    let room = pane.height().saturating_sub(y + 1);
    if alerts.is_empty() || room == 0 {
        return;
    }
    pane.put(2, y, "ALERTS", look[Token::Title]);
    for (i, alert) in alerts.iter().take(usize::from(room)).enumerate() {
        let y = y + 1 + i as u16;
        let (glyph, _, style) = look.severity(alert.severity);
        pane.put(2, y, glyph, style);
        pane.put(5, y, &clock_or_date(alert.at, model.now()), look[Token::Dim]);
        let x = pane.put(19, y, &alert.subject, look[Token::Text]).max(33) + 2;
        pane.put(x, y, &alert.text, look[Token::Dim]);
    }
}
