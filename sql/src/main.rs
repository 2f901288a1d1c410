//! The binary `headwater`: reads the command line and the environment, and nothing else does.

use std::process::ExitCode;

use arrow::util::pretty::pretty_format_batches;
use clap::Parser;
use futures::TryStreamExt;
use headwater_engine::error::Error;
use headwater_sql::{
    diagnostics,
    session::{Outcome, Session, SessionConfig},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One SQL for the lake and for the streams that feed it.
#[derive(Debug, Parser)]
#[command(name = "headwater", version)]
struct Args {
    /// Statements to run.
    #[arg(short = 'c', value_name = "SQL")]
    command: Option<String>,
    /// Directory of catalog, checkpoints and history.
    #[arg(long, default_value = ".headwater")]
    state: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match error.downcast_ref::<Error>() {
                Some(error) => eprintln!("{}", diagnostics::render(error)),
                None => eprintln!("{error}"),
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let session = Session::open(SessionConfig::in_directory(args.state)).await?;
    let Some(sql) = args.command else { return Ok(()) };
    for statement in session.parse(&sql)? {
        match session.execute(&statement).await? {
            Outcome::Rows { stream, .. } => {
                let batches: Vec<_> = stream.try_collect().await.map_err(diagnostics::classify)?;
                println!("{}", pretty_format_batches(&batches)?);
            }
            Outcome::Done { .. } => {}
        }
    }
    Ok(())
}
