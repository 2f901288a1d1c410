//! What statements about the catalog do.
//!
//! Invariant: a statement changes the catalog in one step or not at all; files of external tables are never touched.

pub mod rows;
pub(crate) mod run_table;
pub(crate) mod show;

use headwater_engine::error::{Error, Result};

use crate::{
    parser::ddl::Ddl,
    session::{Outcome, Session},
};

/// Runs a statement about the catalog.
pub(crate) async fn run(_session: &Session, _ddl: &Ddl) -> Result<Outcome> {
    Err(Error::not_supported("this statement is not supported"))
}
