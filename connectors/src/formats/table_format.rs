//! The format of a table, from its `'format' = '..'` and that format's own options.
//!
//! Invariant: a format that is not known is refused by name, with the list of those that are.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use headwater_engine::{
    connector::ChangelogMode,
    error::Result,
    format::{Decoder, Encoder, Format},
};

use super::{
    dynamodb_cdc::DynamoDbCdc,
    json::{Json, JsonLines, JsonOptions, TimestampStandard, TimestampUnit},
    raw,
};
use crate::{
    dynamodb::cdc::ChangeMode,
    options::{Options, nearest},
};

/// A format with its options, cheap to clone.
#[derive(Debug, Clone)]
pub struct TableFormat {
    format: Arc<dyn Format>,
    changelog: ChangelogMode,
}

impl TableFormat {
    /// A format whose rows are all inserts.
    pub fn append(format: Arc<dyn Format>) -> Self {
        Self { format, changelog: ChangelogMode::Append }
    }

    /// A format that carries what rows do.
    pub fn changelog_of(format: Arc<dyn Format>, changelog: ChangelogMode) -> Self {
        Self { format, changelog }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.format.name()
    }

    /// What rows of it do.
    pub fn changelog(&self) -> ChangelogMode {
        self.changelog
    }

    /// A decoder into the columns of `schema`.
    pub fn decoder(&self, schema: SchemaRef) -> Result<Box<dyn Decoder>> {
        self.format.decoder(schema)
    }

    /// An encoder of rows of `schema`.
    pub fn encoder(&self, schema: SchemaRef) -> Result<Box<dyn Encoder>> {
        self.format.encoder(schema)
    }
}

/// Names a format can have.
const NAMES: [&str; 3] = ["json", "raw", "dynamodb-cdc"];

/// Takes the format one of `keys` names, with its options, which may stand with `prefix` before them (`value.json.x`) or
/// without; `None` when no key is given.
pub fn from_options(options: &mut Options, keys: &[&str], prefix: &str) -> Result<Option<TableFormat>> {
    let mut found = None;
    for key in keys {
        if let Some(name) = options.text(key) {
            found.get_or_insert(((*key).to_owned(), name));
        }
    }
    let Some((key, name)) = found else { return Ok(None) };
    match name.to_lowercase().as_str() {
        "raw" => Ok(Some(TableFormat::append(Arc::new(raw::Raw)))),
        "dynamodb-cdc" => {
            let mode = options.choice(&format!("{prefix}dynamodb-cdc.mode"), &ChangeMode::NAMES)?;
            let mode =
                mode.or(options.choice("dynamodb-cdc.mode", &ChangeMode::NAMES)?).unwrap_or(ChangeMode::Changelog);
            Ok(Some(TableFormat::changelog_of(Arc::new(DynamoDbCdc::new(mode)), mode.changelog())))
        }
        "json" => Ok(Some(TableFormat::append(Arc::new(json(options, prefix)?)))),
        _ => {
            let error = options.invalid(&key, &name, "a format");
            Err(match nearest(&name, NAMES.into_iter()) {
                Some(known) => error.with_hint(format!("did you mean '{known}'?")),
                None => error.with_hint(format!("formats are {}", NAMES.join(", "))),
            })
        }
    }
}

/// The options of JSON; `key.json.x` and `value.json.x` stand before `json.x`.
fn json(options: &mut Options, prefix: &str) -> Result<Json> {
    let standards =
        [("auto", TimestampStandard::Auto), ("SQL", TimestampStandard::Sql), ("ISO-8601", TimestampStandard::Iso8601)];
    let units = [
        ("s", TimestampUnit::Seconds),
        ("ms", TimestampUnit::Milliseconds),
        ("us", TimestampUnit::Microseconds),
        ("ns", TimestampUnit::Nanoseconds),
    ];
    let mut reading = JsonOptions { malformed: super::json::Malformed::Skip, ..JsonOptions::default() };
    for start in ["", prefix] {
        if let Some(standard) = options.choice(&format!("{start}json.timestamp-format.standard"), &standards)? {
            reading.timestamps.standard = standard;
        }
        if let Some(unit) = options.choice(&format!("{start}json.timestamp-unit"), &units)? {
            reading.timestamps.unit = unit;
        }
    }
    let iso_timestamps = reading.timestamps.standard == TimestampStandard::Iso8601;
    Ok(Json { reading, writing: JsonLines { iso_timestamps, explicit_nulls: true } })
}
