//! Foreign keys between what moves and what stays. Rows leave alone, so nothing that stays may refer to them, nor
//! they to rows of another tenant; and what they refer to in tables that stay must be at the destination, too.

use super::scope::{Scope, Tenant};
use super::session::{Session, ident};
use super::stage::{Table, qualified, refuse};
use crate::drivers::error::DriverError;

const DOING: &str = "looking at foreign keys";

/// One foreign key, whose names are SQL.
pub(super) struct Reference {
    /// For people: the constraint and its table.
    pub(super) named: String,
    pairs: Vec<(String, String)>,
    child: Side,
    parent: Side,
}

struct Side {
    table: String,
    /// Its rows are the workload's, or those of tenants one of whom it is.
    moved: bool,
}

/// Every foreign key between a table of the workload and any other.
pub(super) async fn references(
    session: &Session,
    scope: &Scope,
    tables: &[Table],
) -> Result<Vec<Reference>, DriverError> {
    let sql = format!(
        "SELECT k.conname, cn.nspname, cc.relname, pn.nspname, pc.relname, a.attname, b.attname, k.oid \
         FROM pg_constraint k JOIN pg_class cc ON cc.oid = k.conrelid JOIN pg_namespace cn ON cn.oid = cc.relnamespace \
           JOIN pg_class pc ON pc.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = pc.relnamespace \
           CROSS JOIN LATERAL unnest(k.conkey, k.confkey) WITH ORDINALITY AS u(child, parent, n) \
           JOIN pg_attribute a ON a.attrelid = cc.oid AND a.attnum = u.child \
           JOIN pg_attribute b ON b.attrelid = pc.oid AND b.attnum = u.parent \
         WHERE k.contype = 'f' AND k.conparentid = 0 AND ({} OR {}) ORDER BY k.oid, u.n",
        scope.covers("cn"),
        scope.covers("pn")
    );
    let moved = |schema: &str, name: &str| tables.iter().any(|t| t.is(schema, name));
    let mut found: Vec<(String, Reference)> = Vec::new();
    for line in session.ask(DOING, &sql).await? {
        if found.last().is_none_or(|(oid, _)| oid != line.text(7)) {
            let side = |at: usize| Side {
                table: qualified(line.text(at), line.text(at + 1)),
                moved: moved(line.text(at), line.text(at + 1)),
            };
            let named = format!("{} of {}.{}", line.text(0), line.text(1), line.text(2));
            let one = Reference { named, pairs: Vec::new(), child: side(1), parent: side(3) };
            found.push((line.text(7).to_string(), one));
        }
        if let Some((_, last)) = found.last_mut() {
            last.pairs.push((line.text(5).to_string(), line.text(6).to_string()));
        }
    }
    Ok(found.into_iter().map(|(_, one)| one).filter(|one| one.child.moved || one.parent.moved).collect())
}

impl Reference {
    /// Both ends are certainly one tenant's.
    fn within(&self, tenant: &Tenant) -> bool {
        let both = self.pairs.iter().any(|(a, b)| *a == tenant.column && *b == tenant.column);
        both && self.child.moved && self.parent.moved
    }

    fn joined(&self) -> String {
        let on: Vec<String> =
            self.pairs.iter().map(|(a, b)| format!("c.{} = p.{}", ident(a), ident(b))).collect();
        on.join(" AND ")
    }

    /// A condition that holds where something that is not the tenant's refers to its rows; `None` = never.
    pub(super) fn others_refer(&self, tenant: &Tenant) -> Option<String> {
        if !self.parent.moved || self.within(tenant) {
            return None;
        }
        let theirs = match self.child.moved {
            true => format!(" AND ({}) IS NOT TRUE", tenant.condition("c")),
            false => String::new(),
        };
        Some(format!(
            "EXISTS (SELECT FROM {} p JOIN {} c ON {} WHERE {}{theirs})",
            self.parent.table,
            self.child.table,
            self.joined(),
            tenant.condition("p")
        ))
    }

    /// A condition that holds where the tenant's rows refer to another tenant's; `None` = never.
    pub(super) fn to_others(&self, tenant: &Tenant) -> Option<String> {
        if !self.child.moved || !self.parent.moved || self.within(tenant) {
            return None;
        }
        Some(format!(
            "EXISTS (SELECT FROM {} c JOIN {} p ON {} WHERE {} AND ({}) IS NOT TRUE)",
            self.child.table,
            self.parent.table,
            self.joined(),
            tenant.condition("c"),
            tenant.condition("p")
        ))
    }

    /// Whether a table that stays refers to one that moves.
    pub(super) fn comes_from_elsewhere(&self) -> bool {
        self.parent.moved && !self.child.moved
    }

    /// How many of the rows refer to a row of a table that stays and that is not there; `None` = the foreign key
    /// is of another kind.
    fn dangling(&self, tenant: Option<&Tenant>) -> Option<String> {
        if !self.child.moved || self.parent.moved {
            return None;
        }
        let given: Vec<String> =
            self.pairs.iter().map(|(a, _)| format!("c.{} IS NOT NULL", ident(a))).collect();
        Some(format!(
            "SELECT count(*) FROM {} c WHERE {} AND {} AND NOT EXISTS (SELECT FROM {} p WHERE {})",
            self.child.table,
            tenant.map_or("true".to_string(), |t| t.condition("c")),
            given.join(" AND "),
            self.parent.table,
            self.joined()
        ))
    }
}

/// What the rows refer to at the destination and is not there, by name.
pub(super) async fn dangling(
    destination: &Session,
    scope: &Scope,
    tables: &[Table],
    limit: crate::fleet::Span,
) -> Result<Vec<String>, DriverError> {
    let mut found = Vec::new();
    for one in references(destination, scope, tables).await? {
        let Some(sql) = one.dangling(scope.tenant()) else { continue };
        let lines = destination.ask_long(DOING, &sql, limit).await?;
        let rows = lines.last().map_or(0, |line| line.number(0));
        if rows > 0 {
            found.push(format!(
                "{}: {rows} rows refer to rows of {} that are not at the destination; bring them there first",
                one.named, one.parent.table
            ));
        }
    }
    Ok(found)
}

/// Refuses a schema to whose tables those of another refer: what is written there is checked at one place, and what
/// is deleted at another.
pub(super) async fn refuse_from_elsewhere(
    source: &Session,
    scope: &Scope,
    tables: &[Table],
) -> Result<(), DriverError> {
    let all = references(source, scope, tables).await?;
    match all.iter().find(|one| one.comes_from_elsewhere()) {
        None => Ok(()),
        Some(one) => refuse(
            &source.address,
            DOING,
            format!(
                "{} refers to {}, which would leave without it; keep both in one schema, or drop the foreign key",
                one.named, one.parent.table
            ),
        ),
    }
}
