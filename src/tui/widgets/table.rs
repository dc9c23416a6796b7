//! A table that draws only the rows that are visible, and drops columns that do not fit, the least
//! important first.

use ratatui::style::Color;
use unicode_width::UnicodeWidthStr;

use crate::tui::text::{Pane, Piece};
use crate::tui::theme::Token;
use crate::tui::theme::colour::{contrast, rgb};

/// How a column is aligned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    /// To the left.
    Left,
    /// To the right: numbers.
    Right,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column<'a> {
    /// Its heading.
    pub title: &'a str,
    /// Least width.
    pub width: u16,
    /// Share of what is left over; 0 = keeps its least width. A column that is not the last grows to
    /// `1 + grow / 2` times its least width at most: what belongs together stays in sight of each other.
    pub grow: u16,
    /// Its alignment.
    pub align: Align,
    /// Importance: 0 is never dropped, larger is dropped earlier.
    pub drop: u8,
    /// The field that it shows, by its place in the list's fields: for the mark of the sort.
    pub field: Option<usize>,
}

/// A column to the left.
pub const fn left(title: &str, width: u16, grow: u16, drop: u8, field: Option<usize>) -> Column<'_> {
    Column { title, width, grow, align: Align::Left, drop, field }
}

/// A column of numbers.
pub const fn right(title: &str, width: u16, drop: u8, field: Option<usize>) -> Column<'_> {
    Column { title, width, grow: 0, align: Align::Right, drop, field }
}

/// What a cell says: pieces of text.
pub type Cell = Vec<Piece>;

/// What a table is drawn from.
pub struct Table<'a> {
    /// The columns.
    pub columns: &'a [Column<'a>],
    /// The first visible row.
    pub offset: usize,
    /// How many rows there are.
    pub rows: usize,
    /// The selected row, if one is.
    pub selected: Option<usize>,
    /// The field that sorts, and whether it is the other way round.
    pub sorted: Option<(usize, &'a str)>,
}

const GAP: u16 = 2;

/// Which columns fit into `width`, and how wide they are: pairs of index and width.
fn fit(columns: &[Column<'_>], width: u16) -> Vec<(usize, u16)> {
    let mut kept: Vec<usize> = (0..columns.len()).collect();
    let total = |kept: &[usize]| -> u16 {
        kept.iter()
            .map(|i| columns[*i].width.saturating_add(GAP))
            .fold(0, u16::saturating_add)
            .saturating_sub(GAP)
    };
    while total(&kept) > width {
        let Some(at) = (0..kept.len()).max_by_key(|at| (columns[kept[*at]].drop, *at)) else { break };
        if columns[kept[at]].drop == 0 {
            break;
        }
        kept.remove(at);
    }
    let spare = width.saturating_sub(total(&kept));
    let growth: u16 = kept.iter().map(|i| columns[*i].grow).sum();
    let last = kept.last().copied();
    let mut left = spare;
    kept.into_iter()
        .map(|i| {
            let column = &columns[i];
            let share =
                if growth > 0 { u32::from(spare) * u32::from(column.grow) / u32::from(growth) } else { 0 };
            let more = match Some(i) == last && column.grow > 0 {
                true => left,
                false => (share as u16).min(column.width * column.grow / 2),
            };
            left -= more;
            (i, column.width + more)
        })
        .collect()
}

impl Table<'_> {
    /// Draws headings in the first row and the visible rows below; `cell(row, column)` says what a
    /// cell says.
    pub fn draw(&self, pane: &mut Pane<'_>, cell: impl Fn(usize, usize) -> Cell) {
        let g = pane.look.glyphs;
        let widths = fit(self.columns, pane.width().saturating_sub(3));
        let heading = pane.look[Token::Dim];
        let mut x = 2;
        for (i, width) in &widths {
            let column = &self.columns[*i];
            let mark = self.sorted.filter(|(field, _)| column.field == Some(*field)).map(|(_, arrow)| arrow);
            let style = if mark.is_some() { pane.look[Token::Accent] } else { heading };
            let title = match mark {
                Some(arrow) => format!("{}{arrow}", column.title),
                None => column.title.to_string(),
            };
            place(pane, x, 0, *width, column.align, &vec![(title, style)]);
            x += width + GAP;
        }
        let visible = usize::from(pane.height().saturating_sub(1));
        for (line, row) in (self.offset..self.rows).take(visible).enumerate() {
            let y = line as u16 + 1;
            let selected = self.selected == Some(row);
            let mut x = 2;
            for (i, width) in &widths {
                let pieces = cell(row, *i);
                place(pane, x, y, *width, self.columns[*i].align, &pieces);
                x += width + GAP;
            }
            if selected {
                select(pane, y);
                let style = pane.look[Token::Selection];
                pane.put(0, y, g.cursor, style);
            }
        }
        scroll_mark(pane, self.offset, self.rows, visible);
    }
}

/// Gives a row the look of the selection. Where the theme has a background for it, the colour of a
/// state stays if it can be read on that.
pub fn select(pane: &mut Pane<'_>, y: u16) {
    let style = pane.look[Token::Selection];
    let paint = style.bg.filter(|bg| *bg != Color::Reset);
    let area = pane.part(0, y, pane.width(), 1).area;
    for x in area.left()..area.right() {
        let Some(cell) = pane.buf.cell_mut((x, area.y)) else { continue };
        match paint {
            Some(bg) => {
                if !readable(cell.fg, bg) {
                    cell.fg = style.fg.unwrap_or(Color::Reset);
                }
                cell.bg = bg;
                cell.modifier |= style.add_modifier;
            }
            // Reversed, every colour would become a patch of background: one look for the whole row.
            None => {
                (cell.fg, cell.bg) = (Color::Reset, Color::Reset);
                cell.modifier = style.add_modifier;
            }
        }
    }
}

/// Whether text of that colour can be read there; of what only the terminal knows, no.
fn readable(text: Color, on: Color) -> bool {
    const LEAST: f64 = 4.5;
    match (rgb(text), rgb(on)) {
        (Some(text), Some(on)) => contrast(text, on) >= LEAST,
        _ => false,
    }
}

fn place(pane: &mut Pane<'_>, x: u16, y: u16, width: u16, align: Align, pieces: &Cell) {
    let total: usize = pieces.iter().map(|(text, _)| text.width()).sum();
    let mut at = match align {
        Align::Left => x,
        Align::Right => x + width.saturating_sub(total.min(usize::from(width)) as u16),
    };
    for (text, style) in pieces {
        at = pane.put_in(at, y, (x + width).saturating_sub(at), text, *style);
    }
}

/// Where in a long list the visible part is: a mark at the right edge.
fn scroll_mark(pane: &mut Pane<'_>, offset: usize, rows: usize, visible: usize) {
    if rows <= visible || visible < 2 || pane.width() < 3 {
        return;
    }
    let at = offset * (visible - 1) / (rows - visible).max(1);
    let x = pane.width() - 1;
    for line in 0..visible {
        let (glyph, token) = if line == at.min(visible - 1) {
            (pane.look.glyphs.full, Token::Dim)
        } else {
            (pane.look.glyphs.bar, Token::Faint)
        };
        pane.cell(x, line as u16 + 1, glyph, pane.look[token]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_dropped_by_importance_and_the_rest_grows() {
        let columns = [left("a", 10, 1, 0, None), right("b", 5, 1, None), left("c", 8, 0, 2, None)];
        // What is not last grows by half at most: its numbers stay beside it.
        assert_eq!(fit(&columns, 40), [(0, 15), (1, 5), (2, 8)]);
        assert_eq!(fit(&columns, 20), [(0, 13), (1, 5)]);
        assert_eq!(fit(&columns, 4), [(0, 10)]);
        let text_last = [right("b", 5, 0, None), left("because", 8, 1, 0, None)];
        assert_eq!(fit(&text_last, 40), [(0, 5), (1, 33)]);
    }
}
