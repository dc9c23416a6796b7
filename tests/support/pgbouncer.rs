//! A real PgBouncer in front of the clusters of a test, and clients that write through it all the while and
//! do not expect to be refused.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foreshift::drivers::postgres::BouncerOptions;
use tokio_postgres::Client;

use crate::postgres::{DATABASE, as_postgres, connect_as, rows, well};
use crate::support::{Server, free_port, loopback, need_program};

/// The password of who may use its console.
pub const ADMIN_PASSWORD: &str = "pool'secret";

/// One PgBouncer with the database of the test.
pub struct PgBouncer {
    /// Where it listens.
    pub address: SocketAddr,
    /// The file with the database's line.
    pub file: PathBuf,
    server: Server,
    folder: tempfile::TempDir,
}

impl PgBouncer {
    /// Starts one that leads to a cluster; `None` where there is no PgBouncer.
    pub fn start(cluster: SocketAddr, pool_mode: &str) -> Option<Self> {
        let program = need_program("pgbouncer")?;
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let (file, users, main) = (at("shop.ini"), at("users.txt"), at("pgbouncer.ini"));
        let (host, port) = (cluster.ip(), cluster.port());
        let line = format!(
            "[databases]\n; where it is\n{DATABASE} = host={host} port={port} dbname={DATABASE} pool_size=6\n"
        );
        std::fs::write(&file, line).expect("a file");
        std::fs::write(&users, format!("\"admin\" \"{ADMIN_PASSWORD}\"\n\"app\" \"app\"\n")).expect("users");
        let address = loopback(free_port());
        let settings = format!(
            "%include {}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {}\nadmin_users = admin\npool_mode = {pool_mode}\n",
            file.display(),
            address.port(),
            users.display()
        );
        std::fs::write(&main, settings).expect("settings");
        if rustix::process::geteuid().is_root() {
            let mut own = Command::new("chown");
            own.arg("-R").arg("postgres:postgres").arg(folder.path());
            well(own);
        }
        let mut command = as_postgres(&program);
        command.arg(&main).current_dir(folder.path());
        let name = format!("pgbouncer-{}", address.port());
        let server = Server::start_listening(&name, command, folder.path(), address, Duration::from_secs(10));
        Some(Self { address, file, server, folder })
    }

    /// How the driver reaches it.
    pub fn options(&self) -> BouncerOptions {
        BouncerOptions {
            admin: self.address.to_string(),
            username: "admin".into(),
            password: Some(ADMIN_PASSWORD.into()),
            tls_ca: None,
            database: DATABASE.into(),
            schema: "orders".into(),
            file: self.file.clone(),
        }
    }

    /// One command at its console.
    pub async fn ask(&self, sql: &str) -> Vec<Vec<String>> {
        let console =
            connect_as(self.address, "pgbouncer", "admin", ADMIN_PASSWORD).await.expect("a console");
        rows(&console, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}: {:?}", e.as_db_error()))
    }

    /// Where it sends the database's clients, and whether they wait.
    pub async fn leads(&self) -> (String, bool) {
        let console =
            connect_as(self.address, "pgbouncer", "admin", ADMIN_PASSWORD).await.expect("a console");
        for message in console.simple_query("SHOW DATABASES").await.expect("an answer") {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message
                && row.get("name") == Some(DATABASE)
            {
                let text = |column| row.get(column).unwrap_or_default().to_string();
                return (format!("{}:{}", text("host"), text("port")), text("paused") == "1");
            }
        }
        panic!("no database");
    }

    /// A client of the pool.
    pub async fn connect(&self) -> Client {
        connect_as(self.address, DATABASE, "app", "app").await.expect("a connection through the pool")
    }

    /// The names of what is in its folder.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| !name.ends_with(".log"));
        names.sort();
        names
    }

    /// Stops it for a while, or lets it go on: `STOP`, `CONT`.
    pub fn signal(&self, signal: &str) {
        self.server.signal(signal);
    }

    /// All that it logged.
    pub fn log(&self) -> String {
        self.server.log()
    }
}

/// What the clients of a pool saw.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// Transactions that were acknowledged.
    pub acknowledged: u64,
    /// Everything else, in words.
    pub errors: Vec<String>,
    /// The longest time from asking to an acknowledgement.
    pub worst: Duration,
}

/// Clients that write through pools, each on a connection of its own; an error ends the client.
pub struct Clients {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Served>>,
}

impl Clients {
    /// Starts two a pool; each increments counters of its own and adds a line of the log in one transaction.
    pub fn start(pools: &[&PgBouncer]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let addresses: Vec<SocketAddr> = pools.iter().flat_map(|p| [p.address; 2]).collect();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let clients = addresses.iter().enumerate().map(|(n, at)| client(*at, n, &stopped));
                let mut all = Served::default();
                for one in futures::future::join_all(clients).await {
                    all.acknowledged += one.acknowledged;
                    all.errors.extend(one.errors);
                    all.worst = all.worst.max(one.worst);
                }
                all
            })
        });
        Self { stop, thread: Some(thread) }
    }

    /// Stops, and says what was seen.
    pub fn finish(mut self) -> Served {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().expect("a thread").join().expect("the clients did not panic")
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

async fn client(address: SocketAddr, number: usize, stop: &AtomicBool) -> Served {
    let mut served = Served::default();
    let connection =
        connect_as(address, DATABASE, "app", "app").await.expect("a connection through the pool");
    for turn in 0u64.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let counter = number as u64 * 10 + turn % 10;
        let (update, insert) = (
            format!("UPDATE orders.counters SET n = n + 1 WHERE id = {counter}"),
            format!("INSERT INTO orders.log (counter) VALUES ({counter})"),
        );
        // In one message, or in several with the transaction open in between.
        let parts: Vec<String> = match turn % 2 {
            0 => vec![format!("{update}; {insert}")],
            _ => vec!["BEGIN".into(), update, insert, "COMMIT".into()],
        };
        let start = Instant::now();
        for part in parts {
            match tokio::time::timeout(Duration::from_secs(30), connection.batch_execute(&part)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => served.errors.push(format!("{part}: {error}: {:?}", error.as_db_error())),
                Err(_) => served.errors.push(format!("{part}: no answer in 30 s")),
            }
            if !served.errors.is_empty() {
                return served;
            }
        }
        served.acknowledged += 1;
        served.worst = served.worst.max(start.elapsed());
        tokio::time::sleep(Duration::from_micros(300)).await;
    }
    served
}
