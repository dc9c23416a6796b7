//! The console on a real pseudo-terminal: what it writes, when it is silent, and that the terminal is
//! given back however it ends. The child is this same test program, running the console over a
//! recorded fleet.

#[path = "support/console.rs"]
mod console;

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use foreshift::protocol::{Actor, Command, Link, Refusal, Reply, Snapshot};
use foreshift::tui::{ConsoleOptions, Engine};
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use tokio::sync::watch;

const CHILD: &str = "FORESHIFT_TEST_CONSOLE_CHILD";

/// An engine that is a recording; what is approved is seen in the next snapshot.
struct Recording(watch::Sender<Arc<Snapshot>>);

#[async_trait::async_trait]
impl Link for Recording {
    fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.0.subscribe()
    }

    async fn send(&self, _: Actor, command: Command) -> Result<Reply, Refusal> {
        match command {
            Command::Inspect { partition } => {
                Ok(Reply::Partition { detail: Box::new(console::detail(&partition)) })
            }
            Command::Approve { proposal, .. } => {
                let mut next = (**self.0.borrow()).clone();
                next.sequence += 1;
                for p in Arc::make_mut(&mut next.proposals).iter_mut().filter(|p| p.id == proposal) {
                    p.open = false;
                    p.status = "approved by operator@eu".to_string();
                }
                self.0.send_replace(Arc::new(next));
                Ok(Reply::Done { said: format!("{proposal} approved: 3 moves") })
            }
            // An engine that hangs must not hold up a key.
            Command::StopEverything => std::future::pending().await,
            _ => Err(Refusal::NotNow { reason: "this is a recording".to_string() }),
        }
    }
}

/// Not a test of its own: the program that the others start.
#[test]
fn the_console_itself() {
    if std::env::var(CHILD).is_err() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let exit = runtime.block_on(async {
        let link = Arc::new(Recording(watch::Sender::new(Arc::new(console::fleet()))));
        let options = ConsoleOptions { engine: Engine::Remote, ..ConsoleOptions::default() };
        if std::env::var(CHILD).as_deref() == Ok("panic") {
            tokio::spawn(async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                panic!("a part of the engine broke");
            });
        }
        foreshift::tui::run(link, options, console::operator()).await
    });
    println!("the console ended: {exit:?}");
}

struct Pty {
    child: Box<dyn Child + Send + Sync>,
    master: Option<Box<dyn MasterPty + Send>>,
    writer: Option<Box<dyn Write + Send>>,
    screen: Arc<Mutex<vt100::Parser>>,
    bytes: Arc<AtomicUsize>,
    raw: Arc<Mutex<Vec<u8>>>,
    reader: Option<std::thread::JoinHandle<()>>,
    deaf: Arc<AtomicBool>,
}

impl Pty {
    fn start(how: &str) -> Pty {
        Self::start_with(how, &[("TERM", "xterm-256color"), ("COLORTERM", "truecolor"), ("LANG", "C.UTF-8")])
    }

    fn start_with(how: &str, env: &[(&str, &str)]) -> Pty {
        let size = PtySize { rows: 32, cols: 110, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_console_itself", "--nocapture", "--test-threads=1"]);
        command.env(CHILD, how);
        command.env_remove("NO_COLOR");
        command.env_remove("LC_ALL");
        for (name, value) in env {
            command.env(name, value);
        }
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let writer = pair.master.take_writer().unwrap();
        let terminal = |n: u16| std::num::NonZeroU16::new(n).unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(terminal(32), terminal(110), 0)));
        let bytes = Arc::new(AtomicUsize::new(0));
        let raw = Arc::new(Mutex::new(Vec::new()));
        let deaf = Arc::new(AtomicBool::new(false));
        let reader = {
            let (screen, bytes, raw) = (Arc::clone(&screen), Arc::clone(&bytes), Arc::clone(&raw));
            let deaf = Arc::clone(&deaf);
            Some(std::thread::spawn(move || {
                let mut buffer = [0; 65536];
                while let Ok(n @ 1..) = reader.read(&mut buffer) {
                    bytes.fetch_add(n, Ordering::SeqCst);
                    screen.lock().unwrap().process(&buffer[..n]);
                    raw.lock().unwrap().extend_from_slice(&buffer[..n]);
                    if deaf.load(Ordering::SeqCst) {
                        return;
                    }
                }
            }))
        };
        Pty { child, master: Some(pair.master), writer: Some(writer), screen, bytes, raw, reader, deaf }
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    fn until(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let text = self.text();
            if holds(&text) {
                return text;
            }
            assert!(Instant::now() < end, "{what} did not come; the screen is:\n{text}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn shows(&self, text: &str) {
        self.until(text, |screen| screen.contains(text));
    }

    fn keys(&mut self, keys: &str) {
        let writer = self.writer.as_mut().unwrap();
        writer.write_all(keys.as_bytes()).unwrap();
        writer.flush().unwrap();
    }

    /// Waits until a popup takes keys: what is typed ahead does not count.
    fn let_it_arm(&self) {
        std::thread::sleep(Duration::from_millis(foreshift::tui::confirm::DISARMED_MS + 100));
    }

    fn ends(&mut self) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "the console did not end; the screen is:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_raw(self.child.process_id().unwrap() as i32).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// The alternate screen is left, the cursor shown, pastes are plain again, lines are edited by
    /// the terminal again.
    fn assert_given_back(&self) {
        self.until("the end", |_| self.raw.lock().unwrap().windows(8).any(|w| w == b"\x1b[?1049l"));
        let parser = self.screen.lock().unwrap();
        let screen = parser.screen();
        assert!(!screen.alternate_screen());
        assert!(!screen.hide_cursor());
        assert!(!screen.bracketed_paste());
        let settings = self.master.as_ref().unwrap().get_termios().unwrap();
        let canonical = nix_flag(&settings);
        assert!(canonical, "the terminal is still raw");
    }
}

fn nix_flag(settings: &impl std::fmt::Debug) -> bool {
    let text = format!("{settings:?}");
    text.contains("ICANON") && text.contains("ECHO")
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_proposal_is_found_read_and_approved_and_the_terminal_is_given_back() {
    let mut pty = Pty::start("plain");
    pty.shows("WAITING FOR YOU");
    pty.keys("\r");
    pty.shows("IF NOTHING IS DONE");
    pty.keys("a");
    pty.shows("approve P-218?");
    pty.let_it_arm();
    pty.keys("y\r");
    pty.shows("P-218 approved: 3 moves");
    pty.keys("Q");
    pty.ends();
    pty.assert_given_back();
    pty.shows("the console ended: Ok(Quit)");
}

#[test]
fn it_is_silent_while_nothing_changes() {
    let pty = Pty::start("plain");
    pty.shows("WAITING FOR YOU");
    std::thread::sleep(Duration::from_millis(300));
    let before = pty.bytes.load(Ordering::SeqCst);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(pty.bytes.load(Ordering::SeqCst), before, "bytes were written while nothing changed");
}

#[test]
fn a_key_is_answered_while_the_engine_hangs() {
    let mut pty = Pty::start("plain");
    pty.shows("WAITING FOR YOU");
    pty.keys("!");
    pty.shows("stop everything?");
    pty.let_it_arm();
    pty.keys("\r3");
    pty.shows("sorted by p1h");
    // And the person is told that no answer came.
    pty.shows("the engine does not answer");
}

#[test]
fn sigterm_and_a_panic_give_the_terminal_back() {
    let mut pty = Pty::start("plain");
    pty.shows("WAITING FOR YOU");
    pty.signal(rustix::process::Signal::TERM);
    pty.ends();
    pty.assert_given_back();
    pty.shows("the console ended: Ok(Stopped)");

    let pty = Pty::start("panic");
    pty.shows("a part of the engine broke");
    let raw = pty.raw.lock().unwrap();
    let given_back = raw.windows(8).position(|w| w == b"\x1b[?1049l");
    let said = raw.windows(26).position(|w| w == b"a part of the engine broke");
    assert!(given_back.is_some() && given_back < said, "the message was printed onto the console");
}

#[test]
fn a_lost_terminal_ends_the_console() {
    let mut pty = Pty::start("plain");
    pty.shows("WAITING FOR YOU");
    // The reader holds the terminal open too: it lets go after the next bytes.
    pty.deaf.store(true, Ordering::SeqCst);
    pty.keys("3");
    pty.reader.take().unwrap().join().unwrap();
    pty.writer.take();
    pty.master.take();
    pty.ends();
}

#[test]
fn it_follows_the_size_of_the_terminal_and_survives_a_stop() {
    let mut pty = Pty::start("plain");
    pty.shows("WAITING FOR YOU");
    let small = PtySize { rows: 12, cols: 50, pixel_width: 0, pixel_height: 0 };
    pty.master.as_ref().unwrap().resize(small).unwrap();
    pty.shows("too small: 50×12");
    let large = PtySize { rows: 32, cols: 110, pixel_width: 0, pixel_height: 0 };
    pty.master.as_ref().unwrap().resize(large).unwrap();
    pty.shows("WAITING FOR YOU");
    // A stop from outside gives the terminal back, going on takes it again.
    pty.signal(rustix::process::Signal::TSTP);
    pty.until("the shell's screen", |_| !pty.screen.lock().unwrap().screen().alternate_screen());
    pty.signal(rustix::process::Signal::CONT);
    pty.until("the console", |_| pty.screen.lock().unwrap().screen().alternate_screen());
    pty.shows("WAITING FOR YOU");
    pty.keys("Q");
    pty.ends();
    pty.assert_given_back();
}

#[test]
fn no_color_and_a_poor_terminal_are_honoured() {
    let pty = Pty::start_with("plain", &[("TERM", "xterm-256color"), ("NO_COLOR", "1"), ("LANG", "C")]);
    pty.shows("WAITING FOR YOU");
    let text = pty.text();
    assert!(text.is_ascii(), "{text}");
    let raw = String::from_utf8_lossy(&pty.raw.lock().unwrap()).into_owned();
    for code in ["[38;", "[31m", "[32m", "[36m", "[1;31m", "[1;36m"] {
        assert!(!raw.contains(code), "a colour was sent: {code}");
    }
}
