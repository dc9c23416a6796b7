//! Cells and lines of CSV (RFC 4180): where a line ends, what its cells are, and what a quoted one
//! says. Nothing is copied.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter};

/// One cell, without the quotes around it.
#[derive(Clone, Copy)]
pub(super) struct Cell<'a> {
    pub(super) raw: &'a [u8],
    pub(super) quoted: bool,
}

impl Cell<'_> {
    /// What it says; doubled quotes of a quoted one are one.
    pub(super) fn text(&self) -> Cow<'_, str> {
        let text = String::from_utf8_lossy(self.raw);
        if self.quoted && text.contains("\"\"") { text.replace("\"\"", "\"").into() } else { text }
    }
}

/// A line without its end.
pub(super) fn content(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Length of the first line with its end, where a quoted cell may go over lines; `None` where it is
/// not whole.
pub(super) fn line_end(data: &[u8]) -> Option<usize> {
    let mut quotes = 0usize;
    let mut from = 0;
    for end in memchr_iter(b'\n', data) {
        quotes += memchr_iter(b'"', &data[from..end]).count();
        if quotes.is_multiple_of(2) {
            return Some(end + 1);
        }
        from = end;
    }
    None
}

/// The cells of a line's content; at least one.
pub(super) fn split(content: &[u8]) -> Vec<Cell<'_>> {
    let mut cells = Vec::with_capacity(16);
    let mut rest = content;
    loop {
        if rest.first() == Some(&b'"') {
            let close = closing_quote(&rest[1..]);
            let raw = &rest[1..=close];
            cells.push(Cell { raw, quoted: true });
            let behind = rest.get(close + 2..).unwrap_or_default();
            match memchr(b',', behind) {
                Some(comma) => rest = &behind[comma + 1..],
                None => return cells,
            }
        } else {
            match memchr(b',', rest) {
                Some(comma) => {
                    cells.push(Cell { raw: &rest[..comma], quoted: false });
                    rest = &rest[comma + 1..];
                }
                None => {
                    cells.push(Cell { raw: rest, quoted: false });
                    return cells;
                }
            }
        }
    }
}

/// Where the quote closes (doubled ones are text); the end where it does not.
fn closing_quote(text: &[u8]) -> usize {
    let mut i = 0;
    while let Some(quote) = memchr(b'"', &text[i..]) {
        let at = i + quote;
        if text.get(at + 1) != Some(&b'"') {
            return at;
        }
        i = at + 2;
    }
    text.len()
}

/// The start of a line for an error message.
pub(super) fn quote(content: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(&content[..content.len().min(80)])
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!("{text:?}")
}
