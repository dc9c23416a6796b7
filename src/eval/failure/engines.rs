//! The files of C-MAPSS, wherever they lie in the folder: `train_FD001.txt` with engines that run until they
//! fail, `test_FD001.txt` with engines that are cut off before, `RUL_FD001.txt` with the cycles that each of
//! those had left. One row a cycle: unit, cycle, three settings, 21 sensors, between spaces.

use std::path::{Path, PathBuf};

use crate::eval::datasets::{Found, Skipped, text};
use crate::eval::error::EvalError;

pub(super) const SENSORS: usize = 21;
/// Unit, cycle and settings stand before the sensors.
const BEFORE: usize = 5;
const SETS: [&str; 4] = ["FD001", "FD002", "FD003", "FD004"];

/// One engine: its rows, and cycles left after the last one.
#[derive(Debug)]
pub(super) struct Engine {
    pub settings: Vec<[f64; 3]>,
    /// `[sensor][cycle]`.
    pub sensors: Vec<Vec<f32>>,
    pub left: usize,
}

impl Engine {
    pub(super) fn cycles(&self) -> usize {
        self.settings.len()
    }
}

/// One data set.
#[derive(Debug)]
pub(super) struct Set {
    /// `FD001`.
    pub name: &'static str,
    /// Where its training engines were read.
    pub path: PathBuf,
    pub train: Vec<Engine>,
    /// The engines of the second test; none where its files are not there.
    pub second: Vec<Engine>,
}

/// Every set that is found in the folder, each checked line by line. Of several train files of a set the least
/// deep is taken; its other files lie beside it.
pub(super) fn read(data: &Path) -> Result<Found<Set>, EvalError> {
    let folder = text::folder_of(data, &["cmapss", "CMAPSS", "CMAPSSData"]);
    let files = text::files(&folder)?;
    let mut found = Found { all: Vec::new(), skipped: Vec::new() };
    for name in SETS {
        let least_deep = |part: &str| {
            let wanted = format!("{part}_{name}.txt");
            text::least_deep(files.iter().filter(|p| text::is_named(p, &wanted)).cloned().collect())
        };
        let Some(path) = least_deep("train")? else {
            if let Some(test) = least_deep("test")? {
                let reason = format!("{} without train_{name}.txt", test.display());
                found.skipped.push(Skipped::new(format!("{name} test"), reason));
            }
            continue;
        };
        let beside = |part: &str| text::existing(&path.with_file_name(format!("{part}_{name}.txt")));
        let train = parse(&text::read(&path)?, &path)?;
        let second = match (beside("test"), beside("RUL")) {
            (Some(test), Some(rul)) => {
                let mut engines = parse(&text::read(&test)?, &test)?;
                let left = parse_rul(&text::read(&rul)?, &rul, engines.len())?;
                engines.iter_mut().zip(left).for_each(|(engine, left)| engine.left = left);
                engines
            }
            (test, rul) => {
                let lacks: Vec<String> = [("test", test), ("RUL", rul)]
                    .into_iter()
                    .filter(|(_, file)| file.is_none())
                    .map(|(part, _)| format!("no {part}_{name}.txt"))
                    .collect();
                let reason = format!("{} beside {}", lacks.join(" and "), path.display());
                found.skipped.push(Skipped::new(format!("{name} test"), reason));
                Vec::new()
            }
        };
        found.all.push(Set { name, path, train, second });
    }
    if found.all.is_empty() {
        return Err(EvalError::Nothing { folder, expected: "train_FD001.txt … train_FD004.txt (or .gz)" });
    }
    Ok(found)
}

/// One row of a file.
struct Row {
    unit: u32,
    cycle: u32,
    line: usize,
    values: [f64; BEFORE + SENSORS],
}

/// The engines of a file by unit, each by cycle, in whatever order their lines stand. A unit whose cycles do
/// not count 1, 2, 3, … is refused: features go by rows, so a gap would tell them another age.
fn parse(text: &str, path: &Path) -> Result<Vec<Engine>, EvalError> {
    let mut rows = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(at, line)| row(line, at + 1, path))
        .collect::<Result<Vec<Row>, EvalError>>()?;
    rows.sort_by_key(|row| (row.unit, row.cycle));
    let mut engines = Vec::new();
    for of_one in rows.chunk_by(|a, b| a.unit == b.unit) {
        let sensors = vec![Vec::new(); SENSORS];
        let mut engine = Engine { settings: Vec::with_capacity(of_one.len()), sensors, left: 0 };
        for (row, due) in of_one.iter().zip(1..) {
            if row.cycle != due {
                let expected = format!("cycle {due} of unit {}, as each counts 1, 2, 3, …", row.unit);
                return Err(EvalError::malformed(path, row.line, &expected, &row.cycle.to_string()));
            }
            engine.settings.push([row.values[2], row.values[3], row.values[4]]);
            for (sensor, &x) in engine.sensors.iter_mut().zip(&row.values[BEFORE..]) {
                sensor.push(x as f32);
            }
        }
        engines.push(engine);
    }
    Ok(engines)
}

fn row(text: &str, line: usize, path: &Path) -> Result<Row, EvalError> {
    let what = "26 numbers between spaces (unit, cycle, 3 settings, 21 sensors; no header)";
    let mut values = [0.0; BEFORE + SENSORS];
    let fields: Vec<&str> = text.split_whitespace().collect();
    for (at, field) in fields.iter().enumerate() {
        let value = field.parse().ok().filter(|v: &f64| v.is_finite());
        let value = value.ok_or_else(|| {
            let expected = format!("{what}, one of them in column {}", at + 1);
            EvalError::malformed(path, line, &expected, field)
        })?;
        if let Some(cell) = values.get_mut(at) {
            *cell = value;
        }
    }
    if fields.len() != values.len() {
        return Err(EvalError::malformed(path, line, what, &format!("{} of them", fields.len())));
    }
    let whole = |at: usize, name: &str| {
        fields[at].parse::<f64>().ok().filter(|v| v.fract() == 0.0 && (1.0..1e9).contains(v)).map_or_else(
            || {
                let expected = format!("{name} as a whole number from 1 in column {}", at + 1);
                Err(EvalError::malformed(path, line, &expected, fields[at]))
            },
            |v| Ok(v as u32),
        )
    };
    Ok(Row { unit: whole(0, "the unit")?, cycle: whole(1, "the cycle")?, line, values })
}

/// The cycles left of each test engine, by unit: one whole number a line.
fn parse_rul(text: &str, path: &Path, engines: usize) -> Result<Vec<usize>, EvalError> {
    let left = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(at, line)| {
            line.trim()
                .parse()
                .map_err(|_| EvalError::malformed(path, at + 1, "one whole number, the cycles left", line))
        })
        .collect::<Result<Vec<usize>, EvalError>>()?;
    if left.len() != engines {
        return Err(EvalError::Unusable {
            name: path.display().to_string(),
            reason: format!(
                "{} numbers for the {engines} engines of its test file: give one an engine, or take the file out",
                left.len()
            ),
        });
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(unit: u32, cycle: u32) -> String {
        let sensors: Vec<String> = (0..SENSORS).map(|s| format!("{cycle}.{s}")).collect();
        format!("{unit} {cycle} 0 0 100 {}\n", sensors.join(" "))
    }

    fn refused(text: &str) -> String {
        parse(text, Path::new("x/train_FD001.txt")).expect_err("refused").to_string()
    }

    #[test]
    fn a_line_that_is_cut_short_or_holds_a_word_is_named_with_its_column() {
        let said = refused("1 1 0 0 100\n");
        assert!(said.starts_with("x/train_FD001.txt:1: expected 26 numbers"), "{said}");
        // as many numbers as there should be, beside the word
        let said = refused(&line(1, 1).replace("1.2 ", "abc 1.2 "));
        assert!(said.contains("in column 8, got \"abc\": mend the line"), "{said}");
        let said = refused(&format!("\"unit\" \"cycle\"\n{}", line(1, 1)));
        assert!(said.contains(":1:") && said.contains("no header"), "{said}");
        let said = refused(&line(1, 1).replace(' ', ","));
        assert!(said.contains("26 numbers between spaces"), "{said}");
    }

    #[test]
    fn cycles_count_from_one_whatever_the_order_of_the_lines() {
        let path = Path::new("train_FD001.txt");
        let shuffled = [line(2, 1), line(1, 3), line(1, 1), line(1, 2)].concat();
        let engines = parse(&shuffled, path).expect("reads");
        assert_eq!(engines.iter().map(Engine::cycles).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(engines[0].sensors[0], [1.0, 2.0, 3.0]);
        let said = refused(&[line(1, 1), line(1, 3)].concat());
        assert!(said.contains(":2: expected cycle 2 of unit 1") && said.contains("got \"3\""), "{said}");
        let said = refused(&[line(1, 1), line(1, 1)].concat());
        assert!(said.contains(":2: expected cycle 2 of unit 1"), "{said}");
        let said = refused(&line(1, 1).replacen("1 1", "1 1.5", 1));
        assert!(said.contains("the cycle as a whole number"), "{said}");
    }

    #[test]
    fn cycles_left_are_refused_at_their_own_line() {
        let path = Path::new("x/RUL_FD001.txt");
        let said = parse_rul("112 \n98\nx\n4\n", path, 4).expect_err("refused").to_string();
        assert!(said.starts_with("x/RUL_FD001.txt:3:") && said.contains("got \"x\""), "{said}");
        let said = parse_rul("112\n98\n", path, 3).expect_err("refused").to_string();
        assert!(
            said.contains("2 numbers for the 3 engines") && said.contains("give one an engine"),
            "{said}"
        );
    }

    #[test]
    fn sets_are_found_below_the_folder_and_a_test_without_its_answers_is_told() {
        let data = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = data.path().join(name);
            std::fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
            std::fs::write(path, text).expect("writes");
        };
        let whole = [line(1, 1), line(1, 2)].concat();
        write("a/b/train_FD003.txt", &format!("\u{feff}{whole}"));
        write("a/b/test_FD003.txt", &whole);
        write("__MACOSX/train_FD003.txt", "\0");
        let found = read(data.path()).expect("reads");
        assert_eq!(found.all.len(), 1);
        assert_eq!(found.skipped[0].name, "FD003 test");
        assert!(found.skipped[0].reason.starts_with("no RUL_FD003.txt beside"), "{:?}", found.skipped);
        write("a/b/RUL_FD003.txt", "7\n");
        let found = read(data.path()).expect("reads");
        assert_eq!((found.all[0].second[0].left, found.skipped.len()), (7, 0));
        write("a/c/train_FD003.txt", &whole);
        let said = read(data.path()).expect_err("refused").to_string();
        assert!(said.contains("a/b/train_FD003.txt and ") && said.contains("a/c/train_FD003.txt"), "{said}");
    }
}
