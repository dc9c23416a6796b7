//! Text files, gzipped or not, and the folders they are in.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::eval::error::EvalError;

/// The whole text of a file; one that ends in `.gz` is unpacked.
pub(super) fn read(path: &Path) -> Result<String, EvalError> {
    let unreadable = |source| EvalError::Unreadable { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let mut text = String::new();
    if path.extension().is_some_and(|e| e == "gz") {
        flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text).map_err(unreadable)?;
    } else {
        text = String::from_utf8(bytes)
            .map_err(|e| unreadable(std::io::Error::new(std::io::ErrorKind::InvalidData, e)))?;
    }
    Ok(text)
}

/// `path`, or `path` with `.gz`, whichever is there.
pub(in crate::eval) fn existing(path: &Path) -> Option<PathBuf> {
    let packed = PathBuf::from(format!("{}.gz", path.display()));
    [path.to_owned(), packed].into_iter().find(|p| p.is_file())
}

/// All files below `folder`, sorted, at most four folders deep; without what systems leave beside them
/// (dot-files, `__MACOSX`).
pub(in crate::eval) fn files(folder: &Path) -> Result<Vec<PathBuf>, EvalError> {
    let mut out = Vec::new();
    let mut open = vec![(folder.to_owned(), 0)];
    while let Some((place, depth)) = open.pop() {
        let unreadable = |source| EvalError::Unreadable { path: place.clone(), source };
        for entry in std::fs::read_dir(&place).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (path, name) = (entry.path(), entry.file_name());
            if name == "__MACOSX" || name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if path.is_dir() && depth < 4 {
                open.push((path, depth + 1));
            } else if path.is_file() {
                out.push(path);
            }
        }
    }
    out.sort();
    Ok(out)
}

/// The folder itself, or the first of `names` in it that is a folder: `--data` may be the parent.
pub(super) fn folder_of(data: &Path, names: &[&str]) -> PathBuf {
    names.iter().map(|n| data.join(n)).find(|p| p.is_dir()).unwrap_or_else(|| data.to_owned())
}

/// A file's name without `.gz`, `.csv` and `.txt`.
pub(super) fn stem(path: &Path) -> String {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.strip_suffix(".csv").or_else(|| name.strip_suffix(".txt")).unwrap_or(name).to_owned()
}

/// Comma-separated numbers without header as `[column][row]`; every line as long as the first.
pub(super) fn columns(path: &Path) -> Result<Vec<Vec<f32>>, EvalError> {
    let text = read(path)?;
    let mut out: Vec<Vec<f32>> = Vec::new();
    for (k, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let mut width = 0;
        for cell in line.split(',') {
            let value: f32 = cell
                .trim()
                .parse()
                .map_err(|_| EvalError::malformed(path, k + 1, "numbers between commas", cell))?;
            if k == 0 {
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
