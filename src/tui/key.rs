//! Keys as values: what was pressed, how it is written in the configuration (`C-d`, `g g`,
//! `<enter>`), and how the footer shows it.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The key without its modifiers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Code {
    /// A character; shift is in the character itself.
    Char(char),
    /// Enter.
    Enter,
    /// Escape.
    Esc,
    /// Tab.
    Tab,
    /// Shift and tab.
    BackTab,
    /// Backspace.
    Backspace,
    /// Delete.
    Delete,
    /// Insert.
    Insert,
    /// Arrow up.
    Up,
    /// Arrow down.
    Down,
    /// Arrow left.
    Left,
    /// Arrow right.
    Right,
    /// Home.
    Home,
    /// End.
    End,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// A function key, 1 to 12.
    F(u8),
}

/// A key with its modifiers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Key {
    /// The key.
    pub code: Code,
    /// With control.
    pub ctrl: bool,
    /// With alt.
    pub alt: bool,
}

/// A key that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{text:?} is no key: expected a character, `C-d`, `A-x`, `f5`, or one of {}", NAMED.map(|n| n.0).join(" "))]
pub struct BadKey {
    /// What was written.
    pub text: String,
}

const NAMED: [(&str, Code); 17] = [
    ("enter", Code::Enter),
    ("esc", Code::Esc),
    ("tab", Code::Tab),
    ("backtab", Code::BackTab),
    ("backspace", Code::Backspace),
    ("delete", Code::Delete),
    ("insert", Code::Insert),
    ("up", Code::Up),
    ("down", Code::Down),
    ("left", Code::Left),
    ("right", Code::Right),
    ("home", Code::Home),
    ("end", Code::End),
    ("pgup", Code::PageUp),
    ("pgdn", Code::PageDown),
    ("space", Code::Char(' ')),
    ("minus", Code::Char('-')),
];

impl Key {
    /// The key without modifiers.
    pub const fn plain(code: Code) -> Self {
        Self { code, ctrl: false, alt: false }
    }

    /// The character alone.
    pub const fn char(c: char) -> Self {
        Self::plain(Code::Char(c))
    }

    /// The character with control.
    pub const fn ctrl(c: char) -> Self {
        Self { code: Code::Char(c), ctrl: true, alt: false }
    }
}

impl FromStr for Key {
    type Err = BadKey;

    /// Reads `a`, `C-d`, `A-x`, `<enter>`, `enter`, `f5`, `space`; names in any case.
    fn from_str(text: &str) -> Result<Self, BadKey> {
        let bad = || BadKey { text: text.to_string() };
        let bare = text.strip_prefix('<').and_then(|t| t.strip_suffix('>')).unwrap_or(text);
        let mut key = Key::plain(Code::Esc);
        let mut rest = bare;
        while let Some((modifier, after)) = rest.split_once('-').filter(|(_, after)| !after.is_empty()) {
            match modifier {
                "C" | "c" | "ctrl" => key.ctrl = true,
                "A" | "a" | "M" | "alt" => key.alt = true,
                _ => return Err(bad()),
            }
            rest = after;
        }
        let mut chars = rest.chars();
        key.code = match (chars.next(), chars.next()) {
            (Some(c), None) => Code::Char(c),
            (Some('f' | 'F'), Some(_)) if rest[1..].parse::<u8>().is_ok_and(|n| (1..=12).contains(&n)) => {
                Code::F(rest[1..].parse().map_err(|_| bad())?)
            }
            _ => {
                let name = rest.to_ascii_lowercase();
                NAMED.iter().find(|(n, _)| *n == name).map(|(_, code)| *code).ok_or_else(bad)?
            }
        };
        Ok(key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        if self.ctrl {
            text.push_str("C-");
        }
        if self.alt {
            text.push_str("A-");
        }
        match self.code {
            Code::F(n) => text.push_str(&format!("F{n}")),
            code => match NAMED.iter().find(|(_, c)| *c == code) {
                Some((name, _)) => text.push_str(name),
                None => {
                    if let Code::Char(c) = code {
                        text.push(c);
                    }
                }
            },
        }
        f.pad(&text)
    }
}

/// Reads a sequence such as `g g` or `C-c C-c`.
///
/// # Errors
/// The part that is no key.
pub fn parse_sequence(text: &str) -> Result<Vec<Key>, BadKey> {
    let keys: Vec<Key> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    if keys.is_empty() { Err(BadKey { text: text.to_string() }) } else { Ok(keys) }
}

/// Reads a script of keys as people write it in tests and tutorials: `2jj/n3<enter>a`.
///
/// # Errors
/// The part in angle brackets that is no key.
pub fn parse_script(text: &str) -> Result<Vec<Key>, BadKey> {
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == '<'
            && let Some(end) = rest.find('>').filter(|end| *end > 1)
        {
            keys.push(rest[..=end].parse()?);
            rest = &rest[end + 1..];
            continue;
        }
        keys.push(Key::char(c));
        rest = &rest[c.len_utf8()..];
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_shown() {
        for text in
            ["a", "C-d", "A-x", "enter", "F5", "space", "pgdn", "minus", "!", "<", "backtab", "C-left"]
        {
            let key: Key = text.parse().unwrap();
            assert_eq!(key.to_string(), text);
        }
        assert_eq!("<enter>".parse::<Key>().unwrap(), Key::plain(Code::Enter));
        assert_eq!("-".parse::<Key>().unwrap(), Key::char('-'));
    }

    #[test]
    fn what_is_no_key_is_named() {
        assert!("F77".parse::<Key>().unwrap_err().to_string().starts_with("\"F77\" is no key"));
        assert!("X-a".parse::<Key>().is_err());
        assert!(parse_sequence("  ").is_err());
    }

    #[test]
    fn scripts_mix_characters_and_named_keys() {
        let keys = parse_script("2j<enter><C-d><").unwrap();
        assert_eq!(keys.len(), 5);
        assert_eq!(keys[2], Key::plain(Code::Enter));
        assert_eq!(keys[4], Key::char('<'));
    }
}
