//! The streaming runtime of Headwater: knows no SQL text and no outside system.
//!
//! Modules in the order a row meets them. `sql -> connectors -> engine`, never backwards.

pub mod catalog;
pub mod connector;
pub mod error;
pub mod format;
pub mod graph;
pub mod memory;
pub mod message;
pub mod operator;
pub mod state;
pub mod time;
pub mod window;
