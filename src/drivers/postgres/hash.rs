//! What is hashed of a row: equal on both sides exactly where the row is, whatever the settings of who writes.

use super::session::ident;
use super::stage::{Column, Table};

/// Of a row. NULL counts 0, and a numeric without digits as the seed or one less: no seed near 0 keeps them apart.
const OF_ROWS: i64 = 0x666f_7265_7368_6966;
/// Of a key.
const OF_KEYS: i64 = OF_ROWS >> 1;

/// The hash of one row of a table (called `row`), as an expression.
pub(super) fn row_hash(table: &Table, row: &str) -> String {
    of_columns(table.columns.iter(), row, OF_ROWS)
}

/// The same number, asked of the whole row: a trigger pays a third for it. It is that of the columns as they stand
/// in the table itself, and `None` where one of them is not hashed as it is.
pub(super) fn whole_row_hash(table: &Table, row: &str) -> Option<String> {
    let as_it_is = |c: &Column| match (Form::of(c), c.kind.as_str()) {
        (Form::AsItIs, _) => true,
        // Of a text byte by byte, too, where its collation tells all of them apart.
        (Form::Text, "text" | "varchar") => c.exact,
        _ => false,
    };
    table.columns.iter().all(as_it_is).then(|| record_hash(row, OF_ROWS))
}

/// The hash of a row's key, for buckets.
pub(super) fn key_hash(table: &Table, row: &str) -> String {
    let column = |name: &String| table.columns.iter().find(|c| c.name == *name);
    of_columns(table.key.iter().filter_map(column), row, OF_KEYS)
}

/// Whether the text of some column depends on the session's settings.
pub(super) fn depends_on_settings(table: &Table) -> bool {
    table.columns.iter().any(|c| matches!(Form::of(c), Form::Printed) && !c.steady)
}

fn of_columns<'a>(columns: impl Iterator<Item = &'a Column>, row: &str, seed: i64) -> String {
    let columns: Vec<String> = columns.map(|c| column(&format!("{row}.{}", ident(&c.name)), c)).collect();
    record_hash(&format!("ROW({})", columns.join(", ")), seed)
}

fn record_hash(record: &str, seed: i64) -> String {
    format!("pg_catalog.hash_record_extended({record}, {seed})")
}

/// In which form a column is hashed. A type's own hash calls values equal that are not the same bits (`1.0` and
/// `1.00`, `0` and `-0`, `30 days` and `1 mon`).
enum Form {
    /// By the type's own hash: what it calls equal is the same.
    AsItIs,
    /// The text, byte by byte.
    Text,
    /// The bits, as a client gets them in binary form.
    Sent,
    /// What the type's output function writes, and not a cast, which its owner could have made.
    Printed,
}

impl Form {
    fn of(column: &Column) -> Self {
        match column.kind.as_str() {
            "int2" | "int4" | "int8" | "bool" | "uuid" | "bytea" | "date" | "time" | "timetz"
            | "timestamp" | "timestamptz" | "oid" | "inet" | "cidr" | "macaddr" | "name" => Self::AsItIs,
            "numeric" if column.exact => Self::AsItIs,
            "text" | "varchar" | "bpchar" | "numeric" | "json" | "jsonb" => Self::Text,
            "float4" | "float8" | "interval" => Self::Sent,
            _ => Self::Printed,
        }
    }
}

/// What is hashed of a column.
fn column(name: &str, column: &Column) -> String {
    match (Form::of(column), column.kind.as_str()) {
        (Form::AsItIs, _) => name.to_string(),
        // A cast takes the blanks at its end away.
        (Form::Text, "bpchar") => format!("pg_catalog.format('%L', {name}) COLLATE pg_catalog.\"C\""),
        (Form::Text, _) => format!("({name})::pg_catalog.text COLLATE pg_catalog.\"C\""),
        (Form::Sent, "interval") => format!("pg_catalog.interval_send({name})"),
        (Form::Sent, kind) => format!("pg_catalog.{kind}send({name})"),
        (Form::Printed, _) => format!("pg_catalog.format('%L', {name}) COLLATE pg_catalog.\"C\""),
    }
}
