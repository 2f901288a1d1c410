//! Random relational queries that DuckDB answers too.
//!
//! Invariant: the seed is fixed, so that a run fails for what was changed and not by chance.

use std::{path::Path, process::Command};

use anyhow::{Result, ensure};
use headwater_tests::services::pip_environment;

const BINARY: &str = env!("CARGO_BIN_EXE_headwater-under-test");

#[tokio::test(flavor = "multi_thread")]
async fn random_relations_are_those_of_duckdb() -> Result<()> {
    let python = pip_environment("duckdb", &["duckdb==2.0.0"])?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("trino/random_relations.py");
    let mut command = Command::new(python);
    command.arg(script).args([BINARY, "--seed", "1", "--count", "300"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
