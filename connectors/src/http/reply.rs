//! Answers: plain ones for events, and the services' own shapes for their APIs.
//!
//! Invariant: an error names its code where the SDKs look for it, so that they retry what may be retried.

use axum::body::Body;
use hyper::{
    Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
};
use serde_json::{Value, json};

const AWS_JSON: &str = "application/x-amz-json-1.1";

fn with_body(status: StatusCode, content_type: &'static str, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// How many records were accepted.
pub(super) fn accepted(records: usize) -> Response<Body> {
    with_body(StatusCode::OK, "application/json", &json!({ "accepted": records }))
}

/// Why nothing was accepted.
pub(super) fn refused(status: StatusCode, message: &str) -> Response<Body> {
    with_body(status, "application/json", &json!({ "error": message }))
}

/// Try again in a second.
pub(super) fn unavailable(message: &str) -> Response<Body> {
    let mut response = refused(StatusCode::SERVICE_UNAVAILABLE, message);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Only POST and PUT.
pub(super) fn wrong_method() -> Response<Body> {
    let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, "send records with POST or PUT");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST, PUT"));
    response
}

/// An answer of a service.
pub(super) fn service(body: &Value) -> Response<Body> {
    with_body(StatusCode::OK, AWS_JSON, body)
}

/// An error of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServiceError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl ServiceError {
    /// The caller's mistake.
    pub(super) fn of_caller(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into() }
    }

    /// As the SDKs read it.
    pub(super) fn response(&self) -> Response<Body> {
        let mut response = with_body(self.status, AWS_JSON, &json!({ "__type": self.code, "message": self.message }));
        response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(self.code));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
