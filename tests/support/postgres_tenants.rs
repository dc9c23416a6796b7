//! Tables that many tenants share, on real clusters, and clients that write for one tenant each all the while
//! and follow it.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foreshift::drivers::Job;
use foreshift::drivers::postgres::{PostgresMover, PostgresOptions, TenantOptions};
use foreshift::fleet::{Generation, MigrationId, WorkloadId};
use tokio_postgres::Client;

use crate::postgres::{Cluster, Clusters, Seen, connect_as_client};
use crate::postgres_steps::{options, partition};

/// Counters of every tenant.
const COUNTERS: u64 = 20;

/// Tables of every kind that tenants can share: keys that begin with the tenant, a key of its own with the
/// whole row as identity, partitions, an identity column, a sequence, and a table that is nobody's.
pub fn shared_tables() -> String {
    "CREATE SCHEMA shop; \
     CREATE TABLE shop.countries (code text PRIMARY KEY, name text NOT NULL); \
     INSERT INTO shop.countries VALUES ('de', 'Germany'), ('fr', 'France'); \
     CREATE TABLE shop.counters (tenant_id int, id int, n bigint NOT NULL DEFAULT 0, \
       country text REFERENCES shop.countries, PRIMARY KEY (tenant_id, id)); \
     CREATE TABLE shop.log (tenant_id int, id bigint GENERATED ALWAYS AS IDENTITY, counter int NOT NULL, \
       at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (tenant_id, id), \
       FOREIGN KEY (tenant_id, counter) REFERENCES shop.counters); \
     CREATE TABLE shop.notes (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id int NOT NULL, body text); \
     ALTER TABLE shop.notes REPLICA IDENTITY FULL; \
     CREATE INDEX ON shop.notes (tenant_id); \
     CREATE TABLE shop.days (tenant_id int, day date, n int, PRIMARY KEY (tenant_id, day, n)) \
       PARTITION BY RANGE (day); \
     CREATE TABLE shop.days_old PARTITION OF shop.days FOR VALUES FROM (MINVALUE) TO ('2026-01-01'); \
     CREATE TABLE shop.days_new PARTITION OF shop.days FOR VALUES FROM ('2026-01-01') TO (MAXVALUE); \
     CREATE SEQUENCE shop.tickets; \
     GRANT USAGE ON SCHEMA shop TO app; \
     GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA shop TO app"
        .to_string()
}

/// Rows of one tenant.
pub fn rows_of(tenant: u32, rows: u32) -> String {
    format!(
        "INSERT INTO shop.counters SELECT {tenant}, g, 0, CASE g % 2 WHEN 0 THEN 'de' ELSE 'fr' END \
           FROM generate_series(0, {last}) g; \
         INSERT INTO shop.notes (tenant_id, body) SELECT {tenant}, repeat('note ' || g || ' ', 20) \
           FROM generate_series(1, {rows}) g; \
         INSERT INTO shop.days SELECT {tenant}, date '2025-12-01' + g % 60, g FROM generate_series(1, 100) g; ",
        last = COUNTERS - 1
    )
}

/// Tenants 7, 8 and 9 on the first cluster, 21 on the second, in the same tables.
pub async fn two_clusters(rows: u32) -> Option<Clusters> {
    let clusters = Clusters::start(2)?;
    for (cluster, tenants) in [(0, vec![7, 8, 9]), (1, vec![21])] {
        clusters.all[cluster].ask(&shared_tables()).await;
        for tenant in tenants {
            clusters.all[cluster].ask(&rows_of(tenant, rows)).await;
        }
    }
    Some(clusters)
}

/// How the driver reaches the clusters, where every tenant is a workload.
pub fn tenant_options(clusters: &Clusters) -> PostgresOptions {
    let mut options = options(clusters);
    options.schemas = Vec::new();
    options.tenant = Some(TenantOptions {
        column: "tenant_id".into(),
        schema: "shop".into(),
        values: Vec::new(),
        shared: vec!["countries".into()],
    });
    options
}

/// A driver of the clusters, where every tenant is a workload.
pub fn tenant_mover(clusters: &Clusters) -> PostgresMover {
    PostgresMover::new(tenant_options(clusters))
}

/// The move of a tenant from one cluster to another.
pub fn tenant_job(clusters: &Clusters, tenant: u32, source: usize, destination: usize) -> Job {
    Job {
        migration: MigrationId(u64::from(tenant)),
        workload: WorkloadId::from(format!("shop-shop.{tenant}")),
        source: partition(clusters, source),
        destination: partition(clusters, destination),
        generation: Generation(1),
    }
}

/// Rows of a tenant in all tables of a cluster.
pub async fn rows_on(cluster: &Cluster, tenant: u32) -> u64 {
    let sql = ["counters", "log", "notes", "days"]
        .map(|table| format!("(SELECT count(*) FROM shop.{table} WHERE tenant_id = {tenant})"))
        .join(" + ");
    cluster.text(&format!("SELECT {sql}")).await.parse().unwrap()
}

/// All that a cluster holds of a tenant, as one hash.
pub async fn content(cluster: &Cluster, tenant: u32) -> String {
    let sql = ["counters", "log", "notes", "days"]
        .map(|t| {
            format!("(SELECT coalesce(sum(hashtextextended(r::text, 0)), 0) FROM shop.{t} r WHERE tenant_id = {tenant})")
        })
        .join(" || ' ' || ");
    cluster.text(&format!("SELECT {sql}")).await
}

/// Nothing of a tenant that was acknowledged is lost, and nothing counts twice.
pub async fn tenant_is_there(cluster: &Cluster, tenant: u32, seen: &Seen) {
    let of = |what: &str| format!("SELECT {what} WHERE tenant_id = {tenant}");
    let sum: u64 = cluster.text(&of("sum(n) FROM shop.counters")).await.parse().unwrap();
    let lines: u64 = cluster.text(&of("count(*) FROM shop.log")).await.parse().unwrap();
    assert_eq!(sum, lines, "tenant {tenant}");
    assert!(
        (seen.acknowledged..=seen.acknowledged + seen.unknown).contains(&sum),
        "tenant {tenant}: {sum} of {seen:?}"
    );
}

/// A client that writes for one tenant, again and again, and goes where the tenant is.
pub struct TenantWriter {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Seen>>,
}

impl TenantWriter {
    /// Starts writing; begins at one of the clusters.
    pub fn start(clusters: &Clusters, tenant: u32, first: usize) -> Self {
        let mut addresses: Vec<SocketAddr> = clusters.all.iter().map(|c| c.address).collect();
        addresses.rotate_left(first);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(write(&addresses, tenant, &stopped))
        });
        Self { stop, thread: Some(thread) }
    }

    /// Stops, and says what was seen.
    pub fn finish(mut self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().expect("a thread").join().expect("the writer did not panic")
    }
}

impl Drop for TenantWriter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

async fn write(addresses: &[SocketAddr], tenant: u32, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut clients: Vec<Option<Client>> = Vec::new();
    for address in addresses {
        clients.push(connect_as_client(*address).await.ok());
    }
    let (mut at, mut next) = (0, 0u64);
    while !stop.load(Ordering::SeqCst) {
        let counter = next % COUNTERS;
        next += 1;
        let sql = format!(
            "UPDATE shop.counters SET n = n + 1 WHERE tenant_id = {tenant} AND id = {counter}; \
             INSERT INTO shop.log (tenant_id, counter) VALUES ({tenant}, {counter}); \
             UPDATE shop.notes SET body = body || '.' WHERE id = (SELECT id FROM shop.notes \
               WHERE tenant_id = {tenant} LIMIT 1)"
        );
        let start = Instant::now();
        while !stop.load(Ordering::SeqCst) {
            if clients[at].as_ref().is_none_or(Client::is_closed) {
                clients[at] = connect_as_client(addresses[at]).await.ok();
            }
            let Some(client) = &clients[at] else {
                at = (at + 1) % addresses.len();
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            match tokio::time::timeout(Duration::from_secs(10), client.batch_execute(&sql)).await {
                Ok(Ok(())) => {
                    seen.acknowledged += 1;
                    seen.worst = seen.worst.max(start.elapsed());
                    break;
                }
                // Refused: certainly not done. It is held or a copy here, or nothing of the tenant is here.
                Ok(Err(error))
                    if error.as_db_error().is_some_and(|e| !e.code().code().starts_with("57P")) =>
                {
                    let code = error.code().map(|c| c.code().to_string()).unwrap_or_default();
                    assert!(
                        ["25006", "42P01", "3F000", "42501", "23503", "55P03", "40001", "40P01"]
                            .contains(&code.as_str()),
                        "{error}: {:?}",
                        error.as_db_error()
                    );
                    seen.refused += 1;
                    at = (at + 1) % addresses.len();
                    tokio::time::sleep(Duration::from_micros(500)).await;
                }
                _ => {
                    seen.unknown += 1;
                    clients[at] = None;
                    at = (at + 1) % addresses.len();
                    break;
                }
            }
        }
        tokio::time::sleep(Duration::from_micros(300)).await;
    }
    seen
}
