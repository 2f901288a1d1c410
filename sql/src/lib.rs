//! SQL for Headwater: parse -> bind -> plan -> run in batch, or lower to the streaming graph.
//!
//! ```text
//!  script text --parser--> statements --session--> DDL: catalog
//!                                              \-> queries: bind -> LogicalPlan -> DataFusion (bounded)
//!                                              \-> INSERTs of a job: lower -> engine graph (unbounded)
//! ```

pub mod functions;
pub mod generate;
pub mod output;
pub mod session;
pub mod types;
