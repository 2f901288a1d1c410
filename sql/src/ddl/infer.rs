//! Columns and partition keys of a table whose DDL leaves them out, from a sample of its files.
//!
//! Invariant: what the DDL says is kept; only what it leaves out is inferred.

use arrow::datatypes::DataType;
use headwater_connectors::lake::{
    format::{Malformed, ReadFormat},
    hive_type,
    listing::{Pattern, infer_keys},
    sample,
    stores::not_a_folder,
};
use headwater_engine::{
    catalog::{Column, PartitionDiscovery, Table},
    error::{Error, Result},
};

use crate::{files::exists, session::Session};

/// Fills in the columns and the types of partition keys that are missing.
pub(crate) async fn fill_in(session: &Session, table: &mut Table, only: Option<&Pattern>) -> Result<()> {
    let place = session.stores().resolve(&table.location, &table.properties).await?;
    let found = match table.discovery {
        PartitionDiscovery::Registered if table.partition_keys.is_empty() => Vec::new(),
        PartitionDiscovery::Registered | PartitionDiscovery::Discovered => infer_keys(&place).await?,
    };
    let found: Vec<Column> = found.into_iter().map(|key| column(&key.name, &key.data_type)).collect::<Result<_>>()?;
    if table.partition_keys.is_empty() && table.discovery == PartitionDiscovery::Discovered {
        table.partition_keys = found;
    } else {
        for key in table.partition_keys.iter_mut().filter(|key| key.type_text.is_empty()) {
            let known = found.iter().find(|found| found.name.eq_ignore_ascii_case(&key.name));
            key.type_text = known.map_or_else(|| "string".to_owned(), |found| found.type_text.clone());
        }
    }
    if !table.columns.is_empty() {
        return Ok(());
    }
    let sampled = sample::look(&place, &ReadFormat::of(table, Malformed::Skip)?, only).await?;
    for (key, value) in sampled.properties {
        table.properties.entry(key.to_owned()).or_insert(value);
    }
    let schema = sampled.columns;
    let is_key = |name: &str| table.partition_keys.iter().any(|key| key.name.eq_ignore_ascii_case(name));
    let fields = schema.fields().iter().filter(|field| !is_key(field.name()));
    table.columns = fields.map(|field| column(field.name(), field.data_type())).collect::<Result<_>>()?;
    if table.columns.is_empty() && only.is_none() && exists(&place).await? {
        return Err(not_a_folder(&place.to_string()));
    }
    if table.columns.is_empty() {
        let message =
            format!("no row to infer the columns of \"{}\" from was found in \"{}\"", table.name, table.location);
        return Err(Error::user("INVALID_TABLE_PROPERTY", message)
            .with_hint("check LOCATION, or write the columns in parentheses after the table's name"));
    }
    Ok(())
}

fn column(name: &str, data_type: &DataType) -> Result<Column> {
    Ok(Column { name: name.to_lowercase(), type_text: hive_type::text(data_type)?, comment: None })
}
