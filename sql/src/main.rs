//! The binary `headwater`: reads the command line and the environment, and nothing else does.

use std::{path::PathBuf, process::ExitCode};

use arrow::util::pretty::pretty_format_batches;
use clap::Parser;
use futures::TryStreamExt;
use headwater_sql::session::{Outcome, Session, SessionConfig};

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
    state: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let session = Session::open(SessionConfig { state: args.state }).await?;
    let Some(sql) = args.command else { return Ok(()) };
    match session.execute(&sql).await? {
        Outcome::Rows { stream, .. } => {
            let batches: Vec<_> = stream.try_collect().await?;
            println!("{}", pretty_format_batches(&batches)?);
        }
        Outcome::Done { .. } => {}
    }
    Ok(())
}
