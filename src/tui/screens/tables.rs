//! Screens 2 to 6 and 8: the tables. A heading that says what is shown and how, and the rows.

use ratatui::style::Style;

use super::cells::{
    TREND, because, chance, chance_style, health, in_time, percent, score_style, takes, trend_style,
    window_heading, word,
};
use crate::fleet::{Bytes, Phase, Span};
use crate::protocol::{HostView, MigrationView, StepState};
use crate::tui::field::{ListKind, age, left as rest, out_of_service, partitions_of, worst_state};
use crate::tui::model::{Model, Popup};
use crate::tui::text::{Pane, clock_or_date, coarse, short_number};
use crate::tui::theme::{Look, Token};
use crate::tui::widgets::sparkline::trend_line;
use crate::tui::widgets::table::{Cell, Column, Table, left, right};

/// Draws the table of the present screen.
pub fn draw(model: &Model, pane: &mut Pane<'_>) {
    let Some(kind) = model.list_kind() else { return };
    heading(model, pane, kind, &model.screen().kind().name().to_uppercase());
    let mut part = pane.below(1);
    table(model, &mut part, kind);
    if model.list(kind).rows.is_empty() {
        let all = kind.len(&model.snapshot);
        let text = if all > 0 { "nothing matches the filter" } else { empty(kind) };
        part.put(2, 2, text, model.look()[Token::Dim]);
    }
}

fn empty(kind: ListKind) -> &'static str {
    match kind {
        ListKind::Hosts => "no host is known yet",
        ListKind::Partitions => "no partition is known yet",
        ListKind::Workloads => "no workload is known yet: a driver or the configuration names them",
        ListKind::Proposals => "no proposal yet: one is made when a partition crosses its threshold",
        ListKind::Migrations => "nothing has moved yet",
        ListKind::Audit => "nobody has asked for anything yet",
        ListKind::Alerts => "no open alert",
    }
}

/// The row above a table: what, how many, sorted by what, filtered by what.
pub fn heading(model: &Model, pane: &mut Pane<'_>, kind: ListKind, title: &str) {
    let look = model.look();
    let list = model.list(kind);
    let (dim, text) = (look[Token::Dim], look[Token::Text]);
    let all = kind.len(&model.snapshot);
    let mut x = pane.put(2, 0, title, look[Token::Title]) + 2;
    let count =
        if list.rows.len() == all { all.to_string() } else { format!("{} of {all}", list.rows.len()) };
    x = pane.put(x, 0, &count, text) + 3;
    let typing = matches!(model.popup, Some(Popup::Filter { .. }));
    if typing || !list.filter.is_empty() {
        x = pane.put(x, 0, "/ ", look[Token::Key]);
        let shown = if typing { look[Token::Input] } else { look[Token::Accent] };
        x = pane.put(x, 0, &list.filter, shown);
        if typing {
            x = pane.put(x, 0, " ", shown.add_modifier(ratatui::style::Modifier::REVERSED));
        }
        x += 2;
        if let Some(wrong) = &list.wrong {
            x = pane.put(x, 0, wrong, look[Token::Bad]) + 2;
        } else if typing && list.filter.is_empty() {
            let names: Vec<&str> = kind.fields().iter().map(|f| f.name).take(5).collect();
            let example = match kind {
                ListKind::Partitions => "words  !word  state=suspect  p1h>30%  data>50g".to_string(),
                _ => format!("words  !word  field=value   fields: {}", names.join(" ")),
            };
            x = pane.put(x, 0, &example, dim) + 2;
        }
    }
    if let Some(field) = list.sort.and_then(|i| kind.fields().get(i)) {
        let words = format!("sorted by {}{}", field.name, if list.reversed { ", reversed" } else { "" });
        if usize::from(x) + words.len() + 2 < usize::from(pane.width()) {
            pane.put_right(pane.width() - 1, 0, &words, dim);
        }
    }
}

/// Draws headings and visible rows of a list.
pub fn table(model: &Model, pane: &mut Pane<'_>, kind: ListKind) {
    let list = model.list(kind);
    let look = model.look();
    let names: Vec<String> = (0..3).map(|w| window_heading(model, w)).collect();
    let columns = columns(kind, &names);
    let arrow = if list.reversed { look.glyphs.up } else { look.glyphs.down };
    let table = Table {
        columns: &columns,
        offset: list.offset,
        rows: list.rows.len(),
        selected: (!list.rows.is_empty()).then_some(list.selected),
        sorted: list.sort.map(|field| (field, arrow)),
    };
    table.draw(pane, |row, column| {
        let Some(i) = list.rows.get(row).map(|i| *i as usize).filter(|i| *i < kind.len(&model.snapshot))
        else {
            return Vec::new();
        };
        match kind {
            ListKind::Hosts => host(model, look, i, column),
            ListKind::Partitions => partition(model, look, i, column),
            ListKind::Workloads => workload(model, look, i, column),
            ListKind::Proposals => proposal(model, look, i, column),
            ListKind::Migrations => migration(model, look, i, column),
            ListKind::Audit => audit(model, look, i, column),
            ListKind::Alerts => super::models::alert(model, look, i, column),
        }
    });
}

fn columns<'a>(kind: ListKind, windows: &'a [String]) -> Vec<Column<'a>> {
    match kind {
        ListKind::Hosts => vec![
            left("", 1, 0, 0, None),
            left("host", 14, 1, 0, Some(0)),
            left("state", 18, 0, 1, Some(1)),
            right("risk", 7, 0, Some(4)),
            right("sure", 5, 5, None),
            right("load", 6, 1, Some(5)),
            left("", 10, 0, 3, None),
            left("partitions", 12, 0, 2, Some(6)),
            left("rack", 8, 1, 4, Some(3)),
            left("site", 6, 1, 4, Some(2)),
        ],
        ListKind::Partitions => vec![
            left("", 1, 0, 0, None),
            left("partition", 16, 1, 0, Some(1)),
            left("state", 18, 0, 3, Some(0)),
            right("health", 8, 0, Some(2)),
            left("trend 2 h", 12, 0, 4, None),
            right(&windows[0], 7, 5, Some(3)),
            right(&windows[1], 7, 0, Some(4)),
            right(&windows[2], 7, 6, Some(5)),
            right("unlike", 7, 9, Some(6)),
            right("work", 5, 7, Some(7)),
            right("data", 7, 8, Some(8)),
            left("class", 9, 0, 10, Some(9)),
            left("because", 12, 3, 1, Some(12)),
        ],
        ListKind::Workloads => vec![
            left("workload", 16, 1, 0, Some(0)),
            left("application", 12, 1, 2, Some(1)),
            right("HPS", 6, 0, Some(2)),
            left("runs on", 18, 1, 0, Some(3)),
            right("size", 7, 1, Some(4)),
            right("disruption", 11, 1, Some(5)),
            left("kind", 8, 1, 4, Some(6)),
            left("class", 9, 0, 5, Some(7)),
            left("copies on", 16, 2, 3, None),
        ],
        ListKind::Proposals => vec![
            left("", 6, 0, 0, Some(0)),
            left("what", 24, 3, 0, Some(1)),
            right("moves", 5, 2, Some(2)),
            right("data", 7, 3, None),
            right("takes", 8, 3, None),
            right("in time", 8, 4, None),
            right("expires", 7, 1, Some(3)),
            left("status", 14, 2, 0, Some(4)),
        ],
        ListKind::Migrations => vec![
            left("", 1, 0, 0, None),
            left("", 6, 0, 0, Some(0)),
            left("workload", 14, 1, 0, Some(1)),
            left("from", 15, 1, 1, Some(2)),
            left("to", 15, 1, 0, Some(3)),
            left("phase", 13, 0, 0, Some(4)),
            left("progress", 12, 0, 3, None),
            right("left", 8, 2, None),
            left("started", 11, 0, 4, Some(5)),
            left("note", 10, 3, 2, None),
        ],
        ListKind::Audit => vec![
            left("when", 11, 0, 0, Some(0)),
            left("who", 14, 1, 0, Some(1)),
            left("asked", 20, 2, 0, Some(2)),
            left("what came of it", 20, 3, 0, Some(3)),
        ],
        ListKind::Alerts => super::models::columns(),
    }
}

fn host(model: &Model, look: &Look, i: usize, column: usize) -> Cell {
    let h: &HostView = &model.snapshot.hosts[i];
    let worst = worst_state(&model.snapshot, h);
    let (text, dim) = (look[Token::Text], look[Token::Dim]);
    let unknown = || vec![(look.glyphs.dash.to_string(), dim)];
    match column {
        0 => worst.map_or_else(unknown, |s| vec![piece(look.state(s))]),
        1 => vec![(h.id.to_string(), text)],
        2 => worst.map_or_else(unknown, |s| vec![(word(s).to_string(), word_style(look, s))]),
        3 if out_of_service(&model.snapshot, h) >= 1.0 => vec![("out".to_string(), look[Token::Bad])],
        3 => h.risk.map_or_else(unknown, |r| vec![(r.to_string(), chance_style(look, r.get()))]),
        4 if h.risk.is_none() => unknown(),
        4 => vec![(percent(look, h.confidence), dim)],
        5 => h.load.map_or_else(unknown, |l| vec![(l.to_string(), load_style(look, l.get()))]),
        6 => h.load.map_or_else(Vec::new, |l| gauge(look, l.get(), 10)),
        7 => partitions_of(&model.snapshot, h).take(12).map(|p| piece(look.state(p.shown))).collect(),
        8 => vec![(h.rack.to_string(), dim)],
        _ => vec![(h.site.to_string(), dim)],
    }
}

fn piece((glyph, style): (&'static str, Style)) -> (String, Style) {
    (glyph.to_string(), style)
}

/// The look of a state's word: a fleet of bright words is not calm, so what is well is plain.
fn word_style(look: &Look, state: crate::fleet::ShownState) -> Style {
    if state == crate::fleet::ShownState::Active { look[Token::Text] } else { look.state(state).1 }
}

/// A size; a dash where there is none, as of what keeps nothing.
fn some_bytes(look: &Look, bytes: Bytes) -> String {
    if bytes.0 == 0 { look.glyphs.dash.to_string() } else { bytes.to_string() }
}

fn load_style(look: &Look, load: f64) -> Style {
    match load {
        l if l >= 0.9 => look[Token::Bad],
        l if l >= 0.8 => look[Token::Watch],
        _ => look[Token::Text],
    }
}

/// A bar of `width` cells, filled to `part`.
pub fn gauge(look: &Look, part: f64, width: usize) -> Cell {
    let full = (part.clamp(0.0, 1.0) * width as f64).round() as usize;
    vec![
        (look.glyphs.full.repeat(full), look[Token::Accent]),
        (look.glyphs.empty.repeat(width - full), look[Token::Faint]),
    ]
}

fn partition(model: &Model, look: &Look, i: usize, column: usize) -> Cell {
    let p = &model.snapshot.partitions[i];
    let (text, dim) = (look[Token::Text], look[Token::Dim]);
    let (glyph, style) = look.state(p.shown);
    match column {
        0 => vec![(glyph.to_string(), style)],
        1 => vec![(p.id.to_string(), text)],
        2 => vec![(word(p.shown).to_string(), word_style(look, p.shown))],
        3 => health(look, p),
        4 => vec![(trend_line(look, &p.trend, 12, TREND.0, TREND.1), trend_style(look, p, style))],
        5..=7 => vec![chance(look, p, column - 5)],
        8 => vec![(p.instability.map_or(look.glyphs.dash.to_string(), |i| format!("{i:.1} σ")), dim)],
        9 => vec![(p.workloads.to_string(), dim)],
        10 => vec![(some_bytes(look, p.data), dim)],
        11 => vec![(p.class.clone(), dim)],
        _ => vec![(because(p, model), if p.shown == crate::fleet::ShownState::Active { dim } else { text })],
    }
}

fn workload(model: &Model, look: &Look, i: usize, column: usize) -> Cell {
    let w = &model.snapshot.workloads[i];
    let (text, dim) = (look[Token::Text], look[Token::Dim]);
    match column {
        0 => vec![(w.id.to_string(), text)],
        1 => vec![(w.application.to_string(), dim)],
        2 => match w.hps {
            Some(hps) => vec![(hps.to_string(), score_style(look, hps.get()))],
            None => vec![(look.glyphs.dash.to_string(), dim)],
        },
        3 => {
            let state = model.partition(&w.partition).map(|p| look.state(p.shown));
            let mut cell = vec![(w.partition.to_string(), text)];
            if let Some((glyph, style)) = state {
                cell.insert(0, (format!("{glyph} "), style));
            }
            cell
        }
        4 => vec![(some_bytes(look, w.size), text)],
        5 => vec![(format!("{:.0} / 100", w.disruption), dim)],
        6 => vec![(w.kind.clone(), dim)],
        7 => vec![(w.class.clone(), dim)],
        _ => vec![(w.replicas.iter().map(|r| r.to_string()).collect::<Vec<_>>().join(" "), dim)],
    }
}

fn proposal(model: &Model, look: &Look, i: usize, column: usize) -> Cell {
    let p = &model.snapshot.proposals[i];
    let (text, dim) = (look[Token::Text], look[Token::Dim]);
    let shown = if p.open { text } else { dim };
    match column {
        0 => vec![(p.id.to_string(), if p.open { look[Token::Accent] } else { dim })],
        1 => vec![(p.title.clone(), shown)],
        2 => vec![(p.moves.len().to_string(), shown)],
        3 => vec![(p.moves.iter().map(|m| m.data).sum::<Bytes>().to_string(), shown)],
        4 => vec![(takes(p).to_string(), shown)],
        5 => vec![match in_time(p) {
            Some(t) if p.open => {
                (percent(look, t), if t < 0.8 { look[Token::Watch] } else { look[Token::Good] })
            }
            Some(t) => (percent(look, t), dim),
            None => (look.glyphs.dash.to_string(), dim),
        }],
        6 if p.open => {
            let left = rest(p.expires, model.now());
            vec![(coarse(left), if left < Span::minutes(2) { look[Token::Watch] } else { dim })]
        }
        6 => vec![(look.glyphs.dash.to_string(), dim)],
        _ => match &p.blocked {
            Some(why) if p.open => vec![(format!("{} {why}", look.glyphs.fenced), look[Token::Watch])],
            _ => vec![(p.status.clone(), if p.open { look[Token::Accent] } else { dim })],
        },
    }
}

/// Glyph and look of a migration.
pub fn migration_mark(look: &Look, m: &MigrationView) -> (&'static str, Style) {
    let g = look.glyphs;
    match m.phase {
        Phase::Done => (g.done, look[Token::Good]),
        Phase::Aborted | Phase::RolledBack | Phase::Denied | Phase::Expired | Phase::Stale => {
            (g.back, look[Token::Dim])
        }
        Phase::Stuck | Phase::SourceLost => (g.failed, look[Token::Bad]),
        Phase::Hold | Phase::RollingBackPre | Phase::RollingBackPost => (g.suspect, look[Token::Watch]),
        _ => (g.running, look[Token::Moving]),
    }
}

fn migration(model: &Model, look: &Look, i: usize, column: usize) -> Cell {
    let m = &model.snapshot.migrations[i];
    let (text, dim) = (look[Token::Text], look[Token::Dim]);
    let ended = m.ended.is_some();
    let shown = if ended { dim } else { text };
    let (glyph, style) = migration_mark(look, m);
    match column {
        0 => vec![(glyph.to_string(), style)],
        1 => vec![(m.id.to_string(), if ended { dim } else { look[Token::Accent] })],
        2 => vec![(m.workload.to_string(), shown)],
        3 => vec![(m.source.to_string(), dim)],
        4 => vec![(m.destination.to_string(), shown)],
        5 => {
            let step = m.canary.filter(|_| m.phase == Phase::Canary).map(|(k, n)| format!(" {k}/{n}"));
            vec![(format!("{}{}", m.phase.word(), step.unwrap_or_default()), style)]
        }
        6 if ended => Vec::new(),
        6 => {
            let done =
                m.steps.iter().filter(|s| matches!(s.state, StepState::Done | StepState::Skipped)).count();
            let part = (done as f64 + m.progress.map_or(0.0, |p| p.get())) / m.steps.len().max(1) as f64;
            gauge(look, part, 12)
        }
        7 => vec![(m.left.filter(|_| !ended).map(coarse).unwrap_or_default(), dim)],
        8 => vec![(clock_or_date(m.started, model.now()), dim)],
        _ if !m.waiting.is_empty() && !ended => vec![(m.waiting.clone(), look[Token::Watch])],
        _ if ended => {
            let took = m.ended.map(|end| format!("took {}", end - m.started)).unwrap_or_default();
            vec![(took, dim)]
        }
        _ => vec![(format!("by {}", m.by), dim)],
    }
}

fn audit(model: &Model, look: &Look, i: usize, column: usize) -> Cell {
    let a = &model.snapshot.audit[i];
    let refused = a.outcome.starts_with("refused") || a.outcome.starts_with("failed");
    match column {
        0 => vec![(clock_or_date(a.at, model.now()), look[Token::Dim])],
        1 => vec![(a.actor.clone(), look[Token::Text])],
        2 => vec![(a.act.clone(), look[Token::Text])],
        _ => vec![(a.outcome.clone(), if refused { look[Token::Watch] } else { look[Token::Dim] })],
    }
}

/// A metric's value with its unit.
pub fn with_unit(value: f64, unit: &str) -> String {
    let number = short_number(value);
    match number.rsplit_once(' ') {
        _ if unit.is_empty() => number,
        // A prefix belongs to the unit: 1.2 MB/s.
        Some((number, prefix)) => format!("{number} {prefix}{unit}"),
        None => format!("{number} {unit}"),
    }
}

/// How long ago, in words.
pub fn ago(at: Option<crate::fleet::Timestamp>, now: crate::fleet::Timestamp) -> String {
    at.map_or("never".to_string(), |_| format!("{} ago", age(at, now)))
}
