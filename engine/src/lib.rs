//! The streaming runtime of Headwater: knows no SQL text and no outside system.
//!
//! Modules in the order a row meets them. `sql -> connectors -> engine`, never backwards.

pub mod accounts;
pub mod catalog;
pub mod checkpoint;
pub mod connector;
pub mod error;
pub mod format;
pub mod graph;
pub mod hash;
pub mod inspect;
pub mod memory;
pub mod message;
pub mod metrics;
pub mod operator;
pub mod operators;
pub mod runtime;
pub mod state;
pub mod testing;
pub mod time;
pub mod verdict;
pub mod window;
