//! Random queries of streams: as jobs they have the rows of the batch query.
//!
//! Invariant: the seed is fixed, so that a run fails for what was changed and not by chance.

use std::{path::Path, process::Command};

use anyhow::{Result, ensure};

const BINARY: &str = env!("CARGO_BIN_EXE_headwater-under-test");

#[tokio::test(flavor = "multi_thread")]
async fn random_jobs_have_the_rows_of_their_batch_queries() -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("streaming/random_jobs.py");
    let mut command = Command::new("python3");
    command.arg(script).args([BINARY, "--seed", "1", "--sets", "8"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
