//! A partition: what do you know, and why do you believe it? One metric large, with its forecast, the
//! others small, the reasons, the model and its record.

use super::cells::{chance_style, out_since, percent, score_style, window_name};
use ratatui::style::{Color, Style};

use super::chrome::Item;
use super::tables::{migration_mark, with_unit};
use super::why::{self, Part, signed};
use crate::fleet::{HealthScore, PartitionId, ShownState};
use crate::protocol::{MetricDetail, PartitionDetail};
use crate::tui::field::middle_window;
use crate::tui::model::{Model, ZOOMS};
use crate::tui::text::{Pane, clock, clock_minutes, wrap};
use crate::tui::theme::{Look, Token};
use crate::tui::widgets::fan_chart::fan_chart;
use crate::tui::widgets::sparkline::{range, sparkline};

/// The header of the screen.
pub fn title(model: &Model, id: &PartitionId) -> Vec<Item> {
    let look = model.look();
    let (dim, text) = (look[Token::Dim], look[Token::Text]);
    let mut items = vec![Item {
        pieces: vec![(format!("{} ", look.glyphs.back), dim), (id.to_string(), look[Token::Header])],
        drop: 0,
    }];
    let Some(p) = model.partition(id) else {
        items.push(Item::one("is not in the fleet any more", look[Token::Watch], 0));
        return items;
    };
    let (glyph, style) = look.state(p.shown);
    let word = if p.shown == ShownState::Active { "healthy" } else { p.shown.word() };
    items.push(Item::one(format!("{glyph} {word}"), style, 0));
    items.push(Item::one(format!("since {}", clock_minutes(p.since)), dim, 6));
    let health = p.health.map_or(look.glyphs.dash.to_string(), |h| h.to_string());
    let health_style = p.health.map_or(dim, |h| score_style(look, h.get()));
    items.push(Item { pieces: vec![("health ".into(), dim), (health, health_style)], drop: 2 });
    let data = if p.data.0 == 0 { String::new() } else { format!(", {}", p.data) };
    let work = format!("{}, {} workloads{data}", p.class, p.workloads);
    items.push(Item::one(work, text, 9));
    items
}

/// Draws the screen.
pub fn draw(model: &Model, id: &PartitionId, pane: &mut Pane<'_>) {
    let look = model.look();
    let Some(detail) = model.inspected.detail.as_ref().filter(|d| d.id == *id) else {
        let text = match &model.inspected.failed {
            Some(why) => format!("{} {why}", look.glyphs.failed),
            None => "asking the engine …".to_string(),
        };
        pane.put(2, 1, &text, look[Token::Dim]);
        return;
    };
    let wide = pane.width() >= 100;
    let side = if wide { (pane.width() * 3 / 10).clamp(34, 52) } else { 0 };
    let main = pane.width() - side;
    let height = pane.height();
    let bottom = 2;
    let smalls = small_rows(detail, main, height);
    {
        let mut part = pane.part(0, 0, main, height.saturating_sub(bottom));
        let reasons = if wide { 0 } else { 4.min(height / 4) };
        let chart = height.saturating_sub(bottom + smalls + 2 + if wide { 0 } else { reasons + 1 });
        large(model, detail, &mut part.part(0, 0, main, chart + 1));
        small(model, detail, &mut part.part(0, chart + 2, main, smalls));
        if !wide {
            let mut below = part.part(0, chart + 3 + smalls, main, reasons);
            short_why(model, detail, &mut below);
        }
    }
    model_line(model, detail, &mut pane.part(0, height - bottom, main, bottom));
    if wide {
        for y in 0..height {
            pane.cell(main, y, look.glyphs.bar, look[Token::Faint]);
        }
        why_panel(model, id, detail, &mut pane.part(main + 2, 0, side - 3, height));
    }
}

fn chosen<'a>(model: &Model, detail: &'a PartitionDetail) -> Option<&'a MetricDetail> {
    detail.metrics.get(model.inspected.metric.min(detail.metrics.len().saturating_sub(1)))
}

fn large(model: &Model, detail: &PartitionDetail, pane: &mut Pane<'_>) {
    let look = model.look();
    let (dim, text) = (look[Token::Dim], look[Token::Text]);
    let Some(metric) = chosen(model, detail) else {
        pane.put(2, 0, "no metric has arrived yet", dim);
        return;
    };
    let mut x = pane.put(2, 0, &metric.label, look[Token::Title]) + 2;
    let now = metric.history.iter().rev().find(|v| v.is_finite());
    let style = deviation_style(look, metric);
    if let Some(now) = now {
        x = pane.put(x, 0, "now ", dim);
        x = pane.put(x, 0, &with_unit(f64::from(*now), &metric.unit), style) + 2;
    }
    if let Some((low, high)) = metric.normal.filter(|_| pane.width() >= 74) {
        x = pane.put(x, 0, "normal ", dim);
        let words = format!("{}–{}", with_unit(f64::from(low), ""), with_unit(f64::from(high), &metric.unit));
        x = pane.put(x, 0, &words, text) + 2;
    }
    if let Some(forecast) = &metric.forecast
        && let Some((bound, at, first, last)) = &forecast.crossing
    {
        let until = last.map_or("later".to_string(), clock_minutes);
        let bound = with_unit(f64::from(*bound), &metric.unit);
        let words = format!("{} {bound} at {} ", look.glyphs.cross, clock_minutes(*at));
        x = pane.put(x, 0, &words, look[Token::Threshold]);
        x = pane.put(x, 0, &format!("({}{}{until})", clock_minutes(*first), look.glyphs.dash), dim) + 2;
    }
    let history = ZOOMS[model.inspected.zoom.min(ZOOMS.len() - 1)];
    let words = format!("{} back", window_name(history));
    // What the forecast was combined of, where there is room for all of it.
    if let Some(forecast) = &metric.forecast
        && usize::from(x) + 4 + forecast.method.chars().count() + words.len() < usize::from(pane.width())
    {
        x = pane.put(x, 0, "by ", dim);
        x = pane.put(x, 0, &forecast.method, dim) + 2;
    }
    if usize::from(x) + words.len() < usize::from(pane.width()) {
        pane.put_right(pane.width().saturating_sub(1), 0, &words, dim);
    }
    let chart = pane.part(1, 1, pane.width().saturating_sub(2), pane.height().saturating_sub(1));
    fan_chart(chart, metric, history, detail.at);
}

fn deviation_style(look: &Look, metric: &MetricDetail) -> Style {
    match metric.deviation.map(f64::abs) {
        Some(d) if d >= 6.0 => look[Token::Bad],
        Some(d) if d >= 3.0 => look[Token::Watch],
        _ => look[Token::Text],
    }
}

const SMALL_WIDTH: u16 = 38;
/// Room for the longest of the standard metrics' labels.
const LABEL: u16 = 18;

fn small_rows(detail: &PartitionDetail, width: u16, height: u16) -> u16 {
    let across = (width / SMALL_WIDTH).max(1) as usize;
    (detail.metrics.len().div_ceil(across) as u16).min((height / 4).max(1))
}

/// The other metrics: label, a line of bars, the value, and how it is.
fn small(model: &Model, detail: &PartitionDetail, pane: &mut Pane<'_>) {
    let look = model.look();
    let across = (pane.width() / SMALL_WIDTH).max(1);
    let each = pane.width() / across;
    let chosen = model.inspected.metric.min(detail.metrics.len().saturating_sub(1));
    let room = usize::from(across * pane.height());
    for (i, metric) in detail.metrics.iter().enumerate().take(room) {
        let (x, y) = (i as u16 % across * each, i as u16 / across);
        let mut part = pane.part(x, y, each, 1);
        let label = if i == chosen { look[Token::Accent] } else { look[Token::Dim] };
        let mark = if i == chosen { look.glyphs.cursor } else { " " };
        part.put(0, 0, mark, label);
        part.put_in(2, 0, LABEL, &metric.label, label);
        let (low, high) = range(&metric.history).unwrap_or((0.0, 1.0));
        // A flat series is drawn flat, not as noise at full height.
        let room = metric.normal.map_or(0.0, |(a, b)| b - a).max(high.abs() * 0.02);
        let high = high.max(low + room * 2.0);
        let width = usize::from(each.saturating_sub(LABEL + 14)).clamp(6, 24);
        let tail = metric.history.len().saturating_sub(width * 6);
        let style = deviation_style(look, metric);
        let line = sparkline(look, &metric.history[tail..], width, low, high);
        let quiet = metric.deviation.is_some_and(|d| d.abs() < 3.0);
        // Bars are drawn in the colour of a look, also where that is its background.
        let bars = style.bg.filter(|bg| *bg != Color::Reset).map_or(style, |bg| Style::new().fg(bg));
        part.put(LABEL + 3, 0, &line, if quiet { look[Token::Dim] } else { bars });
        let now = metric
            .history
            .iter()
            .rev()
            .find(|v| v.is_finite())
            .map(|v| with_unit(f64::from(*v), &metric.unit));
        part.put_in(
            LABEL + 4 + width as u16,
            0,
            each.saturating_sub(LABEL + 6 + width as u16),
            &now.unwrap_or_default(),
            style,
        );
        let (glyph, token) = match metric.deviation.map(f64::abs) {
            Some(d) if d >= 6.0 => (look.glyphs.failing, Token::Bad),
            Some(d) if d >= 3.0 => (look.glyphs.suspect, Token::Watch),
            Some(_) => (" ", Token::Good),
            None => (look.glyphs.unknown, Token::Unknown),
        };
        part.put_right(each.saturating_sub(1), 0, glyph, look[token]);
    }
}

fn model_line(model: &Model, detail: &PartitionDetail, pane: &mut Pane<'_>) {
    let look = model.look();
    let known = [&detail.model, &detail.maturity].into_iter().filter(|text| !text.is_empty());
    let mut words = known.cloned().collect::<Vec<_>>().join(&format!(" {} ", look.glyphs.dot));
    let age = match model.looking_back() {
        // What the engine says of one partition it says of now.
        Some(_) => format!("chart and reasons are of {}", clock(detail.at)),
        None => format!("{} old", detail.at.age(model.now())),
    };
    words.push_str(&format!(" {} {age}", look.glyphs.dot));
    let lines = wrap(&words, usize::from(pane.width().saturating_sub(4)));
    let last = pane.height().saturating_sub(lines.len().min(2) as u16);
    for (i, line) in lines.iter().take(2).enumerate() {
        pane.put(2, last + i as u16, line, look[Token::Dim]);
    }
}

/// Parts as rows: what, and how many points.
fn rows(look: &Look, pane: &mut Pane<'_>, y: u16, parts: &[Part<'_>]) -> u16 {
    let width = pane.width();
    for (part, y) in parts.iter().zip(y..) {
        let style = if part.is_bad { look[Token::Watch] } else { look[Token::Good] };
        let x = pane.put_right(width, y, &signed(part.points), style);
        pane.put_in(0, y, x.saturating_sub(1), part.what, look[Token::Text]);
    }
    y + parts.len() as u16
}

/// What drove the health: rows as above, and of what is no metric with a chart of its own what it is, in words.
fn health_rows(
    model: &Model,
    detail: &PartitionDetail,
    pane: &mut Pane<'_>,
    y: u16,
    parts: &[Part<'_>],
) -> u16 {
    /// Lines of words under a row.
    const LINES: usize = 6;
    let look = model.look();
    let mut y = y;
    for part in parts {
        y = rows(look, pane, y, std::slice::from_ref(part));
        let charted = detail.metrics.iter().any(|m| m.label == part.what);
        if charted || part.words.is_empty() || part.words.starts_with(part.what) {
            continue;
        }
        for line in wrap(part.words, usize::from(pane.width().saturating_sub(2))).into_iter().take(LINES) {
            pane.put(2, y, &line, look[Token::Dim]);
            y += 1;
        }
    }
    y
}

fn why_title(model: &Model, id: &PartitionId) -> Option<(String, String, f64)> {
    let p = model.partition(id)?;
    let w = middle_window(&model.snapshot);
    let probability = p.failure.get(w)?;
    let window = model.snapshot.windows.get(w).map(|w| window_name(*w)).unwrap_or_default();
    Some((probability.to_string(), window, probability.get()))
}

fn why_panel(model: &Model, id: &PartitionId, detail: &PartitionDetail, pane: &mut Pane<'_>) {
    let look = model.look();
    let dim = look[Token::Dim];
    let height = pane.height();
    let mut y = 0;
    if let Some(p) = model.partition(id).filter(|p| p.shown == ShownState::Fenced) {
        pane.put(0, y, "OUT OF SERVICE", look[Token::Title]);
        y = pane.put_wrapped(0, y + 1, &format!("{}: {}", out_since(p, model), p.because), look[Token::Bad])
            + 1;
    } else if let Some((probability, window, value)) = why_title(model, id) {
        let x = pane.put(0, y, "WHY ", look[Token::Title]);
        let x = pane.put(x, y, &probability, chance_style(look, value));
        pane.put(x, y, &format!(" WITHIN {}", window.to_uppercase()), look[Token::Title]);
        y += 1;
        let top = y;
        y = rows(look, pane, y, &why::of_failure(detail, value, usize::from((height / 3).max(5))));
        if y == top {
            pane.put(0, y, "nothing in particular", dim);
            y += 1;
        }
        if let Some(p) = model.partition(id) {
            let sure = percent(look, detail.confidence);
            pane.put(0, y, &format!("{}, confidence {sure}", p.calibration), dim);
            y += 1;
        }
        y += 1;
    }
    if !detail.track_record.is_empty() {
        for line in wrap(&detail.track_record, usize::from(pane.width())).into_iter().take(3) {
            pane.put(0, y, &line, look[Token::Text]);
            y += 1;
        }
        y += 1;
    }
    if y + 3 < height && !detail.why_health.is_empty() {
        let health = model.partition(id).and_then(|p| p.health);
        let title = health.map_or("WHY THIS HEALTH".to_string(), |h| format!("HEALTH {h} OF 100"));
        pane.put(0, y, &title, look[Token::Title]);
        let most = usize::from((height.saturating_sub(y + 1) / 2).max(2));
        let parts = why::of_health(detail, health.map(HealthScore::get), most);
        y = health_rows(model, detail, pane, y + 1, &parts) + 1;
    }
    y = moves(model, id, pane, y);
    if y + 1 < height && !detail.events.is_empty() {
        pane.put(0, y, "OF LATE", look[Token::Title]);
        y += 1;
        for (at, words) in &detail.events {
            if y >= height {
                return;
            }
            let x = pane.put(0, y, &clock(*at), dim) + 1;
            pane.put(x, y, words, look[Token::Text]);
            y += 1;
        }
    }
}

/// Migrations and proposals that concern this partition.
fn moves(model: &Model, id: &PartitionId, pane: &mut Pane<'_>, mut y: u16) -> u16 {
    let look = model.look();
    let running = model.snapshot.migrations.iter().filter(|m| m.ended.is_none());
    let here: Vec<_> = running.filter(|m| m.source == *id || m.destination == *id).take(3).collect();
    for m in &here {
        let (glyph, style) = migration_mark(look, m);
        pane.put(
            0,
            y,
            &format!("{glyph} {} {} {} {}", m.id, m.workload, look.glyphs.arrow, m.destination),
            style,
        );
        y += 1;
    }
    if let Some(p) = model.chosen_proposal().filter(|p| p.open) {
        pane.put(0, y, &format!("{} {} {}", look.glyphs.cursor, p.id, p.title), look[Token::Accent]);
        y += 1;
    }
    if y > 0 && (!here.is_empty() || model.chosen_proposal().is_some_and(|p| p.open)) { y + 1 } else { y }
}

/// The reasons in a narrow terminal: two columns under the chart.
fn short_why(model: &Model, detail: &PartitionDetail, pane: &mut Pane<'_>) {
    let look = model.look();
    if let Some(p) = model.partition(&detail.id).filter(|p| p.shown == ShownState::Fenced) {
        pane.put_wrapped(2, 0, &format!("{}: {}", out_since(p, model), p.because), look[Token::Bad]);
        return;
    }
    let Some((probability, window, value)) = why_title(model, &detail.id) else { return };
    let x = pane.put(2, 0, "WHY ", look[Token::Title]);
    let x = pane.put(x, 0, &probability, chance_style(look, value));
    pane.put(x, 0, &format!(" WITHIN {}", window.to_uppercase()), look[Token::Title]);
    let half = pane.width() / 2;
    let height = pane.height().saturating_sub(1);
    let parts = why::of_failure(detail, value, 2 * usize::from(height));
    if parts.is_empty() {
        pane.put(2, 1, "nothing in particular", look[Token::Dim]);
    }
    let (left, right) = parts.split_at(parts.len().min(usize::from(height)));
    let mut column = |x, width, part: &[Part<'_>]| {
        rows(look, &mut pane.part(x, 1, width, height), 0, part);
    };
    column(2, half - 4, left);
    column(half + 2, half.saturating_sub(4), right);
}
