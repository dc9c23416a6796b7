//! What belongs to a database and goes over no stream: it is refused before anything is made, and by name.

use super::super::PostgresMover;
use super::super::session::literal;
use super::super::stage::{Stage, refuse};
use super::super::sweep::OURS;
use crate::drivers::error::DriverError;

/// Refuses a database that holds what would stay behind.
pub(super) async fn refuse_what_stays_behind(
    inside: &PostgresMover,
    stage: &Stage,
) -> Result<(), DriverError> {
    let doing = "checking the database";
    let source = inside.session(&stage.source).await?;
    let ours = literal(OURS);
    let here = "(SELECT oid FROM pg_database WHERE datname = current_database())";
    let sql = format!(
        "SELECT 'the large object ' || m.oid || ' stands in no table and is not moved; keep its bytes in a column \
           of type bytea' FROM pg_largeobject_metadata m \
         UNION ALL SELECT 'the table ' || c.oid::regclass || ' belongs to the extension ' || e.extname \
           || ', whose rows are not moved' FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind IN ('r', 'p') \
           JOIN pg_extension e ON e.oid = d.refobjid \
           WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' \
         UNION ALL SELECT 'the subscription ' || subname || ' would not go along: what it brings would be refused \
           here; drop it, and make it anew at the new owner' FROM pg_subscription \
           WHERE subdbid = {here} AND subname !~ {ours} \
         UNION ALL SELECT 'the replication slot ' || slot_name || ' would not go along, and who reads from it would \
           hear nothing of the new owner; drop it, and begin anew there' FROM pg_replication_slots \
           WHERE database = current_database() AND slot_name !~ {ours} AND NOT temporary \
         UNION ALL SELECT 'the prepared transaction ' || gid || ' is open; COMMIT PREPARED or ROLLBACK PREPARED it' \
           FROM pg_prepared_xacts WHERE database = current_database() LIMIT 1"
    );
    match source.ask(doing, &sql).await?.first() {
        None => Ok(()),
        Some(why) => refuse(&stage.source, doing, why.text(0)),
    }
}
