//! The Numenta Anomaly Benchmark: `timestamp,value` files below `data/`, anomaly windows in
//! `labels/combined_windows.json`. Windows of series that are not there are left out.

use std::collections::BTreeMap;
use std::path::Path;

use super::text;
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

/// Every series in `data` (or its folder `nab`) that the labels name.
pub fn read(data: &Path) -> Result<Vec<NabFile>, EvalError> {
    let folder = text::folder_of(data, &["nab", "NAB"]);
    let place = text::existing(&folder.join("labels/combined_windows.json"))
        .or_else(|| text::existing(&folder.join("combined_windows.json")))
        .ok_or_else(|| EvalError::Nothing {
            folder: folder.clone(),
            expected: "labels/combined_windows.json",
        })?;
    let labels: BTreeMap<String, Vec<(String, String)>> = serde_json::from_str(&text::read(&place)?)
        .map_err(|e| {
            EvalError::malformed(&place, e.line(), "{\"folder/file.csv\": [[from, to], …]}", &e.to_string())
        })?;
    let mut out = Vec::new();
    for (key, windows) in &labels {
        let found =
            text::existing(&folder.join("data").join(key)).or_else(|| text::existing(&folder.join(key)));
        if let Some(path) = found {
            out.push(series(&path, key.trim_end_matches(".csv"), windows)?);
        }
    }
    if out.is_empty() {
        return Err(EvalError::Nothing { folder, expected: "data/*/*.csv[.gz] named in the labels" });
    }
    Ok(out)
}

fn series(path: &Path, name: &str, windows: &[(String, String)]) -> Result<NabFile, EvalError> {
    let text = text::read(path)?;
    let mut values = Vec::new();
    let mut row_of: BTreeMap<&str, usize> = BTreeMap::new();
    for (k, line) in text.lines().enumerate().skip(1).filter(|(_, l)| !l.trim().is_empty()) {
        let (time, value) = line
            .split_once(',')
            .and_then(|(t, v)| Some((t, v.trim().parse::<f32>().ok()?)))
            .ok_or_else(|| EvalError::malformed(path, k + 1, "timestamp,number", line))?;
        row_of.entry(second(time)).or_insert(values.len());
        values.push(value);
    }
    let row = |time: &str| {
        row_of.get(second(time)).copied().ok_or_else(|| EvalError::Unusable {
            name: name.to_owned(),
            reason: format!("the labels name {time}, which is no row of it"),
        })
    };
    let mut found =
        windows.iter().map(|(a, b)| Ok((row(a)?, row(b)?))).collect::<Result<Vec<_>, EvalError>>()?;
    found.sort_unstable();
    Ok(NabFile { name: name.to_owned(), values, windows: found })
}

/// A timestamp without its fraction: the labels have one, the data not.
fn second(time: &str) -> &str {
    time.trim().split('.').next().unwrap_or(time)
}
