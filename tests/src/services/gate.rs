//! A door before a server: while it is shut, connections are taken and nothing comes of them, as with a store that hangs.
//!
//! Invariant: a byte that was held back while the door was shut passes once it is open.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// A running door.
#[derive(Debug)]
pub struct Gate {
    /// Endpoint URL.
    pub endpoint: String,
    is_shut: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Gate {
    /// Starts it, open, in front of a plain HTTP endpoint.
    pub async fn start(upstream: &str) -> Result<Self> {
        let upstream: SocketAddr = upstream.strip_prefix("http://").context("the upstream is plain HTTP")?.parse()?;
        let (is_shut, shut) = watch::channel(false);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let server = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shut = shut.clone();
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(upstream).await {
                        let ((from_client, to_client), (from_server, to_server)) =
                            (client.into_split(), server.into_split());
                        tokio::join!(pass(from_client, to_server, shut.clone()), pass(from_server, to_client, shut));
                    }
                });
            }
        });
        Ok(Self { endpoint, is_shut, server })
    }

    /// Nothing passes from now on.
    pub fn shut(&self) {
        self.is_shut.send_replace(true);
    }

    /// Everything passes again.
    pub fn open(&self) {
        self.is_shut.send_replace(false);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut shut: watch::Receiver<bool>) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if shut.wait_for(|is_shut| !is_shut).await.is_err() || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
    let _closed_already = to.shutdown().await;
}
