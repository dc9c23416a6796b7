//! All keys that the configuration has, read from the types themselves: a deserializer that gives
//! nothing and writes down what it was asked for. Messages use it to say where a misplaced key
//! belongs; a test holds the example against it.

use std::cell::Cell;
use std::fmt;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::place::parts;
use super::schema::Config;

/// One key of the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    /// Its path; a list's element is `[]`, a name of the user's own `NAME`:
    /// `drivers.NAME.seeds`, `plan.thresholds[].on`.
    pub path: String,
    /// The words it can be, where it is one of a few; else empty.
    pub choices: &'static [&'static str],
}

/// All keys that hold a value, in the order of the types.
pub fn keys() -> Vec<Key> {
    let mut found = Vec::new();
    walk(&mut Vec::new(), &mut found);
    found
}

/// The words that the key at `path` (with or without list numbers) can be; empty where any.
pub(crate) fn choices(path: &str) -> &'static [&'static str] {
    let wanted = parts(path);
    keys()
        .iter()
        .find(|key| {
            let have = parts(&key.path);
            have.len() == wanted.len()
                && have.iter().zip(&wanted).all(|(have, wanted)| *have == "NAME" || have == wanted)
        })
        .map_or(&[], |key| key.choices)
}

#[derive(Clone, Copy)]
enum Asked {
    Leaf,
    Choice(&'static [&'static str]),
    Fields(&'static [&'static str]),
    Map,
    List,
}

fn walk(path: &mut Vec<&'static str>, found: &mut Vec<Key>) {
    let asked = Cell::new(Asked::Leaf);
    let _ = Config::deserialize(Tracer { path, asked: &asked });
    match asked.get() {
        Asked::Leaf => found.push(Key { path: written(path), choices: &[] }),
        Asked::Choice(choices) => found.push(Key { path: written(path), choices }),
        Asked::Fields(fields) => {
            for field in fields {
                path.push(field);
                walk(path, found);
                path.pop();
            }
        }
        Asked::Map => {
            path.push("NAME");
            walk(path, found);
            path.pop();
        }
        Asked::List => {
            path.push("[]");
            let before = found.len();
            walk(path, found);
            path.pop();
            // A list of plain values is one key.
            if let [only] = &mut found[before..]
                && only.path.ends_with("[]")
            {
                only.path = written(path);
            }
        }
    }
}

fn written(path: &[&'static str]) -> String {
    path.join(".").replace(".[]", "[]")
}

struct Tracer<'a> {
    path: &'a [&'static str],
    asked: &'a Cell<Asked>,
}

#[derive(Debug)]
struct Traced;

impl fmt::Display for Traced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("traced")
    }
}

impl std::error::Error for Traced {}

impl serde::de::Error for Traced {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Traced
    }
}

impl<'a> Tracer<'a> {
    fn ends<T>(&self, asked: Asked) -> Result<T, Traced> {
        if self.path.is_empty() {
            self.asked.set(asked);
        }
        Err(Traced)
    }
}

impl<'de, 'a> Deserializer<'de> for Tracer<'a> {
    type Error = Traced;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Traced> {
        self.ends(Asked::Leaf)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Traced> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Traced> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Traced> {
        match self.path.split_first() {
            None => self.ends(Asked::List),
            Some((_, rest)) => visitor.visit_seq(One { name: "", rest: Tracer { path: rest, ..self } }),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Traced> {
        match self.path.split_first() {
            None => self.ends(Asked::Map),
            Some((name, rest)) => visitor.visit_map(One { name, rest: Tracer { path: rest, ..self } }),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Traced> {
        match self.path.split_first() {
            None if name == "Secret" => self.ends(Asked::Leaf),
            None => self.ends(Asked::Fields(fields)),
            Some((name, rest)) => visitor.visit_map(One { name, rest: Tracer { path: rest, ..self } }),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Traced> {
        self.ends(Asked::Choice(variants))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// A table or list with the one entry that leads on.
struct One<'a> {
    name: &'static str,
    rest: Tracer<'a>,
}

impl<'de> MapAccess<'de> for One<'_> {
    type Error = Traced;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Traced> {
        let name: StrDeserializer<'_, Traced> = self.name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Traced> {
        seed.deserialize(Tracer { path: self.rest.path, asked: self.rest.asked })
    }
}

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Traced;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Traced> {
        seed.deserialize(Tracer { path: self.rest.path, asked: self.rest.asked }).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_tell_their_keys() {
        let keys = keys();
        let has = |path: &str| keys.iter().any(|k| k.path == path);
        for path in [
            "engine.interval",
            "plan.thresholds[].off",
            "plan.anti_affinity",
            "drivers.NAME.password",
            "fleet.hosts.NAME.labels.NAME",
            "console.keys.NAME",
            "predict.windows",
            "limits.windows[].days",
        ] {
            assert!(has(path), "{path} is missing in {keys:#?}");
        }
        assert_eq!(choices("engine.mode"), ["read_only", "advise", "auto"]);
        assert_eq!(choices("drivers.cache.class"), ["redis", "postgres", "haproxy", "files", "service"]);
    }
}
