//! A running job as it shows itself: a line on the terminal, Prometheus metrics, health.
//!
//! Invariant: reading changes nothing; the line is written only to a terminal and taken away at the end.

use std::{
    convert::Infallible,
    io::{self, Write},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use headwater_engine::{
    checkpoint::manifest::Manifest,
    error::{Error, Result},
    metrics::{JobMetrics, Sample},
    time::{Clock, Instant, SystemClock, Watermark},
};
use tokio::{net::TcpListener, sync::watch};

use super::{aside::CLEAR, report, tell};

mod prometheus;

/// Time between two states of the line.
const TICK: Duration = Duration::from_secs(1);
/// A split that holds windows for so long is named.
const HOLDS_LONG: Duration = Duration::from_secs(60);

/// A job that runs in this process.
#[derive(Debug, Clone)]
pub(super) struct JobView {
    pub(super) job: String,
    pub(super) metrics: Arc<JobMetrics>,
    /// The newest committed checkpoint of this process.
    pub(super) newest: watch::Receiver<Option<Arc<Manifest>>>,
    pub(super) started: Instant,
    pub(super) interval: Duration,
}

/// Takes the line away when the job ends, however it does.
struct Line;

impl Drop for Line {
    fn drop(&mut self) {
        write(CLEAR);
    }
}

/// A terminal that does not take the line does without.
fn write(text: &str) {
    let mut terminal = io::stderr().lock();
    let _ = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
}

/// Keeps the line up to date; never ends.
pub(super) async fn line(watched: JobView, wanted: bool) -> Infallible {
    if !wanted {
        return std::future::pending().await;
    }
    let _line = Line;
    let (mut before, mut at) = (watched.metrics.sample(), SystemClock.now());
    loop {
        tokio::time::sleep(TICK).await;
        let (sample, now) = (watched.metrics.sample(), SystemClock.now());
        let text = text(&watched, &before, &sample, (at, now));
        // A terminal that does not know its width says 0.
        let width = crossterm::terminal::size().ok().filter(|(columns, _)| *columns > 0);
        let width = width.map_or(120, |(columns, _)| usize::from(columns));
        write(&format!("{CLEAR}{}", text.chars().take(width.saturating_sub(1)).collect::<String>()));
        (before, at) = (sample, now);
    }
}

fn text(watched: &JobView, before: &Sample, sample: &Sample, (at, now): (Instant, Instant)) -> String {
    let millis = u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = |after: u64, before: u64| report::grouped(after.saturating_sub(before).saturating_mul(1000) / millis);
    let mut parts = vec![
        format!("in {}/s", rate(sample.rows_read(), before.rows_read())),
        format!("out {}/s", rate(sample.rows_written(), before.rows_written())),
    ];
    let least = sample.holders().map(|(_, _, split)| split.watermark).min();
    if let Some(watermark) = least.filter(|at| *at > Watermark::MIN && *at < Watermark::MAX) {
        let behind = Duration::from_micros(u64::try_from(now.micros().saturating_sub(watermark.0)).unwrap_or(0));
        parts.push(format!("watermark {} behind", report::duration(behind)));
    }
    if let Some(lag) = sample.lag() {
        parts.push(format!("lag {}", report::grouped(lag)));
    }
    match &*watched.newest.borrow() {
        Some(newest) => {
            let took = newest.at.since(newest.started);
            let ago = report::duration(now.since(newest.at));
            parts.push(format!("checkpoint {} {ago} ago in {}", newest.epoch.0, report::duration(took)));
        }
        None => parts.push("no checkpoint yet".to_owned()),
    }
    if sample.attempts > 1 {
        parts.push(format!("attempt {}", sample.attempts));
    }
    parts.extend(slow_split(sample, now));
    format!("{}: {}", watched.job, parts.join(", "))
}

/// The split that has held windows for a minute.
fn slow_split(sample: &Sample, now: Instant) -> Option<String> {
    let is_slow = |since: Instant| now.since(since) >= HOLDS_LONG;
    let slow = sample.holders().filter_map(|(table, id, split)| Some((table, id, split.advanced?)));
    let (table, id, since) = slow.filter(|(.., since)| is_slow(*since)).min_by_key(|(.., since)| *since)?;
    Some(format!("{table} {id} holds windows since {}", report::duration(now.since(since))))
}

/// What listens for Prometheus.
pub(super) async fn listen(address: Option<SocketAddr>) -> Result<Option<TcpListener>> {
    let Some(address) = address else { return Ok(None) };
    if !address.ip().is_loopback() {
        tell(&format!(
            "warning: --metrics {address} answers everybody who reaches this machine, without credentials: table and \
             split names, counts; 127.0.0.1:{} answers this machine alone",
            address.port()
        ));
    }
    let bound = TcpListener::bind(address).await;
    bound.map(Some).map_err(|error| Error::from(error).context(format!("--metrics {address}")))
}

/// Answers `/metrics` and `/healthz`; never ends by itself.
pub(super) async fn serve(listener: Option<TcpListener>, watched: JobView) -> Result<Infallible> {
    let Some(listener) = listener else { return std::future::pending().await };
    let metrics = watched.clone();
    let router = axum::Router::new()
        .route(
            "/metrics",
            axum::routing::get(move || {
                let text = prometheus::text(&metrics, SystemClock.now());
                async move { ([("content-type", "text/plain; version=0.0.4")], text) }
            }),
        )
        .route(
            "/healthz",
            axum::routing::get(move || {
                let answer = health(&watched, SystemClock.now());
                async move { answer }
            }),
        );
    axum::serve(listener, router).await?;
    Err(Error::internal("the metrics server ended"))
}

/// Healthy while checkpoints are committed about as often as they should be.
fn health(watched: &JobView, now: Instant) -> (axum::http::StatusCode, String) {
    use axum::http::StatusCode;
    let last = watched.newest.borrow().as_ref().map_or(watched.started, |newest| newest.at);
    let limit = (watched.interval * 3).max(Duration::from_secs(60));
    let age = now.since(last);
    if age <= limit {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let text = format!("no checkpoint for {}, {} attempts\n", report::duration(age), watched.metrics.sample().attempts);
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> JobView {
        let (_sender, newest) = watch::channel(None);
        let started = Instant(1_000_000);
        JobView { job: "j".into(), metrics: Arc::default(), newest, started, interval: Duration::from_secs(10) }
    }

    #[test]
    fn a_job_without_a_checkpoint_for_long_is_not_healthy() {
        let watched = watched();
        assert_eq!(health(&watched, Instant(1_060_000)).0, axum::http::StatusCode::OK);
        let (code, text) = health(&watched, Instant(1_061_000));
        assert_eq!(code, axum::http::StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.starts_with("no checkpoint for"), "{text}");
    }

    #[test]
    fn the_line_says_rates_and_that_there_is_no_checkpoint() {
        let watched = watched();
        let sample = watched.metrics.sample();
        let line = text(&watched, &sample, &sample, (Instant(0), Instant(1000)));
        assert_eq!(line, "j: in 0/s, out 0/s, lag 0, no checkpoint yet");
    }
}
