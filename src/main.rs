//! Parses the command line, dispatches, sets the exit code; nothing else.

fn main() {}
