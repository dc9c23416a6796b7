//! Reading the drive statistics: one `drives.csv`, or the daily files as they are distributed
//! (`YYYY-MM-DD.csv`, in any folders), gzipped or not. Each file has a header of its own, with its columns in
//! any order; of the rows only what is used is kept, so that memory goes by drive-days and not by columns.
//! The table is the same in whatever order the rows come.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use csv::StringRecord;
use jiff::SignedDuration;
use jiff::civil::{Date, date};

use crate::eval::datasets::text;
use crate::eval::error::EvalError;
use crate::eval::failure::FailureEvalError;

const FILE: &str = "drives.csv";
/// Days are counted from here while files are read.
const EPOCH: Date = date(1970, 1, 1);

/// Attributes of a drive-day.
pub(super) const SMART: usize = 5;
/// Attributes 1, 5, 9, 194, 197: read errors, remapped sectors, hours, temperature, pending sectors.
const NAMES: [&str; SMART] = ["smart_1_raw", "smart_5_raw", "smart_9_raw", "smart_194_raw", "smart_197_raw"];

/// All drives.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// By serial number.
    pub(super) drives: Vec<Drive>,
    /// By name.
    pub(super) models: Vec<String>,
    /// Day 0.
    first: Date,
    /// Rows that repeat another one word for word; they are counted once.
    pub(super) repeated: usize,
}

/// One drive.
#[derive(Clone, Debug)]
pub(super) struct Drive {
    /// Which of the table's models, on its first day.
    pub(super) model: usize,
    /// TB, on its first day.
    pub(super) capacity: f32,
    /// By day.
    pub(super) days: Vec<Day>,
    /// The first day on which it is said to have failed.
    pub(super) failed: Option<i32>,
}

/// What one drive showed on one day.
#[derive(Clone, Debug)]
pub(super) struct Day {
    /// From the table's first day.
    pub(super) day: i32,
    /// NaN where nothing stands.
    pub(super) smart: [f32; SMART],
}

impl Table {
    /// The last day on which any drive was seen.
    pub(super) fn last(&self) -> i32 {
        self.drives.iter().flat_map(|d| d.days.last()).map(|d| d.day).max().unwrap_or(0)
    }

    /// The date of a day.
    pub(super) fn date(&self, day: i32) -> Date {
        self.first.saturating_add(SignedDuration::from_hours(24 * i64::from(day)))
    }
}

/// Reads `drives.csv[.gz]` of the folder, or without it all daily files in and below it.
pub(super) fn read(data: &Path) -> Result<Table, FailureEvalError> {
    let mut reading = Reading::default();
    for path in files(data)? {
        reading.file(&path)?;
    }
    reading.table(data)
}

fn files(data: &Path) -> Result<Vec<PathBuf>, FailureEvalError> {
    if let Some(one) = text::existing(&data.join(FILE)) {
        return Ok(vec![one]);
    }
    let walked = text::files(data).map_err(|error| match error {
        EvalError::Unreadable { path, said } => unreadable(&path, &said),
        other => unreadable(data, &other),
    })?;
    let mut daily: Vec<(String, PathBuf)> =
        walked.into_iter().filter_map(|path| Some((date_of(&path)?, path))).collect();
    daily.sort();
    // Of one day in one folder, the plain file stands before the packed one.
    daily.dedup_by(|b, a| a.0 == b.0 && a.1.parent() == b.1.parent());
    if daily.is_empty() {
        let detail = format!(
            "no {FILE}, and no YYYY-MM-DD.csv in it or the folders below (each may end in .gz): \
             --data names the folder that holds them"
        );
        return Err(FailureEvalError::TooLittle { path: data.display().to_string(), detail });
    }
    Ok(daily.into_iter().map(|d| d.1).collect())
}

/// `2013-04-10` of `2013-04-10.csv` and `2013-04-10.csv.gz`.
fn date_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let date = name.strip_suffix(".gz").unwrap_or(name).strip_suffix(".csv")?;
    (date.len() == 10 && date.parse::<Date>().is_ok()).then(|| date.to_owned())
}

fn unreadable(path: &Path, why: &impl std::fmt::Display) -> FailureEvalError {
    FailureEvalError::Unreadable { path: path.display().to_string(), detail: why.to_string() }
}

fn malformed(path: &Path, line: u64, expected: &str, got: &str) -> FailureEvalError {
    FailureEvalError::Malformed {
        path: path.display().to_string(),
        line: usize::try_from(line).unwrap_or(usize::MAX),
        expected: expected.into(),
        got: got.chars().take(100).collect(),
    }
}

/// Where the columns of one file are.
struct Columns {
    count: usize,
    date: usize,
    serial: usize,
    model: usize,
    capacity: usize,
    failure: usize,
    smart: [usize; SMART],
}

impl Columns {
    /// The name of the first that is missing otherwise.
    fn of(header: &StringRecord) -> Result<Self, &'static str> {
        let column = |name: &'static str| header.iter().position(|h| h.trim() == name).ok_or(name);
        let mut smart = [0; SMART];
        for (at, name) in smart.iter_mut().zip(NAMES) {
            *at = column(name)?;
        }
        Ok(Self {
            count: header.len(),
            date: column("date")?,
            serial: column("serial_number")?,
            model: column("model")?,
            capacity: column("capacity_bytes")?,
            failure: column("failure")?,
            smart,
        })
    }
}

/// The table while it is read; drives by serial number, days since [`EPOCH`].
#[derive(Default)]
struct Reading {
    drives: HashMap<String, Drive>,
    models: Vec<String>,
    repeated: usize,
    /// The date of the row before, as text and as a day: mostly the next row's, too.
    date: (String, i32),
}

impl Reading {
    fn file(&mut self, path: &Path) -> Result<(), FailureEvalError> {
        let file = File::open(path).map_err(|e| unreadable(path, &e))?;
        let packed = path.extension().is_some_and(|e| e == "gz");
        let bytes: Box<dyn Read> =
            if packed { Box::new(flate2::read::MultiGzDecoder::new(file)) } else { Box::new(file) };
        let mut rows = csv::ReaderBuilder::new().flexible(true).buffer_capacity(1 << 16).from_reader(bytes);
        let wrong = |error: csv::Error| match error.kind() {
            csv::ErrorKind::Io(why) => unreadable(path, why),
            _ => malformed(path, error.position().map_or(1, csv::Position::line), "text in UTF-8", "other"),
        };
        let header = rows.headers().map_err(wrong)?;
        let columns = Columns::of(header).map_err(|missing| {
            let got = header.iter().collect::<Vec<&str>>().join(",");
            malformed(path, 1, &format!("a header with the column {missing}"), &got)
        })?;
        let mut row = StringRecord::new();
        while rows.read_record(&mut row).map_err(wrong)? {
            let line = row.position().map_or(0, csv::Position::line);
            self.row(&columns, &row).map_err(|(expected, got)| malformed(path, line, &expected, &got))?;
        }
        Ok(())
    }

    /// Takes one row in; otherwise says what was expected and what stands there.
    fn row(&mut self, columns: &Columns, row: &StringRecord) -> Result<(), (String, String)> {
        if row.len() != columns.count {
            return Err((
                format!("{} fields, as in the header", columns.count),
                format!("{} fields", row.len()),
            ));
        }
        let text = |column: usize| row[column].trim();
        let number = |column: usize, name: &str| match text(column) {
            "" => Ok(f32::NAN),
            text => match text.parse::<f32>() {
                Ok(number) if number.is_finite() => Ok(number),
                _ => Err((format!("a number or nothing in {name}"), text.to_owned())),
            },
        };
        let day = self.day(text(columns.date))?;
        let failed = match text(columns.failure) {
            "0" => None,
            "1" => Some(day),
            other => return Err(("0 or 1 in failure".into(), other.into())),
        };
        let serial = text(columns.serial);
        if serial.is_empty() {
            return Err(("a serial_number".into(), String::new()));
        }
        let model = self.model(text(columns.model));
        let capacity = (number(columns.capacity, "capacity_bytes")? / 1e12).clamp(0.0, 1e3);
        let mut smart = [f32::NAN; SMART];
        for (value, (&column, name)) in smart.iter_mut().zip(columns.smart.iter().zip(NAMES)) {
            *value = number(column, name)?;
        }
        let Some(drive) = self.drives.get_mut(serial) else {
            let days = vec![Day { day, smart }];
            self.drives.insert(serial.to_owned(), Drive { model, capacity, days, failed });
            return Ok(());
        };
        let at = drive.days.partition_point(|d| d.day < day);
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits();
        let said_before = drive.days.get(at).filter(|d| d.day == day);
        if let Some(before) = said_before {
            let other_drive = at == 0 && (drive.model != model || !same(drive.capacity, capacity));
            if other_drive || !before.smart.iter().zip(&smart).all(|(&a, &b)| same(a, b)) {
                let expected = format!("one row a drive and day, or equal ones (remove one of {serial})");
                return Err((expected, format!("another one of {}", text(columns.date))));
            }
            self.repeated += 1;
        } else {
            if at == 0 {
                (drive.model, drive.capacity) = (model, capacity);
            }
            drive.days.insert(at, Day { day, smart });
        }
        drive.failed = drive.failed.into_iter().chain(failed).min();
        Ok(())
    }

    fn day(&mut self, text: &str) -> Result<i32, (String, String)> {
        if self.date.0 != text || text.is_empty() {
            let date: Date =
                text.parse().map_err(|_| ("a date like 2013-04-10 in date".to_owned(), text.to_owned()))?;
            let day = date.duration_since(EPOCH).as_hours() / 24;
            self.date = (text.to_owned(), i32::try_from(day).unwrap_or(0));
        }
        Ok(self.date.1)
    }

    fn model(&mut self, name: &str) -> usize {
        self.models.iter().position(|m| m == name).unwrap_or_else(|| {
            self.models.push(name.to_owned());
            self.models.len() - 1
        })
    }

    /// Drives and models in the order of their names, days from the first one.
    fn table(self, data: &Path) -> Result<Table, FailureEvalError> {
        let mut drives: Vec<(String, Drive)> = self.drives.into_iter().collect();
        drives.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let Some(first) = drives.iter().flat_map(|d| d.1.days.first()).map(|d| d.day).min() else {
            let detail = "no rows below the header: give files that hold drive-days".into();
            return Err(FailureEvalError::TooLittle { path: data.display().to_string(), detail });
        };
        let mut order: Vec<usize> = (0..self.models.len()).collect();
        order.sort_unstable_by(|&a, &b| self.models[a].cmp(&self.models[b]));
        let mut place = vec![0; order.len()];
        order.iter().enumerate().for_each(|(at, &model)| place[model] = at);
        for (_, drive) in &mut drives {
            drive.model = place[drive.model];
            drive.days.iter_mut().for_each(|d| d.day -= first);
            drive.failed = drive.failed.map(|day| day - first);
        }
        Ok(Table {
            drives: drives.into_iter().map(|d| d.1).collect(),
            models: order.into_iter().map(|m| self.models[m].clone()).collect(),
            first: EPOCH.saturating_add(SignedDuration::from_hours(24 * i64::from(first))),
            repeated: self.repeated,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "date,serial_number,model,capacity_bytes,failure,\
                          smart_1_raw,smart_5_raw,smart_9_raw,smart_194_raw,smart_197_raw";
    /// A model is named by the first row of a file that another order puts last; a drive changes its own.
    const ROWS: [&str; 5] = [
        "2013-04-10,b,Z,3000592982016,0,1,0,100,25,0",
        "2013-04-11,b,Y,3000592982016,0,2,0,124,,0",
        "2013-04-12,b,Z,3000592982016,1,3,8,148,27,1",
        "2013-04-11,a,A,,0,4,0,900,30,0",
        "2013-04-12,a,A,4000787030016,0,5,0,924,31,0",
    ];

    fn folder(files: &[(&str, String)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            if name.ends_with(".gz") {
                let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                std::io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
                std::fs::write(path, packed.finish().unwrap()).unwrap();
            } else {
                std::fs::write(path, text).unwrap();
            }
        }
        folder
    }

    fn one(rows: &[&str]) -> Result<Table, FailureEvalError> {
        read(folder(&[(FILE, format!("{HEADER}\n{}\n", rows.join("\n")))]).path())
    }

    fn shown(table: &Table) -> String {
        format!("{table:?}")
    }

    #[test]
    fn any_order_of_rows_gives_the_same_table() {
        let table = one(&ROWS).unwrap();
        assert_eq!((table.drives.len(), table.last(), table.date(2)), (2, 2, date(2013, 4, 12)));
        assert_eq!(table.drives[1].failed, Some(2));
        assert!(table.drives[1].days[1].smart[3].is_nan());
        assert_eq!(table.models, ["A", "Y", "Z"]);
        for turn in 1..ROWS.len() {
            let mut rows = ROWS;
            rows.rotate_left(turn);
            assert_eq!(shown(&one(&rows).unwrap()), shown(&table));
            rows.reverse();
            assert_eq!(shown(&one(&rows).unwrap()), shown(&table));
        }
    }

    #[test]
    fn daily_files_give_the_table_of_the_same_rows_in_one() {
        let wide = |rows: &[usize]| {
            let turned = |line: &str| {
                let mut cells: Vec<&str> = line.split(',').collect();
                cells.reverse();
                format!(
                    "{},,\"x,\"\"y\"\n",
                    cells.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(",")
                )
            };
            let header = turned(HEADER).replace(",,\"x,\"\"y\"", ",smart_2_raw,\"no\"\"te\"");
            let rows: String = rows.iter().map(|&row| turned(ROWS[row])).collect();
            format!("\u{feff}{header}{rows}").replace('\n', "\r\n")
        };
        let daily = folder(&[
            ("data_Q2_2013/2013-04-10.csv", wide(&[0])),
            ("data_Q2_2013/2013-04-11.csv.gz", wide(&[3, 1])),
            ("2013-04-12.csv", format!("{HEADER}\n{}\n{}\n", ROWS[4], ROWS[2])),
            ("2013-04-12.csv.gz", "the same, packed".into()),
            ("data_Q2_2013/._2013-04-10.csv", "\0".into()),
            ("__MACOSX/data_Q2_2013/2013-04-11.csv", "\0".into()),
            ("data_Q2_2013/docs.csv", "\0".into()),
        ]);
        assert_eq!(shown(&read(daily.path()).unwrap()), shown(&one(&ROWS).unwrap()));
        let error = read(folder(&[("other.csv", String::new())]).path()).unwrap_err().to_string();
        assert!(error.contains("no drives.csv, and no YYYY-MM-DD.csv"), "{error}");
    }

    #[test]
    fn a_row_that_stands_twice_counts_once_and_two_that_differ_are_refused() {
        let twice = one(&[&ROWS[..], &ROWS[..]].concat()).unwrap();
        assert_eq!(twice.repeated, 5);
        assert_eq!(format!("{:?}", twice.drives), format!("{:?}", one(&ROWS).unwrap().drives));
        let error = one(&[ROWS[0], &ROWS[0].replace(",25,", ",26,")]).unwrap_err().to_string();
        assert!(error.contains("drives.csv:3: expected one row a drive and day"), "{error}");
    }

    #[test]
    fn what_is_not_as_it_should_be_is_named_with_its_place() {
        for (from, to, expected) in [
            (",0,5,", ",yes,5,", "drives.csv:6: expected 0 or 1 in failure, got \"yes\""),
            ("924,31", "abc,31", "drives.csv:6: expected a number or nothing in smart_9_raw, got \"abc\""),
            ("924,31", "inf,31", "drives.csv:6: expected a number or nothing in smart_9_raw, got \"inf\""),
            ("2013-04-12", "12/04/2013", "drives.csv:6: expected a date like 2013-04-10 in date"),
            (",A,", ",", "drives.csv:6: expected 10 fields, as in the header, got \"9 fields\""),
            (",a,", ",,", "drives.csv:6: expected a serial_number"),
        ] {
            let last = ROWS[4].replace(from, to);
            let error = one(&[&ROWS[..4], &[&last]].concat()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let error = read(folder(&[(FILE, "date,x\n".into())]).path()).unwrap_err().to_string();
        assert!(error.contains("drives.csv:1: expected a header with the column smart_1_raw"), "{error}");
        assert!(one(&[]).unwrap_err().to_string().contains("no rows below the header"));
    }
}
