//! MinIO: S3 with multipart uploads, conditional puts, encryption and bucket policies.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::Command,
};

use anyhow::Result;
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Server, free_port, installed, python::pip_environment, run};

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
    command: Command,
    port: u16,
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
        let endpoint = format!("http://127.0.0.1:{port}");
        let mut minio = Self { endpoint, access_key, secret_key, server, command, port };
        minio.server.wait_until("minio", || is_ready(port))?;
        Ok(minio)
    }

    /// Stops it at once; [`Minio::restart`] starts it again.
    pub fn stop(&mut self) -> Result<()> {
        self.server.kill()
    }

    /// Starts it again on its port and disk.
    pub fn restart(&mut self) -> Result<()> {
        self.server.kill()?;
        self.server.child = self.command.spawn()?;
        let port = self.port;
        self.server.wait_until("minio", || is_ready(port))
    }

    /// Lets it hang: connections are taken, and nothing is answered.
    pub fn freeze(&self) -> Result<()> {
        self.signal("-STOP")
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal("-CONT")
    }

    fn signal(&self, signal: &str) -> Result<()> {
        run(Command::new("kill").args([signal, &self.server.child.id().to_string()])).map(drop)
    }

    /// Makes an empty bucket; MinIO takes a folder on its disk for one.
    pub fn create_bucket(&self, name: &str) -> Result<()> {
        std::fs::create_dir_all(self.folder(name))?;
        Ok(())
    }

    /// Where a bucket is on its disk; an object is a folder there.
    pub fn folder(&self, bucket: &str) -> PathBuf {
        self.server.data().join("disk").join(bucket)
    }

    /// Runs Python with a client of S3 called `s3` and gives what it printed, line by line.
    pub fn client(&self, code: &str) -> Result<Vec<String>> {
        let python = pip_environment("boto3", &["boto3>=1.40"])?;
        let setup = format!(
            "import boto3, json\ns3 = boto3.client('s3', endpoint_url='{}', aws_access_key_id='{}', \
             aws_secret_access_key='{}', region_name='us-east-1')\n",
            self.endpoint, self.access_key, self.secret_key
        );
        Ok(run(Command::new(python).arg("-c").arg(setup + code))?.lines().map(ToOwned::to_owned).collect())
    }

    /// The keys of objects of a bucket below a prefix.
    pub fn keys(&self, bucket: &str, prefix: &str) -> Result<Vec<String>> {
        self.client(&format!(
            "for page in s3.get_paginator('list_objects_v2').paginate(Bucket='{bucket}', Prefix='{prefix}'):\n    \
             for found in page.get('Contents', []):\n        print(found['Key'])"
        ))
    }

    /// How many multipart uploads of a bucket are neither completed nor aborted.
    pub fn open_uploads(&self, bucket: &str) -> Result<usize> {
        let printed = self.client(&format!(
            "for page in s3.get_paginator('list_multipart_uploads').paginate(Bucket='{bucket}'):\n    \
             for found in page.get('Uploads', []):\n        print(found['Key'])"
        ))?;
        Ok(printed.len())
    }
}

/// Whether it answers that it takes requests.
fn is_ready(port: u16) -> bool {
    let asked = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"GET /minio/health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    asked().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
