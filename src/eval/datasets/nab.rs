//! The Numenta Anomaly Benchmark: `timestamp,value` files below `data/`, anomaly windows in
//! `labels/combined_windows.json`, wherever that lies in the folder. Series without labels and labels
//! without a series are told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Found, Skipped, text};
use crate::eval::error::EvalError;

/// One series.
#[derive(Clone, Debug)]
pub struct NabFile {
    /// `realTweets/Twitter_volume_AAPL`.
    pub name: String,
    /// One a row.
    pub values: Vec<f32>,
    /// First and last row of each window, inclusive.
    pub windows: Vec<(usize, usize)>,
}

const LABELS: &str = "combined_windows.json";

/// Every series in `data` (or its folder `nab`) that the labels name. Of several label files the least deep is
/// taken.
pub fn read(data: &Path) -> Result<Found<NabFile>, EvalError> {
    let folder = text::folder_of(data, &["nab", "NAB"]);
    let files = text::files(&folder)?;
    let candidates = files.iter().filter(|p| text::is_named(p, LABELS)).cloned().collect();
    let Some(place) = text::least_deep(candidates)? else {
        return Err(EvalError::Nothing { folder, expected: "labels/combined_windows.json[.gz]" });
    };
    let labels: BTreeMap<String, Vec<(String, String)>> = serde_json::from_str(&text::read(&place)?)
        .map_err(|e| {
            EvalError::malformed(&place, e.line(), "{\"folder/file.csv\": [[from, to], …]}", &e.to_string())
        })?;
    let root = root_of(&place);
    let (mut all, mut skipped, mut named) = (Vec::new(), Vec::new(), Vec::new());
    for (key, windows) in &labels {
        let found = text::existing(&root.join("data").join(key)).or_else(|| text::existing(&root.join(key)));
        match found {
            Some(path) => {
                all.push(series(&path, &place, name_of(key), windows)?);
                named.push(path);
            }
            None => skipped.push(Skipped::new(name_of(key), "labels without a file in data/")),
        }
    }
    if all.is_empty() {
        return Err(EvalError::Nothing { folder, expected: "data/*/*.csv[.gz] named in the labels" });
    }
    let below = [root.join("data"), root].into_iter().find(|p| p.is_dir()).unwrap_or(folder);
    for path in files.iter().filter(|p| !named.contains(p)) {
        let Ok(inner) = path.strip_prefix(&below) else { continue };
        let inner = inner.display().to_string();
        let inner = inner.strip_suffix(".gz").unwrap_or(&inner);
        if inner.ends_with(".csv") {
            skipped.push(Skipped::new(name_of(inner), format!("not named in {}", place.display())));
        }
    }
    Ok(Found { all, skipped })
}

/// The folder that `data/` lies in: that of the labels, or the one above where they are in `labels/`.
fn root_of(labels: &Path) -> PathBuf {
    let beside = labels.parent().unwrap_or(Path::new(""));
    let above = beside.parent().filter(|_| beside.file_name().is_some_and(|f| f == "labels"));
    above.unwrap_or(beside).to_owned()
}

fn name_of(key: &str) -> &str {
    key.trim_end_matches(".csv")
}

fn series(
    path: &Path,
    labels: &Path,
    name: &str,
    windows: &[(String, String)],
) -> Result<NabFile, EvalError> {
    let text = text::read(path)?;
    let mut values = Vec::new();
    let mut row_of: BTreeMap<&str, usize> = BTreeMap::new();
    let mut lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()).peekable();
    lines.next_if(|(_, first)| {
        !first.trim_start().trim_start_matches('"').starts_with(|c: char| c.is_ascii_digit())
    });
    for (k, line) in lines {
        let (time, value) = line
            .split_once(',')
            .and_then(|(t, v)| Some((t, v.trim().parse::<f32>().ok()?)))
            .ok_or_else(|| EvalError::malformed(path, k + 1, "timestamp,number", line))?;
        row_of.entry(second(time)).or_insert(values.len());
        values.push(value);
    }
    let unusable =
        |reason: String| EvalError::Unusable { name: format!("{}: {name}", labels.display()), reason };
    let row = |time: &str| {
        row_of.get(second(time)).copied().ok_or_else(|| {
            unusable(format!(
                "a window names {time}, which is no row of {}: mend one of them",
                path.display()
            ))
        })
    };
    let mut found = Vec::new();
    for (from, to) in windows {
        let (first, last) = (row(from)?, row(to)?);
        if last < first {
            return Err(unusable(format!(
                "the window from {from} to {to} ends before it begins: turn it round"
            )));
        }
        found.push((first, last));
    }
    found.sort_unstable();
    Ok(NabFile { name: name.to_owned(), values, windows: found })
}

/// A timestamp without its fraction: the labels have one, the data not.
fn second(time: &str) -> &str {
    time.trim().split('.').next().unwrap_or(time)
}
