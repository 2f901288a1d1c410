//! What a request asks for, and its answer.
//!
//! ```text
//! X-Amz-Target: Firehose_20150804.<op>, Kinesis_20131202.<op>     the services' own APIs, by the stream's name
//! POST, PUT /streams/<stream>/record, /records                    an API gateway before Kinesis, data as plain text
//! POST, PUT <path of a table>                                     events
//! ```
//!
//! Invariant: a request is stored as a whole or not at all, and is answered only after that.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE},
    http::request::Parts,
};

use super::{
    auth,
    body::{self, BadBody},
    budget::Share,
    listener::{Endpoint, Listener},
    log::Refused,
    record::Record,
    reply::{self, ServiceError},
    services::{self, Service},
};

/// Answers a request.
pub(super) async fn answer(listener: &Listener, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    if let Some(target) = parts.headers.get("x-amz-target").and_then(|value| value.to_str().ok()) {
        let target = target.to_owned();
        return service_call(listener, &parts, body, &target).await.unwrap_or_else(|error| error.response());
    }
    let gateway = services::gateway_path(parts.uri.path());
    let found = match &gateway {
        Some((stream, _)) => listener.by_stream(stream),
        None => None,
    };
    let (endpoint, is_batch) = match (found, listener.by_path(parts.uri.path()), gateway) {
        (_, Some(endpoint), _) => (endpoint, None),
        (Some(endpoint), None, Some((_, is_batch))) => (endpoint, Some(is_batch)),
        _ => {
            body::drain(body).await;
            return reply::refused(StatusCode::NOT_FOUND, "no table takes records at this path");
        }
    };
    if parts.method != Method::POST && parts.method != Method::PUT {
        body::drain(body).await;
        return reply::wrong_method();
    }
    let Some(mut share) = share(listener, &parts.headers, endpoint.options.max_body) else {
        body::drain(body).await;
        return reply::unavailable("too many requests are under way");
    };
    let body = match read(&endpoint, &parts, body, &mut share).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    match is_batch {
        None => events(&endpoint, &parts, &body).await,
        Some(is_batch) => match services::gateway(&endpoint, &parts, &body, is_batch).await {
            Ok(answer) => reply::service(&answer),
            Err(error) => error.response(),
        },
    }
}

/// Reads the body and checks who sends it: a signature covers the body as it came.
async fn read(endpoint: &Endpoint, parts: &Parts, sent: Body, share: &mut Share) -> Result<Bytes, Response<Body>> {
    let refused = |bad: BadBody| match bad.status {
        StatusCode::SERVICE_UNAVAILABLE => reply::unavailable(&bad.message),
        status => reply::refused(status, &bad.message),
    };
    let limit = endpoint.options.max_body;
    let raw = body::raw(sent, limit, share).await.map_err(refused)?;
    auth::check(&endpoint.options.auth, parts, &raw, endpoint.clock.now().0)
        .map_err(|error| reply::refused(auth::UNAUTHORIZED, &error.message))?;
    body::unpacked(&parts.headers, raw, limit, share).map_err(refused)
}

/// Takes events for a table, as they stand in a body.
pub(super) async fn events(endpoint: &Endpoint, parts: &Parts, body: &Bytes) -> Response<Body> {
    let payloads = body::records(body, body::is_json(endpoint.options.format.name()));
    if payloads.is_empty() {
        return reply::refused(StatusCode::BAD_REQUEST, "the body is empty");
    }
    let count = payloads.len();
    let payloads = payloads.into_iter().map(|payload| (payload, String::new())).collect();
    match store(endpoint, &parts.headers, payloads).await {
        Ok(_) => reply::accepted(count),
        Err(Refused::Full) => reply::unavailable("the buffer is full; try again"),
        Err(Refused::Failed(error)) => reply::unavailable(&format!("the log cannot be written: {error}")),
    }
}

/// Puts payloads with their partition keys into the log; gives the number of the first.
pub(super) async fn store(
    endpoint: &Endpoint,
    headers: &HeaderMap,
    payloads: Vec<(Bytes, String)>,
) -> Result<u64, Refused> {
    let arrival_ms = endpoint.clock.now().0;
    let headers = if endpoint.options.keeps_headers { Arc::new(kept_headers(headers)) } else { Arc::default() };
    let record =
        |(payload, partition_key)| Record { payload, partition_key, headers: Arc::clone(&headers), arrival_ms };
    endpoint.log.append(payloads.into_iter().map(record).collect()).await
}

/// The headers a record keeps: credentials are not among them.
fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let secret =
        |name: &str| name == AUTHORIZATION.as_str() || name == COOKIE.as_str() || name == "x-amz-security-token";
    let kept = headers.iter().filter(|(name, _)| !secret(name.as_str()));
    kept.filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))).collect()
}

/// A share of the memory for bodies, of what is announced; `None` when there is none left.
fn share(listener: &Listener, headers: &HeaderMap, limit: usize) -> Option<Share> {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    listener.bodies.share(length.unwrap_or_default().min(limit))
}

async fn service_call(
    listener: &Listener,
    parts: &Parts,
    sent: Body,
    target: &str,
) -> Result<Response<Body>, ServiceError> {
    let (service, operation) = Service::of_target(target)?;
    let endpoints = listener.endpoints();
    let limit = endpoints.iter().map(|endpoint| endpoint.options.max_body).max().unwrap_or(0);
    let Some(mut share) = share(listener, &parts.headers, limit) else {
        body::drain(sent).await;
        return Err(service.slow_down());
    };
    let raw = body::raw(sent, limit, &mut share).await.map_err(|bad| match bad.status {
        StatusCode::SERVICE_UNAVAILABLE => service.slow_down(),
        _ => ServiceError {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            code: "RequestEntityTooLargeException",
            message: bad.message,
        },
    })?;
    let allowed = |endpoint: &&Arc<Endpoint>| auth::check(&endpoint.options.auth, parts, &raw, endpoint.clock.now().0);
    let open: Vec<Arc<Endpoint>> = endpoints.iter().filter(|endpoint| allowed(endpoint).is_ok()).cloned().collect();
    if let (true, Some(first)) = (open.is_empty(), endpoints.first()) {
        allowed(&first)?;
    }
    services::call(service, operation, &open, parts, &raw).await.map(|answer| reply::service(&answer))
}
