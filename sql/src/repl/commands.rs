//! The backslash commands, from their text to an enum.
//!
//! Invariant: parsing does nothing; a command that is not known is refused with the nearest one.

use headwater_engine::error::{Error, Result};

use crate::{
    diagnostics::did_you_mean,
    output::{Expanded, Format},
};

/// A command of the REPL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// End.
    Quit,
    /// Show the commands.
    Help,
    /// Describe a table, or list all.
    Describe(Option<String>),
    /// List tables.
    Tables,
    /// List databases.
    Databases,
    /// List functions, or those like a pattern.
    Functions(Option<String>),
    /// Say after each statement what it did, or not; toggles if absent.
    Timing(Option<bool>),
    /// Show rows a value a line; toggles if absent.
    Expand(Option<Expanded>),
    /// Write results to a file, or to the terminal again.
    Output(Option<String>),
    /// Run the statements of a file.
    Include(String),
    /// Write results in another format.
    Format(Format),
}

/// Each command with what follows it and what it does, as `\?` shows them.
pub(super) const HELP: &[(&str, &str)] = &[
    (r"\d [TABLE]", "describe a table, or list all"),
    (r"\dt", "list tables"),
    (r"\l", "list databases"),
    (r"\df [PATTERN]", "list functions; DESCRIBE FUNCTION shows one with its example"),
    (r"\i FILE", "run the statements of a file"),
    (r"\o [FILE]", "write results to a file; without one, to the terminal again"),
    (r"\format FORMAT", "table, csv, tsv, json, ndjson or parquet (with \\o)"),
    (r"\x [on|off|auto]", "show rows a value a line; auto if the table is too wide"),
    (r"\timing [on|off]", "say after each statement what it did"),
    (r"\?", "this list (also .help)"),
    (r"\q", "end (also Ctrl-D)"),
];

/// Whether a line is a command and not SQL.
pub(super) fn is_command(line: &str) -> bool {
    let line = line.trim();
    line.starts_with('\\') || matches!(word(line), "quit" | "exit" | "help" | ".help" | ".quit" | ".exit" | ".tables")
}

fn word(line: &str) -> &str {
    line.trim_end_matches(';').trim()
}

/// Parses a line for which [`is_command`] holds.
pub(super) fn parse(line: &str) -> Result<Command> {
    let line = word(line.trim());
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = Some(rest.trim().trim_matches('\'')).filter(|rest| !rest.is_empty());
    match (name, rest) {
        (r"\q" | "quit" | "exit" | ".quit" | ".exit", None) => Ok(Command::Quit),
        (r"\?" | r"\h" | "help" | ".help", _) => Ok(Command::Help),
        (r"\d", table) => Ok(Command::Describe(table.map(str::to_owned))),
        (r"\dt" | ".tables", None) => Ok(Command::Tables),
        (r"\l", None) => Ok(Command::Databases),
        (r"\df", pattern) => Ok(Command::Functions(pattern.map(str::to_owned))),
        (r"\timing", choice) => Ok(Command::Timing(choice.map(|choice| on_or_off(name, choice)).transpose()?)),
        (r"\x", None) => Ok(Command::Expand(None)),
        (r"\x", Some("auto")) => Ok(Command::Expand(Some(Expanded::Auto))),
        (r"\x", Some(choice)) => {
            let on = on_or_off(name, choice)?;
            Ok(Command::Expand(Some(if on { Expanded::On } else { Expanded::Off })))
        }
        (r"\o", file) => Ok(Command::Output(file.map(str::to_owned))),
        (r"\i", Some(file)) => Ok(Command::Include(file.to_owned())),
        (r"\i", None) => Err(refused(r"\i needs a file")),
        (r"\format", Some(format)) => match <Format as clap::ValueEnum>::from_str(format, true) {
            Ok(format) => Ok(Command::Format(format)),
            Err(_) => Err(refused(format!("format \"{format}\" is not known"))),
        },
        (r"\format", None) => Err(refused(r"\format needs a format")),
        (r"\q" | r"\dt" | r"\l" | "quit" | "exit" | ".quit" | ".exit" | ".tables", Some(rest)) => {
            Err(refused(format!("{name} takes nothing, not \"{rest}\"")))
        }
        _ => {
            let known = HELP.iter().map(|(usage, _)| usage.split(' ').next().unwrap_or(usage));
            let error =
                did_you_mean(Error::user("INVALID_COMMAND", format!("command \"{name}\" is not known")), name, known);
            Err(if error.hint().is_some() { error } else { error.with_hint(r"\? lists the commands") })
        }
    }
}

fn on_or_off(name: &str, choice: &str) -> Result<bool> {
    match choice {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(refused(format!("{name} takes on or off, not \"{choice}\""))),
    }
}

fn refused(message: impl Into<String>) -> Error {
    Error::user("INVALID_COMMAND", message).with_hint(r"\? lists the commands")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_sql() {
        for line in [r"\q", r"  \d t", ".help", "exit", "quit;", "help"] {
            assert!(is_command(line), "{line}");
        }
        for line in ["SELECT 1;", "exit_code", "help me", ""] {
            assert!(!is_command(line), "{line}");
        }
    }

    #[test]
    fn commands_parse() {
        assert_eq!(parse(r"\d lake.events;").unwrap(), Command::Describe(Some("lake.events".into())));
        assert_eq!(parse(r"\d").unwrap(), Command::Describe(None));
        assert_eq!(parse(r"\df json*").unwrap(), Command::Functions(Some("json*".into())));
        assert_eq!(parse(r"\x").unwrap(), Command::Expand(None));
        assert_eq!(parse(r"\x auto").unwrap(), Command::Expand(Some(Expanded::Auto)));
        assert_eq!(parse(r"\timing off").unwrap(), Command::Timing(Some(false)));
        assert_eq!(parse(r"\o 'a b.csv'").unwrap(), Command::Output(Some("a b.csv".into())));
        assert_eq!(parse(r"\format NDJSON").unwrap(), Command::Format(Format::Ndjson));
        assert_eq!(parse("quit;").unwrap(), Command::Quit);
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(parse(r"\timng").unwrap_err().hint(), Some("did you mean \"\\timing\"?"));
        assert_eq!(parse(r"\i").unwrap_err().message(), r"\i needs a file");
        assert_eq!(parse(r"\x maybe").unwrap_err().message(), "\\x takes on or off, not \"maybe\"");
        assert_eq!(parse(r"\zzz").unwrap_err().hint(), Some(r"\? lists the commands"));
    }

    #[test]
    fn every_command_of_the_help_parses() {
        for (usage, _) in HELP {
            let example =
                usage.replace("[TABLE]", "t").replace("[FILE]", "f").replace("FILE", "f").replace("FORMAT", "csv");
            let example = example.replace("[on|off|auto]", "auto").replace("[on|off]", "on");
            parse(&example).unwrap();
        }
    }
}
