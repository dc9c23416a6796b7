//! Large objects stand in no table, and no stream carries them: a row that names one would name nothing at the
//! destination.

use super::scope::Scope;
use super::session::{Session, ident};
use super::stage::{Table, refuse};
use crate::drivers::error::DriverError;
use crate::fleet::Span;

/// Refuses where a row of the workload names a large object that is there.
pub(super) async fn refuse_any(
    source: &Session,
    scope: &Scope,
    tables: &[Table],
    scan: Span,
) -> Result<(), DriverError> {
    let doing = "looking for large objects";
    // Who keeps them does so in a column of type oid, or of a type made of it (`lo`).
    let sql = format!(
        "SELECT n.nspname, c.relname, a.attname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
           JOIN pg_type t ON t.oid = a.atttypid \
         WHERE {} AND c.relkind = 'r' AND {} AND 'oid'::regtype IN (t.oid, t.typbasetype) \
           AND EXISTS (SELECT FROM pg_largeobject_metadata) ORDER BY 1, 2, 3",
        scope.covers("n"),
        scope.tables()
    );
    for line in source.ask(doing, &sql).await? {
        let Some(table) = tables.iter().find(|t| t.is(line.text(0), line.text(1))) else { continue };
        let (on, column) = (table.on(), ident(line.text(2)));
        let sql = format!(
            "SELECT EXISTS (SELECT FROM ONLY {on} AS r JOIN pg_largeobject_metadata m ON m.oid = r.{column}{})",
            table.only("r")
        );
        if source.ask_long(doing, &sql, scan).await?.last().is_some_and(|found| found.yes(0)) {
            let why = format!(
                "{on}.{column} names large objects, which stand in no table and are not moved; keep their bytes in \
                 a column of type bytea"
            );
            return refuse(&source.address, doing, why);
        }
    }
    Ok(())
}
