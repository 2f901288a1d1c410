//! The command line for tests that start, kill and restart it; the real binary is out of their reach.

use std::{collections::BTreeMap, io::IsTerminal, process::ExitCode};

use headwater_sql::cli::{self, Environment};

fn main() -> ExitCode {
    let variables = std::env::vars().collect::<BTreeMap<_, _>>();
    let environment = Environment {
        variables,
        stdin_is_terminal: std::io::stdin().is_terminal(),
        stdout_is_terminal: std::io::stdout().is_terminal(),
        stderr_is_terminal: std::io::stderr().is_terminal(),
    };
    ExitCode::from(cli::run(std::env::args_os(), &environment).code())
}
