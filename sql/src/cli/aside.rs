//! What is said on standard error beside results: messages and logs, each in the place of a line that may be there.
//!
//! Invariant: what is written here begins at the start of an empty line; the status line comes back below it by itself.

use std::io::{self, IsTerminal, Write};

/// Back to the start of the line, and away with what is on it.
pub(crate) const CLEAR: &str = "\r\u{1b}[K";

/// Writes a line for the user to standard error; if nobody listens there, it is lost.
pub(crate) fn tell(message: &str) {
    let _ = Aside.write_all(format!("{message}\n").as_bytes());
}

/// Standard error, where each write is a whole line or more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aside;

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut out = io::stderr().lock();
        if out.is_terminal() {
            out.write_all(CLEAR.as_bytes())?;
        }
        out.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
