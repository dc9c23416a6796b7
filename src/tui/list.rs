//! One list on the screen: which rows, in which order, which is selected. Rows are indices into the
//! snapshot, so ten thousand of them cost forty kilobytes; only the visible ones are ever drawn.

use std::cmp::Ordering;

use super::field::{LargeFirst, ListKind, Value};
use super::filter::Filter;
use crate::fleet::order::natural;
use crate::protocol::Snapshot;

/// The state of one list.
#[derive(Clone, Debug)]
pub struct List {
    /// Of what.
    pub kind: ListKind,
    /// The rows that are shown, as indices into the snapshot's list, in order.
    pub rows: Vec<u32>,
    /// Position of the selected row in `rows`.
    pub selected: usize,
    /// The first visible position.
    pub offset: usize,
    /// The field that sorts; `None` = the engine's own order.
    pub sort: Option<usize>,
    /// The other way round.
    pub reversed: bool,
    /// The filter as it was typed.
    pub filter: String,
    /// Why the filter makes no sense, if so; the one before it still holds.
    pub wrong: Option<String>,
    anchor: Option<String>,
}

impl List {
    /// An empty list.
    pub fn new(kind: ListKind) -> Self {
        Self {
            kind,
            rows: Vec::new(),
            selected: 0,
            offset: 0,
            sort: kind.first_sort(),
            reversed: false,
            filter: String::new(),
            wrong: None,
            anchor: None,
        }
    }

    /// Takes the rows of a snapshot; the selection stays on the same thing where it still exists.
    pub fn refresh(&mut self, snapshot: &Snapshot) {
        match Filter::read(self.kind, &self.filter) {
            Ok(filter) => {
                self.wrong = None;
                self.rows.clear();
                let all = 0..self.kind.len(snapshot);
                if self.filter.trim().is_empty() {
                    self.rows.extend(all.map(|i| i as u32));
                } else {
                    self.rows.extend(all.filter(|i| filter.shows(snapshot, *i)).map(|i| i as u32));
                }
            }
            Err(why) => {
                self.wrong = Some(why);
                let len = self.kind.len(snapshot);
                self.rows.retain(|i| (*i as usize) < len);
            }
        }
        self.order(snapshot);
        if let Some(anchor) = &self.anchor
            && let Some(at) = self.rows.iter().position(|i| self.kind.key(snapshot, *i as usize) == *anchor)
        {
            self.selected = at;
        }
        self.selected = self.selected.min(self.rows.len().saturating_sub(1));
    }

    fn order(&mut self, snapshot: &Snapshot) {
        let Some(field) = self.sort.and_then(|i| self.kind.fields().get(i)) else {
            if self.reversed {
                self.rows.reverse();
            }
            return;
        };
        let large_first = (field.large_first == LargeFirst::Yes) != self.reversed;
        let mut keyed: Vec<(Value<'_>, u32)> =
            self.rows.iter().map(|i| (field.value(snapshot, *i as usize), *i)).collect();
        keyed.sort_unstable_by(|a, b| compare(a.0, b.0, large_first).then(a.1.cmp(&b.1)));
        self.rows.clear();
        self.rows.extend(keyed.into_iter().map(|(_, i)| i));
    }

    /// Moves the selection by `steps` and keeps it in the visible `page` rows.
    pub fn step(&mut self, steps: isize, page: usize, snapshot: &Snapshot) {
        let last = self.rows.len().saturating_sub(1);
        self.select(self.selected.saturating_add_signed(steps).min(last), page, snapshot);
    }

    /// Selects position `at`.
    pub fn select(&mut self, at: usize, page: usize, snapshot: &Snapshot) {
        self.selected = at.min(self.rows.len().saturating_sub(1));
        self.anchor = self.rows.get(self.selected).map(|i| self.kind.key(snapshot, *i as usize));
        self.reveal(page);
    }

    /// Scrolls so that the selection is visible in `page` rows.
    pub fn reveal(&mut self, page: usize) {
        let page = page.max(1);
        if self.selected < self.offset {
            self.offset = self.selected;
        } else if self.selected >= self.offset + page {
            self.offset = self.selected + 1 - page;
        }
        self.offset = self.offset.min(self.rows.len().saturating_sub(page));
    }

    /// Index of the selected thing in the snapshot's list.
    pub fn chosen(&self) -> Option<usize> {
        self.rows.get(self.selected).map(|i| *i as usize)
    }
}

/// Missing numbers come last either way round.
fn compare(a: Value<'_>, b: Value<'_>, large_first: bool) -> Ordering {
    let turn = |o: Ordering| if large_first { o.reverse() } else { o };
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.is_nan(), b.is_nan()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => turn(a.total_cmp(&b)),
        },
        (Value::Text(a), Value::Text(b)) => turn(natural(a, b)),
        (Value::Text(_), Value::Number(_)) => Ordering::Less,
        (Value::Number(_), Value::Text(_)) => Ordering::Greater,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_last_either_way_round() {
        for large_first in [true, false] {
            let order = compare(Value::Number(f64::NAN), Value::Number(1.0), large_first);
            assert_eq!(order, Ordering::Greater);
        }
    }
}
