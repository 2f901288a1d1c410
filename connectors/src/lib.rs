//! The outside world of Headwater: the lake (files on S3 or local), Kafka, Kinesis, DynamoDB, HTTP; formats; catalogs.
//!
//! Knows the engine's seams and no SQL text.

pub mod catalogs;
pub mod formats;
pub mod kafka;
pub mod lake;
pub mod options;
