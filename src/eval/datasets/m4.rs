//! The M4 competition (Makridakis et al. 2020), hourly: `Hourly-train.csv` and `Hourly-test.csv`, side by
//! side or in `Train/` and `Test/`; one series a line, its name first, empty cells at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Found, Skipped, text};
use crate::eval::error::EvalError;
use crate::fleet::order::natural;

/// One series with what came after it.
#[derive(Clone, PartialEq, Debug)]
pub struct M4Series {
    /// `H1`.
    pub name: String,
    /// Oldest first.
    pub train: Vec<f64>,
    /// What is to be forecast.
    pub test: Vec<f64>,
}

/// Every series in `data` (or its folder `m4-hourly` or `m4`) that has both parts, by name whatever the order
/// of the lines: what is drawn by position must not depend on it. Of several train files with a test file
/// the least deep is taken.
pub fn read(data: &Path) -> Result<Found<M4Series>, EvalError> {
    let folder = text::folder_of(data, &["m4-hourly", "m4", "M4"]);
    let (train, test) = find(&folder)?;
    let mut all = Vec::new();
    let mut skipped = Vec::new();
    let mut after: BTreeMap<String, Vec<f64>> = lines(&test)?.into_iter().collect();
    for (name, train) in lines(&train)? {
        match after.remove(&name) {
            Some(test) if !test.is_empty() && !train.is_empty() => all.push(M4Series { name, train, test }),
            Some(_) => skipped.push(Skipped::new(name, "no value in its train or its test line")),
            None => skipped.push(Skipped::new(name, format!("no line in {}", test.display()))),
        }
    }
    skipped
        .extend(after.into_keys().map(|name| Skipped::new(name, format!("no line in {}", train.display()))));
    if all.is_empty() {
        return Err(EvalError::Nothing { folder, expected: "series with both a train and a test line" });
    }
    all.sort_by(|a, b| natural(&a.name, &b.name).then_with(|| a.name.cmp(&b.name)));
    Ok(Found { all, skipped })
}

/// The train file, and the test file beside it or in `Test/` beside its folder.
fn find(folder: &Path) -> Result<(PathBuf, PathBuf), EvalError> {
    let files = text::files(folder)?;
    let test_of = |train: &Path| -> Option<PathBuf> {
        let beside = train.parent()?;
        let places = [Some(beside.to_owned()), beside.parent().map(|p| p.join("Test"))];
        places.iter().flatten().find_map(|p| text::existing(&p.join("Hourly-test.csv")))
    };
    let whole = |p: &&PathBuf| text::is_named(p, "Hourly-train.csv") && test_of(p).is_some();
    let train = text::least_deep(files.iter().filter(whole).cloned().collect())?;
    train.and_then(|train| Some((train.clone(), test_of(&train)?))).ok_or_else(|| EvalError::Nothing {
        folder: folder.to_owned(),
        expected: "Hourly-train.csv[.gz] with Hourly-test.csv[.gz] (beside it, or in Train/ and Test/)",
    })
}

/// The series of a file. Its first line is a header where the first cell is a word for one, or where every
/// other cell is a word.
fn lines(path: &Path) -> Result<Vec<(String, Vec<f64>)>, EvalError> {
    let text = text::read(path)?;
    let mut out = Vec::new();
    let mut names = BTreeSet::new();
    let mut lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()).peekable();
    lines.next_if(|(_, line)| is_header(line));
    for (k, line) in lines {
        let mut cells = line.split(',').map(bare);
        let name = cells.next().unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(EvalError::malformed(path, k + 1, "the name of a series first", line));
        }
        let cells: Vec<&str> = cells.collect();
        let filled = cells.iter().rposition(|c| !is_missing(c)).map_or(0, |last| last + 1);
        let mut values = Vec::with_capacity(filled);
        for (at, cell) in cells[..filled].iter().enumerate() {
            let value = cell.parse().ok().filter(|v: &f64| v.is_finite()).ok_or_else(|| {
                let expected = format!(
                    "a finite number as value {} of {name} (empty cells stand at the end of a line alone)",
                    at + 1
                );
                EvalError::malformed(path, k + 1, &expected, cell)
            })?;
            values.push(value);
        }
        if !names.insert(name.clone()) {
            return Err(EvalError::malformed(path, k + 1, "each series once", &name));
        }
        out.push((name, values));
    }
    Ok(out)
}

fn bare(cell: &str) -> &str {
    cell.trim().trim_matches('"')
}

fn is_missing(cell: &str) -> bool {
    cell.is_empty() || cell == "NA"
}

fn is_header(line: &str) -> bool {
    const WORDS: [&str; 8] = ["", "v1", "id", "m4id", "unique_id", "item_id", "series", "name"];
    let mut cells = line.split(',').map(bare);
    let first = cells.next().unwrap_or_default().to_lowercase();
    let word = |c: &&str| !is_missing(c) && c.parse::<f64>().is_err();
    let mut cells = cells.peekable();
    WORDS.contains(&first.as_str()) || (cells.peek().is_some() && cells.all(|c| word(&c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(train: &str, test: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("Hourly-train.csv"), train).expect("writes");
        std::fs::write(folder.path().join("Hourly-test.csv"), test).expect("writes");
        folder
    }

    #[test]
    fn a_cell_that_is_no_finite_number_is_named_with_its_line() {
        for (cell, got) in [("nan", "\"nan\""), ("inf", "\"inf\""), ("", "\"\""), ("1e999", "\"1e999\"")] {
            let data = folder(&format!("V1,V2,V3,V4\nH1,1,{cell},3,,\n"), "V1,V2\nH1,1\n");
            let said = read(data.path()).expect_err("refused").to_string();
            assert!(said.contains("Hourly-train.csv:2: expected a finite number as value 2 of H1"), "{said}");
            assert!(said.contains(&format!("got {got}")) && said.contains("mend the line"), "{said}");
        }
    }

    #[test]
    fn a_file_without_header_keeps_its_first_series_and_names_count_as_people_do() {
        let data = folder("\"H10\",1,2\n\"H2\",3,4,\"\",\"\"\nH1,5,6\n", "H2,1\nH10,1\nH1,1\n");
        let found = read(data.path()).expect("reads").all;
        let said: Vec<(&str, &[f64])> = found.iter().map(|s| (s.name.as_str(), s.train.as_slice())).collect();
        assert_eq!(said, [("H1", &[5.0, 6.0][..]), ("H2", &[3.0, 4.0]), ("H10", &[1.0, 2.0])]);
    }

    #[test]
    fn the_order_of_the_lines_is_not_the_order_of_the_series() {
        let of = |names: &[usize]| {
            let lines: String = names.iter().map(|n| format!("H{n},{n},{n}\n")).collect();
            read(folder(&lines, &lines).path()).expect("reads").all
        };
        assert_eq!(of(&[1, 2, 10, 11]), of(&[11, 10, 2, 1]));
    }

    #[test]
    fn a_series_without_its_other_part_is_told_and_one_that_comes_twice_refused() {
        let data = folder("V1,V2\nH1,1\nH2,2\nH3,\n", "V1,V2\nH1,1\nH3,1\nH4,1\n");
        let skipped = read(data.path()).expect("reads").skipped;
        let names: Vec<&str> = skipped.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["H2", "H3", "H4"]);
        assert!(skipped[0].reason.contains("Hourly-test.csv"), "{skipped:?}");
        let data = folder("V1,V2\nH1,1\nH1,2\n", "V1,V2\nH1,1\n");
        let said = read(data.path()).expect_err("refused").to_string();
        assert!(said.contains("Hourly-train.csv:3: expected each series once"), "{said}");
    }
}
