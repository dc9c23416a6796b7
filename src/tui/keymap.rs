//! Which keys do what: the table's own keys, changed by the configuration. Conflicts are found when
//! it is built, and name both actions.

use std::collections::BTreeMap;

use thiserror::Error;

use super::action::{Action, Kind, TABLE};
use super::key::{BadKey, Code, Key, parse_sequence};
use super::theme::nearest;

/// What is wrong with the keys of the configuration.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum KeymapError {
    /// There is no such action.
    #[error("keys: there is no action {name:?}{}", nearest.map(|n| format!("; did you mean {n:?}?")).unwrap_or_default())]
    UnknownAction {
        /// What was written.
        name: String,
        /// The nearest name.
        nearest: Option<&'static str>,
    },
    /// There is no such key.
    #[error("keys.{action}: {source}")]
    BadKey {
        /// Of which action.
        action: String,
        /// What was written.
        source: BadKey,
    },
    /// Two actions of one screen want the same key.
    #[error("keys: {key:?} is both {first:?} and {second:?} on one screen: give one of them another key")]
    Conflict {
        /// The key.
        key: String,
        /// One action.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
}

/// What a sequence of keys means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// An action.
    Action(Action),
    /// The beginning of a longer sequence.
    Begins,
    /// Nothing.
    Nothing,
}

/// The bindings: for every action its sequences, the first is the one that is shown.
#[derive(Clone, PartialEq, Debug)]
pub struct Keymap {
    bound: Vec<Vec<Vec<Key>>>,
}

impl Keymap {
    /// The table's keys with the configuration's `overrides`: action name → sequences. An empty
    /// list takes an action's keys away.
    ///
    /// # Errors
    /// The first unknown action, bad key, or conflict.
    pub fn build(overrides: &BTreeMap<String, Vec<String>>) -> Result<Keymap, KeymapError> {
        let bad = |action: &str| {
            let action = action.to_string();
            move |source| KeymapError::BadKey { action, source }
        };
        let mut bound = Vec::with_capacity(TABLE.len());
        for row in TABLE {
            let keys: Result<_, _> = row.keys.iter().map(|k| parse_sequence(k)).collect();
            bound.push(keys.map_err(bad(row.name))?);
        }
        for (name, keys) in overrides {
            let Some(action) = Action::named(name) else {
                let names: Vec<&str> = TABLE.iter().map(|row| row.name).collect();
                return Err(KeymapError::UnknownAction {
                    name: name.clone(),
                    nearest: nearest(name, &names),
                });
            };
            let keys: Result<_, _> = keys.iter().map(|k| parse_sequence(k)).collect();
            bound[action as usize] = keys.map_err(bad(name))?;
        }
        let keymap = Keymap { bound };
        keymap.check()?;
        Ok(keymap)
    }

    fn check(&self) -> Result<(), KeymapError> {
        let all: Vec<(&Vec<Key>, usize)> =
            self.bound.iter().enumerate().flat_map(|(i, keys)| keys.iter().map(move |k| (k, i))).collect();
        for (n, (a, i)) in all.iter().enumerate() {
            for (b, j) in &all[..n] {
                let shorter = a.len().min(b.len());
                if a[..shorter] == b[..shorter] && TABLE[*i].on.meets(TABLE[*j].on) {
                    return Err(KeymapError::Conflict {
                        key: show(a),
                        first: TABLE[*j].name,
                        second: TABLE[*i].name,
                    });
                }
            }
        }
        Ok(())
    }

    /// What `keys` mean on a screen of that kind.
    pub fn meaning(&self, keys: &[Key], kind: Kind) -> Meaning {
        let mut begins = false;
        for row in TABLE.iter().filter(|row| row.on.has(kind)) {
            for sequence in &self.bound[row.action as usize] {
                if sequence == keys {
                    return Meaning::Action(row.action);
                }
                begins |= sequence.starts_with(keys);
            }
        }
        if begins { Meaning::Begins } else { Meaning::Nothing }
    }

    /// The key that is shown for an action: its first; empty where it has none.
    pub fn shown(&self, action: Action) -> String {
        self.bound[action as usize].first().map(|keys| show(keys)).unwrap_or_default()
    }

    /// All keys of an action, for help.
    pub fn all(&self, action: Action) -> String {
        self.bound[action as usize].iter().map(|keys| show(keys)).collect::<Vec<_>>().join("  ")
    }
}

fn show(keys: &[Key]) -> String {
    let plain = keys.iter().all(|k| matches!(k.code, Code::Char(c) if c != ' ') && !k.ctrl && !k.alt);
    // On a screen a minus is a minus; only the configuration needs a name for it.
    let name = |k: &Key| if *k == Key::char('-') { "-".to_string() } else { k.to_string() };
    keys.iter().map(name).collect::<Vec<_>>().join(if plain { "" } else { " " })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, keys: &[&str]) -> Result<Keymap, KeymapError> {
        Keymap::build(&BTreeMap::from([(name.to_string(), keys.iter().map(|k| k.to_string()).collect())]))
    }

    #[test]
    fn the_table_itself_has_no_conflict() {
        Keymap::build(&BTreeMap::new()).unwrap();
    }

    #[test]
    fn a_conflict_names_both_actions() {
        let error = with("approve", &["x"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "keys: \"x\" is both \"approve\" and \"reject\" on one screen: give one of them another key"
        );
        // Hold and proposal live on different screens and share a key.
        with("hold", &["p"]).unwrap();
    }

    #[test]
    fn a_sequence_may_not_hide_behind_its_own_beginning() {
        assert!(matches!(with("approve", &["g"]), Err(KeymapError::Conflict { .. })));
    }

    #[test]
    fn an_unknown_action_is_named_with_the_nearest() {
        assert_eq!(
            with("aprove", &["a"]).unwrap_err().to_string(),
            "keys: there is no action \"aprove\"; did you mean \"approve\"?"
        );
    }

    #[test]
    fn a_changed_key_replaces_the_old_ones() {
        let keymap = with("approve", &["A", "F9"]).unwrap();
        assert_eq!(keymap.meaning(&[Key::char('A')], Kind::Proposal), Meaning::Action(Action::Approve));
        assert_eq!(keymap.meaning(&[Key::char('a')], Kind::Proposal), Meaning::Nothing);
        assert_eq!(keymap.meaning(&[Key::char('g')], Kind::Proposal), Meaning::Begins);
        assert_eq!(keymap.shown(Action::Approve), "A");
        assert_eq!(keymap.shown(Action::First), "gg");
    }
}
