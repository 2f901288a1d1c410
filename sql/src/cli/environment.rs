//! What the process was started with: environment variables, and which of its three streams are terminals.
//!
//! Invariant: `main` fills it in, and nothing else reads the environment.

use std::{collections::BTreeMap, path::PathBuf};

/// The surroundings of the process.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Environment variables that are UTF-8.
    pub variables: BTreeMap<String, String>,
    /// Standard input is a terminal.
    pub stdin_is_terminal: bool,
    /// Standard output is a terminal.
    pub stdout_is_terminal: bool,
    /// Standard error is a terminal.
    pub stderr_is_terminal: bool,
}

impl Environment {
    /// A variable that is set and not empty.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether text for people may have colour.
    pub fn has_colour(&self) -> bool {
        self.variable("NO_COLOR").is_none() && self.variable("TERM") != Some("dumb")
    }

    /// The file of settings of this user.
    pub fn user_configuration(&self) -> Option<PathBuf> {
        let folder = match (self.variable("XDG_CONFIG_HOME"), self.variable("HOME"), self.variable("APPDATA")) {
            (Some(folder), ..) => PathBuf::from(folder),
            (None, Some(home), _) => PathBuf::from(home).join(".config"),
            (None, None, Some(folder)) => PathBuf::from(folder),
            (None, None, None) => return None,
        };
        Some(folder.join("headwater").join("headwater.toml"))
    }
}
