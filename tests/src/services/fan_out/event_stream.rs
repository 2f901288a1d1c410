//! Messages of `application/vnd.amazon.eventstream`.
//!
//! ```text
//! length u32 | length of the headers u32 | CRC-32 of these | headers | payload | CRC-32 of all before     (big endian)
//! ```
//!
//! Invariant: every header is a text, as the service sends them.

use axum::body::Bytes;
use serde_json::Value;

/// Type of a header that is a text.
const TEXT: u8 = 7;
const JSON: (&str, &str) = (":content-type", "application/x-amz-json-1.1");

/// What a subscription begins with.
pub(super) fn initial_response() -> Bytes {
    message(&[(":message-type", "event"), (":event-type", "initial-response"), JSON], b"{}")
}

pub(super) fn event(payload: &Value) -> Bytes {
    let headers = [(":message-type", "event"), (":event-type", "SubscribeToShardEvent"), JSON];
    message(&headers, payload.to_string().as_bytes())
}

/// An error of the stream's model.
pub(super) fn exception(code: &str) -> Bytes {
    message(&[(":message-type", "exception"), (":exception-type", code), JSON], br#"{"message": "as was asked"}"#)
}

/// Another error.
pub(super) fn error(code: &str) -> Bytes {
    message(&[(":message-type", "error"), (":error-code", code), (":error-message", "as was asked")], b"")
}

fn message(headers: &[(&str, &str)], payload: &[u8]) -> Bytes {
    let mut head = Vec::new();
    for (name, value) in headers {
        head.push(name.len() as u8);
        head.extend_from_slice(name.as_bytes());
        head.push(TEXT);
        head.extend_from_slice(&(value.len() as u16).to_be_bytes());
        head.extend_from_slice(value.as_bytes());
    }
    let length = 12 + head.len() + payload.len() + 4;
    let mut message = [(length as u32).to_be_bytes(), (head.len() as u32).to_be_bytes()].concat();
    message.extend(checksum(&message));
    message.extend_from_slice(&head);
    message.extend_from_slice(payload);
    message.extend(checksum(&message));
    message.into()
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum().to_be_bytes()
}
