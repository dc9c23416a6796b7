//! Screen 1: is anything wrong, and what should I do? The whole fleet as a strip, the partitions most
//! at risk, what waits for the person, what moves.

use ratatui::style::{Modifier, Style};

use crate::fleet::{Bytes, PartitionId, ShownState, Span};
use crate::protocol::{MigrationView, PartitionView, ProposalView, Snapshot, StepState};
use crate::tui::field::{badness, left, middle_window, probability};
use crate::tui::model::Model;
use crate::tui::screens::nothing;
use crate::tui::text::{Pane, Piece, clock_or_date, coarse};
use crate::tui::theme::{Look, Token};
use crate::tui::widgets::heat_strip;
use crate::tui::widgets::sparkline::trend_line;
use crate::tui::widgets::table::{self, Column, Table, left as column, right};

/// A row that can be selected: an index into the snapshot's list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Row {
    /// A partition at risk.
    Risk(u32),
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
        Row::Moving(i) => snapshot.migrations[i as usize].id.to_string(),
    }
}

/// A partition is listed when its state or its probability asks for it.
fn at_risk(snapshot: &Snapshot) -> Vec<u32> {
    const WORTH_A_LOOK: f64 = 0.05;
    let window = middle_window(snapshot);
    let mut risky: Vec<(u8, f64, u32)> = snapshot
        .partitions
        .iter()
        .enumerate()
        .filter_map(|(i, p)| {
            let probability = probability(p, window).unwrap_or(0.0);
            let listed =
                matches!(p.shown, ShownState::PredictiveFailure | ShownState::Suspect | ShownState::Unknown)
                    || probability >= WORTH_A_LOOK
                        && !matches!(p.shown, ShownState::Fenced | ShownState::Decommissioned);
            listed.then(|| (badness(p.shown).min(3), -probability, i as u32))
        })
        .collect();
    risky.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    risky.into_iter().map(|(_, _, i)| i).collect()
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
    let moving: Vec<u32> =
        (0..s.migrations.len() as u32).filter(|i| s.migrations[*i as usize].ended.is_none()).collect();
    let plan = plan(model, risk.len(), waiting.len(), moving.len());
    let pulse = &mut model.pulse;
    pulse.rows.clear();
    pulse.rows.extend(risk.into_iter().take(plan.risk).map(Row::Risk));
    let first_waiting = pulse.rows.len();
    pulse.rows.extend(waiting.into_iter().take(plan.waiting).map(Row::Waiting));
    pulse.rows.extend(moving.into_iter().take(plan.moving).map(Row::Moving));
    let anchor = pulse.anchor.as_ref();
    let found = anchor.and_then(|a| pulse.rows.iter().position(|row| key(&s, *row) == *a));
    pulse.selected = match found {
        Some(at) => at,
        // Until a person moves it, the selection rests on what waits for them.
        None if !pulse.moved && first_waiting < pulse.rows.len() => first_waiting,
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

fn waiting_rows(model: &Model) -> Vec<u32> {
    section(model, |row| if let Row::Waiting(i) = row { Some(i) } else { None })
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
    for rows in [risk_rows(model), waiting_rows(model), moving_rows(model)] {
        y += 1;
        lines.extend((0..rows.len() as u16).map(|i| Some(y + i)));
        y += rows.len().max(1) as u16 + 1;
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
    legend(model, pane, strip_height, &strip.note());
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

/// Counts of every state, glyph and word.
fn legend(model: &Model, pane: &mut Pane<'_>, y: u16, note: &str) {
    let look = model.look();
    let states = [
        ShownState::Active,
        ShownState::Suspect,
        ShownState::PredictiveFailure,
        ShownState::Migrating,
        ShownState::Standby,
        ShownState::Unknown,
        ShownState::Probation,
        ShownState::Passive,
        ShownState::Fenced,
        ShownState::Decommissioned,
    ];
    let mut counts = [0usize; 10];
    for p in model.snapshot.partitions.iter() {
        if let Some(at) = states.iter().position(|s| *s == p.shown) {
            counts[at] += 1;
        }
    }
    let mut x = 2;
    for (state, count) in states.iter().zip(counts) {
        let always = matches!(
            state,
            ShownState::Active | ShownState::Suspect | ShownState::PredictiveFailure | ShownState::Unknown
        );
        if count == 0 && !always {
            continue;
        }
        let (glyph, style) = look.state(*state);
        let (glyph_style, word_style) =
            if count == 0 { (look[Token::Dim], look[Token::Dim]) } else { (style, look[Token::Text]) };
        let word = if *state == ShownState::Active { "healthy" } else { state.word() };
        let text = format!(" {word} ");
        if usize::from(x) + text.len() + 8 > usize::from(pane.width()) {
            break;
        }
        x = pane.put(x, y, glyph, glyph_style);
        x = pane.put(x, y, &text, look[Token::Dim]);
        x = pane.put(x, y, &count.to_string(), word_style) + 3;
    }
    if !note.is_empty() && usize::from(x) + note.len() < usize::from(pane.width()) {
        pane.put_right(pane.width() - 1, y, note, look[Token::Dim]);
    }
}

fn risk_section(model: &Model, pane: &mut Pane<'_>, y: u16, rows: &[u32], before: usize) -> u16 {
    let look = model.look();
    let s = &model.snapshot;
    let height = rows.len().max(1) as u16 + 1;
    let names: Vec<String> = (0..3).map(|w| window_heading(model, w)).collect();
    let columns = [
        column("", 1, 0, 0, None),
        column("", 18, 2, 0, None),
        right("health", 8, 0, None),
        column("trend 2 h", 12, 0, 2, None),
        right(&names[0], 7, 3, None),
        right(&names[1], 7, 0, None),
        right(&names[2], 7, 4, None),
        column("because", 14, 5, 1, None),
    ];
    let mut part = pane.part(0, y, pane.width(), height);
    let selected = model.pulse.selected.checked_sub(before).filter(|at| *at < rows.len());
    Table { columns: &columns, offset: 0, rows: rows.len(), selected, sorted: None }.draw(
        &mut part,
        |row, col| {
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
        },
    );
    part.put(2, 0, "MOST AT RISK", look[Token::Title]);
    if rows.is_empty() {
        let text =
            if s.partitions.is_empty() { "–" } else { "nothing: every partition is within its own normal" };
        let (glyph, style) = look.state(ShownState::Active);
        part.put(2, 1, glyph, style);
        part.put(4, 1, text, look[Token::Dim]);
    }
    y + height + 1
}

/// A window as a heading: `15 m`, `1 h`, `24 h`.
pub fn window_name(window: Span) -> String {
    match window.0 / 60_000 {
        minutes @ 0..60 => format!("{minutes} m"),
        minutes if minutes < 72 * 60 => format!("{} h", minutes / 60),
        minutes => format!("{} d", minutes / 60 / 24),
    }
}

/// The range of health that trends are drawn in: below it everything is as bad.
pub const TREND: (f32, f32) = (20.0, 100.0);

/// Only what is failing or suspected is drawn in its colour; a fleet of bright bars is not calm.
pub fn trend_style(look: &Look, p: &PartitionView, style: Style) -> Style {
    match p.shown {
        ShownState::PredictiveFailure | ShownState::Suspect => {
            Style { add_modifier: Modifier::empty(), ..style }
        }
        _ => look[Token::Dim],
    }
}

/// Heading of the probability of window `w`: `in 1 h`.
pub fn window_heading(model: &Model, w: usize) -> String {
    model.snapshot.windows.get(w).map(|span| format!("in {}", window_name(*span))).unwrap_or_default()
}

/// Health with an arrow for where it is going.
pub fn health(look: &Look, p: &PartitionView) -> Vec<Piece> {
    let Some(score) = p.health else { return vec![(look.glyphs.dash.to_string(), look[Token::Unknown])] };
    let known: Vec<f32> = p.trend.iter().copied().filter(|v| v.is_finite()).collect();
    let half = known.len() / 2;
    let mean = |v: &[f32]| if v.is_empty() { 0.0 } else { v.iter().sum::<f32>() / v.len() as f32 };
    let change = mean(&known[half..]) - mean(&known[..half]);
    let (arrow, token) = match change {
        c if c <= -3.0 => (look.glyphs.down, Token::Bad),
        c if c >= 3.0 => (look.glyphs.up, Token::Good),
        _ => (" ", Token::Dim),
    };
    vec![(score.to_string(), score_style(look, score.get())), (format!(" {arrow}"), look[token])]
}

/// The look of a health score.
pub fn score_style(look: &Look, score: f64) -> Style {
    match score {
        s if s < 50.0 => look[Token::Bad],
        s if s < 75.0 => look[Token::Watch],
        _ => look[Token::Text],
    }
}

/// A probability with the look of how much it asks for.
pub fn chance(look: &Look, p: &PartitionView, window: usize) -> Piece {
    match p.failure.get(window) {
        None => (look.glyphs.dash.to_string(), look[Token::Dim]),
        Some(probability) => (probability.to_string(), chance_style(look, probability.get())),
    }
}

/// The look of a probability.
pub fn chance_style(look: &Look, probability: f64) -> Style {
    match probability {
        p if p >= 0.5 => look[Token::Bad],
        p if p >= 0.2 => look[Token::Watch],
        p if p < 0.05 => look[Token::Dim],
        _ => look[Token::Text],
    }
}

/// The reasons of a partition in a few words; of a silent one, how long it has been silent.
pub fn because(p: &PartitionView, model: &Model) -> String {
    match (p.shown, p.seen) {
        (ShownState::Unknown, Some(seen)) => format!("silent for {}", seen.age(model.now())),
        (ShownState::Unknown, None) => "never heard from".to_string(),
        _ => p.because.clone(),
    }
}

const WAITING: [Column<'static>; 7] = [
    column("", 6, 0, 0, None),
    column("", 40, 1, 0, None),
    right("moves", 5, 2, None),
    right("data", 7, 3, None),
    right("takes", 7, 1, None),
    right("in time", 8, 4, None),
    right("expires", 7, 0, None),
];

fn waiting_section(model: &Model, pane: &mut Pane<'_>, y: u16, rows: &[u32], before: usize) -> u16 {
    let look = model.look();
    let s = &model.snapshot;
    let height = rows.len().max(1) as u16 + 1;
    let mut part = pane.part(0, y, pane.width(), height);
    let selected = model.pulse.selected.checked_sub(before).filter(|at| *at < rows.len());
    Table { columns: &WAITING, offset: 0, rows: rows.len(), selected, sorted: None }.draw(
        &mut part,
        |row, col| {
            let Some(p) = s.proposals.get(rows[row] as usize) else { return Vec::new() };
            waiting_cell(model, look, p, col)
        },
    );
    part.put(2, 0, "WAITING FOR YOU", look[Token::Title]);
    if rows.is_empty() {
        part.put(2, 1, "nothing waits for a decision", look[Token::Dim]);
    }
    y + height + 1
}

/// Whether all moves of a proposal end before the failure is expected: the least of its moves.
pub fn in_time(p: &ProposalView) -> Option<f64> {
    p.moves.iter().filter_map(|m| m.in_time.map(|t| t.get())).min_by(f64::total_cmp)
}

/// How long all moves take, one after the other.
pub fn takes(p: &ProposalView) -> Span {
    Span(p.moves.iter().map(|m| m.duration.0).sum())
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
        3 => vec![(p.moves.iter().map(|m| m.data).sum::<Bytes>().to_string(), text)],
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

/// The short name of a partition: its own part where the host is the same as `beside`.
pub fn short_partition(id: &PartitionId, beside: &PartitionId) -> String {
    if id.host() == beside.host() {
        return id.as_str().rsplit('/').next().unwrap_or(id.as_str()).to_string();
    }
    id.to_string()
}

fn moving_section(model: &Model, pane: &mut Pane<'_>, y: u16, rows: &[u32], before: usize) {
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
    if !m.waiting.is_empty() {
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

/// A step in a word with its glyph.
pub fn step_piece(look: &Look, state: StepState, name: &str) -> Piece {
    let g = look.glyphs;
    let (glyph, token) = match state {
        StepState::Ahead => (g.ahead, Token::Dim),
        StepState::Running => (g.running, Token::Moving),
        StepState::Done => (g.done, Token::Good),
        StepState::Failed => (g.failed, Token::Bad),
        StepState::Skipped => (g.skipped, Token::Dim),
    };
    (format!("{glyph}{name}"), look[token])
}
