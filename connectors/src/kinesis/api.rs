//! The requests of Kinesis that this connector makes, as a seam: the SDK answers in production, a script in tests.
//!
//! Invariant: a failure says what the caller should do about it; nothing here waits or tries again.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use headwater_engine::error::{Error, Result};

/// A shard as the stream lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) id: String,
    /// The shards it was split from or merged of.
    pub(super) parents: Vec<String>,
    /// First and last hash key it takes.
    pub(super) hash_keys: Option<(u128, u128)>,
}

/// A stream as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Description {
    pub(super) arn: String,
    /// How long records are kept, in milliseconds.
    pub(super) retention_ms: i64,
    /// Largest record, data and partition key together.
    pub(super) record_bytes: usize,
}

/// Where an iterator starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Position {
    TrimHorizon,
    Latest,
    /// Milliseconds since 1970.
    AtTimestamp(i64),
    At(String),
    After(String),
}

/// A record as the stream has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StreamRecord {
    pub(super) sequence: String,
    pub(super) arrival_ms: Option<i64>,
    pub(super) partition_key: String,
    pub(super) data: Bytes,
}

/// What came of one request for records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Fetched {
    pub(super) records: Vec<StreamRecord>,
    /// How far behind the shard's end these are; `None` when the service does not say.
    pub(super) behind_ms: Option<i64>,
    /// Present when the shard is closed and read to its end: the shards that carry on.
    pub(super) ended: Option<Vec<Shard>>,
    /// Behind what everything up to here is sent, where the service says: it may be beyond the last record.
    pub(super) continuation: Option<String>,
}

/// Why there are no records.
#[derive(Debug)]
pub(super) enum Failure {
    /// Too many requests or bytes; the same request may be made later.
    Throttled,
    /// The iterator or subscription is too old or not known: ask for another.
    Expired,
    /// The position, or the shard, is not there (any more).
    Gone(Error),
    /// The service or the network failed; the same request may succeed later.
    Unanswered(Error),
    /// It will not succeed.
    Refused(Error),
}

/// A record to put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) partition_key: String,
    pub(super) data: Bytes,
}

/// Records of one shard, one request after another. Dropping it ends a subscription.
#[async_trait]
pub(super) trait Feed: fmt::Debug + Send {
    /// The next records; a dropped call may have taken some.
    async fn fetch(&mut self) -> std::result::Result<Fetched, Failure>;

    /// Whether the service sends by itself, so that nobody needs to wait between two calls.
    fn is_pushed(&self) -> bool;
}

/// A stream.
#[async_trait]
pub(super) trait StreamApi: fmt::Debug + Send + Sync {
    /// All shards, closed ones too.
    async fn shards(&self) -> Result<Vec<Shard>>;

    /// What the stream says of itself.
    async fn describe(&self) -> Result<Description>;

    /// Records of a shard from a position on.
    async fn feed(&self, shard: &str, from: &Position) -> std::result::Result<Box<dyn Feed>, Failure>;

    /// Puts records; for each, whether it was taken or why not.
    async fn put(&self, entries: &[Entry]) -> std::result::Result<Vec<PutOutcome>, Failure>;
}

/// What became of one record of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PutOutcome {
    Taken,
    /// The code the service gave.
    Failed(String),
}
