//! Entries in memory in the order of their keys. Keys lie in the map itself and are compared by words: most of
//! them begin alike, and looking each up behind a pointer is what a map of strings spends its time on.

use std::collections::{BTreeMap, btree_map};

use super::store::{Compare, Entry};
use crate::fleet::Revision;

/// Words of a key that are compared first.
const WORDS: usize = 5;
/// Their bytes.
const HEAD: usize = WORDS * 8;

/// A key; sorts as its text does.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// Its first bytes, big-endian, zeros behind its end.
    head: [u64; WORDS],
    /// Its other bytes.
    rest: Box<[u8]>,
    /// Its length: what else differs in zeros at the end alone sorts by it.
    len: usize,
}

impl Key {
    fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let (front, rest) = bytes.split_at(bytes.len().min(HEAD));
        let mut padded = [0; HEAD];
        padded[..front.len()].copy_from_slice(front);
        let mut head = [0; WORDS];
        for (word, bytes) in head.iter_mut().zip(padded.as_chunks().0) {
            *word = u64::from_be_bytes(*bytes);
        }
        Self { head, rest: rest.into(), len: bytes.len() }
    }

    fn text(&self) -> String {
        let mut bytes = Vec::with_capacity(self.len.max(HEAD));
        bytes.extend_from_slice(self.head.map(u64::to_be_bytes).as_flattened());
        bytes.truncate(self.len);
        bytes.extend_from_slice(&self.rest);
        String::from_utf8(bytes).expect("it was made of text")
    }
}

/// What is kept under a key.
struct Kept {
    value: Vec<u8>,
    created: Revision,
    modified: Revision,
}

impl Kept {
    fn entry(&self, key: String) -> Entry {
        let Self { value, created, modified } = self;
        Entry { key, value: value.clone(), created: *created, modified: *modified }
    }
}

/// Entries in memory.
#[derive(Default)]
pub(super) struct Shelf {
    kept: BTreeMap<Key, Kept>,
}

impl Shelf {
    /// The entry of a key.
    pub(super) fn get(&self, key: &str) -> Option<Entry> {
        self.kept.get(&Key::of(key)).map(|kept| kept.entry(key.to_string()))
    }

    /// Whether a compare holds.
    pub(super) fn holds(&self, compare: &Compare) -> bool {
        let found = self.kept.get(&Key::of(compare.key()));
        compare.holds_of(found.map(|kept| (kept.created, kept.modified, kept.value.as_slice())))
    }

    /// Puts a value at a revision; when its key was made.
    pub(super) fn put(&mut self, key: &str, value: Vec<u8>, at: Revision) -> Revision {
        match self.kept.entry(Key::of(key)) {
            btree_map::Entry::Occupied(mut kept) => {
                let kept = kept.get_mut();
                kept.value = value;
                kept.modified = at;
                kept.created
            }
            btree_map::Entry::Vacant(place) => {
                place.insert(Kept { value, created: at, modified: at });
                at
            }
        }
    }

    /// Removes a key; tells whether it was there.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        self.kept.remove(&Key::of(key)).is_some()
    }

    /// All entries whose keys begin with `prefix`, in the order of their keys.
    pub(super) fn list(&self, prefix: &str) -> Vec<Entry> {
        let from = self.kept.range(Key::of(prefix)..).map(|(key, kept)| (key.text(), kept));
        // A journal has about as many records.
        let mut found = Vec::with_capacity(64);
        found.extend(from.take_while(|(key, _)| key.starts_with(prefix)).map(|(key, kept)| kept.entry(key)));
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_and_lists_what_a_sorted_map_does(
            steps in proptest::collection::vec((0u8..4, "[a\0é]{0,3}|/migrations/M-1[12]?/journal/00000[0-2]{3}[a\0]{0,9}", any::<u8>()), 0..60),
        ) {
            let mut shelf = Shelf::default();
            let mut model: BTreeMap<String, Entry> = BTreeMap::new();
            for (at, (deed, key, value)) in steps.into_iter().enumerate() {
                let at = Revision(at as u64);
                match deed {
                    0 | 1 => {
                        let created = model.get(&key).map_or(at, |e| e.created);
                        let entry = Entry { key: key.clone(), value: vec![value], created, modified: at };
                        prop_assert_eq!(shelf.put(&key, vec![value], at), created);
                        model.insert(key, entry);
                    }
                    2 => prop_assert_eq!(shelf.remove(&key), model.remove(&key).is_some()),
                    _ => {
                        let wanted: Vec<Entry> =
                            model.values().filter(|e| e.key.starts_with(&key)).cloned().collect();
                        prop_assert_eq!(shelf.list(&key), wanted);
                        prop_assert_eq!(shelf.get(&key), model.get(&key).cloned());
                        let compare = Compare::Created(key.clone(), Revision(3));
                        prop_assert_eq!(shelf.holds(&compare), compare.holds(model.get(&key)));
                    }
                }
            }
            prop_assert_eq!(shelf.list(""), model.into_values().collect::<Vec<_>>());
        }
    }
}
