//! Real PostgreSQL clusters, each on a loopback address of its own, so that each counts as a host; and a
//! client that writes to one schema all the while and follows it.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::support::{Server, free_port, need_program};

/// The superuser's password on every cluster.
pub const PASSWORD: &str = "a 'quoted\\ password";
/// The database.
pub const DATABASE: &str = "shop";

/// One cluster.
pub struct Cluster {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its data and its log.
    pub folder: PathBuf,
    server: Option<Server>,
    program: PathBuf,
}

/// Several clusters; dropped, they are stopped and their data removed.
pub struct Clusters {
    /// All of them.
    pub all: Vec<Cluster>,
    folder: tempfile::TempDir,
}

/// Runs a program as who PostgreSQL runs as: it refuses to be root.
pub fn as_postgres(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    // Its own libpq looks for certificates there.
    command.env("HOME", "/var/lib/postgresql");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"]).arg(program);
    command
}

/// Runs a program that has to end well.
pub fn well(mut command: Command) {
    let output = command.output().expect("a program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

impl Clusters {
    /// Starts `n` clusters with an empty database; `None` where there is no PostgreSQL.
    pub fn start(n: u8) -> Option<Self> {
        let program = need_program("postgres")?;
        let initdb = need_program("initdb")?;
        let folder = tempfile::tempdir().expect("a folder");
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).expect("a file");
        if rustix::process::geteuid().is_root() {
            let mut own = Command::new("chown");
            own.arg("-R").arg("postgres:postgres").arg(folder.path());
            well(own);
        }
        let port = free_port();
        let mut all = Vec::new();
        for i in 1..=n {
            let data = folder.path().join(format!("cluster{i}"));
            let mut init = as_postgres(&initdb);
            init.args(["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--username=postgres"]);
            init.args(["--auth-host=scram-sha-256", "--auth-local=trust"]);
            init.arg("--pwfile").arg(&password).arg("--pgdata").arg(&data);
            init.current_dir(folder.path());
            well(init);
            let settings = format!(
                "listen_addresses = '127.0.0.{i}'\nport = {port}\nunix_socket_directories = ''\n\
                 wal_level = logical\nmax_connections = 80\nshared_buffers = 64MB\nmax_wal_senders = 24\n\
                 max_replication_slots = 24\nmax_worker_processes = 24\nmax_logical_replication_workers = 12\n\
                 wal_retrieve_retry_interval = 500ms\nlog_statement = ddl\nlog_min_duration_statement = 5000\n"
            );
            let file = data.join("postgresql.auto.conf");
            std::fs::write(&file, settings).expect("settings");
            let address = SocketAddr::from(([127, 0, 0, i], port));
            let mut cluster = Cluster { address, folder: data, server: None, program: program.clone() };
            cluster.start();
            all.push(cluster);
        }
        let clusters = Self { all, folder };
        for cluster in &clusters.all {
            cluster.sql_in("postgres", &format!("CREATE DATABASE {DATABASE}"));
            cluster.sql_in("postgres", "CREATE ROLE app LOGIN PASSWORD 'app'");
        }
        Some(clusters)
    }

    /// Addresses of all, as the configuration wants them.
    pub fn addresses(&self) -> Vec<String> {
        self.all.iter().map(|c| c.address.to_string()).collect()
    }

    /// Publications, subscriptions, slots, triggers, tables and functions of migrations that are left
    /// anywhere: address, kind and name.
    pub async fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for cluster in &self.all {
            let rows = cluster
                .ask(
                    "SELECT 'publication', pubname FROM pg_publication \
                     UNION SELECT 'subscription', subname FROM pg_subscription \
                     UNION SELECT 'slot', slot_name FROM pg_replication_slots \
                     UNION SELECT 'trigger', tgname FROM pg_trigger WHERE tgname LIKE 'fs%' \
                     UNION SELECT 'relation', relname FROM pg_class WHERE relname LIKE 'fs\\_%' \
                     UNION SELECT 'function', proname FROM pg_proc WHERE proname LIKE 'fs\\_%'",
                )
                .await;
            left.extend(rows.into_iter().map(|row| format!("{} {}", cluster.address, row.join(" "))));
        }
        left
    }

    /// A file with the password, for a configuration.
    pub fn password_file(&self) -> PathBuf {
        self.folder.path().join("password")
    }
}

impl Cluster {
    /// Gives it a certificate for its address, signed by itself, and lets nobody in without encryption;
    /// returns the certificate's file.
    pub fn encrypt(&mut self) -> PathBuf {
        let (key, certificate) = (self.folder.join("server.key"), self.folder.join("server.crt"));
        let openssl = need_program("openssl").expect("openssl");
        let mut make = as_postgres(&openssl);
        make.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]);
        make.arg("-addext").arg(format!("subjectAltName=IP:{}", self.address.ip()));
        make.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        make.arg("-keyout").arg(&key).arg("-out").arg(&certificate).current_dir(&self.folder);
        well(make);
        std::fs::write(self.folder.join("pg_hba.conf"), "hostssl all all all scram-sha-256\n")
            .expect("pg_hba");
        let settings = self.folder.join("postgresql.auto.conf");
        let text = std::fs::read_to_string(&settings).expect("settings");
        std::fs::write(&settings, format!("{text}ssl = on\n")).expect("settings");
        self.kill();
        let mut command = as_postgres(&self.program);
        command.arg("-D").arg(&self.folder).current_dir(&self.folder);
        let logs = self.folder.parent().expect("a folder").to_path_buf();
        let name = format!("postgres-{}", self.address.ip());
        self.server =
            Some(Server::start_listening(&name, command, &logs, self.address, Duration::from_secs(30)));
        certificate
    }

    /// Starts it with the data it has.
    pub fn start(&mut self) {
        let mut command = as_postgres(&self.program);
        command.arg("-D").arg(&self.folder).current_dir(&self.folder);
        let name = format!("postgres-{}", self.address.ip());
        let logs = self.folder.parent().expect("a folder").to_path_buf();
        let server = Server::start_listening(&name, command, &logs, self.address, Duration::from_secs(30));
        self.server = Some(server);
        // It listens before it has recovered.
        self.sql_in("postgres", "SELECT 1");
    }

    /// `kill -9` of the whole server.
    pub fn kill(&mut self) {
        self.server = None;
        // Its children notice, and end; until then the data is locked.
        crate::support::wait_until(
            "the killed server's children have ended",
            Duration::from_secs(20),
            || !crate::support::listens(self.address),
        );
        std::thread::sleep(Duration::from_millis(300));
    }

    /// Stops it for a while, or lets it go on: `STOP`, `CONT`.
    pub fn signal(&self, signal: &str) {
        if let Some(server) = &self.server {
            server.signal(signal);
        }
    }

    /// All that the server logged.
    pub fn log(&self) -> String {
        self.server.as_ref().map(Server::log).unwrap_or_default()
    }

    /// Whether it has a database of that name.
    pub async fn has(&self, database: &str) -> bool {
        let client = connect(self.address, "postgres").await.expect("a connection");
        let sql = format!("SELECT 1 FROM pg_database WHERE datname = '{database}'");
        !rows(&client, &sql).await.expect("rows").is_empty()
    }

    /// A new connection.
    pub async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        connect(self.address, DATABASE).await
    }

    /// Statements, whose failure ends the test; the rows of all, as text.
    pub async fn ask(&self, sql: &str) -> Vec<Vec<String>> {
        let client = self.connect().await.expect("a connection");
        rows(&client, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}: {:?}", e.as_db_error()))
    }

    /// The first column of the first row.
    pub async fn text(&self, sql: &str) -> String {
        self.ask(sql).await.into_iter().next().and_then(|r| r.into_iter().next()).unwrap_or_default()
    }

    /// Statements in a database, from outside of any runtime.
    pub fn sql_in(&self, database: &str, sql: &str) {
        let (address, database, sql) = (self.address, database.to_string(), sql.to_string());
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let start = Instant::now();
                loop {
                    match connect(address, &database).await {
                        Ok(client) => break rows(&client, &sql).await.map(|_| ()).expect("sql"),
                        Err(error) => {
                            assert!(start.elapsed() < Duration::from_secs(20), "{error}");
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                    }
                }
            });
        })
        .join()
        .expect("sql");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            // Immediate shutdown: the children end with it.
            server.signal("QUIT");
            let start = Instant::now();
            while server.is_running() && start.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// A connection to a cluster, as the superuser.
pub async fn connect(address: SocketAddr, database: &str) -> Result<Client, tokio_postgres::Error> {
    connect_as(address, database, "postgres", PASSWORD).await
}

/// A connection as a role that may do no more than read and write.
pub async fn connect_as_client(address: SocketAddr) -> Result<Client, tokio_postgres::Error> {
    connect_as(address, DATABASE, "app", "app").await
}

/// A connection as somebody.
pub async fn connect_as(
    address: SocketAddr,
    database: &str,
    user: &str,
    password: &str,
) -> Result<Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host(address.ip().to_string()).port(address.port());
    config.user(user).password(password).dbname(database).connect_timeout(Duration::from_secs(2));
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(client)
}

/// Statements; the rows of all, as text.
pub async fn rows(client: &Client, sql: &str) -> Result<Vec<Vec<String>>, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    Ok(messages
        .into_iter()
        .filter_map(|m| match m {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| row.get(i).unwrap_or_default().to_string()).collect())
            }
            _ => None,
        })
        .collect())
}

/// The schema that is moved: counters, a log with an identity column, rows of many types, a table that
/// refers to another, and a partitioned one.
pub fn schema(rows: u32) -> String {
    format!(
        "CREATE SCHEMA orders; \
         CREATE TABLE orders.counters (id int PRIMARY KEY, n bigint NOT NULL DEFAULT 0); \
         CREATE TABLE orders.log (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, counter int NOT NULL \
           REFERENCES orders.counters, at timestamptz NOT NULL DEFAULT now()); \
         CREATE TYPE orders.mood AS ENUM ('calm', 'busy'); \
         CREATE TABLE orders.items (a int, b text, price numeric(12, 4), weight float8, flags bytea, made timestamptz, \
           lasts interval, tags text[], more jsonb, mood orders.mood, PRIMARY KEY (a, b)); \
         CREATE TABLE orders.days (day date, n int, PRIMARY KEY (day, n)) PARTITION BY RANGE (day); \
         CREATE TABLE orders.days_old PARTITION OF orders.days FOR VALUES FROM (MINVALUE) TO ('2026-01-01'); \
         CREATE TABLE orders.days_new PARTITION OF orders.days FOR VALUES FROM ('2026-01-01') TO (MAXVALUE); \
         CREATE SEQUENCE orders.tickets START 1000 INCREMENT 5; \
         ALTER SEQUENCE orders.tickets RESTART WITH 1205; \
         CREATE INDEX ON orders.log (counter); \
         INSERT INTO orders.counters SELECT g FROM generate_series(0, 39) g; \
         INSERT INTO orders.items SELECT g, 'item ' || g, g * 1.25, g / 7.0, decode(md5(g::text), 'hex'), \
           now() - g * interval '1 minute', g * interval '1 hour', ARRAY['t' || g, 'x'], \
           jsonb_build_object('n', g), CASE g % 2 WHEN 0 THEN 'calm' ELSE 'busy' END::orders.mood \
           FROM generate_series(1, {rows}) g; \
         INSERT INTO orders.days SELECT date '2025-12-01' + g % 60, g FROM generate_series(1, 200) g; \
         GRANT USAGE ON SCHEMA orders TO app; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA orders TO app"
    )
}

/// What a client saw that wrote all the while.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Transactions that were acknowledged.
    pub acknowledged: u64,
    /// Transactions whose answer was lost: done or not.
    pub unknown: u64,
    /// Writes that were refused, and tried again.
    pub refused: u64,
    /// The longest time from asking to an acknowledgement, refusals included.
    pub worst: Duration,
}

/// A client that increments a counter and adds a line of the log in one transaction, again and again,
/// and goes where the workload is.
pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Seen>>,
}

impl Writer {
    /// Starts writing; begins at the first address.
    pub fn start(addresses: Vec<SocketAddr>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(write(&addresses, &stopped))
        });
        Self { stop, thread: Some(thread) }
    }

    /// Stops, and says what was seen.
    pub fn finish(mut self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().expect("a thread").join().expect("the writer did not panic")
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

async fn write(addresses: &[SocketAddr], stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut clients: Vec<Option<Client>> = Vec::new();
    for address in addresses {
        clients.push(connect_as_client(*address).await.ok());
    }
    let (mut at, mut next) = (0, 0u64);
    while !stop.load(Ordering::SeqCst) {
        let counter = next % 40;
        next += 1;
        let sql = format!(
            "UPDATE orders.counters SET n = n + 1 WHERE id = {counter}; \
             INSERT INTO orders.log (counter) VALUES ({counter})"
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
                // Refused: certainly not done. It is held or a copy here, or there is nothing here yet.
                Ok(Err(error))
                    if error.as_db_error().is_some_and(|e| !e.code().code().starts_with("57P")) =>
                {
                    let code = error.code().map(|c| c.code().to_string()).unwrap_or_default();
                    assert!(
                        ["25006", "42P01", "3F000", "42501", "55P03", "40001", "40P01"]
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
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    seen
}
