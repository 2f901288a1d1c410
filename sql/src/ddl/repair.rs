//! `MSCK REPAIR TABLE`: registers the folders that follow the layout and are not registered yet.
//!
//! Invariant: nothing registered is removed or changed; all that is found is registered in one step, or nothing is where
//! two folders are one partition.

use std::collections::HashSet;

use headwater_connectors::lake::write::partition::Values;
use headwater_engine::{
    catalog::{IfExists, PartitionDiscovery, TableKind},
    error::{Error, Result},
};

use super::{
    partitions::{self, not_partitioned},
    rows, table_named,
};
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
    let registered = session.catalog().partitions(&table.name).await?;
    let known: HashSet<&[Option<String>]> = registered.iter().map(|partition| partition.values.as_slice()).collect();
    let (mut added, mut names) = (Vec::new(), Vec::new());
    let found = partitions::found(session, &table).await?;
    // They are sorted by their values.
    if let Some([(values, one), (_, other)]) = found.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let path = partitions::path(&table, values);
        return Err(Error::data(
            "HIVE_INVALID_METADATA",
            format!("\"{one}\" and \"{other}\" are both partition {path}"),
        )
        .with_hint("move the files of one into the other; a partition is one folder"));
    }
    for (values, location) in found {
        if known.contains(values.as_slice()) {
            continue;
        }
        let path = partitions::path(&table, &values);
        names.push((values.clone(), format!("{}:{path}", table.name.table)));
        let is_usual = location.ends_with(&format!("/{path}/"));
        added.push(partitions::partition(values, (!is_usual).then_some(location)));
    }
    if added.is_empty() {
        return Ok(Outcome::done());
    }
    session.catalog().add_partitions(&table.name, added, IfExists::Keep).await?;
    // A folder that is another partition's by its location is not registered once more.
    let stored: HashSet<Values> =
        session.catalog().partitions(&table.name).await?.into_iter().map(|partition| partition.values).collect();
    let names: Vec<String> =
        names.into_iter().filter(|(values, _)| stored.contains(values)).map(|(_, name)| name).collect();
    if names.is_empty() {
        return Ok(Outcome::done());
    }
    let head = format!("Partitions not in metastore:\t{}", names.join("\t"));
    let lines = names.iter().map(|name| format!("Repair: Added partition to metastore {name}"));
    rows::lines("result", std::iter::once(head).chain(lines))
}
