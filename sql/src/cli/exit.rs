//! How a command ended, and the number the shell sees.
//!
//! Invariant: a closed pipe is no failure: whoever read us had enough.

use std::io;

use headwater_engine::error::{Error, ErrorKind};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Done,
    /// A statement failed, or warned under `--strict`.
    Failed,
    /// The command line is wrong.
    Usage,
    /// Another process took the job over.
    Fenced,
    /// The user stopped it.
    Interrupted,
}

impl Exit {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Fenced => 3,
            Self::Interrupted => 130,
        }
    }
}

/// Why a command stopped early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A statement or file is at fault.
    Error(Error),
    /// The command line asks for what cannot be.
    Usage(String),
    /// Whoever read the output had enough.
    PipeClosed,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<io::Error> for Failure {
    /// A failure to write the output.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::Error(Error::from(error).context("output")),
        }
    }
}

impl Failure {
    /// Tells the user, and gives the exit code.
    pub(crate) fn report(&self) -> Exit {
        match self {
            Self::Error(error) => {
                super::tell(&crate::diagnostics::render(error));
                match error.kind() {
                    ErrorKind::Fenced => Exit::Fenced,
                    ErrorKind::Cancelled => Exit::Interrupted,
                    _ => Exit::Failed,
                }
            }
            Self::Usage(message) => {
                super::tell(&format!("error: {message}\n\nFor more information, try '--help'."));
                Exit::Usage
            }
            Self::PipeClosed => Exit::Done,
        }
    }
}
