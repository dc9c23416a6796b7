//! The failure history as text: CSV that `import` takes and `export` prints.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use super::{Failure, Label, Origin, Timestamp};
use crate::telemetry::since_epoch;

/// The columns, in the order that a file without a header has.
const COLUMNS: [&str; 4] = ["at", "subject", "cause", "label"];
/// Nothing is recorded before 2000: an earlier time is a number that was meant otherwise.
const FIRST: Timestamp = Timestamp(946_684_800_000);

/// A point in time as people write it: RFC 3339, or a number since 1970, whose size says whether it is seconds or
/// milliseconds.
///
/// # Errors
/// Says what was expected.
pub fn parse_time(text: &str) -> Result<Timestamp> {
    if let Ok(number) = text.parse::<i64>() {
        return Ok(since_epoch(number));
    }
    let at: jiff::Timestamp = text.parse().map_err(|_| {
        anyhow!("{text:?} is no time: expected 2026-11-21T03:00:00Z, or seconds or milliseconds since 1970")
    })?;
    Ok(Timestamp(at.as_millisecond()))
}

/// When something failed: a time from 2000 on.
///
/// # Errors
/// Says what was expected.
pub(super) fn parse_moment(text: &str) -> Result<Timestamp> {
    let at = parse_time(text)?;
    if at < FIRST {
        bail!(
            "{text} is {}: expected a time from 2000 on (2026-11-21T03:00:00Z, or seconds or milliseconds since 1970)",
            write_time(at)
        );
    }
    Ok(at)
}

pub(super) fn write_time(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.millis()).map_or_else(|_| at.0.to_string(), |t| t.to_string())
}

/// Prints the history.
pub(super) fn export(records: &[Failure]) {
    say!("at,subject,cause,label");
    for f in records {
        let (subject, cause) = (quote(&one_line(&f.subject)), quote(&one_line(&f.cause)));
        say!("{},{subject},{cause},{}", write_time(f.at), f.label.word());
    }
}

/// The text without what would begin a new line or reach the terminal as a command.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn quote(text: &str) -> String {
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() }
}

/// A record and the line of the file that it begins on.
pub(in crate::cli) type Lined = (u64, Failure);

/// The records of a CSV file.
///
/// # Errors
/// Names file, line, what was expected and what is there.
pub fn parse_csv(text: &str, file: &Path) -> Result<Vec<Failure>> {
    Ok(parse_lined(text, file)?.into_iter().map(|(_, record)| record).collect())
}

/// The same with the lines.
pub(in crate::cli) fn parse_lined(text: &str, file: &Path) -> Result<Vec<Lined>> {
    parse_csv_until(text, file, Timestamp(i64::MAX))
}

/// The same, where nothing may lie after `now`, with the lines.
pub(super) fn parse_csv_until(text: &str, file: &Path, now: Timestamp) -> Result<Vec<Lined>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = ::csv::ReaderBuilder::new();
    reader.has_headers(false).flexible(true).trim(::csv::Trim::All);
    let mut order: Option<[usize; 4]> = None;
    let mut records: Vec<Lined> = Vec::new();
    let mut said: HashMap<(String, Timestamp), (u64, Label)> = HashMap::new();
    for row in reader.from_reader(text.as_bytes()).into_records() {
        let row = row.with_context(|| format!("{} is no CSV", file.display()))?;
        let line = row.position().map_or(0, |at| line_of(text, at));
        let place = || format!("{}:{line}", file.display());
        if row.iter().all(str::is_empty) {
            continue;
        }
        let columns = match order {
            Some(columns) => columns,
            None => {
                let (columns, named) = columns(&row).map_err(|said| anyhow!("{}: {said}", place()))?;
                order = Some(columns);
                if named {
                    continue;
                }
                columns
            }
        };
        let record = record(&row, columns).with_context(place)?;
        record.check(now).map_err(|said| anyhow!("{}: {said}", place()))?;
        let (first, label) = *said.entry((record.subject.clone(), record.at)).or_insert((line, record.label));
        if label != record.label {
            bail!(
                "{}: {} at {} {} here and {} on line {first}: expected one of them; remove the other",
                place(),
                record.subject,
                write_time(record.at),
                record.label.word(),
                label.word()
            );
        }
        records.push((line, record));
    }
    Ok(records)
}

/// The line of a record: the reader's place is before the empty lines that it skips.
fn line_of(text: &str, at: &::csv::Position) -> u64 {
    let rest = text.as_bytes().get(at.byte() as usize..).unwrap_or_default();
    let empty = rest.iter().take_while(|b| matches!(b, b'\n' | b'\r')).filter(|b| **b == b'\n').count();
    at.line() + empty as u64
}

/// Where each of [`COLUMNS`] stands by the first row, and whether that row is a header; one that begins with a time
/// is a record already.
fn columns(first: &::csv::StringRecord) -> Result<([usize; 4], bool), String> {
    let expected = || format!("expected the columns {}, in any order", COLUMNS.join(", "));
    if parse_time(first.get(0).unwrap_or_default()).is_ok() {
        return Ok(([0, 1, 2, 3], false));
    }
    let names: Vec<String> = first.iter().map(str::to_lowercase).collect();
    if let Some(unknown) = names.iter().position(|name| !COLUMNS.contains(&name.as_str())) {
        return Err(format!("column {:?} is unknown: {}", &first[unknown], expected()));
    }
    let mut columns = [0; 4];
    for (column, wanted) in columns.iter_mut().zip(COLUMNS) {
        let mut found = (0..names.len()).filter(|i| names[*i] == wanted);
        *column = found.next().ok_or_else(|| format!("there is no column {wanted}: {}", expected()))?;
        if found.next().is_some() {
            return Err(format!("the column {wanted} is there twice: {}", expected()));
        }
    }
    Ok((columns, true))
}

fn record(row: &::csv::StringRecord, [at, subject, cause, label]: [usize; 4]) -> Result<Failure> {
    if row.len() != COLUMNS.len() {
        bail!("expected {} columns ({}), got {}", COLUMNS.len(), COLUMNS.join(", "), row.len());
    }
    let label = match &row[label] {
        "failed" => Label::Failed,
        "survived" => Label::Survived,
        "mitigated" => Label::Mitigated,
        other => bail!("label {other:?}: expected failed, survived or mitigated"),
    };
    let cause = &row[cause];
    if cause.contains(['\n', '\r']) {
        bail!("the cause that begins here goes over lines: expected one line (is a quotation mark missing?)");
    }
    Ok(Failure {
        number: 0,
        at: parse_moment(&row[at])?,
        subject: row[subject].to_string(),
        cause: cause.to_string(),
        label,
        origin: Origin::Import,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        format!("{:#}", parse_csv(text, Path::new("f.csv")).unwrap_err())
    }

    #[test]
    fn a_wrong_line_is_named_with_what_was_expected() {
        for (text, expected) in [
            (
                "at,subject,cause,label\n1795230000,h1,x,exploded\n",
                "f.csv:2: label \"exploded\": expected failed, survived or mitigated",
            ),
            ("1795230000,h1\n", "f.csv:1: expected 4 columns (at, subject, cause, label), got 2"),
            ("when,subject,cause,label\n", "f.csv:1: column \"when\" is unknown: expected the columns at, "),
            ("at,cause,label\n", "f.csv:1: there is no column subject: expected the columns at, subject,"),
            ("at,at,cause,label,subject\n", "f.csv:1: the column at is there twice"),
            (
                "at,subject,cause,label\n-5,h1,x,failed\n",
                "f.csv:2: -5 is 1969-12-31T23:59:55Z: expected a time",
            ),
            ("\n1000,h1,x,failed\n", "f.csv:2: 1000 is 1970-01-01T00:16:40Z: expected a time from 2000 on"),
            (
                "1795230000,h1,\"x,failed\n1795230000,h2,x\",failed\n",
                "f.csv:1: the cause that begins here goes",
            ),
            (
                "1795230000,h1,x,failed\n\n1795230000000,h1,y,survived\n",
                "f.csv:3: h1 at 2026-11-21T03:00:00Z survived here and failed on line 1: expected one of them",
            ),
        ] {
            assert!(refused(text).starts_with(expected), "{text:?}: {}", refused(text));
        }
    }

    #[test]
    fn columns_are_found_by_their_names_wherever_they_stand() {
        let text = "\u{feff}Label, AT,cause,Subject\r\nfailed,1795230000,disk,h1/p1\r\n";
        let records = parse_csv(text, Path::new("f.csv")).unwrap();
        let found = (records[0].at, records[0].subject.as_str(), records[0].cause.as_str());
        assert_eq!(found, (Timestamp(1_795_230_000_000), "h1/p1", "disk"));
    }

    #[test]
    fn seconds_and_milliseconds_are_told_apart_by_their_size() {
        let at = |text| parse_time(text).unwrap();
        assert_eq!(at("1795230000"), at("2026-11-21T03:00:00Z"));
        assert_eq!(at("1795230000000"), at("2026-11-21T03:00:00Z"));
    }

    #[test]
    fn quoted_causes_survive_export_and_import() {
        let line = format!("2026-11-21T03:00:00Z,h1/p1,{},failed", quote("disk, \"sda\""));
        let records = parse_csv(&line, Path::new("f.csv")).unwrap();
        assert_eq!(records[0].cause, "disk, \"sda\"");
        assert_eq!(records[0].at, Timestamp(1_795_230_000_000));
    }
}
