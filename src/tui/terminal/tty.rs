//! The two threads at the terminal: one reads, one writes. A terminal that does not take bytes (a
//! stalled SSH connection) holds up the writer alone, never the console; a terminal that is gone ends
//! the reader, which then says so, instead of spinning.

use std::io::{self, PipeReader, PipeWriter};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::stdio::stdin;
use tokio::sync::mpsc;

use super::guard;
use super::input::{Input, Parser};

/// What the terminal says.
#[derive(Debug)]
pub enum FromTerminal {
    /// A person did something.
    Input(Input),
    /// A frame has been written, and the next can follow.
    Written,
    /// The terminal is gone.
    Gone,
}

/// An escape byte that is followed by nothing for this long is the escape key.
const ESCAPE_MS: i64 = 30;

/// The running threads.
pub struct Terminal {
    frames: Option<std::sync::mpsc::SyncSender<Vec<u8>>>,
    stop: Option<PipeWriter>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts both threads; what they say arrives at the receiver.
    ///
    /// # Errors
    /// The system gives no pipe or thread.
    pub fn start() -> io::Result<(Terminal, mpsc::Receiver<FromTerminal>)> {
        let (say, said) = mpsc::channel(1024);
        let (stopped, stop) = io::pipe()?;
        let reader = {
            let say = say.clone();
            std::thread::Builder::new().name("console-reader".into()).spawn(move || read(&say, &stopped))?
        };
        let (frames, next) = std::sync::mpsc::sync_channel::<Vec<u8>>(1);
        std::thread::Builder::new().name("console-writer".into()).spawn(move || {
            while let Ok(bytes) = next.recv() {
                let news =
                    if guard::write_all(&bytes).is_ok() { FromTerminal::Written } else { FromTerminal::Gone };
                if say.blocking_send(news).is_err() {
                    return;
                }
            }
        })?;
        Ok((Terminal { frames: Some(frames), stop: Some(stop), reader: Some(reader) }, said))
    }

    /// Hands bytes to the writer; `false` where it is still busy or gone.
    pub fn write(&self, bytes: Vec<u8>) -> bool {
        self.frames.as_ref().is_some_and(|frames| frames.try_send(bytes).is_ok())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.stop.take());
        drop(self.frames.take());
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Reads until the terminal is gone or the other end of `stopped` is closed.
fn read(say: &mpsc::Sender<FromTerminal>, stopped: &PipeReader) {
    let mut parser = Parser::default();
    let mut inputs = Vec::new();
    let mut bytes = [0u8; 4096];
    let tty = stdin();
    loop {
        let mut fds = [PollFd::new(&tty, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        let escape = Timespec { tv_sec: 0, tv_nsec: ESCAPE_MS * 1_000_000 };
        let ready = match poll(&mut fds, parser.waits().then_some(&escape)) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => break,
        };
        let (tty_events, stop_events) = (fds[0].revents(), fds[1].revents());
        if !stop_events.is_empty() {
            return;
        }
        if ready == 0 {
            parser.pause(&mut inputs);
        } else if tty_events.contains(PollFlags::IN) {
            match rustix::io::read(tty, &mut bytes) {
                Ok(0) => break,
                Ok(n) => parser.feed(&bytes[..n], &mut inputs),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(_) => break,
            }
        } else if !tty_events.is_empty() {
            break;
        }
        for input in inputs.drain(..) {
            if say.blocking_send(FromTerminal::Input(input)).is_err() {
                return;
            }
        }
    }
    let _ = say.blocking_send(FromTerminal::Gone);
}
