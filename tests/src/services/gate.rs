//! A door before a server: while it is shut, connections are taken and nothing comes of them, as with a store that hangs;
//! and connections can be frozen for ever, as one whose peer is gone without a word.
//!
//! Invariant: a byte that was held back while the door was shut passes once it is open, but none of a frozen connection.

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
    frozen: watch::Sender<u64>,
    server: JoinHandle<()>,
}

impl Gate {
    /// Starts it, open, in front of a plain HTTP endpoint.
    pub async fn start(upstream: &str) -> Result<Self> {
        let upstream: SocketAddr = upstream.strip_prefix("http://").context("the upstream is plain HTTP")?.parse()?;
        let (is_shut, shut) = watch::channel(false);
        let (frozen, first_alive) = watch::channel(0);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let server = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let door = Door { shut: shut.clone(), first_alive: first_alive.clone(), number: *first_alive.borrow() };
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(upstream).await {
                        let ((from_client, to_client), (from_server, to_server)) =
                            (client.into_split(), server.into_split());
                        tokio::join!(pass(from_client, to_server, door.clone()), pass(from_server, to_client, door));
                    }
                });
            }
        });
        Ok(Self { endpoint, is_shut, frozen, server })
    }

    /// Nothing passes from now on.
    pub fn shut(&self) {
        self.is_shut.send_replace(true);
    }

    /// Nothing more passes on the connections there are; new ones are as before.
    pub fn freeze(&self) {
        self.frozen.send_modify(|first_alive| *first_alive += 1);
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

/// What a connection asks before it passes a byte.
#[derive(Debug, Clone)]
struct Door {
    shut: watch::Receiver<bool>,
    first_alive: watch::Receiver<u64>,
    number: u64,
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut door: Door) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if door.shut.wait_for(|is_shut| !is_shut).await.is_err() {
            return;
        }
        if *door.first_alive.borrow() > door.number {
            let _gate_gone = door.first_alive.wait_for(|_| false).await;
            return;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
    let _closed_already = to.shutdown().await;
}
