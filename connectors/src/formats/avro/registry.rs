//! A schema registry: numbers to schemas and schemas to numbers, each asked for once.
//!
//! Formats have no event loop of their own, so a question is asked on a thread that ends with the answer; there is one
//! for each schema a process meets.
//!
//! Invariant: a registry that does not answer is an error that may be tried again, never a rejected row; no credential
//! is in an error.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use apache_avro::Schema;
use base64::{Engine, engine::general_purpose::STANDARD};
use headwater_engine::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use serde_json::{Value, json};
use url::Url;

use crate::formats::table_format::Given;

/// Schemas remembered; beyond, all are forgotten and asked for again.
const SCHEMAS_MAX: usize = 10_000;
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How deep schemas may refer to others.
const REFERENCES_MAX: usize = 8;

/// What a number stands for.
#[derive(Debug, Clone)]
pub(super) enum Found {
    Schema(Arc<Schema>),
    /// There is no such schema, or none that can be read: values with it are rejected.
    Unusable(String),
}

/// One registry.
pub(super) struct Registry {
    url: Url,
    authorization: Option<String>,
    format: &'static str,
    schemas: Mutex<HashMap<i32, Found>>,
    numbers: Mutex<HashMap<(String, String), i32>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("host", &self.host()).finish_non_exhaustive()
    }
}

impl Registry {
    /// The registry of a table's options, which stand behind the format's name.
    pub(super) fn of(given: &mut Given<'_>, format: &'static str) -> Result<Self> {
        let mut text = |key: &str| given.text(&format!("{format}.{key}"));
        let (current, former) = (text("url"), text("schema-registry.url"));
        let (source, user_info) = (text("basic-auth.credentials-source"), text("basic-auth.user-info"));
        let (bearer_source, token) = (text("bearer-auth.credentials-source"), text("bearer-auth.token"));
        let wrong = |message: String, hint: &str| Err(Error::user("INVALID_TABLE_PROPERTY", message).with_hint(hint));
        let Some(url) = current.or(former) else {
            let hint = format!("add '{format}.url' = 'http://host:8081' to the WITH clause");
            return wrong(format!("format '{format}' needs the option '{format}.url'"), &hint);
        };
        for (key, source) in [("basic-auth", &source), ("bearer-auth", &bearer_source)] {
            let known = if key == "basic-auth" { "USER_INFO" } else { "STATIC_TOKEN" };
            if let Some(source) = source.as_ref().filter(|source| *source != known) {
                let message = format!("'{format}.{key}.credentials-source' = '{source}' is not supported");
                return wrong(message, &format!("use '{known}'"));
            }
        }
        let basic = user_info.map(|pair| format!("Basic {}", STANDARD.encode(pair)));
        let authorization = basic.or(token.map(|token| format!("Bearer {token}")));
        let Ok(url) = Url::parse(&format!("{}/", url.trim_end_matches('/'))) else {
            return wrong(format!("option '{format}.url' is no URL"), "use one such as 'http://host:8081'");
        };
        let (schemas, numbers) = (Mutex::default(), Mutex::default());
        Ok(Self { url, authorization, format, schemas, numbers })
    }

    fn host(&self) -> String {
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port}", self.url.host_str().unwrap_or_default())
    }

    /// The schema of a number.
    pub(super) fn schema(&self, number: i32) -> Result<Found> {
        if let Some(found) = self.schemas.lock().get(&number) {
            return Ok(found.clone());
        }
        let found = match self.ask(&format!("schemas/ids/{number}"), None)? {
            Some(answer) => self.parsed(number, &answer)?,
            // It may be registered by the time the next one comes.
            None => return Ok(Found::Unusable(format!("schema {number} is not in the registry"))),
        };
        let mut schemas = self.schemas.lock();
        if schemas.len() >= SCHEMAS_MAX {
            schemas.clear();
        }
        schemas.insert(number, found.clone());
        Ok(found)
    }

    fn parsed(&self, number: i32, answer: &Value) -> Result<Found> {
        let kind = answer["schemaType"].as_str().unwrap_or("AVRO");
        if kind != "AVRO" {
            return Ok(Found::Unusable(format!("schema {number} is {kind}, not AVRO")));
        }
        let text = answer["schema"].as_str().unwrap_or_default();
        let mut others = Vec::new();
        self.references(answer, 0, &mut others)?;
        Ok(match Schema::parse_str_with_list(text, others.iter().map(String::as_str)) {
            Ok((schema, _)) => Found::Schema(Arc::new(schema)),
            Err(error) => Found::Unusable(format!("schema {number} cannot be used: {error}")),
        })
    }

    /// The schemas that a schema refers to.
    fn references(&self, answer: &Value, depth: usize, others: &mut Vec<String>) -> Result<()> {
        if depth > REFERENCES_MAX {
            return Ok(());
        }
        for reference in answer["references"].as_array().into_iter().flatten() {
            let (subject, version) = (reference["subject"].as_str().unwrap_or_default(), &reference["version"]);
            let Some(found) = self.ask(&format!("subjects/{}/versions/{version}", encoded(subject)), None)? else {
                continue;
            };
            self.references(&found, depth + 1, others)?;
            let text = found["schema"].as_str().unwrap_or_default().to_owned();
            if !others.contains(&text) {
                others.push(text);
            }
        }
        Ok(())
    }

    /// The number of a schema under a subject, where it is registered if it is not yet.
    pub(super) fn number(&self, subject: &str, schema: &Schema) -> Result<i32> {
        let text =
            serde_json::to_string(schema).map_err(|error| Error::internal(format!("an Avro schema: {error}")))?;
        let key = (subject.to_owned(), text);
        if let Some(number) = self.numbers.lock().get(&key) {
            return Ok(*number);
        }
        let body = json!({"schema": key.1}).to_string();
        let answer = self.ask(&format!("subjects/{}/versions", encoded(subject)), Some(body))?;
        let number = answer.and_then(|answer| i32::try_from(answer["id"].as_i64()?).ok());
        let number = number.ok_or_else(|| self.unavailable("gave no number for a schema"))?;
        self.numbers.lock().insert(key, number);
        Ok(number)
    }

    fn unavailable(&self, what: &str) -> Error {
        Error::unavailable(format!("the schema registry at {} {what}", self.host()))
            .with_hint(format!("is '{}.url' right, and does it run?", self.format))
    }

    /// Asks on a thread of its own; nothing for what the registry does not know.
    fn ask(&self, path: &str, body: Option<String>) -> Result<Option<Value>> {
        let answer = std::thread::scope(|scope| scope.spawn(|| self.exchange(path, body)).join());
        let (status, text) = answer.map_err(|_| Error::internal("a question to the schema registry ended"))??;
        let said = || {
            let value: Value = serde_json::from_str(&text).unwrap_or_default();
            value["message"].as_str().unwrap_or("no reason is given").to_owned()
        };
        match status {
            200..300 => serde_json::from_str(&text)
                .map(Some)
                .map_err(|_| self.unavailable("answers with something else than JSON")),
            401 | 403 => {
                let message =
                    format!("the schema registry at {} refuses the credentials: status {status}", self.host());
                Err(Error::new(ErrorKind::Denied, "PERMISSION_DENIED", message)
                    .with_hint(format!("check '{}.basic-auth.user-info'", self.format)))
            }
            404 => Ok(None),
            409 | 422 => {
                let message =
                    format!("the schema registry at {} refuses the schema of the table: {}", self.host(), said());
                Err(Error::user("INVALID_SCHEMA", message)
                    .with_hint("change the columns compatibly, or write under another subject"))
            }
            _ => Err(self.unavailable(&format!("answers with status {status}: {}", said()))),
        }
    }

    fn exchange(&self, path: &str, body: Option<String>) -> Result<(u16, String)> {
        let failed = |error: reqwest::Error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            self.unavailable(&format!("does not answer{cause}"))
        };
        let url = self.url.join(path).map_err(|error| Error::internal(format!("\"{path}\" is no path: {error}")))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let client = reqwest::Client::builder().timeout(ANSWER_TIMEOUT).build().map_err(failed)?;
            let request = match body {
                None => client.get(url),
                Some(body) => {
                    client.post(url).header("Content-Type", "application/vnd.schemaregistry.v1+json").body(body)
                }
            };
            let request = match &self.authorization {
                Some(authorization) => request.header("Authorization", authorization),
                None => request,
            };
            let answer = request.send().await.map_err(|error| failed(error.without_url()))?;
            let status = answer.status().as_u16();
            Ok((status, answer.text().await.map_err(|error| failed(error.without_url()))?))
        })
    }
}

fn encoded(subject: &str) -> String {
    percent_encoding::utf8_percent_encode(subject, percent_encoding::NON_ALPHANUMERIC).to_string()
}
