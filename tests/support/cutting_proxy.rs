//! A TCP proxy before one server that cuts or stalls a connection when a named command comes along: a
//! piece of the client's bytes, which is the same for a Redis command and for the text of a statement.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What happens to a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// The connection is cut before the server sees it.
    CutBefore,
    /// The server does it, and the connection is cut before its answer comes.
    CutAfter,
    /// The server never sees it, and nobody says so.
    Stall,
    /// The server does it, and its answer never comes.
    StallAnswer,
}

/// A command that is to be hit once.
#[derive(Clone, Debug)]
pub struct Fault {
    /// For people.
    pub name: String,
    /// How it begins or what stands in it.
    pub needle: Vec<u8>,
    /// How often it passes unharmed before.
    pub passes: usize,
    /// What happens to it then.
    pub how: How,
    /// It was hit.
    pub hit: bool,
}

/// Faults that several proxies share.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Vec<Fault>>>);

impl Faults {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets them, and forgets those before.
    pub fn set(&self, faults: Vec<Fault>) {
        *self.0.lock().expect("a lock") = faults;
    }

    /// The names of those that were not hit.
    pub fn missed(&self) -> Vec<String> {
        self.0.lock().expect("a lock").iter().filter(|f| !f.hit).map(|f| f.name.clone()).collect()
    }

    /// How many were hit.
    pub fn hits(&self) -> usize {
        self.0.lock().expect("a lock").iter().filter(|f| f.hit).count()
    }

    /// Whether the server does what the faults hit.
    pub fn server_did(&self) -> bool {
        let faults = self.0.lock().expect("a lock");
        faults.iter().any(|f| matches!(f.how, How::CutAfter | How::StallAnswer))
    }

    /// What happens to these bytes.
    fn strikes(&self, bytes: &[u8]) -> Option<How> {
        let mut faults = self.0.lock().expect("a lock");
        for fault in faults.iter_mut().filter(|f| !f.hit) {
            if bytes.windows(fault.needle.len()).any(|window| window.eq_ignore_ascii_case(&fault.needle)) {
                if fault.passes > 0 {
                    fault.passes -= 1;
                    continue;
                }
                fault.hit = true;
                println!("  {:?}: {}", fault.how, fault.name);
                return Some(fault.how);
            }
        }
        None
    }
}

/// The bytes of a Redis command's first words.
pub fn redis_command(words: &[&str]) -> Vec<u8> {
    let texts: Vec<String> = words.iter().map(|w| format!("${}\r\n{w}\r\n", w.len())).collect();
    texts.concat().into_bytes()
}

/// A proxy; dropped, it and its connections end.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on the server's own IP address, on a port of its own.
    pub async fn start(server: SocketAddr, faults: Faults) -> Self {
        let listener = TcpListener::bind((server.ip(), 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let faults = faults.clone();
                connections.spawn(async move {
                    if let Ok(server) = TcpStream::connect(server).await {
                        pass(client, server, &faults).await;
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, task }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Passes bytes both ways until one side ends or a fault strikes.
async fn pass(mut client: TcpStream, mut server: TcpStream, faults: &Faults) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut from_server) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(n @ 1..) = read else { return };
                let how = faults.strikes(&from_client[..n]);
                if matches!(how, Some(How::CutBefore)) {
                    return;
                }
                if matches!(how, Some(How::Stall)) {
                    return stand(client).await;
                }
                if server.write_all(&from_client[..n]).await.is_err() {
                    return;
                }
                if how.is_some() {
                    // It answers once it has done it.
                    let answered = tokio::time::timeout(Duration::from_secs(20), server.read(&mut from_server));
                    let _ = answered.await;
                    if how == Some(How::StallAnswer) {
                        return stand(client).await;
                    }
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(n @ 1..) = read else { return };
                if client.write_all(&from_server[..n]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Takes what the client says and answers nothing, until it gives up.
async fn stand(mut client: TcpStream) {
    let mut bytes = vec![0; 4096];
    while matches!(client.read(&mut bytes).await, Ok(1..)) {}
}
