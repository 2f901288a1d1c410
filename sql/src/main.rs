//! The binary `headwater`: reads the environment, and nothing else does.

use std::{io::IsTerminal, process::ExitCode};

use headwater_sql::cli::{self, Environment};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let environment = Environment {
        variables: variables.collect(),
        stdin_is_terminal: std::io::stdin().is_terminal(),
        stdout_is_terminal: std::io::stdout().is_terminal(),
        stderr_is_terminal: std::io::stderr().is_terminal(),
    };
    ExitCode::from(cli::run(std::env::args_os(), &environment).code())
}
