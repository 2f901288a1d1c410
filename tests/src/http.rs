//! The least client that a listener can be asked with: one request, one connection.
//!
//! Invariant: the whole body is sent before the answer is read, as most clients do it.

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::scripts::RunningJob;

/// Status and body of the answer to a request.
pub async fn request(
    port: u16,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no answer: {answer}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.with_context(|| format!("no status: {head}"))?, body.to_owned()))
}

/// Sends lines to a path; they must be accepted.
pub async fn post(port: u16, path: &str, lines: &str) -> Result<()> {
    let (status, answer) = request(port, ("POST", path), &[], lines.as_bytes()).await?;
    anyhow::ensure!(status == 200, "{status}: {answer}");
    Ok(())
}

/// Waits until the listener of a job takes connections.
pub async fn listening(job: &mut RunningJob, port: u16) -> Result<()> {
    for _ in 0..600 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Ok(());
        }
        anyhow::ensure!(job.is_running().await?, "the job has ended");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    anyhow::bail!("nothing listens on {port}")
}
