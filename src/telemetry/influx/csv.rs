//! A streaming parser of Flux's annotated CSV (RFC 4180 with `#datatype`, `#group`, `#default` rows,
//! a header a table, an empty line between tables of different columns, and error tables).
//!
//! It is fed with pieces of the answer as they arrive and allocates nothing for a cell. Rows of one
//! table differ in time and value alone, so what stands before, between and behind these two is
//! compared with the row before as bytes; only where it differs a row is taken apart.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter};

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

#[derive(Clone, Copy)]
struct Cell<'a> {
    raw: &'a [u8],
    quoted: bool,
}

impl Cell<'_> {
    fn text(&self) -> Cow<'_, str> {
        let text = String::from_utf8_lossy(self.raw);
        if self.quoted && text.contains("\"\"") { text.replace("\"\"", "\"").into() } else { text }
    }
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
    pub(super) fn finish(mut self, rows: &mut impl Rows) -> Result<Counts, CsvError> {
        let carry = std::mem::take(&mut self.carry);
        if !carry.is_empty() {
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
        let content = line[..len].trim_ascii_end_newline();
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

trait TrimNewline {
    fn trim_ascii_end_newline(&self) -> &[u8];
}

impl TrimNewline for [u8] {
    fn trim_ascii_end_newline(&self) -> &[u8] {
        let line = self.strip_suffix(b"\n").unwrap_or(self);
        line.strip_suffix(b"\r").unwrap_or(line)
    }
}

/// Length of the first line with its end, where a quoted cell may go over lines; `None` where it is
/// not whole.
fn line_end(data: &[u8]) -> Option<usize> {
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

fn split(content: &[u8]) -> Vec<Cell<'_>> {
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

fn quote(content: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(&content[..content.len().min(80)])
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!("{text:?}")
}

fn number(raw: &[u8]) -> Option<f64> {
    match raw {
        b"true" => Some(1.0),
        b"false" => Some(0.0),
        _ => fast_float2::parse(raw).ok(),
    }
}

/// The minute of the row before, so that mostly two digits are read.
#[derive(Default)]
struct Minute {
    text: [u8; 17],
    start: i64,
}

impl Minute {
    /// `2026-11-21T02:00:10Z`.
    #[inline]
    fn parse(&mut self, text: &[u8; 20]) -> Option<Timestamp> {
        if text[19] != b'Z' {
            return None;
        }
        if text[..17] != self.text {
            let start = parse_minute(&text[..17])?;
            self.text.copy_from_slice(&text[..17]);
            self.start = start;
        }
        let (tens, ones) = (text[17].wrapping_sub(b'0'), text[18].wrapping_sub(b'0'));
        if tens > 6 || ones > 9 {
            return None;
        }
        Some(Timestamp(self.start + i64::from(tens * 10 + ones) * 1000))
    }
}

/// `2026-11-21T02:00:` as milliseconds since the epoch.
fn parse_minute(text: &[u8]) -> Option<i64> {
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if text.len() != 17 || separators.iter().any(|&(i, c)| text[i] != c) || !matches!(text[10], b'T' | b' ') {
        return None;
    }
    let digits = |from: usize, to: usize| {
        text[from..to].iter().try_fold(0i64, |n, c| c.is_ascii_digit().then(|| n * 10 + i64::from(c - b'0')))
    };
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let (hour, minute) = (digits(11, 13)?, digits(14, 16)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 24 || minute > 59 {
        return None;
    }
    Some(((days_from_civil(year, month, day) * 24 + hour) * 60 + minute) * 60_000)
}

/// Days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// RFC 3339 with any fraction and offset.
pub(super) fn parse_time(text: &[u8]) -> Option<Timestamp> {
    let minute = parse_minute(text.get(..17)?)?;
    let rest = &text[17..];
    let seconds: f64 = {
        let len = rest.iter().position(|c| !c.is_ascii_digit() && *c != b'.').unwrap_or(rest.len());
        std::str::from_utf8(&rest[..len]).ok()?.parse().ok()?
    };
    let zone = &rest[rest.iter().position(|c| !c.is_ascii_digit() && *c != b'.')?..];
    let offset = match zone {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            if ![h1, h2, m1, m2].iter().all(|c| c.is_ascii_digit()) {
                return None;
            }
            let two = |a: &u8, b: &u8| i64::from(a - b'0') * 10 + i64::from(b - b'0');
            let minutes = two(h1, h2) * 60 + two(m1, m2);
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    (seconds < 61.0).then(|| Timestamp(minute + (seconds * 1000.0).floor() as i64 - offset * 60_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Seen {
        names: Vec<String>,
        samples: Vec<(String, i64, f64)>,
        records: Vec<String>,
    }

    impl Rows for Seen {
        fn series(&mut self, row: &Row<'_>) -> Option<u32> {
            let name =
                format!("{}/{}", row.get("host").unwrap_or_default(), row.get("_field").unwrap_or_default());
            self.names.push(name);
            Some(self.names.len() as u32 - 1)
        }
        fn sample(&mut self, series: u32, at: Timestamp, value: f64) {
            self.samples.push((self.names[series as usize].clone(), at.0, value));
        }
        fn record(&mut self, row: &Row<'_>) {
            self.records.push(row.get("name").unwrap_or_default().into_owned());
        }
    }

    fn parse_in(text: &str, size: usize) -> (Seen, Result<Counts, CsvError>) {
        let mut seen = Seen::default();
        let mut parser = Parser::new();
        for piece in text.as_bytes().chunks(size.max(1)) {
            if let Err(error) = parser.feed(piece, &mut seen) {
                return (seen, Err(error));
            }
        }
        let counts = parser.finish(&mut seen);
        (seen, counts)
    }

    const ANSWER: &str = "#datatype,string,long,dateTime:RFC3339,double,string,string\r\n\
        #group,false,false,false,false,true,true\r\n\
        #default,_result,,,,,\r\n\
        ,result,table,_time,_value,_field,host\r\n\
        ,,0,2023-11-14T22:13:20Z,1.5,usage,a\r\n\
        ,,0,2023-11-14T22:13:30Z,,usage,a\r\n\
        ,,0,2023-11-14T22:14:00Z,-2e3,usage,a\r\n\
        ,,1,2023-11-14T22:13:20Z,NaN,usage,\"b, \"\"x\"\"\ny\"\r\n\
        ,,1,2023-11-14T22:13:30.25Z,7,usage,\"b, \"\"x\"\"\ny\"\r\n\
        \r\n\
        #datatype,string,long,dateTime:RFC3339,long,string\r\n\
        #group,false,false,false,false,true\r\n\
        #default,_result,,,,load\r\n\
        ,result,table,_time,_value,_field\r\n\
        ,,2,2023-11-14T23:13:20+01:00,9,\r\n\
        ,,2,2023-11-14T23:1\r\n";

    #[test]
    fn tables_gaps_quotes_defaults_and_short_rows_are_understood_however_the_answer_is_cut() {
        for size in 1..200 {
            let (seen, counts) = parse_in(ANSWER, size);
            let counts = counts.unwrap();
            assert_eq!((counts.points, counts.rejected), (6, 1), "pieces of {size}");
            let at = |i: usize| (seen.samples[i].0.as_str(), seen.samples[i].1);
            assert_eq!(at(0), ("a/usage", 1_700_000_000_000));
            assert!(seen.samples[1].2.is_nan() && seen.samples[3].2.is_nan());
            assert_eq!(seen.samples[2], ("a/usage".into(), 1_700_000_040_000, -2000.0));
            assert_eq!(seen.samples[4], ("b, \"x\"\ny/usage".into(), 1_700_000_010_250, 7.0));
            assert_eq!(seen.samples[5], ("/load".into(), 1_700_000_000_000, 9.0));
        }
    }

    #[test]
    fn an_error_table_is_the_servers_word_also_behind_good_rows() {
        let error = "\r\n#datatype,string,string\r\n#group,true,true\r\n#default,,\r\n,error,reference\r\n,out of memory,897\r\n";
        let (_, result) = parse_in(error, 7);
        assert_eq!(result, Err(CsvError::Server("out of memory".into())));
        let (seen, result) = parse_in(&format!("{ANSWER}{error}"), 64);
        assert_eq!(result, Err(CsvError::Server("out of memory".into())));
        assert_eq!(seen.samples.len(), 6);
    }

    #[test]
    fn what_is_not_csv_is_named_with_its_place() {
        let (_, result) = parse_in("<html><body>Bad Gateway</body></html>\n", 9);
        let Err(CsvError::Nonsense { place, detail }) = result else { panic!("{result:?}") };
        assert!(place.starts_with("line 1"), "{place}");
        assert!(detail.contains("<html>"), "{detail}");
    }

    #[test]
    fn tables_without_a_value_come_as_records() {
        let (seen, counts) = parse_in(",result,table,name\r\n,,0,telegraf\r\n,,0,own\r\n\r\n", 5);
        assert_eq!(seen.records, ["telegraf", "own"]);
        assert_eq!(counts.unwrap().rejected, 0);
    }

    proptest! {
        #[test]
        fn nothing_that_a_server_says_makes_the_parser_panic(
            text in "([,#\"\r\n0-9a-zTZ:.+-]|#datatype|#default|_time|_value|error|result|2023-11-14T22:13:20Z|,){0,200}",
            size in 1usize..50,
        ) {
            let _ = parse_in(&text, size);
        }

        #[test]
        fn bytes_never_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut parser = Parser::new();
            let mut seen = Seen::default();
            let _ = parser.feed(ANSWER.as_bytes(), &mut seen);
            let _ = parser.feed(&bytes, &mut seen);
            let _ = parser.finish(&mut seen);
        }

        #[test]
        fn the_quick_way_reads_what_the_slow_way_reads(
            values in proptest::collection::vec((0i64..4_000_000_000, any::<f64>()), 1..50),
            size in 1usize..300,
        ) {
            let mut text = String::from(",result,table,_time,_value,_field,host\r\n");
            for (s, value) in &values {
                let time = jiff::Timestamp::from_second(*s).unwrap();
                text.push_str(&format!(",,0,{time},{value:?},f,h\r\n"));
            }
            let (seen, counts) = parse_in(&text, size);
            prop_assert_eq!(counts.unwrap().points, values.len() as u64);
            for ((_, at, got), (s, value)) in seen.samples.iter().zip(&values) {
                prop_assert_eq!(*at, s * 1000);
                prop_assert!(got == value || got.is_nan() && value.is_nan());
            }
        }
    }
}
