//! The failure history as text: CSV that `import` takes and `export` prints.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use super::{Failure, Label, Origin, Timestamp, label_word};

/// A point in time as people write it.
///
/// # Errors
/// Says what was expected.
pub fn parse_time(text: &str) -> Result<Timestamp> {
    if let Ok(millis) = text.parse::<i64>() {
        return Ok(Timestamp(millis));
    }
    let at: jiff::Timestamp = text.parse().map_err(|_| {
        anyhow!("{text:?} is no time: expected 2026-11-21T03:00:00Z or milliseconds since 1970")
    })?;
    Ok(Timestamp(at.as_millisecond()))
}

pub(super) fn write_time(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.millis()).map_or_else(|_| at.0.to_string(), |t| t.to_string())
}

/// Prints the history.
pub(super) fn export(records: &[Failure]) {
    say!("at,subject,cause,label");
    for f in records {
        let (subject, cause) = (quote(&one_line(&f.subject)), quote(&one_line(&f.cause)));
        say!("{},{subject},{cause},{}", write_time(f.at), label_word(f.label));
    }
}

/// The text without what would begin a new line or reach the terminal as a command.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn quote(text: &str) -> String {
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() }
}

/// Splits a CSV line; quotes are doubled inside quotes.
fn fields(line: &str) -> Vec<String> {
    let (mut out, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                field.push('"');
                chars.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    out.push(field);
    out
}

/// The records of a CSV file.
///
/// # Errors
/// Names file, line, what was expected and what is there.
pub fn parse_csv(text: &str, file: &Path) -> Result<Vec<Failure>> {
    parse_csv_until(text, file, Timestamp(i64::MAX))
}

/// The same, where nothing may lie after `now`.
pub(super) fn parse_csv_until(text: &str, file: &Path, now: Timestamp) -> Result<Vec<Failure>> {
    let mut records = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(i, l)| (i + 1, l.trim())) {
        let place = || format!("{}:{number}", file.display());
        if line.is_empty() || (number == 1 && line.starts_with("at,")) {
            continue;
        }
        let fields = fields(line);
        let [at, subject, cause, label] = fields.as_slice() else {
            bail!("{}: expected at,subject,cause,label, got {} columns", place(), fields.len());
        };
        let label = match label.as_str() {
            "failed" => Label::Failed,
            "survived" => Label::Survived,
            "mitigated" => Label::Mitigated,
            other => bail!("{}: label {other:?}: expected failed, survived or mitigated", place()),
        };
        let (at, subject, cause) = (parse_time(at).with_context(place)?, subject.clone(), cause.clone());
        let record = Failure { number: 0, at, subject, cause, label, origin: Origin::Import };
        record.check(now).map_err(|said| anyhow!("{}: {said}", place()))?;
        records.push(record);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_line_is_named_with_what_was_expected() {
        let error = parse_csv("at,subject,cause,label\n1000,h1,x,exploded\n", Path::new("f.csv"));
        assert_eq!(
            error.unwrap_err().to_string(),
            "f.csv:2: label \"exploded\": expected failed, survived or mitigated"
        );
        assert!(parse_csv("1000,h1\n", Path::new("f.csv")).unwrap_err().to_string().contains("f.csv:1"));
    }

    #[test]
    fn quoted_causes_survive_export_and_import() {
        let line = format!("2026-11-21T03:00:00Z,h1/p1,{},failed", quote("disk, \"sda\""));
        let records = parse_csv(&line, Path::new("f.csv")).unwrap();
        assert_eq!(records[0].cause, "disk, \"sda\"");
        assert_eq!(records[0].at, Timestamp(1_795_230_000_000));
    }
}
