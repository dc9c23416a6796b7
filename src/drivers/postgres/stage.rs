//! The two clusters of one job, the names of all that is made for it, and the tables that it moves.

use super::PostgresMover;
use super::scope::{Scope, Tenant, lock_of};
use super::session::{Line, Session, ident, literal, system};
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::Job;
use crate::fleet::{Generation, HostId, PartitionId, WorkloadId};

/// What is made for one migration is called so. A stream bears the name of where it goes, so that the
/// mirrored job finds the same two streams, changed about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Names {
    /// The stream to the job's destination: publication, slot, subscription, barrier.
    pub(super) stream: String,
    /// The stream back to the job's source.
    pub(super) back: String,
    /// What maintains the digest, on both sides.
    pub(super) digest: String,
    /// The copy at a destination.
    pub(super) copy: String,
}

impl Names {
    pub(super) fn of(job: &Job) -> Self {
        let anyway = Job { generation: Generation(0), ..job.clone() };
        // Source and destination are no part of a key.
        let name = |what: &str| format!("fs_{}", anyway.key(what));
        Self {
            stream: name(&format!("stream to {}", job.destination)),
            back: name(&format!("stream to {}", job.source)),
            digest: name("digest"),
            copy: name("copy"),
        }
    }
}

/// The publication that carries the barrier alone, always.
pub(super) fn barrier_publication(stream: &str) -> String {
    format!("{stream}_b")
}

/// The mark of one workload on one cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    pub(super) generation: u64,
    pub(super) epoch: u64,
    pub(super) mode: String,
    /// A fence that still holds.
    pub(super) held: bool,
    /// The migration whose copy it is.
    pub(super) made_by: String,
}

impl Mark {
    /// Whether it is the owner at `generation` or a later one.
    pub(super) fn open_at(&self, generation: Generation) -> bool {
        self.mode != "standby" && self.generation >= generation.0
    }
}

/// One table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Table {
    pub(super) schema: String,
    pub(super) name: String,
    /// It holds rows itself; a partitioned parent does not.
    pub(super) ordinary: bool,
    /// Columns of its primary key, in order.
    pub(super) key: Vec<String>,
    /// Its columns, as they stand where the table was read.
    pub(super) columns: Vec<Column>,
    /// Whose rows are the workload's; `None` = all.
    pub(super) tenant: Option<Tenant>,
}

/// One column of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    /// Its type, with the schema where it is not one of the system's.
    pub(super) kind: String,
    /// Nothing about it lets its type call different texts equal: a numeric has a fixed number of digits after the
    /// point, a text a collation that tells all of them apart.
    pub(super) exact: bool,
    /// What its type writes as text depends on no setting.
    pub(super) steady: bool,
}

/// What writes a text that depends on no setting, of the system's output functions; a type of an extension or of a
/// user's own (an enum, a domain) mostly has one of these.
const STEADY: &str = "'textout', 'varcharout', 'bpcharout', 'nameout', 'enum_out', 'boolout', 'int2out', 'int4out', \
    'int8out', 'oidout', 'numeric_out', 'uuid_out', 'inet_out', 'cidr_out', 'macaddr_out', 'macaddr8_out', 'bit_out', \
    'varbit_out', 'json_out', 'jsonb_out', 'tsvectorout'";

impl Table {
    /// As it stands in SQL.
    pub(super) fn on(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    /// As people know it.
    pub(super) fn words(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// Whether it is the table of that schema and name.
    pub(super) fn is(&self, schema: &str, name: &str) -> bool {
        self.schema == schema && self.name == name
    }

    /// ` WHERE …` where not all rows are the workload's.
    pub(super) fn only(&self, row: &str) -> String {
        self.tenant.as_ref().map(|t| format!(" WHERE {}", t.condition(row))).unwrap_or_default()
    }

    /// ` AND …` where not all rows are the workload's.
    pub(super) fn and_only(&self, row: &str) -> String {
        self.tenant.as_ref().map(|t| format!(" AND {}", t.condition(row))).unwrap_or_default()
    }
}

/// The two clusters of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stage {
    pub(super) names: Names,
    pub(super) scope: Scope,
    pub(super) source: String,
    pub(super) destination: String,
    /// The lock that writers share.
    pub(super) lock: i64,
}

impl PostgresMover {
    /// The partition that a cluster is: `host/port`.
    pub(super) fn partition_of(&self, address: &str) -> PartitionId {
        let port = address.rsplit_once(':').map_or("", |(_, port)| port);
        PartitionId::of(&self.host_of(address), port)
    }

    /// The host that a cluster stands on.
    pub(super) fn host_of(&self, address: &str) -> HostId {
        let ip = address.rsplit_once(':').map_or(address, |(ip, _)| ip);
        let named = [address, ip].into_iter().find_map(|name| self.options.hosts.get(name));
        HostId::from(named.map_or(ip, String::as_str))
    }

    /// The workload of a label: a schema, or `schema.tenant`.
    pub(super) fn workload_of(&self, label: &str) -> WorkloadId {
        WorkloadId::new(format!("{}-{label}", self.options.name))
    }

    /// The label that a workload of this driver is called by.
    pub(super) fn label_of<'a>(&self, workload: &'a WorkloadId) -> Option<&'a str> {
        workload.as_str().strip_prefix(self.options.name.as_str())?.strip_prefix('-')
    }

    /// Refuses a workload that is called otherwise than `<name>-<expected>`.
    pub(super) fn no_workload<T>(&self, expected: &str, workload: &WorkloadId) -> Result<T, DriverError> {
        let name = &self.options.name;
        let why = format!("expected {name}-{expected}, got {workload}");
        Err(DriverError::new(Retry::Permanent, format!("postgres {name}"), "finding the workload", why))
    }

    pub(super) fn address_of(&self, partition: &PartitionId) -> Result<String, DriverError> {
        let found = self.options.clusters.iter().find(|a| &self.partition_of(a) == partition);
        found.cloned().ok_or_else(|| {
            let known: Vec<String> =
                self.options.clusters.iter().map(|a| self.partition_of(a).to_string()).collect();
            DriverError::new(
                Retry::Permanent,
                format!("postgres {}", self.options.name),
                format!("finding {partition}"),
                format!("expected one of the clusters {}", known.join(", ")),
            )
        })
    }

    /// Finds the clusters of a job; nobody is asked anything.
    pub(super) fn stage(&self, job: &Job) -> Result<Stage, DriverError> {
        let known = self.label_of(&job.workload).and_then(|label| Scope::of(&self.options, label));
        let Some(scope) = known else {
            let expected = match &self.options.tenant {
                None => "SCHEMA".to_string(),
                Some(t) => format!("{}.TENANT, of a tenant that the configuration names", t.schema),
            };
            return self.no_workload(&expected, &job.workload);
        };
        Ok(Stage {
            names: Names::of(job),
            scope,
            source: self.address_of(&job.source)?,
            destination: self.address_of(&job.destination)?,
            lock: lock_of(&job.workload),
        })
    }

    pub(super) async fn session(&self, address: &str) -> Result<Session, DriverError> {
        self.clusters.session(address).await
    }

    /// The mark of a workload on a cluster; `None` where it has none.
    pub(super) async fn mark(
        &self,
        session: &Session,
        workload: &WorkloadId,
    ) -> Result<Option<Mark>, DriverError> {
        const DOING: &str = "reading whose the workload is";
        let sql = format!(
            "SELECT generation, epoch, mode, mode = 'fenced' AND clock_timestamp() <= until, made_by \
             FROM foreshift.owner WHERE workload = {}",
            literal(workload.as_str())
        );
        let lines = session.ask_if_there(DOING, &sql).await?;
        Ok(lines.and_then(|lines| lines.first().map(read_mark)))
    }

    /// Whether the destination owns the workload at the job's generation or a later one.
    pub(super) async fn opened(&self, job: &Job, stage: &Stage) -> Result<bool, DriverError> {
        let session = self.session(&stage.destination).await?;
        Ok(self.mark(&session, &job.workload).await?.is_some_and(|m| m.open_at(job.generation)))
    }
}

/// A mark from columns generation, epoch, mode, held, made_by.
pub(super) fn read_mark(line: &Line) -> Mark {
    Mark {
        generation: line.text(0).parse().unwrap_or(0),
        epoch: line.text(1).parse().unwrap_or(0),
        mode: line.text(2).to_string(),
        held: line.yes(3),
        made_by: line.text(4).to_string(),
    }
}

/// `"schema"."table"`.
pub(super) fn qualified(schema: &str, table: &str) -> String {
    format!("{}.{}", ident(schema), ident(table))
}

/// All tables of a workload, by name.
pub(super) async fn tables(session: &Session, scope: &Scope) -> Result<Vec<Table>, DriverError> {
    let sql = format!(
        "SELECT n.nspname, c.relname, c.relkind = 'r', a.attname, \
           CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN t.typname ELSE t.oid::regtype::text END, \
           coalesce(l.collisdeterministic, a.atttypid <> 'numeric'::regtype OR a.atttypmod >= 0), \
           EXISTS (SELECT FROM pg_type e JOIN pg_proc o ON o.oid = e.typoutput JOIN pg_language p ON p.oid = o.prolang \
             WHERE e.oid = CASE t.typoutput WHEN 'array_out'::regproc THEN t.typelem ELSE t.oid END \
               AND p.lanname = 'internal' AND o.prosrc IN ({STEADY})), \
           coalesce((SELECT array_position(i.indkey::int2[], a.attnum) FROM pg_index i \
             WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate), -1) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
           JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_collation l ON l.oid = a.attcollation \
         WHERE {} AND c.relkind IN ('r', 'p') AND {} ORDER BY n.nspname, c.relname, a.attnum",
        scope.covers("n"),
        scope.tables()
    );
    let mut tables: Vec<Table> = Vec::new();
    let mut keys: Vec<(i64, String)> = Vec::new();
    for line in session.ask("reading the tables", &sql).await? {
        if tables.last().is_none_or(|t| !t.is(line.text(0), line.text(1))) {
            finish_key(tables.last_mut(), &mut keys);
            tables.push(Table {
                schema: line.text(0).to_string(),
                name: line.text(1).to_string(),
                ordinary: line.yes(2),
                key: Vec::new(),
                columns: Vec::new(),
                tenant: scope.tenant().cloned(),
            });
        }
        if let Some(table) = tables.last_mut() {
            let (name, kind) = (line.text(3).to_string(), line.text(4).to_string());
            if line.number(7) >= 0 {
                keys.push((line.number(7), name.clone()));
            }
            table.columns.push(Column { name, kind, exact: line.yes(5), steady: line.yes(6) });
        }
    }
    finish_key(tables.last_mut(), &mut keys);
    Ok(tables)
}

fn finish_key(table: Option<&mut Table>, keys: &mut Vec<(i64, String)>) {
    keys.sort();
    let names = std::mem::take(keys).into_iter().map(|(_, name)| name);
    if let Some(table) = table {
        table.key = names.collect();
    }
}

/// A hash over what the tables of a workload look like: equal on both sides, or rows do not fit.
pub(super) async fn structure(session: &Session, scope: &Scope) -> Result<String, DriverError> {
    let sql = format!("SELECT {}", structure_sql(scope));
    Ok(session.one("reading the structure", &sql).await?.text(0).to_string())
}

/// The expression behind [`structure`].
pub(super) fn structure_sql(scope: &Scope) -> String {
    format!(
        "(SELECT md5(coalesce(string_agg(concat_ws(' ', n.nspname, c.relname, c.relkind, a.attname, \
           format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated), E'\\n' \
           ORDER BY n.nspname, c.relname, a.attname), '')) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         WHERE {} AND c.relkind IN ('r', 'p'))",
        scope.covers("n")
    )
}

/// Refuses, for good.
pub(super) fn refuse<T>(address: &str, doing: &str, why: impl Into<String>) -> Result<T, DriverError> {
    Err(DriverError::new(Retry::Permanent, system(address), doing, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::MigrationId;

    #[test]
    fn the_mirrored_job_finds_the_same_streams_changed_about() {
        let job = Job {
            migration: MigrationId(1),
            workload: "shop-orders".into(),
            source: "a/5432".into(),
            destination: "b/5432".into(),
            generation: Generation(1),
        };
        let (there, back) = (Names::of(&job), Names::of(&job.mirrored(Generation(2))));
        assert_eq!((&there.stream, &there.back), (&back.back, &back.stream));
        assert_eq!((&there.digest, &there.copy), (&back.digest, &back.copy));
        assert_ne!(there.stream, there.back);
    }
}
