//! The command line for tests that start, kill and restart it; the real binary is out of their reach.

use std::{collections::BTreeMap, process::ExitCode};

use headwater_sql::cli::{self, Environment};

fn main() -> ExitCode {
    let variables = std::env::vars().collect::<BTreeMap<_, _>>();
    let environment = Environment { variables, ..Environment::default() };
    ExitCode::from(cli::run(std::env::args_os(), &environment).code())
}
