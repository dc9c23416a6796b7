//! The console on a real pseudo-terminal: what it writes, when it is silent, and that the terminal is
//! given back however it ends. The child is this same test program, running the console over a
//! recorded fleet.

#[path = "support/console.rs"]
mod console;
#[path = "support/pty.rs"]
mod pty;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foreshift::protocol::{Actor, Command, Link, Refusal, Reply, Snapshot};
use foreshift::tui::{ConsoleOptions, Engine};
use pty::Pty;
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

fn start(how: &str) -> Pty {
    start_with(how, pty::MODERN)
}

fn start_with(how: &str, env: &[(&str, &str)]) -> Pty {
    let args = ["--exact", "the_console_itself", "--nocapture", "--test-threads=1"];
    let env: Vec<_> = env.iter().copied().chain([(CHILD, how)]).collect();
    Pty::spawn(&std::env::current_exe().unwrap(), &args, &env, (110, 32))
}

#[test]
fn a_proposal_is_found_read_and_approved_and_the_terminal_is_given_back() {
    let mut pty = start("plain");
    pty.shows("WAITING FOR YOU");
    pty.keys("\r");
    pty.shows("IF NOTHING IS DONE");
    pty.keys("a");
    pty.shows("approve P-218?");
    pty.armed();
    pty.keys("y\r");
    pty.shows("P-218 approved: 3 moves");
    pty.keys("Q");
    pty.ends();
    pty.assert_given_back();
    pty.shows("the console ended: Ok(Quit)");
}

#[test]
fn it_is_silent_while_nothing_changes() {
    let pty = start("plain");
    pty.shows("WAITING FOR YOU");
    std::thread::sleep(Duration::from_millis(300));
    let before = pty.bytes.load(Ordering::SeqCst);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(pty.bytes.load(Ordering::SeqCst), before, "bytes were written while nothing changed");
}

#[test]
fn a_key_is_answered_while_the_engine_hangs() {
    let mut pty = start("plain");
    pty.shows("WAITING FOR YOU");
    pty.keys("!");
    pty.shows("stop everything?");
    pty.armed();
    pty.keys("\r3");
    pty.shows("sorted by p1h");
    // And the person is told that no answer came.
    pty.shows("the engine does not answer");
}

#[test]
fn sigterm_and_a_panic_give_the_terminal_back() {
    let mut pty = start("plain");
    pty.shows("WAITING FOR YOU");
    pty.signal(rustix::process::Signal::TERM);
    pty.ends();
    pty.assert_given_back();
    pty.shows("the console ended: Ok(Stopped)");

    let pty = start("panic");
    pty.shows("a part of the engine broke");
    let raw = pty.raw.lock().unwrap();
    let given_back = raw.windows(8).position(|w| w == b"\x1b[?1049l");
    let said = raw.windows(26).position(|w| w == b"a part of the engine broke");
    assert!(given_back.is_some() && given_back < said, "the message was printed onto the console");
}

#[test]
fn a_lost_terminal_ends_the_console() {
    let mut pty = start("plain");
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
    let mut pty = start("plain");
    pty.shows("WAITING FOR YOU");
    pty.resize((50, 12));
    pty.shows("too small: 50×12");
    pty.resize((110, 32));
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
    let pty = start_with("plain", &[("TERM", "xterm-256color"), ("NO_COLOR", "1"), ("LANG", "C")]);
    pty.shows("WAITING FOR YOU");
    let text = pty.text();
    assert!(text.is_ascii(), "{text}");
    let raw = String::from_utf8_lossy(&pty.raw.lock().unwrap()).into_owned();
    for code in ["[38;", "[31m", "[32m", "[36m", "[1;31m", "[1;36m"] {
        assert!(!raw.contains(code), "a colour was sent: {code}");
    }
}
