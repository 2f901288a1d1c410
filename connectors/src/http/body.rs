//! Bodies of requests: read within a limit, unpacked, and cut into records.
//!
//! Invariant: nothing is judged here: what is no JSON is a record like any other, and becomes a rejected row.

use std::{io::Read, iter, ops::Range, time::Duration};

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use futures::StreamExt;
use hyper::{HeaderMap, StatusCode, header::CONTENT_ENCODING};

use super::budget::Share;

/// Bytes of a refused body that are read all the same.
const DRAINED_BYTES: usize = 64 << 20;
/// How long that may take.
const DRAINED_TIME: Duration = Duration::from_secs(10);
/// Bytes that are unpacked before their share of the memory is asked for.
const UNPACKED_BYTES: u64 = 1 << 20;

/// Why a body cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadBody {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl BadBody {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

fn busy() -> BadBody {
    BadBody::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests are under way")
}

fn too_large(limit: usize) -> BadBody {
    BadBody::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {limit} bytes"))
}

/// Reads a body of at most `limit` bytes as it comes. More is read and forgotten, up to a bound: a client reads its
/// answer only once it has sent all, and closing before that takes the answer away from it.
pub(super) async fn raw(body: Body, limit: usize, share: &mut Share) -> Result<Bytes, BadBody> {
    let mut chunks = body.into_data_stream();
    let mut read = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| BadBody::new(StatusCode::BAD_REQUEST, "the body ended early"))?;
        if read.len() + chunk.len() > limit {
            drop(read);
            forget(chunks).await;
            return Err(too_large(limit));
        }
        if !share.grow(read.len() + chunk.len()) {
            drop(read);
            forget(chunks).await;
            return Err(busy());
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read.freeze())
}

/// Reads what is left of a body that is refused, up to a bound, so that the client reads its answer.
pub(super) async fn drain(body: Body) {
    forget(body.into_data_stream()).await;
}

async fn forget(mut chunks: BodyDataStream) {
    let rest = async {
        let mut bytes = 0;
        while let Some(Ok(chunk)) = chunks.next().await {
            bytes += chunk.len();
            if bytes > DRAINED_BYTES {
                break;
            }
        }
    };
    let _slow_client = tokio::time::timeout(DRAINED_TIME, rest).await;
}

/// Unpacks a body into at most `limit` bytes.
pub(super) fn unpacked(headers: &HeaderMap, bytes: Bytes, limit: usize, share: &mut Share) -> Result<Bytes, BadBody> {
    let encoding = headers.get(CONTENT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or("identity");
    match encoding.trim().to_ascii_lowercase().as_str() {
        "identity" | "" => Ok(bytes),
        "gzip" | "x-gzip" => {
            let no_gzip = |error| BadBody::new(StatusCode::BAD_REQUEST, format!("the body is no gzip: {error}"));
            let (mut unpacked, mut reader) = (Vec::new(), MultiGzDecoder::new(&bytes[..]));
            while reader.by_ref().take(UNPACKED_BYTES).read_to_end(&mut unpacked).map_err(no_gzip)? > 0 {
                if unpacked.len() > limit {
                    return Err(too_large(limit));
                }
                if !share.grow(bytes.len() + unpacked.len()) {
                    return Err(busy());
                }
            }
            Ok(unpacked.into())
        }
        other => Err(BadBody::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("content encoding \"{other}\" is not supported; use gzip"),
        )),
    }
}

/// Whether the payloads of a format are JSON values, which may have line ends in them.
pub(super) fn is_json(format: &str) -> bool {
    matches!(format, "json" | "debezium-json" | "dynamodb-cdc")
}

/// The records of a body: a JSON array's elements, one JSON value, else a record a line.
pub(super) fn records(body: &Bytes, is_json: bool) -> Vec<Bytes> {
    let found = if is_json { json_records(body) } else { None };
    found.unwrap_or_else(|| lines(body)).into_iter().map(|range| body.slice(range)).collect()
}

fn json_records(body: &[u8]) -> Option<Vec<Range<usize>>> {
    let start = body.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let end = body.len() - body.iter().rev().position(|byte| !byte.is_ascii_whitespace())?;
    match body[start] {
        b'{' => objects(body, start, end),
        b'[' if value_end(body, start)? == end => elements(body, start, end),
        _ => None,
    }
}

/// Objects one after another, unless each is on one line: then lines are records, whatever is wrong with one of them.
fn objects(body: &[u8], start: usize, end: usize) -> Option<Vec<Range<usize>>> {
    let first = value_end(body, start)?;
    if first == end {
        return Some(iter::once(start..end).collect());
    }
    if !body[start..first].contains(&b'\n') {
        return None;
    }
    let mut found: Vec<Range<usize>> = iter::once(start..first).collect();
    let mut at = first;
    loop {
        at += body[at..end].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if at >= end {
            return Some(found);
        }
        if body[at] != b'{' {
            return None;
        }
        let next = value_end(body, at)?;
        found.push(at..next);
        at = next;
    }
}

/// One past the end of the object or array that starts here.
fn value_end(body: &[u8], start: usize) -> Option<usize> {
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for (index, byte) in body.iter().enumerate().skip(start) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(index + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Elements of the array at `start..end`.
fn elements(body: &[u8], start: usize, end: usize) -> Option<Vec<Range<usize>>> {
    let (mut found, mut from, mut at) = (Vec::new(), start + 1, start + 1);
    let (mut in_text, mut escaped) = (false, false);
    while at < end {
        match body[at] {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => {
                at = value_end(body, at)?;
                continue;
            }
            b',' | b']' => {
                let element = trimmed(body, from..at);
                let is_last = body[at] == b']';
                if !element.is_empty() || !is_last || !found.is_empty() {
                    found.push(element);
                }
                from = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    Some(found)
}

fn trimmed(body: &[u8], range: Range<usize>) -> Range<usize> {
    let inside = &body[range.clone()];
    let left = inside.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let right = inside[left..].iter().rev().take_while(|byte| byte.is_ascii_whitespace()).count();
    range.start + left..range.end - right
}

/// Lines that are not empty, without their ends.
fn lines(body: &[u8]) -> Vec<Range<usize>> {
    let (mut found, mut start) = (Vec::new(), 0);
    let ends = memchr::memchr_iter(b'\n', body).chain(std::iter::once(body.len()));
    for end in ends {
        let is_crlf = end > start && body[end - 1] == b'\r';
        let line = start..if is_crlf { end - 1 } else { end };
        if body[line.clone()].iter().any(|byte| !byte.is_ascii_whitespace()) {
            found.push(line);
        }
        start = end + 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(body: &str, is_json: bool) -> Vec<String> {
        let cut = records(&Bytes::copy_from_slice(body.as_bytes()), is_json);
        cut.iter().map(|record| String::from_utf8_lossy(record).into_owned()).collect()
    }

    #[test]
    fn formats_of_json_are_known() {
        assert!(["json", "debezium-json", "dynamodb-cdc"].into_iter().all(is_json));
        assert!(!is_json("csv") && !is_json("raw") && !is_json("avro"));
    }

    #[test]
    fn a_body_is_one_value_an_array_or_lines() {
        assert_eq!(cut("{\n \"a\": \"}{\"\n}\n", true), ["{\n \"a\": \"}{\"\n}"]);
        assert_eq!(cut("[{\"a\": [1, 2]} ,\n{\"b\": \"x,]\"}]", true), ["{\"a\": [1, 2]}", "{\"b\": \"x,]\"}"]);
        assert_eq!(cut("[1, \"a\\\"b\", null]", true), ["1", "\"a\\\"b\"", "null"]);
        assert_eq!(cut("{\"a\":1}\r\n\n{\"a\":2}\n", true), ["{\"a\":1}", "{\"a\":2}"]);
        assert_eq!(cut("{\"a\":1}{\"a\":2}", true), ["{\"a\":1}{\"a\":2}"]);
        assert_eq!(cut("{\n\"n\":11\n}\n{\n\"n\":12\n}", true), ["{\n\"n\":11\n}", "{\n\"n\":12\n}"]);
        assert_eq!(cut("not json\n{\"a\":2}", true), ["not json", "{\"a\":2}"]);
        assert_eq!(cut("[1, 2", true), ["[1, 2"]);
        assert_eq!(cut("a|b\nc|d", false), ["a|b", "c|d"]);
        assert!(cut(" \n\n", true).is_empty() && cut("[]", true).is_empty());
    }
}
