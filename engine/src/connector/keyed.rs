//! Tables that answer for keys, so that a join can ask for the rows it needs.
//!
//! Invariant: an answer has every row whose key columns have one of the values asked for; it may have more.

use std::{fmt, time::Duration};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use async_trait::async_trait;

use crate::error::Result;

/// A table whose rows can be asked for by key.
#[async_trait]
pub trait KeyedTable: fmt::Debug + fmt::Display + Send + Sync {
    /// How its rows are kept between questions.
    fn cache(&self) -> LookupCache;

    /// Fails if these of its columns are known not to be what it answers for.
    fn check(&self, columns: &[&str]) -> Result<()>;

    /// The rows for some keys, in `columns`. The columns of `keys` are named as the table's; each of its rows is asked for
    /// once.
    async fn rows(&self, keys: &RecordBatch, columns: &SchemaRef) -> Result<RecordBatch>;
}

/// How a table that is looked up is kept in memory: `lookup.cache`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupCache {
    /// Not at all: each batch of rows asks for its keys.
    None,
    /// The rows that were asked for.
    Partial(PartialCache),
    /// The whole table, read again after this time, if there is one.
    Full(Option<Duration>),
}

/// Bounds of a cache of what was asked for. Over them, what was not used for longest goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialCache {
    /// Rows one task keeps at most; a key without rows counts as one.
    pub rows_max: usize,
    /// How long after it was read a key is asked for again.
    pub expire_after_write: Option<Duration>,
    /// How long after it was last used a key is forgotten.
    pub expire_after_access: Option<Duration>,
    /// Whether a key without rows is kept too.
    pub keeps_missing: bool,
}
