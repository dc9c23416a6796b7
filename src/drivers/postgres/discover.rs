//! The clusters as the rest of the house sees them: a cluster is a partition, a schema a workload.

use std::collections::BTreeMap;
use std::time::Instant;

use futures::future::join_all;

use super::PostgresMover;
use super::scope::Scope;
use super::session::{Line, literal};
use crate::drivers::error::DriverError;
use crate::fleet::topology::{Capacity, Host, UNKNOWN_PLACE};
use crate::fleet::{
    Bytes, Generation, Partition, RackId, Revision, ServingState, SiteId, Topology, Workload,
};

/// Changes and reads of a schema at one time, to make rates of.
#[derive(Clone, Copy)]
pub(super) struct Counters {
    at: Instant,
    writes: i64,
    reads: i64,
}

/// One database or schema, or one tenant of one, on one cluster; `schema` is its label.
pub(super) struct Seen {
    pub(super) schema: String,
    pub(super) address: String,
    pub(super) size: u64,
    pub(super) tables: i64,
    pub(super) writes: i64,
    pub(super) reads: i64,
    pub(super) generation: u64,
    pub(super) mode: String,
}

/// Bytes, tables, writes and reads of the tables of some schemas.
const SUMS: &str = "coalesce(sum(pg_total_relation_size(c.oid)), 0), count(*), \
    coalesce(sum(s.n_tup_ins + s.n_tup_upd + s.n_tup_del), 0), \
    coalesce(sum(s.seq_scan + coalesce(s.idx_scan, 0)), 0)";
/// Their tables, schema by schema.
const OF_TABLES: &str = "FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind = 'r' \
    LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid";

impl Seen {
    /// What no mark is known of, from [`SUMS`].
    fn unmarked(schema: String, address: &str, line: &Line) -> Self {
        Self {
            schema,
            address: address.to_string(),
            size: line.number(0).max(0) as u64,
            tables: line.number(1),
            writes: line.number(2),
            reads: line.number(3),
            generation: 0,
            mode: "writable".into(),
        }
    }
}

impl PostgresMover {
    /// What stands where now. Hosts have no known site or rack: the configuration says.
    pub(super) async fn topology(&self) -> Result<Topology, DriverError> {
        let asked = self
            .options
            .clusters
            .iter()
            .map(|address| async move { (address.clone(), self.schemas_at(address).await) });
        self.assemble(join_all(asked).await)
    }

    /// The topology of what each cluster, by its address, says that stands there.
    pub(super) fn assemble(
        &self,
        answers: Vec<(String, Result<Vec<Seen>, DriverError>)>,
    ) -> Result<Topology, DriverError> {
        if let Some((_, Err(error))) = answers.iter().find(|(_, a)| a.is_err())
            && answers.iter().all(|(_, a)| a.is_err())
        {
            return Err(error.clone());
        }
        let mut topology = Topology::default();
        let mut by_schema: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
        for (address, answer) in answers {
            let mut serving = ServingState::Fenced;
            let mut used = None;
            if let Ok(seen) = answer {
                let owns = seen.iter().any(|s| s.mode != "standby");
                serving = if owns { ServingState::Active } else { ServingState::Passive };
                used = Some(seen.iter().map(|s| s.size).sum::<u64>());
                for one in seen {
                    by_schema.entry(one.schema.clone()).or_default().push(one);
                }
            }
            self.add_place(&mut topology, &address, serving, used);
        }
        for (schema, seen) in by_schema {
            let mut owners: Vec<&Seen> = seen.iter().filter(|s| s.mode != "standby").collect();
            // In the middle of a switch both are marked; the later generation is the owner.
            owners.sort_by_key(|s| std::cmp::Reverse(s.generation));
            let Some(owner) = owners.first() else { continue };
            if owners.get(1).is_some_and(|other| other.generation == owner.generation) {
                let places: Vec<&str> = owners.iter().map(|s| s.address.as_str()).collect();
                tracing::warn!(
                    "{schema} is on {} and none is a copy of ours: it is left out, because nobody can tell which is meant",
                    places.join(" and ")
                );
                continue;
            }
            let workload = self.workload(owner);
            topology.workloads.push(workload);
        }
        topology.revision = Revision(topology.workloads.iter().map(|w| w.generation.0).sum());
        topology.normalise();
        Ok(topology)
    }

    async fn schemas_at(&self, address: &str) -> Result<Vec<Seen>, DriverError> {
        if let Some(tenant) = &self.options.tenant {
            return self.tenants_at(address, tenant).await;
        }
        let doing = "looking at the schemas";
        let session = self.session(address).await?;
        let wanted = if self.options.schemas.is_empty() {
            "n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'foreshift')".to_string()
        } else {
            let names: Vec<String> = self.options.schemas.iter().map(|s| literal(s)).collect();
            format!("n.nspname IN ({})", names.join(", "))
        };
        let sql = format!(
            "SELECT {SUMS}, n.nspname {OF_TABLES} WHERE {wanted} GROUP BY n.nspname ORDER BY n.nspname"
        );
        let lines = session.ask(doing, &sql).await?;
        let mut seen: Vec<Seen> =
            lines.iter().map(|line| Seen::unmarked(line.text(4).to_string(), address, line)).collect();
        if session.one(doing, "SELECT to_regclass('foreshift.owner') IS NOT NULL").await?.yes(0) {
            let sql = "SELECT schema_name, workload, generation, mode FROM foreshift.owner";
            for line in session.ask(doing, sql).await? {
                let workload = self.workload_of(line.text(0));
                let marked = seen.iter_mut().find(|s| s.schema == line.text(0));
                if let Some(marked) = marked.filter(|_| workload.as_str() == line.text(1)) {
                    marked.generation = line.text(2).parse().unwrap_or(0);
                    marked.mode = line.text(3).to_string();
                }
            }
        }
        Ok(seen)
    }

    /// The database that this driver is in, as one workload; `None` = it holds no table.
    pub(super) async fn database_at(&self, address: &str) -> Result<Option<Seen>, DriverError> {
        let doing = "looking at the database";
        let session = self.session(address).await?;
        // A cluster may hold hundreds: no connection stays in each.
        session.throw_away();
        let scope = Scope::Database(self.options.database.clone());
        let sql = format!("SELECT {SUMS} {OF_TABLES} WHERE {}", scope.covers("n"));
        let mut seen = Seen::unmarked(scope.label(), address, &session.one(doing, &sql).await?);
        if let Some(mark) = self.mark(&session, &self.workload_of(&seen.schema)).await? {
            (seen.generation, seen.mode) = (mark.generation, mark.mode);
        }
        Ok((seen.tables > 0).then_some(seen))
    }

    fn add_place(&self, topology: &mut Topology, address: &str, serving: ServingState, used: Option<u64>) {
        let host = self.host_of(address);
        topology.partitions.push(Partition {
            id: self.partition_of(address),
            host: host.clone(),
            class: self.options.class.clone(),
            serving,
            address: address.to_string(),
        });
        let known = topology.hosts.iter_mut().find(|h| h.id == host);
        match known {
            Some(known) => {
                if let (Some(capacity), Some(used)) = (&mut known.capacity, used) {
                    capacity.data_used = Bytes(capacity.data_used.0 + used);
                }
            }
            None => topology.hosts.push(Host {
                id: host,
                site: SiteId::from(UNKNOWN_PLACE),
                rack: RackId::from(UNKNOWN_PLACE),
                // How much its disk holds, no SQL says.
                capacity: None::<Capacity>,
                labels: BTreeMap::new(),
            }),
        }
    }

    fn workload(&self, seen: &Seen) -> Workload {
        let now = Counters { at: Instant::now(), writes: seen.writes, reads: seen.reads };
        let key = format!("{} {}", seen.address, seen.schema);
        let before = self.counters.lock().map_or(None, |mut c| c.insert(key, now));
        let (writes, reads) = match before {
            Some(b) if b.writes <= now.writes && b.reads <= now.reads => {
                let seconds = now.at.duration_since(b.at).as_secs_f64().max(0.05);
                ((now.writes - b.writes) as f64 / seconds, (now.reads - b.reads) as f64 / seconds)
            }
            _ => (0.0, 0.0),
        };
        Workload {
            id: self.workload_of(&seen.schema),
            application: self.options.application.clone(),
            class: self.options.class.clone(),
            kind: self.options.kind.clone(),
            partition: self.partition_of(&seen.address),
            // A copy that was left behind does not follow: it is no replica.
            replicas: Vec::new(),
            size: Bytes(seen.size),
            writes_per_s: writes,
            requests_per_s: writes + reads,
            depends_on: Vec::new(),
            stateless: false,
            generation: Generation(seen.generation),
            labels: BTreeMap::from([
                (
                    if self.options.databases.is_empty() { "schema" } else { "database" }.to_string(),
                    seen.schema.clone(),
                ),
                ("tables".to_string(), seen.tables.to_string()),
            ]),
        }
    }
}
