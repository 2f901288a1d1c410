//! Formats: bytes to rows and back, for lake files and streams alike.
//!
//! Invariant: a format knows nothing of where its bytes come from or go to.

pub mod avro;
pub mod csv;
pub mod debezium;
pub mod dynamodb_cdc;
pub mod json;
pub mod raw;
mod table_format;

pub use table_format::{Part, TableFormat, check_json, from_options};
