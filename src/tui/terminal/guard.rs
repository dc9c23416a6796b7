//! Takes the terminal and gives it back, whatever happens: on return, on panic, on a signal, before
//! it is suspended. Giving back works without knowing what was on the screen.

use std::io;
use std::sync::Mutex;

use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// The terminal's own settings, while it is ours.
static TAKEN: Mutex<Option<Termios>> = Mutex::new(None);

/// Alternate screen, cursor hidden, pastes marked.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?2004h";
/// All of it undone; mouse reports and a synchronized update too, should one be open.
const LEAVE: &[u8] = b"\x1b[?2026l\x1b[m\x1b[?1006l\x1b[?1000l\x1b[?2004l\x1b[?25h\x1b[?1049l";

/// Holds the terminal; dropping it gives it back.
pub struct Guard(());

impl Guard {
    /// Takes the terminal: raw mode, alternate screen. A panic anywhere gives it back before its
    /// message is printed.
    ///
    /// # Errors
    /// The terminal refuses.
    pub fn take() -> io::Result<Guard> {
        let own = tcgetattr(stdin())?;
        let mut raw = own.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        if let Ok(mut taken) = TAKEN.lock() {
            taken.get_or_insert(own);
        }
        write_all(ENTER)?;
        Ok(Guard(()))
    }

    /// Installs the hook that gives the terminal back before a panic is printed. Once a process.
    pub fn on_panic() {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            let print = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                give_back();
                print(info);
            }));
        });
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives the terminal back if it is ours; a second time does nothing.
pub fn give_back() {
    let own = match TAKEN.lock() {
        Ok(mut taken) => taken.take(),
        Err(poisoned) => poisoned.into_inner().take(),
    };
    if let Some(own) = own {
        // A terminal that is gone or does not read must not hold us up: what cannot be written
        // within a moment is left.
        let _ = write_in_time(LEAVE);
        let _ = tcsetattr(stdin(), OptionalActions::Now, &own);
    }
}

/// Writes to the terminal in as few calls as it takes.
pub fn write_all(mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(stdout(), bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => wait_writable(1000)?,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn write_in_time(bytes: &[u8]) -> io::Result<()> {
    wait_writable(200)?;
    write_all(bytes)
}

fn wait_writable(ms: i64) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let out = stdout();
    let mut fds = [PollFd::new(&out, PollFlags::OUT)];
    let timeout = Timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 };
    match poll(&mut fds, Some(&timeout)) {
        Ok(0) => Err(io::ErrorKind::TimedOut.into()),
        Ok(_) if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) => {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Columns and rows of the terminal; 80×24 where it does not say.
pub fn size() -> (u16, u16) {
    match rustix::termios::tcgetwinsize(stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.min(1000), size.ws_row.min(500)),
        _ => (80, 24),
    }
}
