//! Which tenants have rows on a cluster, and about how much each has: by what the planner knows of the column,
//! since to count the rows of thousands of tenants would read all of every table.

use std::collections::{BTreeMap, BTreeSet};

use super::PostgresMover;
use super::discover::Seen;
use super::options::TenantOptions;
use super::scope::{Scope, kin, nameable};
use super::session::{Session, ident, literal};
use super::stage::qualified;
use crate::drivers::error::DriverError;
use crate::fleet::Bytes;

const DOING: &str = "looking for tenants";

/// What is known of one table.
#[derive(Clone, PartialEq, Debug, Default)]
struct Known {
    name: String,
    bytes: f64,
    writes: f64,
    reads: f64,
    /// An index begins with the column.
    indexed: bool,
    /// How many tenants it holds; 0 = the table was never analysed.
    tenants: f64,
    /// The share of the rows that the largest tenants have.
    large: BTreeMap<String, f64>,
}

impl Known {
    /// The share of the table that is one tenant's; of a table that was never analysed all have the same.
    fn share(&self, value: &str, seen: usize) -> f64 {
        if self.tenants <= 0.0 {
            return 1.0 / seen.max(1) as f64;
        }
        self.large.get(value).copied().unwrap_or_else(|| {
            let rest = (1.0 - self.large.values().sum::<f64>()).max(0.0);
            rest / (self.tenants - self.large.len() as f64).max(1.0)
        })
    }
}

impl PostgresMover {
    /// Every tenant that has a row on a cluster, or that it owns by its mark.
    pub(super) async fn tenants_at(
        &self,
        address: &str,
        tenant: &TenantOptions,
    ) -> Result<Vec<Seen>, DriverError> {
        let session = self.session(address).await?;
        let tables = known(&session, &tenant.schema, &tenant.column, &tenant.shared).await?;
        let mut values = BTreeSet::new();
        for table in &tables {
            let sql = values_sql(&tenant.schema, &tenant.column, table);
            let lines = session.ask_long(DOING, &sql, self.options.scan_timeout).await?;
            values.extend(lines.iter().map(|line| line.text(0).to_string()));
        }
        let marks = format!(
            "SELECT t.value, o.generation, o.mode FROM foreshift.owner o \
             JOIN foreshift.tenant t ON t.workload = o.workload WHERE t.kin = {}",
            literal(&kin(&self.options.name, tenant))
        );
        let marks = session.ask_if_there(DOING, &marks).await?.unwrap_or_default();
        let marks: BTreeMap<&str, (u64, &str)> =
            marks.iter().map(|l| (l.text(0), (l.text(1).parse().unwrap_or(0), l.text(2)))).collect();
        // An owner may have no row now.
        let owned = marks.iter().filter(|(_, (_, mode))| *mode != "standby");
        values.extend(owned.map(|(value, _)| (*value).to_string()));
        let unnameable: Vec<&String> = values.iter().filter(|value| !nameable(value)).take(3).collect();
        if !unnameable.is_empty() {
            tracing::warn!(
                "tenants on {address} are left out, because no workload can be called so (letters, digits and \
                 _ - . : @ + can): {unnameable:?}"
            );
        }
        let seen = values.len();
        Ok(values
            .iter()
            .filter_map(|value| {
                Some((value, Scope::of(&self.options, &format!("{}.{value}", tenant.schema))?))
            })
            .map(|(value, scope)| {
                let of = |what: fn(&Known) -> f64| {
                    tables.iter().map(|t| what(t) * t.share(value, seen)).sum::<f64>()
                };
                let (generation, mode) = marks.get(value.as_str()).copied().unwrap_or((0, "writable"));
                Seen {
                    schema: scope.label(),
                    address: address.to_string(),
                    size: of(|t| t.bytes) as u64,
                    tables: tables.len() as i64,
                    writes: of(|t| t.writes) as i64,
                    reads: of(|t| t.reads) as i64,
                    generation,
                    mode: mode.to_string(),
                }
            })
            .collect())
    }

    /// About how much a workload holds on a cluster.
    pub(super) async fn size(&self, session: &Session, scope: &Scope) -> Result<Bytes, DriverError> {
        if let Some(tenant) = scope.tenant() {
            let tables = known(session, &tenant.schema, &tenant.column, &tenant.shared).await?;
            let bytes: f64 = tables.iter().map(|t| t.bytes * t.share(&tenant.value, 1)).sum();
            return Ok(Bytes(bytes as u64));
        }
        let sql = format!(
            "SELECT coalesce(sum(pg_table_size(c.oid)), 0) FROM pg_class c \
               JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {} AND c.relkind = 'r'",
            scope.covers("n")
        );
        Ok(Bytes(session.one("measuring", &sql).await?.number(0).max(0) as u64))
    }
}

/// What is known of every table that holds rows of tenants.
async fn known(
    session: &Session,
    schema: &str,
    column: &str,
    shared: &[String],
) -> Result<Vec<Known>, DriverError> {
    let sql = format!(
        "SELECT c.relname, pg_total_relation_size(c.oid), \
           EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL \
             AND i.indkey[0] = a.attnum), \
           coalesce(s.n_tup_ins + s.n_tup_upd + s.n_tup_del, 0), coalesce(s.seq_scan + coalesce(s.idx_scan, 0), 0), \
           coalesce(CASE WHEN d.n_distinct < 0 THEN -d.n_distinct * greatest(c.reltuples, 0) ELSE d.n_distinct END, 0), \
           v.value, v.freq \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = {column} AND NOT a.attisdropped \
           LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid \
           LEFT JOIN pg_stats d ON d.schemaname = n.nspname AND d.tablename = c.relname AND d.attname = a.attname \
             AND NOT d.inherited \
           LEFT JOIN LATERAL unnest(d.most_common_vals::text::text[], d.most_common_freqs) AS v(value, freq) ON true \
         WHERE n.nspname = {schema} AND c.relkind = 'r' ORDER BY 1",
        column = literal(column),
        schema = literal(schema),
    );
    let mut tables: Vec<Known> = Vec::new();
    for line in session.ask(DOING, &sql).await? {
        if shared.iter().any(|name| name == line.text(0)) {
            continue;
        }
        let number = |at: usize| line.text(at).parse::<f64>().unwrap_or(0.0);
        if tables.last().is_none_or(|t| t.name != line.text(0)) {
            tables.push(Known {
                name: line.text(0).to_string(),
                bytes: number(1),
                indexed: line.yes(2),
                writes: number(3),
                reads: number(4),
                tenants: number(5),
                large: BTreeMap::new(),
            });
        }
        if let Some(table) = tables.last_mut().filter(|_| !line.text(6).is_empty()) {
            table.large.insert(line.text(6).to_string(), number(7));
        }
    }
    Ok(tables)
}

/// What asks for the tenants of one table: along an index that begins with the column from one to the next,
/// else by reading all of it.
fn values_sql(schema: &str, column: &str, table: &Known) -> String {
    let (on, c) = (qualified(schema, &table.name), ident(column));
    if !table.indexed {
        return format!("SELECT DISTINCT {c}::text FROM ONLY {on} WHERE {c} IS NOT NULL");
    }
    format!(
        "WITH RECURSIVE v AS ( \
           (SELECT {c} AS x FROM ONLY {on} WHERE {c} IS NOT NULL ORDER BY {c} LIMIT 1) \
           UNION ALL SELECT (SELECT t.{c} FROM ONLY {on} t WHERE t.{c} > v.x ORDER BY t.{c} LIMIT 1) \
             FROM v WHERE v.x IS NOT NULL) \
         SELECT x::text FROM v WHERE x IS NOT NULL"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_a_tenant_is_what_the_planner_knows_of_it() {
        let mut table = Known { tenants: 12.0, ..Known::default() };
        table.large.insert("7".into(), 0.5);
        table.large.insert("8".into(), 0.3);
        assert!((table.share("7", 12) - 0.5).abs() < 1e-9);
        assert!((table.share("9", 12) - 0.02).abs() < 1e-9, "the rest, among the ten others");
        assert!((Known::default().share("9", 4) - 0.25).abs() < 1e-9);
    }
}
