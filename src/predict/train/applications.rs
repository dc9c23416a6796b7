//! Versions of the models of single applications: `DIR/applications/NAME/0001/…` beside the fleet's own
//! `DIR/all/0001/…`. A folder's name gives the application's back: what is neither letter, digit, `-` nor `_`
//! stands as `%` and two hex digits, byte by byte.

use std::path::{Path, PathBuf};

use super::registry::Registry;
use crate::fleet::ApplicationId;

const FOLDER: &str = "applications";

impl Registry {
    /// The versions of an application's model, in the folder of models of a data directory.
    pub fn of_application(models: &Path, application: &ApplicationId) -> Registry {
        Registry::at(models.join(FOLDER).join(folder_of(application.as_str())))
    }
}

/// All applications that have a folder there, by name; none where there is no such folder, as before there
/// were such models.
pub fn applications(models: &Path) -> Vec<ApplicationId> {
    let entries = std::fs::read_dir(models.join(FOLDER)).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()));
    let mut all: Vec<ApplicationId> =
        folders.filter_map(|f| Some(ApplicationId::from(name_of(&PathBuf::from(f.file_name()))?))).collect();
    all.sort();
    all
}

fn folder_of(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let byte = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02x}") };
    name.bytes().map(byte).collect()
}

fn name_of(folder: &Path) -> Option<String> {
    let text = folder.to_str()?;
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.extend(before.bytes());
        out.push(u8::from_str_radix(after.get(..2)?, 16).ok()?);
        rest = &after[2..];
    }
    out.extend(rest.bytes());
    let name = String::from_utf8(out).ok()?;
    // Only what was written by this program.
    (!name.is_empty() && folder_of(&name) == text).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_application_has_a_folder_of_its_own_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        assert!(applications(dir.path()).is_empty(), "a folder from before there were such models");
        let mut names = ["all", "orders/eu", "orders_eu", "..", "bücher", "a%2fb"].map(ApplicationId::from);
        for name in &names {
            Registry::of_application(dir.path(), name).challenge(1, crate::fleet::Timestamp(0)).unwrap_err();
            let place = Registry::of_application(dir.path(), name).place(1);
            assert_eq!(place.parent().and_then(Path::parent), Some(dir.path().join(FOLDER).as_path()));
            std::fs::create_dir_all(place).unwrap();
        }
        std::fs::create_dir_all(dir.path().join(FOLDER).join("not ours")).unwrap();
        names.sort();
        assert_eq!(applications(dir.path()), names);
    }
}
