//! The file of a PgBouncer that holds one database's line: read, and rewritten so that a reader sees the old
//! file or the new one and nothing in between. Of the line only `host` and `port` are changed.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::session::ident;

/// What stands behind the name of the file while it is rewritten.
const ASIDE: &str = ".foreshift";

/// Where a line leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Leads {
    pub(super) host: String,
    pub(super) port: String,
}

impl Leads {
    /// Of an address with its port.
    pub(super) fn to(address: &str) -> Self {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "5432"));
        Self { host: host.trim_start_matches('[').trim_end_matches(']').to_string(), port: port.to_string() }
    }
}

/// Where the line of a database leads.
///
/// # Errors
/// In words, where there is no such file or line.
pub(super) fn read(file: &Path, database: &str) -> Result<Leads, String> {
    let text = text(file)?;
    let (_, line) = line_of(&text, database).ok_or_else(|| no_line(file, database))?;
    let pairs = pairs(value_of(line));
    let get = |wanted: &str| {
        let found = pairs.iter().find(|(key, ..)| *key == wanted);
        found.map_or(String::new(), |(_, value, _)| unquoted(value))
    };
    let port = get("port");
    Ok(Leads { host: get("host"), port: if port.is_empty() { "5432".into() } else { port } })
}

/// Lets the line of a database lead elsewhere, for the leader of `epoch`. `false` = it does already.
///
/// # Errors
/// In words, where it cannot be read or written, or a newer leader has written it.
pub(super) fn point(file: &Path, database: &str, leads: &Leads, epoch: u64) -> Result<bool, String> {
    if read(file, database)? == *leads {
        return Ok(false);
    }
    let before = text(file)?;
    if let Some(newer) = epoch_in(&before, database).filter(|written| *written > epoch) {
        return Err(format!(
            "{}: the leader of epoch e{newer} wrote it, ours is e{epoch}: this engine is deposed",
            file.display()
        ));
    }
    let after = rewritten(&before, database, leads, epoch).ok_or_else(|| no_line(file, database))?;
    let aside = write_aside(file, &after)?;
    let target = target(file)?;
    fs::rename(&aside, &target).map_err(|e| said(&target, &e))?;
    // The name, too, must outlive a crash of this machine.
    if let Some(folder) = target.parent()
        && let Ok(folder) = File::open(folder)
    {
        folder.sync_all().map_err(|e| said(&target, &e))?;
    }
    match read(file, database)? == *leads {
        true => Ok(true),
        false => Err(format!("{}: somebody else writes it, too", file.display())),
    }
}

/// Whether [`point`] would be able to write: it is tried beside the file, and nothing stays.
///
/// # Errors
/// In words why not.
pub(super) fn try_to_write(file: &Path, database: &str) -> Result<Leads, String> {
    let leads = read(file, database)?;
    let aside = write_aside(file, &text(file)?)?;
    fs::remove_file(&aside).map_err(|e| said(&aside, &e))?;
    Ok(leads)
}

/// Takes away what a rewriting that was broken off left beside the file.
pub(super) fn tidy(file: &Path) {
    if let Ok(target) = target(file) {
        let _ = fs::remove_file(aside_of(&target));
    }
}

fn said(file: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", file.display())
}

fn no_line(file: &Path, database: &str) -> String {
    let line = format!("{} = host=… port=… dbname=…", name_of(database));
    format!("{}: expected a line `{line}` in it", file.display())
}

fn text(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|e| said(file, &e))
}

/// The file itself, where it is reached by a link.
fn target(file: &Path) -> Result<PathBuf, String> {
    fs::canonicalize(file).map_err(|e| said(file, &e))
}

fn aside_of(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(ASIDE);
    PathBuf::from(name)
}

/// Writes a text beside the file, with the same owner and the same rights, so that who reads the one can
/// read the other.
fn write_aside(file: &Path, text: &str) -> Result<PathBuf, String> {
    let target = target(file)?;
    let aside = aside_of(&target);
    let fail = |e: std::io::Error| said(&aside, &e);
    let known = fs::metadata(&target).map_err(|e| said(&target, &e))?;
    let _ = fs::remove_file(&aside);
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside).map_err(fail)?;
    let made = new.metadata().map_err(fail)?;
    if (made.uid(), made.gid()) != (known.uid(), known.gid())
        && let Err(error) = chown(&aside, Some(known.uid()), Some(known.gid()))
        && known.mode() & 0o004 == 0
    {
        let _ = fs::remove_file(&aside);
        return Err(format!(
            "{}: it belongs to user {} and group {} and only they read it: who runs this engine must be able to \
             write it as theirs ({error})",
            target.display(),
            known.uid(),
            known.gid()
        ));
    }
    fs::set_permissions(&aside, fs::Permissions::from_mode(known.mode() & 0o777)).map_err(fail)?;
    new.write_all(text.as_bytes()).and_then(|()| new.sync_all()).map_err(fail)?;
    Ok(aside)
}

/// How a database is called in such a file.
fn name_of(database: &str) -> String {
    let plain = database.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain && !database.is_empty() { database.to_string() } else { ident(database) }
}

/// The line of a database and where it begins: in the section `databases`, or before any.
fn line_of<'a>(text: &'a str, database: &str) -> Option<(usize, &'a str)> {
    let (mut at, mut within) = (0, true);
    for line in text.split_inclusive('\n') {
        let (start, words) = (at, line.trim());
        at += line.len();
        if let Some(section) = words.strip_prefix('[') {
            within = section.trim_end_matches(']').trim() == "databases";
        } else if within && !words.starts_with([';', '#']) {
            let key = words.split_once('=').map(|(key, _)| key.trim());
            if key.is_some_and(|key| key == database || key == ident(database)) {
                return Some((start, line.trim_end_matches(['\n', '\r'])));
            }
        }
    }
    None
}

fn value_of(line: &str) -> &str {
    line.split_once('=').map_or("", |(_, value)| value)
}

/// Keys, values as they are written, and where the values stand.
fn pairs(text: &str) -> Vec<(&str, &str, std::ops::Range<usize>)> {
    let mut pairs = Vec::new();
    let mut at = 0;
    let skip = |from: usize| from + (text[from..].len() - text[from..].trim_start().len());
    while let Some(equals) = text[at..].find('=') {
        let key = text[at..at + equals].trim();
        let start = skip(at + equals + 1);
        let rest = &text[start..];
        let length = match rest.strip_prefix('\'') {
            Some(quoted) => {
                let mut end = quoted.len();
                let mut chars = quoted.char_indices().peekable();
                while let Some((i, c)) = chars.next() {
                    if c == '\'' && chars.next_if(|(_, next)| *next == '\'').is_none() {
                        end = i + 1;
                        break;
                    }
                }
                1 + end
            }
            None => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        pairs.push((key, &text[start..start + length], start..start + length));
        at = start + length;
    }
    pairs
}

fn unquoted(value: &str) -> String {
    match value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')) {
        Some(within) => within.replace("''", "'"),
        None => value.to_string(),
    }
}

fn written_by(database: &str) -> String {
    format!("; foreshift: {} epoch=", name_of(database))
}

/// The leader that let the line lead where it does.
fn epoch_in(text: &str, database: &str) -> Option<u64> {
    let ours = written_by(database);
    text.lines().find_map(|line| line.trim().strip_prefix(&ours)?.parse().ok())
}

/// The text with the database's line leading elsewhere.
fn rewritten(text: &str, database: &str, leads: &Leads, epoch: u64) -> Option<String> {
    let (start, line) = line_of(text, database)?;
    let name = line.split_once('=')?.0;
    let mut value = value_of(line).to_string();
    // From behind, so that what stands before keeps its place.
    for (wanted, new) in [("port", &leads.port), ("host", &leads.host)] {
        let place = pairs(&value).into_iter().find(|(key, ..)| *key == wanted).map(|(_, _, place)| place);
        match place {
            Some(place) => value.replace_range(place, new),
            None => value = format!(" {wanted}={new} {}", value.trim_start()),
        }
    }
    let ours = written_by(database);
    let (before, after) = (&text[..start], &text[start + line.len()..]);
    let before: String = before.split_inclusive('\n').filter(|l| !l.trim().starts_with(&ours)).collect();
    Some(format!("{before}{ours}{epoch}\n{name}={value}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "; pools\n[databases]\nother = host=10.0.0.9 port=5432\n\
        shop = host=10.0.0.1 port=5432 dbname=shop password='it''s port=1' pool_size=20\n[pgbouncer]\nshop = no\n";

    #[test]
    fn only_where_the_line_leads_is_changed_and_back_again() {
        let (here, there) = (Leads::to("10.0.0.1:5432"), Leads::to("10.0.0.2:5433"));
        let moved = rewritten(TEXT, "shop", &there, 5).unwrap();
        assert_eq!(
            moved,
            "; pools\n[databases]\nother = host=10.0.0.9 port=5432\n; foreshift: shop epoch=5\n\
             shop = host=10.0.0.2 port=5433 dbname=shop password='it''s port=1' pool_size=20\n[pgbouncer]\nshop = no\n"
        );
        assert_eq!(epoch_in(&moved, "shop"), Some(5));
        let back = rewritten(&moved, "shop", &here, 6).unwrap();
        assert_eq!(back.replace("; foreshift: shop epoch=6\n", ""), TEXT);
    }

    #[test]
    fn a_line_without_host_or_port_gets_both_and_odd_names_are_found() {
        let there = Leads::to("[::1]:5433");
        assert_eq!(
            rewritten("\"my-shop\" = dbname=shop", "my-shop", &there, 1).unwrap(),
            "; foreshift: \"my-shop\" epoch=1\n\"my-shop\" = host=::1 port=5433 dbname=shop"
        );
        assert_eq!(rewritten("shop2 = host=a\n#shop = host=b\n", "shop", &there, 1), None);
    }

    #[test]
    fn a_file_is_rewritten_whole_with_its_rights_and_not_for_a_deposed_leader() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.ini");
        fs::write(&file, TEXT).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let (here, there) = (Leads::to("10.0.0.1:5432"), Leads::to("10.0.0.2:5432"));
        assert_eq!(try_to_write(&file, "shop").unwrap(), here);
        assert!(!point(&file, "shop", &here, 5).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), TEXT);
        assert!(point(&file, "shop", &there, 5).unwrap());
        assert!(!point(&file, "shop", &there, 5).unwrap());
        assert_eq!(read(&file, "shop").unwrap(), there);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
        assert!(point(&file, "shop", &here, 4).unwrap_err().contains("deposed"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(read(&file, "shops").unwrap_err().contains("expected a line `shops = host="));
    }
}
