//! Entries in memory. A key is a path: entries lie in folders, and there in the order of their names. A folder is
//! found by its hash, and what comes to a journal comes behind its last record: no other key is looked at.

use std::cmp::Ordering;
use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::store::{Compare, Entry};
use crate::fleet::Revision;

/// What is kept under a key.
struct Kept {
    /// The key without its folder.
    name: Box<str>,
    value: Vec<u8>,
    created: Revision,
    modified: Revision,
}

impl Kept {
    fn entry(&self, key: String) -> Entry {
        let Self { value, created, modified, .. } = self;
        Entry { key, value: value.clone(), created: *created, modified: *modified }
    }

    fn entry_in(&self, folder: &str) -> Entry {
        let mut key = String::with_capacity(folder.len() + self.name.len());
        key.push_str(folder);
        key.push_str(&self.name);
        self.entry(key)
    }
}

/// Entries in memory.
#[derive(Default)]
pub(super) struct Shelf {
    /// By the path of a folder, its last slash included; each in the order of its names.
    folders: HashMap<Box<str>, Vec<Kept>, RandomState>,
}

/// A key as a folder and a name in it.
fn split(key: &str) -> (&str, &str) {
    key.split_at(memchr::memrchr(b'/', key.as_bytes()).map_or(0, |slash| slash + 1))
}

/// Where a name is, or where it is to go.
fn place(folder: &[Kept], name: &str) -> Result<usize, usize> {
    let Some((last, before)) = folder.split_last() else { return Err(0) };
    match (*last.name).cmp(name) {
        Ordering::Less => Err(folder.len()),
        Ordering::Equal => Ok(before.len()),
        Ordering::Greater => before.binary_search_by(|kept| (*kept.name).cmp(name)),
    }
}

impl Shelf {
    fn find(&self, key: &str) -> Option<&Kept> {
        let (folder, name) = split(key);
        let folder = self.folders.get(folder)?;
        folder.get(place(folder, name).ok()?)
    }

    /// The entry of a key.
    pub(super) fn get(&self, key: &str) -> Option<Entry> {
        self.find(key).map(|kept| kept.entry(key.to_string()))
    }

    /// Whether a compare holds.
    pub(super) fn holds(&self, compare: &Compare) -> bool {
        let found = self.find(compare.key());
        compare.holds_of(found.map(|kept| (kept.created, kept.modified, kept.value.as_slice())))
    }

    /// Puts a value at a revision; when its key was made.
    pub(super) fn put(&mut self, key: &str, value: Vec<u8>, at: Revision) -> Revision {
        let (path, name) = split(key);
        let kept = |value| Kept { name: name.into(), value, created: at, modified: at };
        let Some(folder) = self.folders.get_mut(path) else {
            self.folders.insert(path.into(), vec![kept(value)]);
            return at;
        };
        match place(folder, name) {
            Ok(i) => {
                let kept = &mut folder[i];
                kept.value = value;
                kept.modified = at;
                kept.created
            }
            Err(i) => {
                folder.insert(i, kept(value));
                at
            }
        }
    }

    /// Removes a key; tells whether it was there.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let (path, name) = split(key);
        let Some(folder) = self.folders.get_mut(path) else { return false };
        let Ok(i) = place(folder, name) else { return false };
        folder.remove(i);
        if folder.is_empty() {
            self.folders.remove(path);
        }
        true
    }

    /// All entries whose keys begin with `prefix`, in the order of their keys.
    pub(super) fn list(&self, prefix: &str) -> Vec<Entry> {
        let whole = self.folders.iter().filter(|(path, _)| path.starts_with(prefix));
        let mut found: Vec<(&str, &[Kept])> = whole.map(|(path, folder)| (&**path, &**folder)).collect();
        let (path, begin) = split(prefix);
        if !begin.is_empty()
            && let Some(folder) = self.folders.get(path)
        {
            let named = &folder[folder.partition_point(|kept| *kept.name < *begin)..];
            let end = named.partition_point(|kept| kept.name.starts_with(begin));
            found.push((path, &named[..end]));
        }
        // What is around a folder comes before what is in it.
        found.sort_unstable_by_key(|(path, _)| *path);
        let mut listed = Vec::with_capacity(found.iter().map(|(_, folder)| folder.len()).sum());
        let mut list = |path: &str, kept: &[Kept]| listed.extend(kept.iter().map(|kept| kept.entry_in(path)));
        // The folders that the next one lies in, and what of each comes behind it.
        let mut around: Vec<(&str, &[Kept])> = Vec::new();
        for (path, folder) in found {
            while let Some((outer, left)) = around.pop() {
                if let Some(under) = path.strip_prefix(outer) {
                    // No name has a slash: none is both before and behind what lies in one folder.
                    let (before, behind) = left.split_at(left.partition_point(|kept| *kept.name < *under));
                    list(outer, before);
                    around.push((outer, behind));
                    break;
                }
                list(outer, left);
            }
            around.push((path, folder));
        }
        around.into_iter().rev().for_each(|(path, left)| list(path, left));
        listed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_and_lists_what_a_sorted_map_does(
            steps in proptest::collection::vec((0u8..4, "[a\0é/]{0,4}|/migrations/M-1[12]?/(state|journal/00000[0-2]{3}[a\0]{0,3})?", any::<u8>()), 0..60),
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
