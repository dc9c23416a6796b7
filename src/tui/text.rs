//! Text on a grid of cells: cleaning what comes from outside, clipping to a width, and the pane that
//! all views write through.

use std::borrow::Cow;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::theme::{Look, Token};
use crate::fleet::{Span, Timestamp};

/// `text` without anything that could steer the terminal or turn the line around: control
/// characters, bidirectional overrides and zero-width characters become `·`.
pub fn clean(text: &str) -> Cow<'_, str> {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}')
    };
    if text.contains(steers) {
        Cow::Owned(text.chars().map(|c| if steers(c) { '·' } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// `text` for a terminal that shows ASCII alone: what has a likeness becomes it, the rest `?`.
pub fn ascii(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0'..='\x7f' => out.push(c),
            '→' => out.push_str("->"),
            '×' => out.push('x'),
            '–' | '−' | '—' => out.push('-'),
            '…' => out.push('~'),
            '·' | '•' => out.push('.'),
            '°' => {}
            'σ' => out.push_str("sd"),
            'Δ' => out.push('d'),
            'µ' | 'μ' => out.push('u'),
            '≥' => out.push_str(">="),
            '≤' => out.push_str("<="),
            '±' => out.push_str("+-"),
            '‘' | '’' => out.push('\''),
            '“' | '”' => out.push('"'),
            _ => out.push('?'),
        }
    }
    Cow::Owned(out)
}

/// `text` in at most `width` columns; what is cut off is replaced by `ellipsis`.
pub fn clip<'a>(text: &'a str, width: usize, ellipsis: &str) -> Cow<'a, str> {
    if text.len() <= width && text.is_ascii() || text.width() <= width {
        return Cow::Borrowed(text);
    }
    let room = width.saturating_sub(ellipsis.width());
    let mut taken = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if used + w > room {
            break;
        }
        used += w;
        taken.push(c);
    }
    if width >= ellipsis.width() {
        taken.push_str(ellipsis);
    }
    Cow::Owned(taken)
}

/// `text` in lines of at most `width` columns, broken at spaces where possible.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word = word;
        loop {
            let last = lines.last_mut().expect("there is always a line");
            let gap = usize::from(!last.is_empty());
            if last.width() + gap + word.width() <= width {
                if gap == 1 {
                    last.push(' ');
                }
                last.push_str(word);
                break;
            }
            if !last.is_empty() {
                lines.push(String::new());
                continue;
            }
            let mut cut = 0;
            let mut used = 0;
            for (at, c) in word.char_indices() {
                used += c.width().unwrap_or(0);
                if used > width && at > 0 {
                    break;
                }
                cut = at + c.len_utf8();
            }
            last.push_str(&word[..cut]);
            word = &word[cut..];
            if word.is_empty() {
                break;
            }
            lines.push(String::new());
        }
    }
    lines
}

/// A piece of text with its look.
pub type Piece = (String, Style);

/// A part of the screen that can be written to; coordinates are its own, what falls outside is
/// left out.
pub struct Pane<'a> {
    /// The whole screen.
    pub buf: &'a mut Buffer,
    /// The part.
    pub area: Rect,
    /// How things look.
    pub look: &'a Look,
}

impl<'a> Pane<'a> {
    /// The part `area` of `buf`.
    pub fn new(buf: &'a mut Buffer, area: Rect, look: &'a Look) -> Self {
        let area = area.intersection(buf.area);
        Self { buf, area, look }
    }

    /// Columns.
    pub fn width(&self) -> u16 {
        self.area.width
    }

    /// Rows.
    pub fn height(&self) -> u16 {
        self.area.height
    }

    /// A part of this part.
    pub fn part(&mut self, x: u16, y: u16, width: u16, height: u16) -> Pane<'_> {
        let wanted =
            Rect { x: self.area.x.saturating_add(x), y: self.area.y.saturating_add(y), width, height };
        let area = wanted.intersection(self.area);
        let area = if area.is_empty() { Rect { width: 0, height: 0, ..self.area } } else { area };
        Pane { buf: self.buf, area, look: self.look }
    }

    /// All but the first `rows` rows.
    pub fn below(&mut self, rows: u16) -> Pane<'_> {
        self.part(0, rows, self.width(), self.height().saturating_sub(rows))
    }

    /// Writes `text` at `x`, `y` in at most `width` columns; the column after it.
    pub fn put_in(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) -> u16 {
        if y >= self.area.height || x >= self.area.width || width == 0 {
            return x;
        }
        let width = width.min(self.area.width - x);
        let text = clean(text);
        let text = if self.look.glyphs.braille { text } else { ascii(&text) };
        let text = clip(&text, width as usize, self.look.glyphs.ellipsis);
        // What is written over keeps its background, but not its attributes.
        let covered = (text.width() as u16).min(width);
        for x in x..x + covered {
            if let Some(cell) = self.buf.cell_mut((self.area.x + x, self.area.y + y)) {
                cell.modifier = ratatui::style::Modifier::empty();
            }
        }
        let (end, _) = self.buf.set_stringn(self.area.x + x, self.area.y + y, &text, width as usize, style);
        end - self.area.x
    }

    /// Writes `text` at `x`, `y` up to the edge; the column after it.
    pub fn put(&mut self, x: u16, y: u16, text: &str, style: Style) -> u16 {
        self.put_in(x, y, u16::MAX, text, style)
    }

    /// Writes `text` from `x`, `y` on, in as many lines of the room to the right of `x` as it takes; the row after
    /// them.
    pub fn put_wrapped(&mut self, x: u16, y: u16, text: &str, style: Style) -> u16 {
        let lines = wrap(text, usize::from(self.width().saturating_sub(x + 1)));
        lines.iter().fold(y, |y, line| {
            self.put(x, y, line, style);
            y + 1
        })
    }

    /// Writes pieces one after the other; the column after the last.
    pub fn pieces(&mut self, x: u16, y: u16, pieces: &[Piece]) -> u16 {
        pieces.iter().fold(x, |x, (text, style)| self.put(x, y, text, *style))
    }

    /// Writes `text` so that it ends before column `right`; where it begins.
    pub fn put_right(&mut self, right: u16, y: u16, text: &str, style: Style) -> u16 {
        let text = clean(text);
        let x = right.min(self.area.width).saturating_sub(text.width() as u16);
        self.put(x, y, &text, style);
        x
    }

    /// A rule across row `y`.
    pub fn rule(&mut self, y: u16) {
        if y < self.area.height {
            let rule = self.look.glyphs.rule.repeat(self.area.width as usize);
            self.put(0, y, &rule, self.look[Token::Faint]);
        }
    }

    /// Gives every cell of the rows a look, over the one they have.
    pub fn tint(&mut self, y: u16, rows: u16, style: Style) {
        let area = self.part(0, y, self.width(), rows).area;
        self.buf.set_style(area, style);
    }

    /// Sets one cell.
    pub fn cell(&mut self, x: u16, y: u16, glyph: &str, style: Style) {
        if x < self.area.width
            && y < self.area.height
            && let Some(cell) = self.buf.cell_mut((self.area.x + x, self.area.y + y))
        {
            cell.modifier = ratatui::style::Modifier::empty();
            cell.set_symbol(glyph).set_style(style);
        }
    }

    /// A look from the theme.
    pub fn style(&self, token: Token) -> Style {
        self.look[token]
    }
}

/// A point in time as `03:02:11`, in UTC.
pub fn clock(at: Timestamp) -> String {
    let s = at.millis().div_euclid(1000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", s / 3600, s % 3600 / 60, s % 60)
}

/// A point in time as `03:02`, in UTC.
pub fn clock_minutes(at: Timestamp) -> String {
    clock(at)[..5].to_string()
}

/// A point in time as `03:02:11`, or with its date where it is not of the same day as `now`.
pub fn clock_or_date(at: Timestamp, now: Timestamp) -> String {
    const DAY: i64 = 86_400_000;
    if at.millis().div_euclid(DAY) == now.millis().div_euclid(DAY) {
        return clock(at);
    }
    match jiff::Timestamp::from_millisecond(at.millis()) {
        Ok(t) => t.strftime("%m-%d %H:%M").to_string(),
        Err(_) => clock(at),
    }
}

/// A span that ticks slowly: whole minutes from one minute on, `now` where nothing is left.
pub fn coarse(span: Span) -> String {
    match span.0 {
        i64::MIN..1000 => "now".to_string(),
        1000..60_000 => Span::seconds(span.0 / 1000).to_string(),
        60_000..3_600_000 => format!("{} m", span.0 / 60_000),
        _ => span.to_string(),
    }
}

/// A number for people: at most three digits that matter.
pub fn short_number(value: f64) -> String {
    let a = value.abs();
    if !value.is_finite() {
        "–".to_string()
    } else if a >= 1e9 {
        format!("{:.1} G", value / 1e9)
    } else if a >= 1e6 {
        format!("{:.1} M", value / 1e6)
    } else if a >= 1e4 {
        format!("{:.0} k", value / 1e3)
    } else if a >= 100.0 || value == value.trunc() && a >= 10.0 {
        format!("{value:.0}")
    } else if a >= 10.0 {
        format!("{value:.1}")
    } else if value == value.trunc() {
        format!("{value:.0}")
    } else if a >= 1.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\u{202e}c\u{9b}d\n"), "a·[2Jb·c·d·");
        assert_eq!(clean("fra-r3-11/p2"), "fra-r3-11/p2");
    }

    #[test]
    fn clipping_counts_columns() {
        assert_eq!(clip("abcdef", 4, "…"), "abc…");
        assert_eq!(clip("日本語", 5, "…"), "日本…");
        assert_eq!(clip("abc", 0, "…"), "");
    }

    #[test]
    fn wrapping_loses_no_word() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("", 3), [""]);
    }
}
