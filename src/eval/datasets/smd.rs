//! The Server Machine Dataset (Su et al., KDD 2019): one train file, one test file and one label file a
//! machine, one row a minute, numbers between commas. Found as `NAME_train.csv`, `NAME_test.csv` and
//! `NAME_test_label.csv`, or in the original layout `train/NAME.txt`, `test/NAME.txt`, `test_label/NAME.txt`,
//! each also gzipped.

use std::path::{Path, PathBuf};

use super::text;
use crate::eval::error::EvalError;

/// Rows a day.
pub const ROWS_PER_DAY: f64 = 1440.0;

/// One machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// `machine-1-7`.
    pub name: String,
    /// `[metric][time]`, no labels.
    pub train: Vec<Vec<f32>>,
    /// `[metric][time]`.
    pub test: Vec<Vec<f32>>,
    /// One a test row.
    pub truth: Vec<bool>,
}

/// The three files of every machine in `data` (or its folder `smd`), by name.
pub fn find(data: &Path) -> Result<Vec<(String, [PathBuf; 3])>, EvalError> {
    let folder = text::folder_of(data, &["smd", "SMD", "ServerMachineDataset"]);
    let mut out = Vec::new();
    for path in text::files(&folder)? {
        let name = text::stem(&path);
        let sibling = |n: String| text::existing(&path.with_file_name(n));
        let three = if let Some(name) = name.strip_suffix("_train") {
            [
                Some(path.clone()),
                sibling(format!("{name}_test.csv")),
                sibling(format!("{name}_test_label.csv")),
            ]
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .map(|files| (name.to_owned(), files))
        } else if path.parent().and_then(Path::file_name).is_some_and(|f| f == "train") {
            let beside =
                |f: &str| text::existing(&path.parent()?.parent()?.join(f).join(format!("{name}.txt")));
            [Some(path.clone()), beside("test"), beside("test_label")]
                .into_iter()
                .collect::<Option<Vec<_>>>()
                .map(|files| (name.clone(), files))
        } else {
            None
        };
        if let Some((name, files)) = three
            && let Ok(files) = <[PathBuf; 3]>::try_from(files)
        {
            out.push((name, files));
        }
    }
    if out.is_empty() {
        return Err(EvalError::Nothing {
            folder,
            expected: "NAME_train.csv[.gz] with _test and _test_label",
        });
    }
    Ok(out)
}

/// Reads one machine and checks that its files belong together.
pub fn read(name: &str, files: &[PathBuf; 3]) -> Result<Machine, EvalError> {
    let [train, test, labels] = files;
    let (train, test, label) = (text::columns(train)?, text::columns(test)?, text::columns(labels)?);
    let unusable = |reason: String| Err(EvalError::Unusable { name: name.to_owned(), reason });
    if train.len() != test.len() {
        return unusable(format!("{} metrics in train, {} in test", train.len(), test.len()));
    }
    let rows = test.first().map_or(0, Vec::len);
    let Some(truth) = label.first().filter(|l| l.len() == rows && rows > 0) else {
        return unusable(format!("{rows} test rows, {} labels", label.first().map_or(0, Vec::len)));
    };
    if let Some(row) = truth.iter().position(|l| *l != 0.0 && (*l - 1.0).abs() > f32::EPSILON) {
        return Err(EvalError::malformed(labels, row + 1, "0 or 1", &truth[row].to_string()));
    }
    let truth = truth.iter().map(|&l| l > 0.5).collect();
    Ok(Machine { name: name.to_owned(), train, test, truth })
}
