//! Real HAProxy instances in front of two small servers that say their name.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::support::{Server, free_ports, listens_at, loopback, need_program, wait_until};

/// One HAProxy.
pub struct Haproxy {
    /// Where clients connect.
    pub front: SocketAddr,
    /// Its runtime socket.
    pub socket: PathBuf,
    config: PathBuf,
    program: PathBuf,
    folder: PathBuf,
    name: String,
    server: Option<Server>,
}

/// Two instances over the same two servers, `cart` with `h1_p` and `h2_p`.
pub struct Haproxies {
    /// The instances.
    pub instances: Vec<Haproxy>,
    /// Path of the map of epochs.
    pub epochs: PathBuf,
    _folder: tempfile::TempDir,
}

impl Haproxies {
    /// Starts them with that balance algorithm; `None` where there is no `haproxy`.
    pub fn start(balance: &str) -> Option<Self> {
        let program = need_program("haproxy")?;
        let folder = tempfile::tempdir().expect("a folder");
        let epochs = folder.path().join("epochs.map");
        std::fs::write(&epochs, "").expect("a map");
        let servers = [serve("h1_p"), serve("h2_p")];
        let mut instances = Vec::new();
        for (i, port) in free_ports(2).into_iter().enumerate() {
            let front = loopback(port);
            let socket = folder.path().join(format!("haproxy{i}.sock"));
            let config = folder.path().join(format!("haproxy{i}.cfg"));
            let text = format!(
                "global\n  stats socket {} mode 600 level admin\n\
                 defaults\n  mode http\n  timeout connect 2s\n  timeout client 5s\n  timeout server 5s\n\
                 frontend in\n  bind {front}\n  http-request set-var(txn.e) str(cart),map({},0)\n  default_backend cart\n\
                 backend cart\n  balance {balance}\n  http-reuse never\n  server h1_p {} weight 100\n  server h2_p {} weight 100\n  server sorry {} backup\n",
                socket.display(),
                epochs.display(),
                servers[0],
                servers[1],
                servers[0],
            );
            std::fs::write(&config, text).expect("a configuration");
            let mut instance = Haproxy {
                front,
                socket,
                config,
                program: program.clone(),
                folder: folder.path().to_path_buf(),
                name: format!("haproxy{i}"),
                server: None,
            };
            instance.start();
            instances.push(instance);
        }
        Some(Self { instances, epochs, _folder: folder })
    }

    /// Runtime sockets of all.
    pub fn sockets(&self) -> Vec<String> {
        self.instances.iter().map(|i| i.socket.display().to_string()).collect()
    }
}

impl Haproxy {
    /// Starts it; what was set over the socket before is forgotten, as after a reload.
    pub fn start(&mut self) {
        let mut command = Command::new(&self.program);
        command.arg("-db").arg("-f").arg(&self.config);
        self.server = Some(Server::start_listening(
            &self.name,
            command,
            &self.folder,
            self.front,
            Duration::from_secs(20),
        ));
        // Clients are let in a moment before the socket has its name.
        wait_until("its runtime socket answers", Duration::from_secs(20), || listens_at(&self.socket));
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Which server answers how many of `n` requests.
    pub fn ask(&self, n: usize) -> (usize, usize) {
        let answers: Vec<String> = (0..n)
            .map(|_| {
                let mut stream = TcpStream::connect(self.front).expect("haproxy");
                stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("a request");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).expect("an answer");
                answer
            })
            .collect();
        let of = |name: &str| answers.iter().filter(|a| a.ends_with(name)).count();
        (of("h1_p"), of("h2_p"))
    }
}

/// A server that answers its name; it lives as long as the test.
fn serve(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(
                format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()).as_bytes(),
            );
        }
    });
    address
}
