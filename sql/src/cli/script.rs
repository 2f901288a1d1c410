//! Query files read one after another as one script, and the way back from a line of it to the file that it is in.
//!
//! Invariant: a statement ends with its file; the place of an error is one of the file that the user wrote.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use headwater_engine::error::{Error, Location};

use super::exit::Failure;

/// What stands between two files: after the last line of one, which may be a comment; a statement may be empty.
const BETWEEN: &str = "\n;\n";

/// The text of some files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    /// All of it.
    pub(crate) text: String,
    /// The line that each of several files begins at, counted from 1, and its name.
    starts: Vec<(u64, String)>,
}

impl Script {
    /// A text that is no file's.
    pub(crate) fn of_text(text: impl Into<String>) -> Self {
        Self { text: text.into(), starts: Vec::new() }
    }

    /// Reads the files, `-` being standard input.
    pub(crate) fn read(files: &[PathBuf]) -> Result<Self, Failure> {
        let mut script = Self::default();
        for (index, file) in files.iter().enumerate() {
            if index > 0 {
                script.text.push_str(BETWEEN);
            }
            if files.len() > 1 {
                let line = 1 + script.text.matches('\n').count() as u64;
                script.starts.push((line, file.display().to_string()));
            }
            script.text += &read_file(file)?;
        }
        Ok(script)
    }

    /// A failure with its place in the file it is in, if there are several.
    pub(crate) fn placed(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Error(error) => Failure::Error(match self.place_of(&error) {
                Some((file, location)) => error.in_file(file, location),
                None => error,
            }),
            Failure::Usage(_) | Failure::PipeClosed => failure,
        }
    }

    fn place_of(&self, error: &Error) -> Option<(&str, Location)> {
        let Location { line, column } = error.location()?;
        let (start, file) = self.starts.iter().rev().find(|(start, _)| *start <= line)?;
        Some((file, Location { line: line - start + 1, column }))
    }
}

/// The text of a file, `-` being standard input.
pub(crate) fn read_file(file: &Path) -> Result<String, Failure> {
    let text = if file == Path::new("-") { standard_input() } else { fs::read_to_string(file) };
    text.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Error::user("NOT_FOUND", format!("file \"{}\" does not exist", file.display())).into()
        }
        io::ErrorKind::InvalidData => {
            Error::user("INVALID_ENCODING", format!("file \"{}\" is not UTF-8 text", file.display())).into()
        }
        _ => Error::from(error).context(file.display()).into(),
    })
}

fn standard_input() -> io::Result<String> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    Ok(text)
}
