//! What the tests with real servers share: finding a program or skipping, free ports, a child
//! process that is stopped by its handle (also on panic), and waiting for a condition with a
//! deadline. One file beside this one for each server.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use foreshift::drivers::{Action, Answer, Evidence, Job, Mover, Permit, Retry};

/// The program of that name on the search path, or in the folders that Debian keeps servers in.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/lib/postgresql/15/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The program of that name. Where it is absent the test says so and should return; in CI that is a
/// failure.
///
/// # Panics
/// In CI (`CI=true`) where the program is absent.
pub fn need_program(name: &str) -> Option<PathBuf> {
    let found = find_program(name);
    if found.is_none() {
        skip(&format!("needs the program {name}"));
    }
    found
}

/// Says that a test was skipped and why; in CI (`CI=true`) that is a failure.
///
/// # Panics
/// In CI.
pub fn skip(why: &str) {
    println!("skipped: {why}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped in CI: {why}");
}

/// A TCP port on loopback that nobody listens on. It is free again when this returns, so use it at
/// once. Ports come from the kernel's ephemeral range, which hands out each only after a while.
pub fn free_port() -> u16 {
    free_ports(1)[0]
}

/// Several different free ports.
pub fn free_ports(n: usize) -> Vec<u16> {
    let held: Vec<TcpListener> =
        (0..n).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port")).collect();
    held.iter().map(|l| l.local_addr().expect("an address").port()).collect()
}

/// `127.0.0.1:port`.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Whether something listens there.
pub fn listens(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
}

/// Whether something listens at a socket of that path.
pub fn listens_at(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

/// Waits until `done` says so, looking every 20 ms.
///
/// # Panics
/// With `what`, when the deadline has passed.
pub fn wait_until(what: &str, deadline: Duration, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain until {what}");
        sleep(Duration::from_millis(20));
    }
}

/// The same for a condition that awaits.
///
/// # Panics
/// With `what`, when the deadline has passed.
pub async fn wait_until_async<F, Fut>(what: &str, deadline: Duration, mut done: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A server that runs as a child of the test; dropped, it is killed and waited for, also on panic.
/// What it writes goes to a file that a failing test can quote.
pub struct Server {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `command`; standard output and error go to `folder/NAME.log`.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start(name: &str, mut command: Command, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log).expect("a log file");
        let err = out.try_clone().expect("a second handle of the log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|e| panic!("{name} cannot be started: {e}"));
        Self { name: name.to_string(), child, log }
    }

    /// The same, and waits until it listens on `address`.
    ///
    /// # Panics
    /// Where it ends or does not listen within `deadline`; quotes its log.
    pub fn start_listening(
        name: &str,
        command: Command,
        folder: &Path,
        address: SocketAddr,
        deadline: Duration,
    ) -> Self {
        let mut server = Self::start(name, command, folder);
        let start = Instant::now();
        while !listens(address) {
            if let Ok(Some(status)) = server.child.try_wait() {
                panic!("{name} ended ({status}) before it listened on {address}:\n{}", server.log_tail());
            }
            assert!(
                start.elapsed() < deadline,
                "{name} does not listen on {address}:\n{}",
                server.log_tail()
            );
            sleep(Duration::from_millis(20));
        }
        server
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, for example `TERM`, `INT`, `STOP`, `CONT`.
    ///
    /// # Panics
    /// Where there is no program `kill`.
    pub fn signal(&self, signal: &str) {
        let _ = Command::new("kill")
            .args(["-s", signal, &self.child.id().to_string()])
            .status()
            .expect("the program kill");
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal and waits until the process has ended.
    ///
    /// # Panics
    /// Where it has not ended within `deadline`.
    pub fn stop(&mut self, signal: &str, deadline: Duration) -> ExitStatus {
        self.signal(signal);
        let start = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status;
            }
            assert!(start.elapsed() < deadline, "{} does not end on {signal}", self.name);
            sleep(Duration::from_millis(10));
        }
    }

    /// Whether the process is alive.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// All that it wrote.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last 30 lines of what it wrote.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- last lines of {}:\n{}", self.name, self.log_tail());
        }
    }
}

/// What `telegraf::lines` wrote for host 1, in canonical metrics.
///
/// # Panics
/// Where a metric is something else.
pub fn expect_telegraf(last: impl Fn(&str) -> Option<f32>) {
    let expected = [
        ("cpu.busy", 11.0),
        ("cpu.iowait", 0.5),
        ("mem.used", 41.0),
        ("disk.used", 61.0),
        ("disk.read_latency", 2.0),
        ("disk.write_latency", 5.0),
        // sda and sdb, 4,000 bytes a second each; sda1 is a part of sda, loop0 is none.
        ("disk.throughput", 8_000.0),
        ("net.throughput", 15_000.0),
        ("load", 0.75),
        ("temp", 51.0),
        ("net.latency", 1.0),
        ("net.loss", 2.0),
        ("processes.blocked", 2.0),
    ];
    for (metric, value) in expected {
        let got = last(metric);
        assert!(got.is_some_and(|got| (got - value).abs() <= value * 1e-3), "{metric}: {got:?}, not {value}");
    }
}

/// Asks a driver for an action until it is done.
///
/// # Panics
/// Where it is not within `patience`, or a failure would not pass by itself.
pub async fn complete(
    mover: &dyn Mover,
    job: &Job,
    action: &Action,
    permit: &Permit,
    patience: Duration,
) -> Evidence {
    let start = Instant::now();
    loop {
        match mover.perform(job, action, permit).await {
            Ok(Answer::Done(evidence)) => return evidence,
            Ok(Answer::Working { waiting_for }) => {
                assert!(start.elapsed() < patience, "{}: waited in vain for {waiting_for}", action.name());
            }
            Err(error) if error.retry == Retry::Retryable && start.elapsed() < patience => {
                println!("{} again: {error}", action.name());
            }
            Err(error) => panic!("{}: {error}", action.name()),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
