//! Partitions: added, dropped, renamed, moved, and found by `MSCK REPAIR TABLE`.
//!
//! Invariant: a statement registers all its partitions or none; files and folders are never touched.

use std::sync::Arc;

use arrow::{
    array::{RecordBatch, new_empty_array},
    datatypes::{DataType, Schema},
};
use datafusion::{catalog::TableProvider, common::ScalarValue, datasource::MemTable};
use headwater_connectors::lake::{
    hive_type,
    layout::{Key, NULL_FOLDER, Value, folder_name},
    listing::find_partitions,
    provider::fields,
};
use headwater_engine::{
    catalog::{Column, IfExists, Partition, PartitionDiscovery, Properties, Table},
    error::{Error, Result},
};

use super::create_table::check_location;
use crate::{
    diagnostics::did_you_mean,
    parser::{
        cursor::Identifier,
        ddl::{PartitionSpec, TableChange},
    },
    session::Session,
};

/// Makes a change of partitions; `false` if the change is one of the table's own entry.
pub(super) async fn change(session: &Session, table: &Table, change: &TableChange) -> Result<bool> {
    let is_of_partition = match change {
        TableChange::AddPartitions { partitions, .. } => partitions.iter().all(|spec| spec.location.is_none()),
        TableChange::SetLocation { partition, .. } => partition.is_some(),
        change => matches!(change, TableChange::DropPartitions { .. } | TableChange::RenamePartition { .. }),
    };
    if is_of_partition && table.discovery == PartitionDiscovery::Discovered && !table.partition_keys.is_empty() {
        let message = format!("partitions of \"{}\" are the folders that are there on each query", table.name);
        return Err(Error::not_supported(message).with_hint(
            "add or delete the folder, or create the table with the property 'partition.discovery' = 'false'",
        ));
    }
    match change {
        TableChange::AddPartitions { if_not_exists, partitions } => {
            add(session, table, *if_not_exists, partitions).await?
        }
        TableChange::DropPartitions { if_exists, partitions } => drop(session, table, *if_exists, partitions).await?,
        TableChange::RenamePartition { from, to } => rename(session, table, from, to).await?,
        TableChange::SetLocation { partition: Some(spec), location } => move_to(session, table, spec, location).await?,
        TableChange::SetLocation { partition: None, .. }
        | TableChange::AddColumns(_)
        | TableChange::ReplaceColumns(_)
        | TableChange::ChangeColumn { .. }
        | TableChange::DropColumn(_)
        | TableChange::SetProperties(_)
        | TableChange::UnsetProperties(_) => return Ok(false),
    }
    Ok(true)
}

async fn add(session: &Session, table: &Table, if_not_exists: bool, specs: &[PartitionSpec]) -> Result<()> {
    let mut added: Vec<Partition> = Vec::with_capacity(specs.len());
    for spec in specs {
        let values = all_values(table, spec)?;
        if let Some(location) = &spec.location {
            check_location(location)
                .map_err(|(message, hint)| Error::user("INVALID_TABLE_PROPERTY", message).with_hint(hint))?;
            if table.discovery == PartitionDiscovery::Discovered {
                let message = format!("partitions of \"{}\" are found in its folder, not elsewhere", table.name);
                return Err(Error::not_supported(message)
                    .with_hint("create the table with the property 'partition.discovery' = 'false'")
                    .at(place_of(spec)));
            }
        }
        if added.iter().any(|other| other.values == values) {
            return Err(Error::user("ALREADY_EXISTS", "a partition is named twice").at(place_of(spec)));
        }
        let location = spec.location.as_deref().map(|location| session.stores().absolute(location));
        added.push(Partition { values, location, columns: None, properties: Properties::new() });
    }
    let exists = if if_not_exists { IfExists::Keep } else { IfExists::Fail };
    session.catalog().add_partitions(&table.name, added, exists).await?;
    Ok(())
}

async fn drop(session: &Session, table: &Table, if_exists: bool, specs: &[PartitionSpec]) -> Result<()> {
    let registered = session.catalog().partitions(&table.name).await?;
    let mut dropped = Vec::new();
    for spec in specs {
        let found = matching(table, spec, &registered)?;
        if found.is_empty() && !if_exists {
            return Err(no_partition(table, spec)
                .with_hint("SHOW PARTITIONS lists them; DROP IF EXISTS PARTITION ignores missing ones"));
        }
        dropped.extend(found.into_iter().map(|partition| partition.values.clone()));
    }
    session.catalog().drop_partitions(&table.name, &dropped).await?;
    Ok(())
}

async fn one(session: &Session, table: &Table, spec: &PartitionSpec) -> Result<Partition> {
    all_values(table, spec)?;
    let registered = session.catalog().partitions(&table.name).await?;
    let found = matching(table, spec, &registered)?;
    found.first().map(|partition| Partition::clone(partition)).ok_or_else(|| no_partition(table, spec))
}

async fn rename(session: &Session, table: &Table, from: &PartitionSpec, to: &PartitionSpec) -> Result<()> {
    let mut partition = one(session, table, from).await?;
    let old = partition.values.clone();
    partition.location.get_or_insert_with(|| folder_of(table, &old));
    partition.values = all_values(table, to)?;
    if partition.values == old {
        return Ok(());
    }
    session.catalog().rename_partition(&table.name, &old, partition).await
}

async fn move_to(session: &Session, table: &Table, spec: &PartitionSpec, location: &str) -> Result<()> {
    check_location(location)
        .map_err(|(message, hint)| Error::user("INVALID_TABLE_PROPERTY", message).with_hint(hint))?;
    let mut partition = one(session, table, spec).await?;
    partition.location = Some(session.stores().absolute(location));
    session.catalog().add_partitions(&table.name, vec![partition], IfExists::Update).await?;
    Ok(())
}

/// The partitions of a table: registered, or found in its folders where they are listed on every query.
pub(super) async fn known(session: &Session, table: &Table) -> Result<Vec<Partition>> {
    if table.discovery == PartitionDiscovery::Registered {
        return session.catalog().partitions(&table.name).await;
    }
    Ok(found(session, table).await?.into_iter().map(|(values, location)| partition(values, Some(location))).collect())
}

/// `"t$partitions"`: a row for each partition of a table, with a column for each key.
pub(crate) async fn as_table(session: &Session, table: &Table) -> Result<Arc<dyn TableProvider>> {
    if table.partition_keys.is_empty() {
        return Err(not_partitioned(table));
    }
    let fields = fields(&table.partition_keys)?;
    let partitions = known(session, table).await?;
    let mut columns = Vec::with_capacity(fields.len());
    for (index, field) in fields.iter().enumerate() {
        let null = || ScalarValue::try_from(field.data_type());
        let values = partitions
            .iter()
            .map(|partition| {
                let text = partition.values.get(index).and_then(Option::as_deref);
                Ok(Value::parse(text, field.data_type()).map_or_else(null, |value| Ok(value.typed))?)
            })
            .collect::<Result<Vec<_>>>()?;
        columns.push(match values.is_empty() {
            true => new_empty_array(field.data_type()),
            false => ScalarValue::iter_to_array(values)?,
        });
    }
    let schema = Arc::new(Schema::new(fields));
    let rows = RecordBatch::try_new(schema.clone(), columns)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![rows]])?))
}

/// Folders below a table's location that follow its layout: the values, and where each is.
pub(super) async fn found(session: &Session, table: &Table) -> Result<Vec<(Vec<Option<String>>, String)>> {
    let place = session.stores().resolve(&table.location, &table.properties).await?;
    let keys: Result<Vec<Key>> = fields(&table.partition_keys)?
        .into_iter()
        .map(|field| Ok(Key { name: field.name().clone(), data_type: field.data_type().clone() }))
        .collect();
    let folders = find_partitions(&place, &keys?).await?;
    let mut found: Vec<_> = folders.into_iter().map(|(values, place)| (values, format!("{place}/"))).collect();
    found.sort();
    Ok(found)
}

/// A partition of these values.
pub(super) fn partition(values: Vec<Option<String>>, location: Option<String>) -> Partition {
    Partition { values, location, columns: None, properties: Properties::new() }
}

/// The folder that the layout gives a partition, ending with a slash.
pub(super) fn folder_of(table: &Table, values: &[Option<String>]) -> String {
    format!("{}/{}/", table.location.trim_end_matches('/'), path(table, values))
}

/// `key=value/key=value`, as `SHOW PARTITIONS` writes it.
pub(super) fn path(table: &Table, values: &[Option<String>]) -> String {
    let parts: Vec<_> =
        table.partition_keys.iter().zip(values).map(|(key, value)| folder_name(&key.name, value.as_deref())).collect();
    parts.join("/")
}

/// The values of a spec that names every key, in key order.
fn all_values(table: &Table, spec: &PartitionSpec) -> Result<Vec<Option<String>>> {
    let named = named_values(table, spec)?;
    named
        .into_iter()
        .zip(&table.partition_keys)
        .map(|(value, key)| {
            value.ok_or_else(|| {
                let message = format!("the partition has no value for key \"{}\"", key.name);
                Error::user("INVALID_PARTITION_VALUE", message).at(place_of(spec))
            })
        })
        .collect()
}

/// For each key in key order the value the spec gives it, if any.
fn named_values(table: &Table, spec: &PartitionSpec) -> Result<Vec<Option<Option<String>>>> {
    if table.partition_keys.is_empty() {
        return Err(not_partitioned(table).at(place_of(spec)));
    }
    let mut values: Vec<Option<Option<String>>> = vec![None; table.partition_keys.len()];
    for (name, value) in &spec.values {
        let index = key_index(table, name)?;
        if values[index].is_some() {
            return Err(Error::user("SYNTAX_ERROR", format!("key \"{}\" is given twice", name.value)).at(name.at));
        }
        check_value(&table.partition_keys[index], value.as_deref()).map_err(|error| error.at(name.at))?;
        values[index] = Some(value.clone().filter(|text| !text.is_empty() && text != NULL_FOLDER));
    }
    Ok(values)
}

fn key_index(table: &Table, name: &Identifier) -> Result<usize> {
    let index = table.partition_keys.iter().position(|key| key.name.eq_ignore_ascii_case(&name.value));
    index.ok_or_else(|| {
        let message = format!("\"{}\" is not a partition key of \"{}\"", name.value, table.name);
        let error = Error::user("COLUMN_NOT_FOUND", message).at(name.at);
        did_you_mean(error, &name.value, table.partition_keys.iter().map(|key| key.name.as_str()))
    })
}

/// Refuses a value that the key's type cannot hold.
fn check_value(key: &Column, value: Option<&str>) -> Result<()> {
    if Value::parse(value, &hive_type::parse(&key.type_text)?).is_some() {
        return Ok(());
    }
    let (value, key_type) = (value.unwrap_or_default(), &key.type_text);
    let message = format!("\"{value}\" is not a value of partition key \"{}\", which is {key_type}", key.name);
    Err(Error::user("INVALID_PARTITION_VALUE", message))
}

/// Registered partitions that have the values of a spec, compared in the types of the keys.
pub(super) fn matching<'a>(
    table: &Table,
    spec: &PartitionSpec,
    registered: &'a [Partition],
) -> Result<Vec<&'a Partition>> {
    let wanted = named_values(table, spec)?;
    let types: Vec<_> =
        table.partition_keys.iter().map(|key| hive_type::parse(&key.type_text)).collect::<Result<_>>()?;
    let bounds = spec.bounds.iter().map(|(name, bound, text)| {
        let index = key_index(table, name)?;
        check_value(&table.partition_keys[index], Some(text)).map_err(|error| error.at(name.at))?;
        Ok((index, *bound, Value::parse(Some(text), &types[index])))
    });
    let bounds = bounds.collect::<Result<Vec<_>>>()?;
    let is_within = |partition: &Partition| {
        bounds.iter().all(|(index, bound, limit)| {
            let value = partition.values[*index].as_deref().and_then(|text| Value::parse(Some(text), &types[*index]));
            let (Some(value), Some(limit)) = (value, limit) else { return false };
            value.typed.partial_cmp(&limit.typed).is_some_and(|ordering| bound.holds(ordering))
        })
    };
    let is_same = |data_type: &DataType, wanted: &Option<String>, value: &Option<String>| {
        let typed = |text: &Option<String>| Value::parse(text.as_deref(), data_type).map(|value| value.typed);
        wanted == value || typed(wanted).is_some_and(|wanted| typed(value) == Some(wanted))
    };
    Ok(registered
        .iter()
        .filter(|partition| is_within(partition))
        .filter(|partition| {
            types
                .iter()
                .zip(&wanted)
                .zip(&partition.values)
                .all(|((key, wanted), value)| wanted.as_ref().is_none_or(|wanted| is_same(key, wanted, value)))
        })
        .collect())
}

fn place_of(spec: &PartitionSpec) -> headwater_engine::error::Location {
    let first = spec.values.first().map(|(name, _)| name);
    let first = first.or_else(|| spec.bounds.first().map(|(name, ..)| name));
    first.map_or(headwater_engine::error::Location { line: 1, column: 1 }, |name| name.at)
}

pub(super) fn no_partition(table: &Table, spec: &PartitionSpec) -> Error {
    let values: Vec<_> = spec
        .values
        .iter()
        .map(|(name, value)| format!("{}={}", name.value, value.as_deref().unwrap_or("NULL")))
        .chain(spec.bounds.iter().map(|(name, bound, value)| format!("{}{}{value}", name.value, bound.symbol())))
        .collect();
    Error::user("NOT_FOUND", format!("partition {} of \"{}\" does not exist", values.join("/"), table.name))
        .at(place_of(spec))
}

/// The error for a table without partition keys.
pub(super) fn not_partitioned(table: &Table) -> Error {
    Error::user("NOT_SUPPORTED", format!("table \"{}\" is not partitioned", table.name))
}
