//! A proxy in front of a JSON service of AWS that throttles, loses replies and leaves items unprocessed.
//!
//! Invariant: it forwards a request whole or not at all, except for what it was told to leave unprocessed.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is forwarded.
    Pass,
    /// It is answered with `ProvisionedThroughputExceededException`.
    Throttle,
    /// Of a BatchWriteItem the first half is forwarded and the rest is unprocessed.
    Half,
    /// It is forwarded, and the answer is a 500.
    LoseReply,
    /// It is forwarded, and never answered.
    Hold,
    /// It is answered with this error.
    Refuse(&'static str),
}

type Decide = dyn Fn(&str, u64) -> Verdict + Send + Sync;

/// A running proxy.
pub struct Proxy {
    /// Endpoint URL.
    pub endpoint: String,
    state: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    upstream: String,
    decide: Box<Decide>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    requests: BTreeMap<String, u64>,
    on_their_way: HashSet<String>,
    overlaps: u64,
    most_at_once: usize,
    now: usize,
    held: u64,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Proxy {
    /// Starts it in front of a plain HTTP endpoint; `decide` gets the operation and how many of it came before.
    pub async fn start(upstream: &str, decide: impl Fn(&str, u64) -> Verdict + Send + Sync + 'static) -> Result<Self> {
        let upstream = upstream.strip_prefix("http://").context("the upstream is plain HTTP")?.to_owned();
        let state = Arc::new(Shared { upstream, decide: Box::new(decide), seen: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let app = Router::new().fallback(handle).with_state(Arc::clone(&state));
        let server = tokio::spawn(async move {
            let _stopped = axum::serve(listener, app).await;
        });
        Ok(Self { endpoint, state, server })
    }

    /// How often an operation was asked for.
    pub fn requests(&self, operation: &str) -> u64 {
        self.state.seen().requests.get(operation).copied().unwrap_or(0)
    }

    /// Requests that were forwarded and never answered.
    pub fn held(&self) -> u64 {
        self.state.seen().held
    }

    /// How often an item was written while another write of its key was on its way.
    pub fn overlaps(&self) -> u64 {
        self.state.seen().overlaps
    }

    /// Requests on their way at once, at most.
    pub fn most_at_once(&self) -> usize {
        self.state.seen().most_at_once
    }
}

impl Shared {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, operation: &str, keys: &[String]) -> u64 {
        let mut seen = self.seen();
        for key in keys {
            if !seen.on_their_way.insert(key.clone()) {
                seen.overlaps += 1;
            }
        }
        seen.now += 1;
        seen.most_at_once = seen.most_at_once.max(seen.now);
        let count = seen.requests.entry(operation.to_owned()).or_default();
        *count += 1;
        *count - 1
    }

    fn end(&self, keys: &[String]) {
        let mut seen = self.seen();
        seen.now -= 1;
        for key in keys {
            seen.on_their_way.remove(key);
        }
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, 64 << 20).await else { return answer(StatusCode::BAD_REQUEST, "{}".into()) };
    let target = parts.headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
    let content: Value = serde_json::from_slice(&body).unwrap_or_default();
    let keys = written_keys(&operation, &content);
    let nth = shared.begin(&operation, &keys);
    let answered = match (shared.decide)(&operation, nth) {
        Verdict::Throttle => Ok(throttled()),
        Verdict::Refuse(code) => {
            let body = json!({ "__type": code, "message": "as the proxy was told" });
            Ok(answer(StatusCode::BAD_REQUEST, body.to_string().into()))
        }
        Verdict::Pass => forward(&shared.upstream, &parts.headers, &body).await,
        Verdict::LoseReply => {
            let forwarded = forward(&shared.upstream, &parts.headers, &body).await;
            forwarded.map(|_| answer(StatusCode::INTERNAL_SERVER_ERROR, r#"{"__type":"InternalServerError"}"#.into()))
        }
        Verdict::Hold => {
            let _kept = forward(&shared.upstream, &parts.headers, &body).await;
            shared.end(&keys);
            shared.seen().held += 1;
            std::future::pending().await
        }
        Verdict::Half => half(&shared.upstream, &parts.headers, content).await,
    };
    shared.end(&keys);
    answered.unwrap_or_else(|error| answer(StatusCode::BAD_GATEWAY, error.to_string().into()))
}

fn throttled() -> Response {
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
        "message": "The level of configured provisioned throughput for the table was exceeded.",
    });
    answer(StatusCode::BAD_REQUEST, body.to_string().into())
}

/// Forwards the first half of a batch.
async fn half(upstream: &str, headers: &HeaderMap, mut content: Value) -> Result<Response> {
    let mut unprocessed = serde_json::Map::new();
    for (table, requests) in content["RequestItems"].as_object_mut().context("a batch has items")? {
        let requests = requests.as_array_mut().context("items are a list")?;
        let rest = requests.split_off(requests.len() / 2);
        if !rest.is_empty() {
            unprocessed.insert(table.clone(), Value::Array(rest));
        }
    }
    content["RequestItems"].as_object_mut().context("a batch has items")?.retain(|_, v| v != &json!([]));
    if content["RequestItems"] != json!({}) {
        forward(upstream, headers, &Bytes::from(content.to_string())).await?;
    }
    Ok(answer(StatusCode::OK, json!({ "UnprocessedItems": unprocessed }).to_string().into()))
}

/// The `id` of each item that is written, as tests name their partition key.
fn written_keys(operation: &str, content: &Value) -> Vec<String> {
    let id = |item: &Value| item["id"].to_string();
    match operation {
        "PutItem" => vec![id(&content["Item"])],
        "DeleteItem" => vec![id(&content["Key"])],
        "BatchWriteItem" => {
            let requests = content["RequestItems"].as_object().into_iter().flat_map(|tables| tables.values());
            let requests = requests.filter_map(Value::as_array).flatten();
            let of = |request: &Value| match request.get("PutRequest") {
                Some(put) => id(&put["Item"]),
                None => id(&request["DeleteRequest"]["Key"]),
            };
            requests.map(of).collect()
        }
        _ => Vec::new(),
    }
}

fn answer(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
}

/// Sends a request on a connection of its own and reads the answer to its end.
async fn forward(upstream: &str, headers: &HeaderMap, body: &Bytes) -> Result<Response> {
    let mut stream = TcpStream::connect(upstream).await?;
    let mut head = format!("POST / HTTP/1.1\r\nhost: {upstream}\r\nconnection: close\r\n");
    for (name, value) in headers {
        if !["host", "connection", "content-length"].contains(&name.as_str()) {
            head.push_str(&format!("{name}: {}\r\n", value.to_str()?));
        }
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await?;
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n").context("an HTTP answer has a head")?;
    let head = String::from_utf8_lossy(&reply[..end]).to_lowercase();
    let status: u16 = head.split(' ').nth(1).context("an HTTP answer has a status")?.parse()?;
    let content = &reply[end + 4..];
    let content = if head.contains("transfer-encoding: chunked") { unchunked(content)? } else { content.to_vec() };
    Ok(answer(StatusCode::from_u16(status)?, content.into()))
}

fn unchunked(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n").context("a chunk has a length")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line])?.trim(), 16)?;
        if size == 0 {
            return Ok(content);
        }
        content.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 4 + size..];
    }
}
