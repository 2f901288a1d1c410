//! The operators a graph is made of.
//!
//! Invariant: operators do no I/O and read no clock; what they keep between calls is in their snapshot.

pub mod always;
pub mod assign_windows;
pub mod group_aggregate;
pub mod groups;
pub mod in_order;
pub mod join;
pub mod keyed_lookup;
mod keys;
mod lifetime;
pub mod lookup;
pub mod rank;
pub mod running;
pub mod session;
mod spilling;
pub mod stateless;
pub mod union;
pub mod unnest;
pub mod upsert;
mod waiting;
pub mod window_aggregate;
