//! The terminal as an output: short results are printed, long ones go through a pager.
//!
//! Invariant: at most one screen of text waits here; the pager starts with the first line that does not fit, and has the
//! terminal until the user leaves it.

use std::{
    io::{self, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::cli::runner::Target;

/// The pager unless the user chose one: chop long lines, keep colours, leave the text on the screen.
const PAGER: &str = "less -SRX";

/// Writes to the terminal, through a pager if need be.
#[derive(Debug)]
pub(super) struct Screen {
    waiting: Vec<u8>,
    lines: usize,
    lines_max: usize,
    pager: Option<String>,
    input: Option<ChildStdin>,
    pagers: Pagers,
}

/// The pager that has the terminal, if one has: it must end before anything else reads there.
#[derive(Debug, Clone, Default)]
pub(super) struct Pagers(Arc<Mutex<Option<Child>>>);

impl Pagers {
    /// Waits until the user has left the pager.
    pub(super) fn left(&self) {
        let mut child = self.0.lock();
        // Whoever else waits, waits for the lock.
        if let Some(child) = child.as_mut() {
            let _ = child.wait();
        }
        *child = None;
    }
}

impl Screen {
    /// A screen of so many lines. An empty pager means none.
    pub(super) fn new(lines_max: usize, pager: Option<&str>, pagers: Pagers) -> Self {
        let pager = Some(pager.unwrap_or(PAGER)).filter(|pager| !pager.trim().is_empty()).map(str::to_owned);
        Self { waiting: Vec::new(), lines: 0, lines_max, pager, input: None, pagers }
    }

    /// Where text goes once it does not fit: a pager, or the terminal if there is none.
    fn overflow(&mut self) -> io::Result<()> {
        if let Some((child, input)) = self.pager.as_deref().and_then(|pager| start(pager).ok()) {
            *self.pagers.0.lock() = Some(child);
            self.input = Some(input);
        }
        let waiting = std::mem::take(&mut self.waiting);
        self.pass(&waiting)
    }

    fn pass(&mut self, text: &[u8]) -> io::Result<()> {
        match &mut self.input {
            Some(input) => input.write_all(text),
            None => io::stdout().write_all(text),
        }
    }
}

fn start(pager: &str) -> io::Result<(Child, ChildStdin)> {
    let mut words = pager.split_whitespace();
    let program = words.next().ok_or(io::ErrorKind::NotFound)?;
    let mut child = Command::new(program).args(words).stdin(Stdio::piped()).spawn()?;
    let input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok((child, input))
}

impl Write for Screen {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let over = self.lines > self.lines_max;
        self.lines += text.iter().filter(|byte| **byte == b'\n').count();
        if over {
            self.pass(text)?;
        } else {
            self.waiting.extend_from_slice(text);
            if self.lines > self.lines_max {
                self.overflow()?;
            }
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        self.pass(&waiting)?;
        match &mut self.input {
            Some(input) => input.flush(),
            None => io::stdout().flush(),
        }
    }
}

impl Target for Screen {
    /// The user leaves the pager before the next thing is shown, and another result has a screen of its own.
    fn end_of_result(&mut self) -> io::Result<()> {
        self.flush()?;
        self.input = None;
        self.lines = 0;
        self.pagers.left();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_does_not_fit_goes_through_the_pager() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let pager = format!("tee {}", file.path().display());
        let pagers = Pagers::default();
        let mut screen = Screen::new(3, Some(&pager), pagers.clone());
        screen.write_all(b"1\n2\n3\n").unwrap();
        assert!(screen.input.is_none());
        screen.write_all(b"4\n5\n").unwrap();
        assert!(screen.input.is_some());
        screen.end_of_result().unwrap();
        assert!(pagers.0.lock().is_none(), "the pager has ended before more is said");
        assert_eq!(std::fs::read(file.path()).unwrap(), b"1\n2\n3\n4\n5\n");
        screen.write_all(b"6\n7\n8\n").unwrap();
        assert!(screen.input.is_none(), "the next result has a screen of its own");
        screen.write_all(b"9\n").unwrap();
        screen.end_of_result().unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), b"6\n7\n8\n9\n");
    }

    #[test]
    fn a_pager_that_does_not_exist_is_done_without() {
        let mut screen = Screen::new(0, Some("/nonexistent/pager"), Pagers::default());
        screen.write_all(b"").unwrap();
        screen.write_all(b"\n").unwrap();
        assert!(screen.input.is_none() && screen.waiting.is_empty());
    }
}
