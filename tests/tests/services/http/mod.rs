//! The HTTP listener with the clients people have, and at its limits: signatures, sizes, TLS, throttling, a process that is
//! killed, a store that hangs.
//!
//! Invariant: what is said here of SDKs is said by boto3 itself, unchanged but for its endpoint.

mod callers;
mod clients;
mod crashes;
mod encryption;
mod limits;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, ensure};
use headwater_tests::{
    http::listening,
    scripts::{self, RunningJob, Until},
    services::{free_port, pip_environment},
};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_headwater-under-test");

/// Runs a Python program with boto3; what it printed.
async fn python(folder: &Path, program: &str, arguments: &[&str]) -> Result<String> {
    let python = pip_environment("boto3", &["boto3"])?;
    let script = folder.join(format!("client-{}.py", rand::random::<u32>()));
    std::fs::write(&script, program)?;
    let mut command = Command::new(python);
    command.arg(script).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(said.trim().to_owned())
}

fn numbers(out: &Path) -> Result<Vec<u64>> {
    let number = |line: &String| Ok(serde_json::from_str::<Value>(line)?["n"].as_u64().unwrap_or(u64::MAX));
    let mut numbers = scripts::lines(out)?.iter().map(number).collect::<Result<Vec<u64>>>()?;
    numbers.sort_unstable();
    Ok(numbers)
}

/// Folders of a job and its output.
struct Place {
    folder: tempfile::TempDir,
    port: u16,
}

impl Place {
    fn new() -> Result<Self> {
        let (folder, port) = (tempfile::tempdir()?, free_port()?);
        std::fs::create_dir_all(folder.path().join("out"))?;
        Ok(Self { folder, port })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A job with a listener of these options, which listens.
    async fn listener(&self, options: &str) -> Result<RunningJob> {
        let mut job = scripts::start(&self.script(options), &[], &self.path("state"), Until::Stopped).await?;
        listening(&mut job, self.port).await?;
        Ok(job)
    }

    /// Runs a Python program with the port, and what else it is told; what it printed.
    async fn client(&self, program: &str, more: &[&str]) -> Result<String> {
        let port = self.port.to_string();
        python(self.folder.path(), program, &[&[port.as_str()], more].concat()).await
    }

    /// The numbers that have arrived, ascending.
    fn arrived(&self) -> Result<Vec<u64>> {
        numbers(&self.path("out"))
    }

    /// Waits until another process listens.
    async fn reached(&self) -> Result<()> {
        for _ in 0..1200 {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("nothing listens on {}", self.port)
    }

    /// A script with a listener of these options, and a folder of JSON lines.
    fn script(&self, options: &str) -> String {
        format!(
            "CREATE TABLE events (n BIGINT) WITH ('connector' = 'http', 'listen' = '127.0.0.1:{}', 'stream' = 's',
                                                  'path' = '/events', 'format' = 'json'{options});
             CREATE TABLE kept (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
             INSERT INTO kept SELECT n FROM events;",
            self.port,
            self.path("out").display()
        )
    }
}
