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

use super::raw;
use crate::options::{Options, nearest};

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
const NAMES: [&str; 1] = ["raw"];

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
        _ => {
            let _ = prefix;
            let error = options.invalid(&key, &name, "a format");
            Err(match nearest(&name, NAMES.into_iter()) {
                Some(known) => error.with_hint(format!("did you mean '{known}'?")),
                None => error.with_hint(format!("formats are {}", NAMES.join(", "))),
            })
        }
    }
}
