//! kinesis-local: streams, shards, splits and merges; its fan-out is not usable with the AWS SDKs.

use std::{fs, process::Command};

use anyhow::Result;

use super::{Server, accepts, free_port, installed, run};

/// A running Kinesis.
#[derive(Debug)]
pub struct KinesisLocal {
    /// Endpoint URL (plain HTTP).
    pub endpoint: String,
    server: Server,
}

impl KinesisLocal {
    /// Installs it if need be and starts it on free ports.
    pub fn start() -> Result<Self> {
        let folder = installed("kinesis-local-0.6.2", |folder| {
            fs::write(folder.join("package.json"), "{\"private\": true}")?;
            run(Command::new("npm").args(["install", "--silent", "kinesis-local@0.6.2"]).current_dir(folder))?;
            Ok(())
        })?;
        let data = tempfile::tempdir()?;
        let (plain, tls) = (free_port()?, free_port()?);
        let package = folder.join("node_modules").join("kinesis-local");
        let mut command = Command::new("node");
        command
            .arg(package.join("main.js"))
            .env("KINESIS_MOCK_CERT_PATH", package.join("server.json"))
            .env("KINESIS_MOCK_PLAIN_PORT", plain.to_string())
            .env("KINESIS_MOCK_TLS_PORT", tls.to_string())
            .current_dir(data.path());
        let server = Server::spawn("kinesis", &mut command, data)?;
        let mut local = Self { endpoint: format!("http://127.0.0.1:{plain}"), server };
        local.server.wait_until("kinesis", || accepts(plain))?;
        Ok(local)
    }
}
