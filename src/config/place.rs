//! Where each key stands in the file: paths like `plan.thresholds[1].off` to line and column, and
//! back from the place of an error to the key.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The places of all keys of one file.
#[derive(Clone, Debug, Default)]
pub struct Places {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    path: String,
    /// Where its name stands; of a list's element where the element stands.
    name: Range<usize>,
    value: Range<usize>,
}

impl Places {
    /// The places in `text`, as far as it can be understood.
    pub fn read(text: &str) -> Self {
        let (table, _) = DeTable::parse_recoverable(text);
        let mut places = Self::default();
        places.table("", table.get_ref());
        places
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table.iter() {
            let path = match prefix {
                "" => written(name.get_ref()).into_owned(),
                _ => format!("{prefix}.{}", written(name.get_ref())),
            };
            self.value(path, name.span(), value);
        }
    }

    fn value(&mut self, path: String, name: Range<usize>, value: &Spanned<DeValue<'_>>) {
        self.entries.push(Entry { path: path.clone(), name, value: value.span() });
        match value.get_ref() {
            DeValue::Table(table) => self.table(&path, table),
            DeValue::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    self.value(format!("{path}[{i}]"), item.span(), item);
                }
            }
            _ => {}
        }
    }

    /// Byte where the key stands, else the nearest section above it that is in the file, else 0.
    pub fn find(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            if let Some(entry) = self.entries.iter().find(|e| e.path == path) {
                return entry.name.start;
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => return 0,
            }
        }
    }

    /// The key that stands at `span`: the one so named there, else the smallest value around it.
    pub fn at(&self, span: &Range<usize>) -> &str {
        let named = self.entries.iter().find(|e| e.name == *span);
        let around = |e: &&Entry| e.value.start <= span.start && span.end <= e.value.end;
        named
            .or_else(|| self.entries.iter().filter(around).min_by_key(|e| e.value.end - e.value.start))
            .map_or("", |e| e.path.as_str())
    }

    /// Names of the keys directly below `path`.
    pub fn below<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> {
        self.entries.iter().filter_map(move |e| {
            let name = e.path.strip_prefix(path)?.strip_prefix('.')?;
            (!name.contains(['.', '['])).then_some(name)
        })
    }

    /// All paths with list numbers left out: `plan.thresholds[].off`.
    pub fn paths(&self) -> impl Iterator<Item = String> + '_ {
        self.entries.iter().map(|e| {
            let mut path = String::with_capacity(e.path.len());
            let mut in_number = false;
            for c in e.path.chars() {
                in_number = c != ']' && (c == '[' || in_number);
                if !in_number || c == '[' {
                    path.push(c);
                }
            }
            path
        })
    }
}

/// A name as it stands in a path: in quotes where it has more than letters, digits, `-` and `_`.
pub fn written(name: &str) -> Cow<'_, str> {
    let bare = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    if !name.is_empty() && name.chars().all(bare) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(format!("\"{name}\""))
    }
}

/// The names of a path, without list numbers; dots in quotes do not part.
pub fn parts(path: &str) -> Vec<&str> {
    let mut quoted = false;
    path.split(|c: char| {
        quoted ^= c == '"';
        c == '.' && !quoted
    })
    .map(|part| if part.starts_with('"') { part } else { part.split('[').next().unwrap_or(part) })
    .collect()
}

/// Line and column, both from 1, of a byte in `text`; the column counts characters.
pub fn line_and_column(text: &str, byte: usize) -> (usize, usize) {
    let mut end = byte.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_path_and_a_path_by_its_place() {
        let text = "[a]\nx = 1\n[[a.list]]\ny = 2\n[[a.list]]\ny = \"ü\"\nz = 3\n";
        let places = Places::read(text);
        assert_eq!(line_and_column(text, places.find("a.list[1].y")), (6, 1));
        assert_eq!(line_and_column(text, places.find("a.x")), (2, 1));
        assert_eq!(line_and_column(text, places.find("a.missing")), (1, 2));
        let two = text.find('2').unwrap();
        assert_eq!(places.at(&(two..two + 1)), "a.list[0].y");
        assert!(places.paths().any(|p| p == "a.list[].z"));
    }
}
