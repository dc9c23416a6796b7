//! Text files, gzipped or not, and the folders they are in.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::eval::error::EvalError;

/// The whole text of a file, without a byte order mark; one that ends in `.gz` is unpacked.
pub(in crate::eval) fn read(path: &Path) -> Result<String, EvalError> {
    let bytes = std::fs::read(path).map_err(|e| EvalError::unreadable(path, &e))?;
    let bytes = if path.extension().is_some_and(|e| e == "gz") {
        let mut out = Vec::new();
        flate2::read::MultiGzDecoder::new(bytes.as_slice())
            .read_to_end(&mut out)
            .map_err(|e| EvalError::unreadable(path, &e))?;
        out
    } else {
        bytes
    };
    let text = String::from_utf8(bytes).map_err(|e| EvalError::unreadable(path, &e))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// `path`, or `path` with `.gz`, whichever is there.
pub(in crate::eval) fn existing(path: &Path) -> Option<PathBuf> {
    let packed = PathBuf::from(format!("{}.gz", path.display()));
    [path.to_owned(), packed].into_iter().find(|p| p.is_file())
}

/// All files below `folder`, sorted, at most four folders deep. What archives of a Mac leave behind (names
/// that begin with a dot, `__MACOSX`) is no data; a packed file beside its plain one is left out.
pub(in crate::eval) fn files(folder: &Path) -> Result<Vec<PathBuf>, EvalError> {
    let mut out = Vec::new();
    let mut open = vec![(folder.to_owned(), 0)];
    while let Some((place, depth)) = open.pop() {
        let unreadable = |e: std::io::Error| EvalError::unreadable(&place, &e);
        for entry in std::fs::read_dir(&place).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") || name == "__MACOSX" {
                continue;
            }
            let path = entry.path();
            if path.is_dir() && depth < 4 {
                open.push((path, depth + 1));
            } else if path.is_file() {
                out.push(path);
            }
        }
    }
    out.sort();
    let packed_twin = |p: &PathBuf| {
        p.extension().is_some_and(|e| e == "gz") && out.binary_search(&p.with_extension("")).is_ok()
    };
    Ok(out.iter().filter(|p| !packed_twin(p)).cloned().collect())
}

/// The one of `found` that lies least deep; two that lie equally deep are refused with both names.
pub(in crate::eval) fn least_deep(mut found: Vec<PathBuf>) -> Result<Option<PathBuf>, EvalError> {
    let depth = |p: &PathBuf| p.components().count();
    found.sort_by_key(depth);
    match found.as_slice() {
        [first, second, ..] if depth(first) == depth(second) => {
            Err(EvalError::Ambiguous { first: first.clone(), second: second.clone() })
        }
        _ => Ok(found.into_iter().next()),
    }
}

/// Whether the file is called `name`, or that with `.gz`.
pub(in crate::eval) fn is_named(path: &Path, name: &str) -> bool {
    let found = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
    found.strip_suffix(".gz").unwrap_or(&found) == name
}

/// The folder itself, or the first of `names` in it that is a folder: `--data` may be the parent.
pub(in crate::eval) fn folder_of(data: &Path, names: &[&str]) -> PathBuf {
    names.iter().map(|n| data.join(n)).find(|p| p.is_dir()).unwrap_or_else(|| data.to_owned())
}

/// A file's name without `.gz`, `.csv` and `.txt`; `None` where it ends in neither of the last two.
pub(super) fn stem(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    Some(name.strip_suffix(".csv").or_else(|| name.strip_suffix(".txt"))?.to_owned())
}

/// Comma-separated numbers without header as `[column][row]`; every line as long as the first.
pub(super) fn columns(path: &Path) -> Result<Vec<Vec<f32>>, EvalError> {
    let text = read(path)?;
    let mut out: Vec<Vec<f32>> = Vec::new();
    for (k, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let begins = out.is_empty();
        let mut width = 0;
        for cell in line.split(',') {
            let value: f32 = cell
                .trim()
                .parse()
                .map_err(|_| EvalError::malformed(path, k + 1, "numbers between commas", cell))?;
            if begins {
                out.push(Vec::new());
            }
            if let Some(column) = out.get_mut(width) {
                column.push(value);
            }
            width += 1;
        }
        if width != out.len() {
            let expected = format!("{} numbers", out.len());
            return Err(EvalError::malformed(path, k + 1, &expected, &format!("{width} numbers")));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_mac_left_behind_and_packed_twins_are_no_data() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("a/__MACOSX");
        std::fs::create_dir_all(&inner).expect("a folder");
        for name in ["a/x.csv", "a/x.csv.gz", "a/._x.csv", "a/__MACOSX/x.csv", "a/y.csv.gz"] {
            std::fs::write(folder.path().join(name), "1").expect("writes");
        }
        let names: Vec<PathBuf> = files(folder.path()).expect("walks");
        assert_eq!(names, ["a/x.csv", "a/y.csv.gz"].map(|n| folder.path().join(n)));
    }

    #[test]
    fn the_least_deep_is_taken_and_two_equally_deep_are_named() {
        let taken = least_deep(vec!["d/b/c/x".into(), "d/a/x".into()]).expect("one");
        assert_eq!(taken, Some(PathBuf::from("d/a/x")));
        let said = least_deep(vec!["d/b/x".into(), "d/a/x".into()]).expect_err("two").to_string();
        assert!(said.contains("d/b/x and d/a/x could both be meant"), "{said}");
    }

    #[test]
    fn a_blank_first_line_and_a_byte_order_mark_are_no_numbers() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.csv");
        std::fs::write(&path, "\u{feff}\n1,2\n3,4\n").expect("writes");
        assert_eq!(columns(&path).expect("reads"), [[1.0, 3.0], [2.0, 4.0]]);
    }
}
