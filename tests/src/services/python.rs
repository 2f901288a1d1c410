//! What comes from PyPI: ministack (Kinesis with fan-out, DynamoDB to Kinesis) and clients such as boto3.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use super::{Server, accepts, free_port, installed, run};

/// A Python environment with these packages, made once; returns its interpreter.
pub fn pip_environment(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let folder = installed(name, |folder| {
        run(Command::new("python3").args(["-m", "venv", "--copies"]).arg(folder.join("venv")))?;
        run(Command::new(folder.join("venv/bin/python")).args(["-m", "pip", "install", "-q"]).args(packages))?;
        Ok(())
    })?;
    Ok(folder.join("venv/bin/python"))
}

/// A running ministack.
#[derive(Debug)]
pub struct Ministack {
    /// Endpoint URL of all its services.
    pub endpoint: String,
    server: Server,
}

impl Ministack {
    /// Installs it if need be and starts it on a free port.
    pub fn start() -> Result<Self> {
        let python = pip_environment("ministack", &["ministack>=1.5"])?;
        let data = tempfile::tempdir()?;
        let port = free_port()?;
        let mut command = Command::new(python);
        command.args(["-m", "ministack"]).env("GATEWAY_PORT", port.to_string()).current_dir(data.path());
        let server = Server::spawn("ministack", &mut command, data)?;
        let mut stack = Self { endpoint: format!("http://127.0.0.1:{port}"), server };
        stack.server.wait_until("ministack", || accepts(port))?;
        Ok(stack)
    }
}
