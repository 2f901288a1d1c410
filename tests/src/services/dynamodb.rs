//! DynamoDB Local: tables and their streams on one port.

use std::process::Command;

use anyhow::Result;

use super::{Server, accepts, free_port, installed, maven};

/// A running DynamoDB with streams.
#[derive(Debug)]
pub struct DynamoDbLocal {
    /// Endpoint URL of tables and streams.
    pub endpoint: String,
    server: Server,
}

impl DynamoDbLocal {
    /// Installs it if need be and starts it in memory.
    pub fn start() -> Result<Self> {
        let folder = installed("dynamodb-local-3.0.0", |folder| {
            maven(folder, &[("software.amazon.dynamodb", "DynamoDBLocal", "3.0.0")])
        })?;
        let data = tempfile::tempdir()?;
        let port = free_port()?;
        let library = folder.join("lib");
        let mut command = Command::new("java");
        command
            .current_dir(data.path())
            .args(["-Xmx512m", &format!("-Djava.library.path={}", library.display()), "-cp"])
            .arg(library.join("*"))
            .args([
                "software.amazon.dynamodb.services.local.main.ServerRunner",
                "-inMemory",
                "-port",
                &port.to_string(),
            ]);
        let server = Server::spawn("dynamodb", &mut command, data)?;
        let mut local = Self { endpoint: format!("http://127.0.0.1:{port}"), server };
        local.server.wait_until("dynamodb", || accepts(port))?;
        Ok(local)
    }
}
