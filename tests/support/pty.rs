//! A program on a real pseudo-terminal: what it writes is drawn into a screen that tests read, and
//! counted; keys are typed; at the end the terminal must be as it was.

#![allow(dead_code, missing_docs, unreachable_pub)]

use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// Longest wait for anything that is not said to take longer.
const SOON: Duration = Duration::from_secs(30);

pub struct Pty {
    pub child: Box<dyn Child + Send + Sync>,
    pub master: Option<Box<dyn MasterPty + Send>>,
    pub writer: Option<Box<dyn Write + Send>>,
    pub screen: Arc<Mutex<vt100::Parser>>,
    /// Bytes written so far.
    pub bytes: Arc<AtomicUsize>,
    /// All of them.
    pub raw: Arc<Mutex<Vec<u8>>>,
    pub reader: Option<std::thread::JoinHandle<()>>,
    /// The reader lets go after the next bytes.
    pub deaf: Arc<AtomicBool>,
    /// The terminal's settings before the program had it.
    before: String,
    /// When the program was started.
    pub began: Instant,
    /// When bytes came last.
    pub last: Arc<Mutex<Instant>>,
}

/// A terminal of our day.
pub const MODERN: &[(&str, &str)] =
    &[("TERM", "xterm-256color"), ("COLORTERM", "truecolor"), ("LANG", "C.UTF-8")];

impl Pty {
    /// Starts `program` on a terminal of `size` columns and rows.
    pub fn spawn(program: &Path, args: &[&str], env: &[(&str, &str)], size: (u16, u16)) -> Pty {
        let pair = native_pty_system().openpty(window(size)).unwrap();
        let mut command = CommandBuilder::new(program);
        command.args(args);
        for name in ["NO_COLOR", "LC_ALL", "FORESHIFT_CONFIG", "RUST_LOG"] {
            command.env_remove(name);
        }
        for (name, value) in env {
            command.env(name, value);
        }
        let before = format!("{:?}", pair.master.get_termios());
        let mut reader = pair.master.try_clone_reader().unwrap();
        let writer = pair.master.take_writer().unwrap();
        let terminal = |n: u16| std::num::NonZeroU16::new(n).unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(terminal(size.1), terminal(size.0), 0)));
        let bytes = Arc::new(AtomicUsize::new(0));
        let raw = Arc::new(Mutex::new(Vec::new()));
        let deaf = Arc::new(AtomicBool::new(false));
        let last = Arc::new(Mutex::new(Instant::now()));
        let reader = {
            let (screen, bytes, raw) = (Arc::clone(&screen), Arc::clone(&bytes), Arc::clone(&raw));
            let (deaf, last) = (Arc::clone(&deaf), Arc::clone(&last));
            Some(std::thread::spawn(move || {
                let mut buffer = [0; 65536];
                while let Ok(n @ 1..) = reader.read(&mut buffer) {
                    *last.lock().unwrap() = Instant::now();
                    bytes.fetch_add(n, Ordering::SeqCst);
                    screen.lock().unwrap().process(&buffer[..n]);
                    raw.lock().unwrap().extend_from_slice(&buffer[..n]);
                    if deaf.load(Ordering::SeqCst) {
                        return;
                    }
                }
            }))
        };
        let began = Instant::now();
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        Pty {
            child,
            master: Some(pair.master),
            writer: Some(writer),
            screen,
            bytes,
            raw,
            reader,
            deaf,
            before,
            began,
            last,
        }
    }

    pub fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    pub fn resize(&self, size: (u16, u16)) {
        self.master.as_ref().unwrap().resize(window(size)).unwrap();
    }

    pub fn until(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        self.within(SOON, what, holds)
    }

    /// Waits until the screen is as wanted.
    pub fn within(&self, most: Duration, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + most;
        loop {
            let text = self.text();
            if holds(&text) {
                return text;
            }
            assert!(Instant::now() < end, "{what} did not come; the screen is:\n{text}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn shows(&self, text: &str) {
        self.until(text, |screen| screen.contains(text));
    }

    pub fn keys(&mut self, keys: &str) {
        let writer = self.writer.as_mut().unwrap();
        writer.write_all(keys.as_bytes()).unwrap();
        writer.flush().unwrap();
    }

    /// Waits until a popup takes keys: what is typed ahead does not count, and until then it offers
    /// none.
    pub fn armed(&self) {
        self.until("a popup that takes keys", |text| text.contains("enter do it") || text.contains("y yes"));
    }

    pub fn ends(&mut self) {
        let end = Instant::now() + SOON;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "the console did not end; the screen is:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_raw(self.child.process_id().unwrap() as i32).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// The alternate screen is left, the cursor shown, pastes are plain again, lines are edited by
    /// the terminal again.
    pub fn assert_given_back(&self) {
        self.until("the end", |_| self.raw.lock().unwrap().windows(8).any(|w| w == b"\x1b[?1049l"));
        let parser = self.screen.lock().unwrap();
        let screen = parser.screen();
        assert!(!screen.alternate_screen());
        assert!(!screen.hide_cursor());
        assert!(!screen.bracketed_paste());
        let after = format!("{:?}", self.master.as_ref().unwrap().get_termios());
        assert_eq!(after, self.before, "the terminal's own settings are not as they were");
    }
}

fn window((cols, rows): (u16, u16)) -> PtySize {
    PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
