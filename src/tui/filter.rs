//! The filter line: words that must be there, `!word` that must not, and `field=value`,
//! `field>number` on the fields of the list. All must hold.

use super::field::{Field, ListKind, Value};
use super::theme::nearest;
use crate::protocol::Snapshot;

enum Term {
    Has(String),
    HasNot(String),
    Compare { field: Field, operator: Operator, text: String, number: f64 },
}

#[derive(Clone, Copy, PartialEq)]
enum Operator {
    Equal,
    Unequal,
    Less,
    More,
    AtMost,
    AtLeast,
}

/// A filter that was read.
pub(super) struct Filter {
    kind: ListKind,
    terms: Vec<Term>,
}

const OPERATORS: [(&str, Operator); 6] = [
    ("!=", Operator::Unequal),
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("=", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::More),
];

impl Filter {
    /// Reads a filter for a list.
    ///
    /// # Errors
    /// The part that makes no sense, and what would.
    pub(super) fn read(kind: ListKind, text: &str) -> Result<Filter, String> {
        let terms: Result<Vec<Term>, String> = text.split_whitespace().map(|word| term(kind, word)).collect();
        Ok(Filter { kind, terms: terms? })
    }

    /// Whether row `i` is shown.
    pub(super) fn shows(&self, snapshot: &Snapshot, i: usize) -> bool {
        let has = |word: &str| {
            self.kind.fields().iter().any(|f| match f.value(snapshot, i) {
                Value::Text(text) => contains(text, word),
                Value::Number(_) => false,
            })
        };
        self.terms.iter().all(|term| match term {
            Term::Has(word) => has(word),
            Term::HasNot(word) => !has(word),
            Term::Compare { field, operator, text, number } => match field.value(snapshot, i) {
                Value::Text(value) => match operator {
                    Operator::Equal => contains(value, text),
                    Operator::Unequal => !contains(value, text),
                    _ => false,
                },
                Value::Number(value) => match operator {
                    Operator::Equal => (value - number).abs() < 1e-9,
                    Operator::Unequal => (value - number).abs() >= 1e-9,
                    Operator::Less => value < *number,
                    Operator::More => value > *number,
                    Operator::AtMost => value <= *number,
                    Operator::AtLeast => value >= *number,
                },
            },
        })
    }
}

/// Whether `text` contains `word`, which is in lower case.
fn contains(text: &str, word: &str) -> bool {
    if text.is_ascii() && word.is_ascii() {
        let (text, word) = (text.as_bytes(), word.as_bytes());
        return word.is_empty() || text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word));
    }
    text.to_lowercase().contains(word)
}

fn term(kind: ListKind, word: &str) -> Result<Term, String> {
    let found = OPERATORS
        .iter()
        .filter_map(|(sign, operator)| word.find(sign).filter(|at| *at > 0).map(|at| (at, *sign, *operator)))
        .min_by_key(|(at, sign, _)| (*at, std::cmp::Reverse(sign.len())));
    let Some((at, sign, operator)) = found else {
        let lower = word.to_lowercase();
        return Ok(match lower.strip_prefix('!') {
            Some(not) if !not.is_empty() => Term::HasNot(not.to_string()),
            _ => Term::Has(lower),
        });
    };
    let (name, value) = (&word[..at], &word[at + sign.len()..]);
    let Some(field) = kind.fields().iter().find(|f| f.name == name) else {
        let names: Vec<&str> = kind.fields().iter().map(|f| f.name).collect();
        let hint = nearest(name, &names).map_or_else(|| names.join(" "), |n| format!("did you mean {n}?"));
        return Err(format!("no field {name}: {hint}"));
    };
    let number = amount(value);
    if field.is_number() && number.is_nan() {
        return Err(format!(
            "{word}: expected a number after {sign}, for example {name}{sign}50 (40% 5k 2m 50g)"
        ));
    }
    if !field.is_number() && !matches!(operator, Operator::Equal | Operator::Unequal) {
        return Err(format!("{word}: {name} is a word; expected {name}=text or {name}!=text"));
    }
    Ok(Term::Compare { field: *field, operator, text: value.to_lowercase(), number })
}

/// A number with an optional ending: `40%`, `5k`, `2m`, `50g`, `1t`. NaN where it is none, and no
/// comparison with that holds.
fn amount(text: &str) -> f64 {
    let lower = text.to_ascii_lowercase();
    let (digits, factor) = match lower.char_indices().next_back() {
        Some((at, '%')) => (&lower[..at], 0.01),
        Some((at, 'k')) => (&lower[..at], 1e3),
        Some((at, 'm')) => (&lower[..at], 1e6),
        Some((at, 'g')) => (&lower[..at], 1e9),
        Some((at, 't')) => (&lower[..at], 1e12),
        _ => (lower.as_str(), 1.0),
    };
    digits.parse::<f64>().map_or(f64::NAN, |n| n * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_field_is_named_with_the_nearest() {
        assert_eq!(
            Filter::read(ListKind::Partitions, "helth<50").err().unwrap(),
            "no field helth: did you mean health?"
        );
        assert!(Filter::read(ListKind::Partitions, "health<50 !redis p1h>=40% fra").is_ok());
    }

    #[test]
    fn a_comparison_with_what_is_no_number_is_refused() {
        for text in ["health<>x", "health<soon", "p1h>=", "health>nan", "health=x", "p1h!="] {
            let said = Filter::read(ListKind::Partitions, text).err().unwrap();
            assert!(said.contains("expected a number"), "{text}: {said}");
        }
        for text in ["host<5", "class>=b"] {
            let said = Filter::read(ListKind::Partitions, text).err().unwrap();
            assert!(said.contains("is a word"), "{text}: {said}");
        }
    }

    #[test]
    fn amounts_have_endings() {
        assert!((amount("40%") - 0.4).abs() < 1e-12);
        assert!((amount("50g") - 5e10).abs() < 1.0);
        assert!(amount("soon").is_nan());
    }
}
