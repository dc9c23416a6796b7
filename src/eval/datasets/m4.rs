//! The M4 competition (Makridakis et al. 2020), hourly: `Hourly-train.csv` and `Hourly-test.csv`, one
//! series a line, its name first, empty cells at the end.

use std::collections::BTreeMap;
use std::path::Path;

use super::text;
use crate::eval::error::EvalError;

/// One series with what came after it.
#[derive(Clone, Debug)]
pub struct M4Series {
    /// `H1`.
    pub name: String,
    /// Oldest first.
    pub train: Vec<f64>,
    /// What is to be forecast.
    pub test: Vec<f64>,
}

/// Every series in `data` (or its folder `m4-hourly` or `m4`) that has both parts.
pub fn read(data: &Path) -> Result<Vec<M4Series>, EvalError> {
    let folder = text::folder_of(data, &["m4-hourly", "m4", "M4"]);
    let file = |part: &str| {
        [format!("Hourly-{part}.csv"), format!("Dataset/{0}/Hourly-{part}.csv", capital(part))]
            .iter()
            .find_map(|n| text::existing(&folder.join(n)))
            .ok_or_else(|| EvalError::Nothing {
                folder: folder.clone(),
                expected: "Hourly-train.csv[.gz] and Hourly-test.csv[.gz]",
            })
    };
    let train = lines(&file("train")?)?;
    let mut test: BTreeMap<String, Vec<f64>> = lines(&file("test")?)?.into_iter().collect();
    let out: Vec<M4Series> = train
        .into_iter()
        .filter_map(|(name, train)| {
            let test = test.remove(&name)?;
            Some(M4Series { name, train, test })
        })
        .filter(|s| !s.train.is_empty() && !s.test.is_empty())
        .collect();
    if out.is_empty() {
        return Err(EvalError::Nothing { folder, expected: "series with both a train and a test line" });
    }
    Ok(out)
}

fn capital(part: &str) -> &'static str {
    if part == "train" { "Train" } else { "Test" }
}

fn lines(path: &Path) -> Result<Vec<(String, Vec<f64>)>, EvalError> {
    let text = text::read(path)?;
    let mut out = Vec::new();
    for (k, line) in text.lines().enumerate().skip(1).filter(|(_, l)| !l.trim().is_empty()) {
        let mut cells = line.split(',').map(|c| c.trim().trim_matches('"'));
        let name = cells.next().unwrap_or_default().to_owned();
        let values = cells
            .filter(|c| !c.is_empty() && *c != "NA")
            .map(|c| c.parse().map_err(|_| EvalError::malformed(path, k + 1, "a number", c)))
            .collect::<Result<Vec<f64>, EvalError>>()?;
        out.push((name, values));
    }
    Ok(out)
}
