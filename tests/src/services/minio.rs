//! MinIO: S3 with multipart uploads, conditional puts, encryption and bucket policies.

use std::process::Command;

use anyhow::Result;
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Server, accepts, free_port, installed, run};

/// A running S3 server.
#[derive(Debug)]
pub struct Minio {
    /// Endpoint URL.
    pub endpoint: String,
    /// Access key id of its root user.
    pub access_key: String,
    /// Secret key of its root user.
    pub secret_key: String,
    server: Server,
}

impl Minio {
    /// Installs MinIO if need be and starts it with an encryption key, so that SSE answers.
    pub fn start() -> Result<Self> {
        let folder = installed("minio", |folder| {
            run(Command::new("go").args(["install", "github.com/minio/minio@latest"]).env("GOBIN", folder))?;
            Ok(())
        })?;
        let data = tempfile::tempdir()?;
        let port = free_port()?;
        let console = free_port()?;
        let (access_key, secret_key) = ("headwatertests".to_owned(), format!("{:032x}", rand::random::<u128>()));
        let kms = format!("tests:{}", STANDARD.encode(rand::random::<[u8; 32]>()));
        let mut command = Command::new(folder.join("minio"));
        command
            .args([
                "server",
                "--address",
                &format!("127.0.0.1:{port}"),
                "--console-address",
                &format!("127.0.0.1:{console}"),
            ])
            .arg(data.path().join("disk"))
            .env("MINIO_ROOT_USER", &access_key)
            .env("MINIO_ROOT_PASSWORD", &secret_key)
            .env("MINIO_KMS_SECRET_KEY", kms);
        let server = Server::spawn("minio", &mut command, data)?;
        let mut minio = Self { endpoint: format!("http://127.0.0.1:{port}"), access_key, secret_key, server };
        minio.server.wait_until("minio", || accepts(port))?;
        Ok(minio)
    }

    /// Makes an empty bucket; MinIO takes a folder on its disk for one.
    pub fn create_bucket(&self, name: &str) -> Result<()> {
        std::fs::create_dir_all(self.server.data().join("disk").join(name))?;
        Ok(())
    }
}
