//! `UNLOAD (query) TO 'location'`: files without a table.
//!
//! Invariant: the location is empty before, and holds the whole result or nothing after.

use headwater_connectors::lake::write::Mode;
use headwater_engine::{catalog::Column, error::Result};

use super::{
    columns::{self, From},
    create::split_keys,
    options, target,
};
use crate::{
    parser::statement::Unload,
    session::{Outcome, Session},
};

/// Runs the statement.
pub(crate) async fn unload(session: &Session, unload: &Unload) -> Result<Outcome> {
    let files = options::of_unload(&unload.options)?;
    let stats = session.counters();
    let (bound, state) = session.bound(&unload.query, &stats).await?;
    let mut all = columns::of_query(&bound.columns, &[], unload.location_at)?;
    for (column, name) in all.iter_mut().zip(columns::written_names(&unload.query, &bound.columns)) {
        column.name = name;
    }
    split_keys(&all, &files.partitioned_by).map_err(|error| error.at(unload.location_at))?;
    let from: Vec<(Column, From)> =
        all.into_iter().enumerate().map(|(index, column)| (column, From::Query(index))).collect();
    let plan = columns::assigned(bound, &from)?;
    let target =
        target::of_location(session, &unload.location, &files).await.map_err(|error| error.at(unload.location_at))?;
    super::run(plan, &state, target, Mode::CreateNew { table: None }, stats).await
}
