//! MinIO: S3 with multipart uploads, conditional puts, encryption and bucket policies.

use std::{path::PathBuf, process::Command};

use anyhow::Result;
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Server, accepts, free_port, installed, python::pip_environment, run};

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
