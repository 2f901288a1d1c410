//! JSON as people really have it: objects a line, run together, pretty printed, in an array or below a path.
//!
//! ```text
//! bytes -> frame (where does a row start) -> rows: shape (learned keys, straight into columns)
//!                                                  tape (any object) -> nested, coerce -> columns
//! ```
//!
//! [`JsonReader`] takes a file, whole or in chunks; [`JsonDecoder`] takes batches of payloads of a stream. Both share
//! one row decoder with two ways through it, and the invariant is that both ways accept and refuse the same input:
//! whatever the learned shape does not take is decoded by the general parser, which alone gives reasons.

mod brackets;
mod coerce;
mod column;
mod frame;
mod infer;
mod lenient;
mod lexer;
mod lines;
mod nested;
mod options;
mod payloads;
mod reader;
mod rows;
mod shape;
mod tape;
mod time_text;
mod written_time;

pub(crate) use infer::EXACT_MAX;
pub use infer::JsonInference;
pub use lines::{BinaryText, Json, JsonLines};
pub use options::{
    Coercion, Dialect, JsonOptions, Malformed, PathStep, RecordPath, TimestampReading, TimestampStandard, TimestampUnit,
};
pub use payloads::JsonDecoder;
pub use reader::{FileRows, JsonReader, RejectedText};
pub(crate) use rows::row_end;

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod tests;
