//! The house stands on its floors: a room uses only rooms on floors below its own and none beside
//! it, and the right to change a system is minted in one place. Read from the imports themselves.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const FLOORS: [(&str, u8); 17] = [
    ("fleet", 0),
    ("telemetry", 1),
    ("drivers", 1),
    ("protocol", 1),
    ("state", 1),
    ("config", 1),
    ("predict", 2),
    ("agent", 2),
    ("sim", 2),
    ("plan", 3),
    ("migrate", 4),
    ("alert", 4),
    ("engine", 5),
    ("api", 6),
    ("eval", 6),
    ("tui", 7),
    ("cli", 8),
];

/// What `tui` may use: a screen can be drawn from a recorded snapshot with no engine in the process.
const CONSOLE_USES: [&str; 3] = ["protocol", "config", "fleet"];

fn sources() -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("src can be read") {
            let path = entry.expect("src can be read").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found.sort();
    found
}

fn room(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).ok()?;
    let mut parts = inside.components();
    let first = parts.next()?.as_os_str().to_str()?.to_string();
    parts.next().map(|_| first)
}

/// Every `crate::room` in the code, comments left out; grouped imports are written
/// `crate::{a::…, b::…}`.
fn uses(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            let names: Vec<&str> = match rest.strip_prefix('{') {
                Some(group) => group.trim_end_matches([';', '}']).split(',').collect(),
                None => vec![rest],
            };
            for name in names {
                let room: String =
                    name.trim().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                if !room.is_empty() {
                    found.push((number + 1, room));
                }
            }
        }
    }
    found
}

#[test]
fn a_room_uses_only_rooms_on_floors_below_its_own() {
    let floors: BTreeMap<&str, u8> = FLOORS.into_iter().collect();
    let mut broken = Vec::new();
    for path in sources() {
        let Some(own) = room(&path) else { continue };
        let Some(&floor) = floors.get(own.as_str()) else {
            broken.push(format!("{}: the room {own} has no floor in ARCHITECTURE.md", path.display()));
            continue;
        };
        let text = fs::read_to_string(&path).expect("source can be read");
        for (line, used) in uses(&text) {
            let Some(&below) = floors.get(used.as_str()) else { continue };
            let allowed =
                used == own || (below < floor && (own != "tui" || CONSOLE_USES.contains(&used.as_str())));
            if !allowed {
                broken.push(format!(
                    "{}:{line}: {own} (floor {floor}) uses {used} (floor {below})",
                    path.display()
                ));
            }
        }
    }
    assert!(broken.is_empty(), "floors broken:\n{}", broken.join("\n"));
}

#[test]
fn permits_are_minted_by_the_runner_alone() {
    for path in sources() {
        let shown = path.display().to_string();
        if shown.contains("src/migrate/") || shown.ends_with("src/drivers/mover.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("source can be read");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        assert!(
            !code.contains("mint_for_runner"),
            "{shown} mints a permit: only migrate may change a system, after an approval"
        );
    }
}
