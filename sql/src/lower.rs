//! From INSERTs over unbounded tables to the engine's graph.
//!
//! ```text
//!  INSERTs --bind, optimize--> plans --sources--> one source node a table, shared
//!                                    \--flow----> steps on a branch | operators --insert--> a sink each
//! ```
//!
//! A flow grows from the table upwards: as long as it is stateless its steps belong to the source's branch; the first
//! stateful operator ends the branch. What cannot run continuously is refused here, with the reason and the way out.
//!
//! Invariant: lowering decides nothing about time or windows; the engine's own types carry what the query says.

pub(crate) mod accepted;
mod aggregate;
pub(crate) mod aside;
mod beside;
mod columns;
mod explain;
mod facts;
mod flow;
mod folder;
mod follow;
mod insert;
mod join;
mod lake_time;
mod lookup;
mod once;
mod rank;
mod refused;
mod scan;
mod semi;
mod sources;
mod stateless;
pub(crate) mod table;
mod wavering;

pub(crate) use self::explain::text;
pub(crate) use self::follow::follow;
pub use self::insert::lower_inserts;
pub(crate) use self::insert::{Reads, lower_job, plan_for_sink, reads};
pub(crate) use self::lake_time::lake_time;
pub(crate) use self::scan::statement_context;
