//! A schema registry of Confluent's kind: subjects with schemas by number, behind a user name and a password.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result};
use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// The registry's only user and its password, as one text.
const USER_INFO: &str = "reader:registry-word";

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    /// Its URL.
    pub url: String,
    kept: Arc<Mutex<Kept>>,
    server: tokio::task::JoinHandle<()>,
}

/// Schemas in the order of their numbers, and which subjects have which.
#[derive(Debug, Default)]
struct Kept {
    schemas: Vec<String>,
    subjects: BTreeMap<String, Vec<i64>>,
}

impl Kept {
    fn register(&mut self, subject: &str, schema: &str) -> i64 {
        let known = self.schemas.iter().position(|known| known == schema);
        let index = known.unwrap_or_else(|| {
            self.schemas.push(schema.to_owned());
            self.schemas.len() - 1
        });
        let number = index as i64 + 1;
        let versions = self.subjects.entry(subject.to_owned()).or_default();
        if !versions.contains(&number) {
            versions.push(number);
        }
        number
    }
}

type Shared = Arc<Mutex<Kept>>;
type Answer = (StatusCode, String);

impl Registry {
    /// Starts on a free port, within the runtime of the caller.
    pub async fn start() -> Result<Self> {
        let kept = Shared::default();
        let router = Router::new()
            .route("/schemas/ids/{number}", get(schema))
            .route("/subjects/{subject}/versions", post(register))
            .with_state(Arc::clone(&kept));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let server = tokio::spawn(async move {
            let _ended_with_the_test = axum::serve(listener, router).await;
        });
        Ok(Self { url, kept, server })
    }

    /// User and password, as `basic-auth.user-info` has them.
    pub fn user_info(&self) -> &'static str {
        USER_INFO
    }

    /// Registers a schema as another program would; its number.
    pub fn register(&self, subject: &str, schema: &Value) -> Result<i32> {
        let mut kept = self.kept.lock().ok().context("the registry has failed")?;
        Ok(i32::try_from(kept.register(subject, &schema.to_string()))?)
    }

    /// The schemas of a subject.
    pub fn schemas(&self, subject: &str) -> Result<Vec<Value>> {
        let kept = self.kept.lock().ok().context("the registry has failed")?;
        let numbers = kept.subjects.get(subject).cloned().unwrap_or_default();
        let text = |number: i64| Ok(serde_json::from_str(&kept.schemas[number as usize - 1])?);
        numbers.into_iter().map(text).collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn is_allowed(headers: &HeaderMap) -> bool {
    let expected = format!("Basic {}", STANDARD.encode(USER_INFO));
    headers.get("authorization").is_some_and(|given| given.as_bytes() == expected.as_bytes())
}

fn refused() -> Answer {
    (StatusCode::UNAUTHORIZED, json!({"error_code": 401, "message": "Unauthorized"}).to_string())
}

async fn schema(State(kept): State<Shared>, headers: HeaderMap, Path(number): Path<usize>) -> Answer {
    if !is_allowed(&headers) {
        return refused();
    }
    let found = kept.lock().ok().and_then(|kept| kept.schemas.get(number.wrapping_sub(1)).cloned());
    match found {
        Some(schema) => (StatusCode::OK, json!({"schema": schema}).to_string()),
        None => (StatusCode::NOT_FOUND, json!({"error_code": 40403, "message": "Schema not found"}).to_string()),
    }
}

async fn register(State(kept): State<Shared>, headers: HeaderMap, Path(subject): Path<String>, body: String) -> Answer {
    if !is_allowed(&headers) {
        return refused();
    }
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let schema = body["schema"].as_str().unwrap_or_default();
    match kept.lock() {
        Ok(mut kept) => (StatusCode::OK, json!({"id": kept.register(&subject, schema)}).to_string()),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, json!({}).to_string()),
    }
}
