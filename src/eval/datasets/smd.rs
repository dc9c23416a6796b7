//! The Server Machine Dataset (Su et al., KDD 2019): one train file, one test file and one label file a
//! machine, one row a minute, numbers between commas. Found as `NAME_train.csv`, `NAME_test.csv` and
//! `NAME_test_label.csv`, or in the original layout `train/NAME.txt`, `test/NAME.txt`, `test_label/NAME.txt`,
//! each also gzipped, up to four folders deep.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Found, Skipped, text};
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

/// A machine's name and its train, test and label file.
pub type Files = (String, [PathBuf; 3]);

/// The parts of a machine: the end of a file's name, and the folder of the original layout.
const PARTS: [&str; 3] = ["train", "test", "test_label"];

/// The files of every machine in `data` (or its folder `smd`), by name; a machine that lacks one is skipped.
/// Two of one name are refused.
pub fn find(data: &Path) -> Result<Found<Files>, EvalError> {
    let folder = text::folder_of(data, &["smd", "SMD", "ServerMachineDataset"]);
    let mut machines: BTreeMap<(PathBuf, String), [Option<PathBuf>; 3]> = BTreeMap::new();
    for path in text::files(&folder)? {
        if let Some((place, name, part)) = part_of(&path) {
            machines.entry((place, name)).or_default()[part].get_or_insert(path);
        }
    }
    let mut found: BTreeMap<String, [PathBuf; 3]> = BTreeMap::new();
    let mut skipped = Vec::new();
    for ((_, name), files) in machines {
        let lacks: Vec<&str> =
            PARTS.iter().zip(&files).filter(|(_, f)| f.is_none()).map(|(part, _)| *part).collect();
        let [Some(train), Some(test), Some(label)] = files else {
            skipped.push(Skipped::new(name, format!("no {} file", lacks.join(" and no "))));
            continue;
        };
        if let Some(other) = found.get(&name) {
            return Err(EvalError::Ambiguous { first: other[0].clone(), second: train });
        }
        found.insert(name, [train, test, label]);
    }
    if found.is_empty() {
        return Err(EvalError::Nothing {
            folder,
            expected: "NAME_train.csv[.gz] with _test and _test_label (or train/NAME.txt with test/ and test_label/)",
        });
    }
    Ok(Found { all: found.into_iter().collect(), skipped })
}

/// Where the machine lies, its name, and which of [`PARTS`] the file is.
fn part_of(path: &Path) -> Option<(PathBuf, String, usize)> {
    let stem = text::stem(path)?;
    let place = path.parent()?;
    for (part, end) in PARTS.iter().enumerate() {
        if let Some(name) = stem.strip_suffix(end).and_then(|s| s.strip_suffix('_')) {
            return Some((place.to_owned(), name.to_owned(), part));
        }
    }
    let part = PARTS.iter().position(|&p| place.file_name().is_some_and(|f| f == p))?;
    Some((place.parent()?.to_owned(), stem, part))
}

/// Reads one machine and checks that its files belong together.
pub fn read(name: &str, files: &[PathBuf; 3]) -> Result<Machine, EvalError> {
    let [train_file, test_file, label_file] = files;
    let (train, test) = (text::columns(train_file)?, text::columns(test_file)?);
    let label = text::columns(label_file)?;
    let unusable = |file: &Path, reason: String| {
        Err(EvalError::Unusable { name: format!("{name}: {}", file.display()), reason })
    };
    if train.len() != test.len() {
        let (here, there) = (test.len(), train.len());
        return unusable(
            test_file,
            format!(
                "{here} metrics where {} has {there}: give both the same, or take the machine out",
                train_file.display()
            ),
        );
    }
    let rows = test.first().map_or(0, Vec::len);
    let Some(truth) = label.first().filter(|l| l.len() == rows && rows > 0) else {
        let labels = label.first().map_or(0, Vec::len);
        return unusable(
            label_file,
            format!(
                "{labels} labels for the {rows} rows of {}: give one label a row, or take the machine out",
                test_file.display()
            ),
        );
    };
    // What is no number is none of both.
    let is_label = |l: &f32| l.abs() <= f32::EPSILON || (*l - 1.0).abs() <= f32::EPSILON;
    if let Some(row) = truth.iter().position(|l| !is_label(l)) {
        return Err(EvalError::malformed(label_file, row + 1, "0 or 1", &truth[row].to_string()));
    }
    let truth = truth.iter().map(|&l| l > 0.5).collect();
    Ok(Machine { name: name.to_owned(), train, test, truth })
}
