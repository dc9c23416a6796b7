//! A streaming parser of Flux's annotated CSV (RFC 4180 with `#datatype`, `#group`, `#default` rows,
//! a header a table, an empty line between tables of different columns, and error tables).
//!
//! It is fed with pieces of the answer as they arrive and allocates nothing for a cell. Rows of one
//! table differ in time and value alone, so what stands before, between and behind these two is
//! compared with the row before as bytes; only where it differs a row is taken apart.

mod cells;
mod values;

use std::borrow::Cow;

use memchr::memchr;

use self::cells::{Cell, content, line_end, quote, split};
pub(super) use self::values::parse_time;
use self::values::{Minute, number};
use crate::fleet::Timestamp;

/// Longest line that is waited for; a longer one is nonsense.
const LONGEST_LINE: usize = 1 << 20;

/// What takes the rows.
pub(super) trait Rows {
    /// A row whose cells, time and value apart, differ from the row before: which series is it?
    /// `None` = none that is wanted.
    fn series(&mut self, row: &Row<'_>) -> Option<u32>;

    /// One sample of the series; NaN for an empty value.
    fn sample(&mut self, series: u32, at: Timestamp, value: f64);

    /// A row of a table that has no time or no value.
    fn record(&mut self, _row: &Row<'_>) {}
}

/// A row that was taken apart.
pub(super) struct Row<'a> {
    columns: &'a [String],
    defaults: &'a [String],
    cells: &'a [Cell<'a>],
}

impl Row<'_> {
    /// The cell of that column, its default where it is empty; `None` where neither says anything.
    pub(super) fn get(&self, column: &str) -> Option<Cow<'_, str>> {
        let index = self.columns.iter().position(|c| c == column)?;
        match self.cells.get(index).map(Cell::text) {
            Some(text) if !text.is_empty() => Some(text),
            _ => self.defaults.get(index).filter(|d| !d.is_empty()).map(|d| d.as_str().into()),
        }
    }
}

/// What could not be understood, or what the server had to say.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum CsvError {
    /// An error table: the query failed on the server.
    Server(String),
    /// Not annotated CSV.
    Nonsense {
        /// Line and byte.
        place: String,
        /// Expected and got.
        detail: String,
    },
}

/// What was met.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    /// Samples given on.
    pub(super) points: u64,
    /// Rows that could not be understood.
    pub(super) rejected: u64,
    /// Bytes fed.
    pub(super) bytes: u64,
}

/// The row before, as the bytes around its time and its value.
#[derive(Default)]
struct Before {
    known: bool,
    series: Option<u32>,
    prefix: Vec<u8>,
    middle: Vec<u8>,
    suffix: Vec<u8>,
}

/// The parser.
pub(super) struct Parser {
    time_column: &'static str,
    value_column: &'static str,
    carry: Vec<u8>,
    header_next: bool,
    seen_header: bool,
    columns: Vec<String>,
    defaults: Vec<String>,
    time: Option<usize>,
    value: Option<usize>,
    before: Before,
    minute: Minute,
    lines: u64,
    counts: Counts,
}

impl Parser {
    /// A parser that waits for the first header.
    pub(super) fn new() -> Self {
        Self {
            time_column: "_time",
            value_column: "_value",
            carry: Vec::new(),
            header_next: true,
            seen_header: false,
            columns: Vec::new(),
            defaults: Vec::new(),
            time: None,
            value: None,
            before: Before::default(),
            minute: Minute::default(),
            lines: 0,
            counts: Counts::default(),
        }
    }

    /// The next piece of the answer.
    pub(super) fn feed(&mut self, piece: &[u8], rows: &mut impl Rows) -> Result<(), CsvError> {
        self.counts.bytes += piece.len() as u64;
        let mut piece = piece;
        if !self.carry.is_empty() {
            // Complete the line that was cut, then go on in place.
            let mut carry = std::mem::take(&mut self.carry);
            loop {
                let Some(end) = memchr(b'\n', piece) else {
                    carry.extend_from_slice(piece);
                    return self.keep(carry);
                };
                carry.extend_from_slice(&piece[..=end]);
                piece = &piece[end + 1..];
                if line_end(&carry).is_some() {
                    break;
                }
            }
            self.consume(&carry, rows)?;
            carry.clear();
            self.carry = carry;
        }
        let used = self.consume(piece, rows)?;
        let mut carry = std::mem::take(&mut self.carry);
        carry.extend_from_slice(&piece[used..]);
        self.keep(carry)
    }

    /// The end of the answer.
    ///
    /// # Errors
    /// Where it ends in the middle of a line: what is cut off may have another name or another value
    /// than it would have had, and more may be missing.
    pub(super) fn finish(mut self, rows: &mut impl Rows) -> Result<Counts, CsvError> {
        let carry = std::mem::take(&mut self.carry);
        if !carry.is_empty() {
            let rows_follow = !self.header_next && self.time.is_some() && self.value.is_some();
            if rows_follow {
                return Err(self.nonsense("an answer that ends in the middle of a line"));
            }
            self.line(&carry, carry.len(), rows)?;
        }
        Ok(self.counts)
    }

    fn keep(&mut self, carry: Vec<u8>) -> Result<(), CsvError> {
        if carry.len() > LONGEST_LINE {
            return Err(self.nonsense("a line longer than a megabyte"));
        }
        self.carry = carry;
        Ok(())
    }

    fn nonsense(&self, got: &str) -> CsvError {
        CsvError::Nonsense {
            place: format!("line {}, byte {}", self.lines, self.counts.bytes),
            detail: format!("expected annotated CSV, got {got}"),
        }
    }

    /// Takes all whole lines; gives how many bytes they had.
    fn consume(&mut self, data: &[u8], rows: &mut impl Rows) -> Result<usize, CsvError> {
        let mut at = 0;
        while at < data.len() {
            if let Some((len, time, value)) = self.same_series(&data[at..]) {
                at += len;
                self.lines += 1;
                if let Some(series) = self.before.series {
                    self.counts.points += 1;
                    rows.sample(series, time, value);
                }
                continue;
            }
            let Some(end) = line_end(&data[at..]) else { break };
            self.line(&data[at..at + end], end, rows)?;
            at += end;
        }
        Ok(at)
    }

    /// The quick way: a whole row that is like the one before but for time and value.
    #[inline]
    fn same_series(&mut self, data: &[u8]) -> Option<(usize, Timestamp, f64)> {
        let before = &self.before;
        if !before.known {
            return None;
        }
        let rest = data.strip_prefix(before.prefix.as_slice())?;
        let time = self.minute.parse(rest.first_chunk::<20>()?)?;
        let rest = rest[20..].strip_prefix(before.middle.as_slice())?;
        let (value, len) = fast_float2::parse_partial::<f64, _>(rest).ok()?;
        let rest = rest.get(len..)?.strip_prefix(before.suffix.as_slice())?;
        Some((data.len() - rest.len(), time, value))
    }

    /// One line of `len` bytes, its end included.
    fn line(&mut self, line: &[u8], len: usize, rows: &mut impl Rows) -> Result<(), CsvError> {
        self.lines += 1;
        let content = content(&line[..len]);
        if content.is_empty() {
            self.header_next = true;
            self.before.known = false;
            return Ok(());
        }
        if content.first() == Some(&b'#') {
            return self.annotation(content);
        }
        if self.header_next {
            return self.header(content);
        }
        self.data(content, line, rows)
    }

    fn annotation(&mut self, content: &[u8]) -> Result<(), CsvError> {
        self.before.known = false;
        self.header_next = true;
        if content.starts_with(b"#default") {
            self.defaults = split(content).iter().map(|c| c.text().into_owned()).collect();
            self.defaults[0].clear();
        } else if content.starts_with(b"#datatype") || content.starts_with(b"#group") {
            self.defaults.clear();
        } else {
            return Err(self.nonsense(&quote(content)));
        }
        Ok(())
    }

    fn header(&mut self, content: &[u8]) -> Result<(), CsvError> {
        let columns: Vec<String> = split(content).iter().map(|c| c.text().into_owned()).collect();
        let is = |name: &str| columns.iter().position(|c| c == name);
        // The first column is the annotations' and has no name, also in an error table.
        let known = ["result", "table", "_time", "_value", "_field", "error"];
        if !known.iter().any(|name| is(name).is_some()) {
            return Err(self.nonsense(&quote(content)));
        }
        self.time = is(self.time_column);
        self.value = is(self.value_column);
        self.columns = columns;
        self.header_next = false;
        self.seen_header = true;
        self.before.known = false;
        Ok(())
    }

    fn data(&mut self, content: &[u8], line: &[u8], rows: &mut impl Rows) -> Result<(), CsvError> {
        let cells = split(content);
        self.before.known = false;
        let row = Row { columns: &self.columns, defaults: &self.defaults, cells: &cells };
        if let Some(text) = row.get("error")
            && self.time.is_none()
        {
            return Err(CsvError::Server(text.into_owned()));
        }
        if cells.len() != self.columns.len() {
            self.counts.rejected += 1;
            return Ok(());
        }
        let (Some(time), Some(value)) = (self.time, self.value) else {
            rows.record(&row);
            return Ok(());
        };
        let number = if cells[value].raw.is_empty() { Some(f64::NAN) } else { number(cells[value].raw) };
        let (Some(at), Some(number)) = (parse_time(cells[time].raw), number) else {
            self.counts.rejected += 1;
            return Ok(());
        };
        let series = rows.series(&row);
        if let Some(series) = series {
            self.counts.points += 1;
            rows.sample(series, at, number);
        }
        self.before.remember(series, line, cells[time], cells[value]);
        Ok(())
    }
}

impl Before {
    fn remember(&mut self, series: Option<u32>, line: &[u8], time: Cell<'_>, value: Cell<'_>) {
        let offset = |cell: Cell<'_>| cell.raw.as_ptr() as usize - line.as_ptr() as usize;
        let (t, v) = (offset(time), offset(value));
        // The quick way is for plain rows that have an end and their time before their value.
        self.known = t < v && line.ends_with(b"\n") && !time.quoted && !value.quoted;
        if self.known {
            self.series = series;
            replace(&mut self.prefix, &line[..t]);
            replace(&mut self.middle, &line[t + time.raw.len()..v]);
            replace(&mut self.suffix, &line[v + value.raw.len()..]);
        }
    }
}

fn replace(buffer: &mut Vec<u8>, by: &[u8]) {
    buffer.clear();
    buffer.extend_from_slice(by);
}

#[cfg(test)]
mod tests;
