//! SQL for Headwater: parse -> bind -> plan -> run in batch, or lower to the streaming graph.
//!
//! ```text
//!  script text --parser--> statements --session--> DDL: catalog
//!                                              \-> queries: bind -> LogicalPlan -> DataFusion (bounded)
//!                                              \-> INSERTs of a job: lower -> engine graph (unbounded)
//! ```

pub mod bind;
pub mod cli;
pub mod ddl;
pub mod diagnostics;
mod fence;
mod files;
pub mod frames;
pub mod functions;
pub mod generate;
pub mod information_schema;
mod jobs;
pub mod kernels;
pub mod lower;
pub mod matching;
pub mod output;
pub mod parser;
mod recursion;
pub mod repl;
pub mod run_tables;
pub mod secrets;
pub mod session;
pub mod settings;
pub mod sketches;
pub mod tables;
pub mod types;
mod unary;
pub mod windows;
mod write;
