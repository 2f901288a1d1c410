//! The binary `headwater`: reads the environment, and nothing else does.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

use headwater_sql::{
    cli::{self, Environment},
    parser::depth::STACK_BYTES,
};

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
    // Scripts are parsed here; what nests deep takes more stack than the first thread of a process has.
    let run = move || cli::run(std::env::args_os(), &environment).code();
    match std::thread::Builder::new().stack_size(STACK_BYTES).spawn(run) {
        // A panic has said on standard error what it was.
        Ok(running) => running.join().map_or(ExitCode::FAILURE, ExitCode::from),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: no thread of {STACK_BYTES} bytes of stack: {error}");
            ExitCode::FAILURE
        }
    }
}
