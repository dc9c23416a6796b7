//! Standard output and standard error of the subcommands. Who reads them may leave (`foreshift check | head -1`):
//! what is said after that goes nowhere, and the command ends as it would have. `println!` panics then, and the
//! default of SIGPIPE would also end a process whose socket was closed, in the middle of a migration.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::Mutex;

/// Why standard output could not be written, where somebody still reads it (a full disk).
static FAILED: Mutex<Option<String>> = Mutex::new(None);

/// A line on standard output.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::out::part(format_args!("{}\n", format_args!($($text)*))) };
}

/// Text on standard output, without an end of line.
macro_rules! say_part {
    ($($text:tt)*) => { $crate::cli::out::part(format_args!($($text)*)) };
}

/// A line on standard error.
macro_rules! note {
    ($($text:tt)*) => { $crate::cli::out::note(format_args!("{}\n", format_args!($($text)*))) };
}

/// Text on standard error, without an end of line.
macro_rules! note_part {
    ($($text:tt)*) => { $crate::cli::out::note(format_args!($($text)*)) };
}

/// Writes to standard output; what went wrong is known to [`failed`].
pub(super) fn part(text: Arguments<'_>) {
    if let Err(error) = Out.write_fmt(text).and_then(|()| Out.flush())
        && let Ok(mut failed) = FAILED.lock()
    {
        failed.get_or_insert_with(|| error.to_string());
    }
}

/// Writes to standard error; where that cannot be done nobody can be told.
pub(super) fn note(text: Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(text);
}

/// Why not all that was said stands on standard output, where somebody still reads it.
pub(super) fn failed() -> Option<String> {
    FAILED.lock().ok().and_then(|mut failed| failed.take())
}

/// Standard output as a writer, to which a reader that has left is no error.
pub(super) struct Out;

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match io::stdout().lock().write(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(bytes.len()),
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match io::stdout().lock().flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            flushed => flushed,
        }
    }
}
