//! The fan chart: what was measured, the forecast's median with its 50 % and 90 % intervals, the
//! bound and where it is crossed. Only what is visible is looked at.

use ratatui::style::{Color, Style};

use super::line_canvas::LineCanvas;
use crate::fleet::{Span, Timestamp};
use crate::protocol::{ForecastView, MetricDetail};
use crate::tui::text::{Pane, clock_minutes, short_number};
use crate::tui::theme::Token;

/// How values and times map to dots.
struct Frame {
    start: Timestamp,
    span: f64,
    low: f64,
    high: f64,
    columns: usize,
    rows: usize,
}

impl Frame {
    fn x(&self, at: Timestamp) -> f64 {
        (at - self.start).0 as f64 / self.span * (self.columns * 2) as f64
    }

    fn y(&self, value: f64) -> f64 {
        (self.high - value) / (self.high - self.low) * (self.rows * 4 - 1) as f64
    }

    /// The time in the middle of a column of cells.
    fn time(&self, column: usize) -> f64 {
        self.start.0 as f64 + (column as f64 + 0.5) / self.columns as f64 * self.span
    }
}

/// Draws `metric` with `history` before `now` and the forecast after it.
pub fn fan_chart(mut pane: Pane<'_>, metric: &MetricDetail, history: Span, now: Timestamp) {
    const LABELS: u16 = 6;
    if pane.width() < LABELS + 10 || pane.height() < 3 {
        return;
    }
    let (columns, rows) = (usize::from(pane.width() - LABELS - 1), usize::from(pane.height() - 1));
    let ahead = metric.forecast.as_ref().map_or(Span::ZERO, |f| {
        let end = f.start + Span(f.step.0.saturating_mul(f.median.len() as i64));
        Span((end - now).0.clamp(0, history.0 * 3 / 4))
    });
    let total = Span((history + ahead).0.max(1));
    // The picture moves by whole dots, so that a chart that scrolls costs few bytes.
    let dot = Span((total.0 / (columns as i64 * 2)).max(1));
    let start = (now - history).floor(dot);
    let Some((low, high)) = limits(metric, start, now, start + total) else {
        pane.put(LABELS + 2, 1, "no data in this span", pane.look[Token::Dim]);
        return;
    };
    let frame = Frame { start, span: total.0 as f64, low, high, columns, rows };
    axes(&mut pane, &frame, LABELS, now);
    let mut plot = pane.part(LABELS + 1, 0, columns as u16, rows as u16);
    if let Some(forecast) = &metric.forecast {
        bands(&mut plot, &frame, forecast);
    }
    now_line(&mut plot, &frame, now);
    if let Some((bound, ..)) = metric.forecast.as_ref().and_then(|f| f.crossing) {
        bound_line(&mut plot, &frame, f64::from(bound));
    }
    let (measured, median) = lines(metric, &frame);
    if plot.look.paints_bands {
        layer(&mut plot, &frame, &median, Token::Median);
    } else {
        // Dots between shaded cells would look like holes: the darkest shade is the median.
        shade(&mut plot, &frame, &median);
    }
    layer(&mut plot, &frame, &measured, Token::History);
    if let Some((bound, at, ..)) = metric.forecast.as_ref().and_then(|f| f.crossing) {
        let (x, y) = (frame.x(at) / 2.0, frame.y(f64::from(bound)) / 4.0);
        if x >= 0.0 && y >= 0.0 && (x as usize) < columns && (y as usize) < rows {
            let (x, y) = (x as u16, y as u16);
            plot.cell(x, y, plot.look.glyphs.cross, plot.look[Token::Threshold]);
        }
    }
}

/// The lowest and highest value that is to be seen, with some room.
fn limits(metric: &MetricDetail, start: Timestamp, now: Timestamp, end: Timestamp) -> Option<(f64, f64)> {
    let mut low = f64::INFINITY;
    let mut high = f64::NEG_INFINITY;
    let mut see = |v: f32| {
        if v.is_finite() {
            low = low.min(f64::from(v));
            high = high.max(f64::from(v));
        }
    };
    for (at, value) in points(metric.start, metric.step, &metric.history) {
        if at >= start && at <= now {
            see(value);
        }
    }
    if let Some(f) = &metric.forecast {
        for (at, value) in points(f.start, f.step, &f.low90).chain(points(f.start, f.step, &f.high90)) {
            if at <= end {
                see(value);
            }
        }
        if let Some((bound, ..)) = f.crossing {
            see(bound);
        }
    }
    if let Some((a, b)) = metric.normal {
        see(a);
        see(b);
    }
    if low > high {
        return None;
    }
    if low >= 0.0 && low < high * 0.6 {
        low = 0.0;
    }
    let room = ((high - low) * 0.05).max(high.abs() * 1e-3).max(1e-9);
    Some((if low == 0.0 { 0.0 } else { low - room }, high + room))
}

fn points(start: Timestamp, step: Span, values: &[f32]) -> impl Iterator<Item = (Timestamp, f32)> + '_ {
    values.iter().enumerate().map(move |(i, v)| (start + Span(step.0.saturating_mul(i as i64)), *v))
}

/// Round steps of 1, 2 or 5 times a power of ten, about one for every three rows.
fn ticks(low: f64, high: f64, rows: usize) -> Vec<f64> {
    let wanted = (rows / 3).clamp(1, 8) as f64;
    let raw = (high - low) / wanted;
    if !raw.is_finite() || raw <= 0.0 {
        return Vec::new();
    }
    let power = 10f64.powf(raw.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= raw).unwrap_or(power * 10.0);
    let first = (low / step).ceil() as i64;
    (first..first + 12).map(|n| n as f64 * step).take_while(|v| *v <= high).collect()
}

fn axes(pane: &mut Pane<'_>, frame: &Frame, labels: u16, now: Timestamp) {
    let g = pane.look.glyphs;
    let axis = pane.look[Token::Axis];
    let faint = pane.look[Token::Faint];
    for y in 0..frame.rows {
        pane.cell(labels, y as u16, g.bar, faint);
    }
    for tick in ticks(frame.low, frame.high, frame.rows) {
        let row = (frame.y(tick) / 4.0).clamp(0.0, (frame.rows - 1) as f64) as u16;
        pane.put_right(labels - 1, row, &short_number(tick), axis);
        pane.cell(labels, row, g.tick, faint);
    }
    let y = frame.rows as u16;
    pane.cell(labels, y, g.corner, faint);
    let rule = g.rule.repeat(frame.columns);
    pane.put(labels + 1, y, &rule, faint);
    let step = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720]
        .into_iter()
        .map(Span::minutes)
        .find(|s| s.0 as f64 / frame.span * frame.columns as f64 >= 12.0)
        .unwrap_or(Span::hours(24));
    let at_now = (frame.x(now) / 2.0) as u16;
    let mut at = frame.start.floor(step) + step;
    while (at - frame.start).0 as f64 <= frame.span {
        let x = (frame.x(at) / 2.0) as u16;
        // A label that would touch `now` or the edge is left out.
        if x + 6 <= frame.columns as u16 && (x > at_now + 4 || x + 7 < at_now) {
            pane.put(labels + 1 + x, y, &clock_minutes(at), axis);
        }
        at += step;
    }
    pane.put(labels + 1 + at_now.saturating_sub(1), y, "now", axis);
}

fn now_line(plot: &mut Pane<'_>, frame: &Frame, now: Timestamp) {
    let x = (frame.x(now) / 2.0) as u16;
    for y in 0..frame.rows as u16 {
        plot.cell(x, y, plot.look.glyphs.now, plot.look[Token::Axis]);
    }
}

fn bound_line(plot: &mut Pane<'_>, frame: &Frame, bound: f64) {
    let y = (frame.y(bound) / 4.0) as u16;
    for x in (0..frame.columns as u16).step_by(2) {
        let style = Style { bg: None, ..plot.look[Token::Threshold] };
        plot.cell(x, y, plot.look.glyphs.dash, style);
    }
}

fn bands(plot: &mut Pane<'_>, frame: &Frame, forecast: &ForecastView) {
    let at = |series: &[f32], column: usize| -> Option<f64> {
        let position = (frame.time(column) - forecast.start.0 as f64) / forecast.step.0.max(1) as f64;
        if position < -0.5 {
            return None;
        }
        let position = position.max(0.0);
        let (i, part) = (position as usize, position.fract());
        let a = f64::from(*series.get(i)?);
        let b = series.get(i + 1).map_or(a, |b| f64::from(*b));
        Some(a + (b - a) * part)
    };
    for column in 0..frame.columns {
        let edges = (
            at(&forecast.low90, column),
            at(&forecast.high90, column),
            at(&forecast.low50, column),
            at(&forecast.high50, column),
        );
        let (Some(low90), Some(high90), Some(low50), Some(high50)) = edges else { continue };
        let edges = [high90, high50, low50, low90].map(|value| frame.y(value) / 4.0 + 0.25);
        for row in 0..frame.rows {
            band_cell(plot, column as u16, row as u16, edges);
        }
    }
}

/// One cell of the bands. `edges` are the borders from top to bottom, in rows. Where the theme paints
/// backgrounds, a border within a cell is drawn to an eighth of it.
fn band_cell(plot: &mut Pane<'_>, column: u16, row: u16, edges: [f64; 4]) {
    let look = plot.look;
    let band = |y: f64| match edges.iter().filter(|edge| y >= **edge).count() {
        2 => Some(Token::Band50),
        1 | 3 => Some(Token::Band90),
        _ => None,
    };
    let top_y = f64::from(row);
    let middle = band(top_y + 0.5);
    if !look.paints_bands {
        let shade = match middle {
            Some(Token::Band50) => look.glyphs.shade50,
            Some(_) => look.glyphs.shade90,
            None => return,
        };
        plot.cell(column, row, shade, look[middle.unwrap_or(Token::Band90)]);
        return;
    }
    let colour = |token: Option<Token>| look[token.unwrap_or(Token::Text)].bg.unwrap_or(Color::Reset);
    let (top, bottom) = (colour(band(top_y + 1.0 / 16.0)), colour(band(top_y + 15.0 / 16.0)));
    let border = edges.into_iter().find(|edge| (top_y..top_y + 1.0).contains(edge));
    let eighths = border.map_or(0, |edge| ((top_y + 1.0 - edge) * 8.0).round() as usize);
    // A border to nothing needs the screen's own colour in front, which only the theme can know.
    let known = top != Color::Reset && bottom != Color::Reset;
    if top == bottom || !known || !(1..8).contains(&eighths) {
        if let Some(token) = middle {
            plot.cell(column, row, " ", Style::new().bg(colour(Some(token))));
        }
        return;
    }
    plot.cell(column, row, look.glyphs.spark[eighths - 1], Style::new().fg(bottom).bg(top));
}

/// The measured line and the forecast's median, in dots.
fn lines(metric: &MetricDetail, frame: &Frame) -> (LineCanvas, LineCanvas) {
    let mut measured = LineCanvas::new(frame.columns, frame.rows);
    let mut before: Option<(f64, f64)> = None;
    for (at, value) in points(metric.start, metric.step, &metric.history) {
        if at < frame.start || !value.is_finite() {
            before = None;
            continue;
        }
        let point = (frame.x(at), frame.y(f64::from(value)));
        measured.line(before.unwrap_or(point), point);
        before = Some(point);
    }
    let mut median = LineCanvas::new(frame.columns, frame.rows);
    if let Some(forecast) = &metric.forecast {
        for (at, value) in points(forecast.start, forecast.step, &forecast.median) {
            let point = (frame.x(at), frame.y(f64::from(value)));
            if value.is_finite() {
                median.line(before.unwrap_or(point), point);
            }
            before = value.is_finite().then_some(point);
        }
    }
    (measured, median)
}

/// Lays a line over what is there; backgrounds stay.
fn layer(plot: &mut Pane<'_>, frame: &Frame, canvas: &LineCanvas, token: Token) {
    let braille = plot.look.glyphs.braille;
    let mut text = [0u8; 4];
    for row in 0..frame.rows {
        for column in 0..frame.columns {
            if let Some(glyph) = canvas.glyph(column, row, braille) {
                let over = Style { bg: None, ..plot.look[token] };
                plot.cell(column as u16, row as u16, glyph.encode_utf8(&mut text), over);
            }
        }
    }
}

/// Fills every cell that a line goes through.
fn shade(plot: &mut Pane<'_>, frame: &Frame, canvas: &LineCanvas) {
    let (braille, median) = (plot.look.glyphs.braille, plot.look.glyphs.shade_median);
    for row in 0..frame.rows {
        for column in 0..frame.columns {
            if canvas.glyph(column, row, braille).is_some() {
                plot.cell(column as u16, row as u16, median, plot.look[Token::Median]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks(0.0, 80.0, 10), [0.0, 50.0]);
        assert_eq!(ticks(0.0, 63.0, 12), [0.0, 20.0, 40.0, 60.0]);
        assert!(ticks(1.0, 1.0, 10).is_empty());
        assert!(ticks(0.0, f64::INFINITY, 10).is_empty());
    }
}
