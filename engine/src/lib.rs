//! The streaming runtime of Headwater: knows no SQL text and no outside system.
//!
//! Modules in the order a row meets them. `sql -> connectors -> engine`, never backwards.

pub mod catalog;
pub mod error;
pub mod format;
pub mod message;
pub mod time;
