//! PostgreSQL clusters on which engines are killed: a schema moves, or a whole database, or a tenant's rows.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::time::{Duration, Instant};

use crate::kill_ground::{Ground, ROUTE, SOURCE_LOST, STUCK, Written};
use crate::mortal::System;
use crate::postgres::{self, Cluster, Clusters, PASSWORD, Seen, schema};
use crate::postgres_tenants::{TenantWriter, rows_of, shared_tables};

/// After so many rounds what clients wrote is thrown away, or the copies take longer and longer.
const ANEW: u64 = 25;

/// What does not come to pass here, and why.
pub const UNREACHABLE_ON_POSTGRES: [(&str, &str); 6] = [
    ROUTE,
    SOURCE_LOST,
    STUCK,
    ("(Commit)", "nobody votes: the owner record is the truth, and changes in one transaction"),
    ("Call(Committing, Status)", "the same: nobody is asked who owns it"),
    ("Call(RollingBackPost, Status)", "the same"),
];

/// Two PostgreSQL clusters between which a schema goes to and fro.
pub struct PostgresGround {
    clusters: Clusters,
}

impl PostgresGround {
    /// Starts it; `None` where there is no PostgreSQL.
    pub async fn start() -> Option<Self> {
        let clusters = Clusters::start(2)?;
        clusters.all[0].ask(&schema(300)).await;
        Some(Self { clusters })
    }
}

fn cluster<'a>(clusters: &'a Clusters, address: &str) -> &'a Cluster {
    clusters.all.iter().find(|c| c.address.to_string() == address).expect("a cluster")
}

/// Where a workload takes writes by the marks of all clusters, or where it is by `there` while nothing is marked;
/// `None` while it is held.
async fn owners(clusters: &Clusters, workload: &str, there: &str) -> Option<Vec<String>> {
    let mut owners = Vec::new();
    for cluster in &clusters.all {
        if !cluster.has(postgres::DATABASE).await {
            continue;
        }
        let known = cluster.text("SELECT to_regclass('foreshift.owner') IS NOT NULL").await == "t";
        let mode = match known {
            true => {
                let sql = format!("SELECT mode FROM foreshift.owner WHERE workload = '{workload}'");
                cluster.text(&sql).await
            }
            false => String::new(),
        };
        match mode.as_str() {
            "fenced" => return None,
            "writable" => owners.push(cluster.address.to_string()),
            "" if cluster.text(there).await == "t" => owners.push(cluster.address.to_string()),
            _ => {}
        }
    }
    Some(owners)
}

/// The one owner, as soon as it is certain.
async fn owner(clusters: &Clusters, workload: &str, there: &str) -> Result<String, String> {
    let start = Instant::now();
    loop {
        let owners = owners(clusters, workload, there).await;
        if let Some([owner]) = owners.as_deref() {
            return Ok(owner.clone());
        }
        if start.elapsed() > Duration::from_secs(20) {
            return Err(format!("{workload} has no one owner: {owners:?}"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The other of two clusters.
fn other(clusters: &Clusters, owner: &str) -> String {
    clusters.addresses().into_iter().find(|a| a != owner).expect("another one")
}

/// What the driver itself finds that a migration left, or why it cannot look.
async fn leaks(system: System) -> Vec<String> {
    match system.mover().leaks().await {
        Ok(leaks) => leaks.iter().map(|l| format!("{l:?}")).collect(),
        Err(error) => vec![error.to_string()],
    }
}

impl Ground for PostgresGround {
    type Client = postgres::Writer;

    fn system(&self) -> System {
        System::Postgres {
            clusters: self.clusters.addresses(),
            database: postgres::DATABASE.into(),
            password: PASSWORD.into(),
        }
    }

    async fn owner(&self) -> Result<String, String> {
        owner(&self.clusters, "shop-orders", "SELECT to_regclass('orders.log') IS NOT NULL").await
    }

    async fn other(&mut self, round: u64, owner: &str) -> String {
        if round.is_multiple_of(ANEW) {
            let at = cluster(&self.clusters, owner);
            at.ask("TRUNCATE orders.log; UPDATE orders.counters SET n = 0").await;
            at.ask("VACUUM FULL orders.counters").await;
        }
        other(&self.clusters, owner)
    }

    fn write(&self, owner: &str) -> Self::Client {
        let mut addresses: Vec<_> = self.clusters.all.iter().map(|c| c.address).collect();
        addresses.sort_by_key(|a| a.to_string() != owner);
        postgres::Writer::start(addresses)
    }

    async fn written(&self, client: Self::Client) -> Written {
        let seen = tokio::task::block_in_place(|| client.finish());
        Written { acknowledged: seen.acknowledged, unknown: seen.unknown }
    }

    async fn count(&self, owner: &str) -> u64 {
        let cluster = cluster(&self.clusters, owner);
        let sum = cluster.text("SELECT sum(n) FROM orders.counters").await;
        let lines = cluster.text("SELECT count(*) FROM orders.log").await;
        assert_eq!(sum, lines, "a counter and its line are written as one");
        sum.parse().expect("a number")
    }

    async fn left(&self) -> Vec<String> {
        self.clusters.left().await
    }
}

/// Two PostgreSQL clusters between which a whole database goes to and fro.
pub struct DatabaseGround(PostgresGround);

impl DatabaseGround {
    /// Starts it; `None` where there is no PostgreSQL.
    pub async fn start() -> Option<Self> {
        let ground = PostgresGround::start().await?;
        ground.clusters.all[1].sql_in("postgres", &format!("DROP DATABASE {}", postgres::DATABASE));
        Some(Self(ground))
    }
}

impl Ground for DatabaseGround {
    type Client = postgres::Writer;

    fn system(&self) -> System {
        System::Database {
            clusters: self.0.clusters.addresses(),
            database: postgres::DATABASE.into(),
            password: PASSWORD.into(),
        }
    }

    async fn owner(&self) -> Result<String, String> {
        let there = "SELECT to_regclass('orders.log') IS NOT NULL";
        owner(&self.0.clusters, &format!("shop-{}", postgres::DATABASE), there).await
    }

    async fn other(&mut self, round: u64, owner: &str) -> String {
        self.0.other(round, owner).await
    }

    fn write(&self, owner: &str) -> Self::Client {
        self.0.write(owner)
    }

    async fn written(&self, client: Self::Client) -> Written {
        self.0.written(client).await
    }

    async fn count(&self, owner: &str) -> u64 {
        self.0.count(owner).await
    }

    async fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for cluster in &self.0.clusters.all {
            let sql = "SELECT 'slot ' || slot_name FROM pg_replication_slots \
                UNION ALL SELECT 'subscription ' || subname FROM pg_subscription \
                UNION ALL SELECT 'database ' || datname FROM pg_database WHERE datname LIKE 'fs\\_%'";
            let home = postgres::connect(cluster.address, "postgres").await.expect("a connection");
            let rows = postgres::rows(&home, sql).await.expect("rows");
            left.extend(rows.into_iter().map(|row| format!("{} {}", cluster.address, row.join(" "))));
        }
        left.extend(leaks(self.system()).await);
        left
    }
}

/// Two PostgreSQL clusters between which one tenant goes to and fro, while others in the same tables stay.
pub struct TenantGround {
    clusters: Clusters,
}

/// The tenant that moves, and one that stays at the first cluster.
const MOVES: u32 = 7;
const STAYS: u32 = 8;

/// Clients of both tenants.
pub struct TenantClients {
    moves: TenantWriter,
    stays: TenantWriter,
    before: u64,
}

impl TenantGround {
    /// Starts it; `None` where there is no PostgreSQL.
    pub async fn start() -> Option<Self> {
        let clusters = Clusters::start(2)?;
        for cluster in &clusters.all {
            cluster.ask(&shared_tables()).await;
        }
        for tenant in [MOVES, STAYS] {
            clusters.all[0].ask(&rows_of(tenant, 50)).await;
        }
        clusters.all[1].ask(&rows_of(21, 50)).await;
        Some(Self { clusters })
    }

    async fn sum(&self, at: &Cluster, tenant: u32) -> u64 {
        let of = |what: &str| format!("SELECT {what} WHERE tenant_id = {tenant}");
        let sum = at.text(&of("coalesce(sum(n), 0) FROM shop.counters")).await;
        let lines = at.text(&of("count(*) FROM shop.log")).await;
        assert_eq!(sum, lines, "tenant {tenant}: a counter and its line are written as one");
        sum.parse().expect("a number")
    }
}

impl Ground for TenantGround {
    type Client = TenantClients;

    fn system(&self) -> System {
        System::Tenants {
            clusters: self.clusters.addresses(),
            database: postgres::DATABASE.into(),
            password: PASSWORD.into(),
            tenant: MOVES,
        }
    }

    async fn owner(&self) -> Result<String, String> {
        let there = format!("SELECT count(*) > 0 FROM shop.counters WHERE tenant_id = {MOVES}");
        owner(&self.clusters, &format!("shop-shop.{MOVES}"), &there).await
    }

    async fn other(&mut self, round: u64, owner: &str) -> String {
        if round.is_multiple_of(ANEW) {
            for (tenant, at) in [(MOVES, owner), (STAYS, &self.clusters.addresses()[0])] {
                let anew = format!(
                    "DELETE FROM shop.log WHERE tenant_id = {tenant}; \
                     UPDATE shop.counters SET n = 0 WHERE tenant_id = {tenant}"
                );
                cluster(&self.clusters, at).ask(&anew).await;
            }
        }
        other(&self.clusters, owner)
    }

    fn write(&self, owner: &str) -> Self::Client {
        let first = self.clusters.all.iter().position(|c| c.address.to_string() == owner).expect("a cluster");
        let before = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(self.sum(&self.clusters.all[0], STAYS))
        });
        TenantClients {
            moves: TenantWriter::start(&self.clusters, MOVES, first),
            stays: TenantWriter::start(&self.clusters, STAYS, 0),
            before,
        }
    }

    async fn written(&self, client: Self::Client) -> Written {
        let ends = |writer: TenantWriter| -> Seen { tokio::task::block_in_place(|| writer.finish()) };
        let (seen, stays) = (ends(client.moves), ends(client.stays));
        assert_eq!(
            (stays.refused, stays.unknown),
            (0, 0),
            "who does not move is held up by nobody: {stays:?}"
        );
        let there = self.sum(&self.clusters.all[0], STAYS).await - client.before;
        assert_eq!(there, stays.acknowledged, "nothing of who does not move is lost");
        Written { acknowledged: seen.acknowledged, unknown: seen.unknown }
    }

    async fn count(&self, owner: &str) -> u64 {
        self.sum(cluster(&self.clusters, owner), MOVES).await
    }

    async fn left(&self) -> Vec<String> {
        let mut left = self.clusters.left().await;
        left.extend(leaks(self.system()).await);
        left
    }
}
