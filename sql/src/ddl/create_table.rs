//! `CREATE EXTERNAL TABLE`: from the clauses to an entry of the catalog.
//!
//! Invariant: an entry that is registered can be read: its types, format, location and properties were checked.

use headwater_connectors::lake::hive_type;
use headwater_engine::{
    catalog::{Column, Partition, PartitionDiscovery, Properties, Table, TableKind},
    error::{Error, Location, Result},
};

use super::{infer, names, properties, secrets, storage};
use crate::{
    parser::ddl::CreateTable,
    session::{Outcome, Session},
};

/// The property that says how partitions are found where the form of the DDL does not.
pub(super) const DISCOVERY_KEY: &str = "partition.discovery";
/// Hive's property of an external table whose files go when it is dropped, as those of `CREATE TABLE AS` do here.
pub(super) const PURGE_KEY: &str = "external.table.purge";

/// Registers the table.
pub(super) async fn run(session: &Session, create: &CreateTable) -> Result<Outcome> {
    let name = names::new_table(session, &create.name)?;
    if session.catalog().table(&name).await?.is_some() {
        if create.if_not_exists {
            return Ok(Outcome::done());
        }
        return Err(Error::user("TABLE_ALREADY_EXISTS", format!("table \"{name}\" exists already"))
            .with_hint("CREATE EXTERNAL TABLE IF NOT EXISTS leaves it as it is")
            .at(create.name.at()));
    }
    let table = entry(session, create).await?;
    match session.catalog().create_table(table, Vec::<Partition>::new()).await {
        Err(error) if error.code().0 == "TABLE_ALREADY_EXISTS" && create.if_not_exists => Ok(Outcome::done()),
        other => other.map(|()| Outcome::done()),
    }
}

async fn entry(session: &Session, create: &CreateTable) -> Result<Table> {
    let storage = storage::storage(create)?;
    let location = session.stores().absolute(&location(create)?);
    let mut properties: Properties = create.properties.iter().cloned().collect();
    anchor_template(session, &location, &mut properties);
    let discovery = discovery(create, &mut properties)?;
    for pairs in [&properties, &storage.serde_properties] {
        secrets::refuse_literals(pairs).map_err(|error| error.at(create.location_at))?;
    }
    let kind = match properties.remove(PURGE_KEY).is_some_and(|purge| purge.eq_ignore_ascii_case("true")) {
        true => TableKind::Managed,
        false => TableKind::External,
    };
    let mut table = Table {
        name: session.table_name(&create.name)?,
        kind,
        columns: create.columns.clone(),
        partition_keys: create.partition_keys.clone(),
        storage,
        location,
        discovery,
        properties,
        comment: create.comment.clone(),
        version: 0,
    };
    if table.columns.is_empty() || table.partition_keys.iter().any(|key| key.type_text.is_empty()) {
        infer::fill_in(session, &mut table, None).await.map_err(|error| error.at(create.location_at))?;
    }
    check_columns(&table.columns, &table.partition_keys, create.name.at())?;
    properties::check(session, &table).map_err(|error| error.at(create.location_at))?;
    Ok(table)
}

/// A template of locations that is a relative path is counted from here, as a location is; one that begins with a key
/// names folders below the location.
pub(super) fn anchor_template(session: &Session, location: &str, properties: &mut Properties) {
    let template = properties.iter_mut().find(|(key, _)| key.eq_ignore_ascii_case("storage.location.template"));
    if let Some((_, template)) = template
        && !template.is_empty()
    {
        *template = match template.starts_with("${") {
            true => format!("{}/{template}", location.trim_end_matches('/')),
            false => session.stores().absolute(template),
        };
    }
}

fn location(create: &CreateTable) -> Result<String> {
    let refuse = |message: String, hint: &str| {
        Err(Error::user("INVALID_TABLE_PROPERTY", message).with_hint(hint).at(create.location_at))
    };
    let Some(location) = &create.location else {
        return Err(Error::user("MISSING_TABLE_PROPERTY", "an external table needs a LOCATION")
            .with_hint("name the folder of its files: LOCATION 's3://bucket/folder/'")
            .at(create.location_at));
    };
    check_location(location).or_else(|(message, hint)| refuse(message, hint))?;
    Ok(location.clone())
}

/// Whether a location names a folder; else what is wrong, and what to do.
pub(crate) fn check_location(location: &str) -> Result<(), (String, &'static str)> {
    if location.trim().is_empty() {
        return Err(("the location is empty".to_owned(), "name the folder of the files"));
    }
    if location.contains(['*', '?', '[']) {
        let message = format!("location \"{location}\" is a pattern, not a folder");
        return Err((message, "name the folder; every file in it and below is read"));
    }
    if let Some((scheme, rest)) = location.split_once("://") {
        if rest.split('/').next().is_some_and(|authority| authority.contains('@')) {
            let message = format!("the location of scheme \"{scheme}\" holds credentials");
            return Err((message, "leave them out; they are taken from the environment"));
        }
        if scheme.starts_with("s3") && !rest.contains('/') {
            let message = format!("location \"{location}\" names a bucket, not a folder");
            return Err((message, "end it with a slash to take the whole bucket"));
        }
    }
    Ok(())
}

/// How partitions are found; the property says it only where it differs from what the form of the DDL says.
fn discovery(create: &CreateTable, properties: &mut Properties) -> Result<PartitionDiscovery> {
    let by_form = storage::is_short_form(create);
    let is_discovered = match properties.remove(DISCOVERY_KEY).as_deref() {
        None => by_form,
        Some("true") => true,
        Some("false") => false,
        Some(other) => {
            let message = format!("property \"{DISCOVERY_KEY}\" cannot be \"{other}\"");
            return Err(Error::user("INVALID_TABLE_PROPERTY", message).with_hint("it takes true or false"));
        }
    };
    Ok(if is_discovered { PartitionDiscovery::Discovered } else { PartitionDiscovery::Registered })
}

/// Refuses names that repeat, and types that files cannot have.
pub(super) fn check_columns(columns: &[Column], keys: &[Column], at: Location) -> Result<()> {
    let all: Vec<&Column> = columns.iter().chain(keys).collect();
    for (index, column) in all.iter().enumerate() {
        if all[..index].iter().any(|other| other.name.eq_ignore_ascii_case(&column.name)) {
            let is_key = index >= columns.len();
            let error =
                Error::user("DUPLICATE_COLUMN_NAME", format!("column \"{}\" is named twice", column.name)).at(at);
            return Err(match is_key {
                true => error.with_hint("a partition key is a column already; leave it out of the column list"),
                false => error,
            });
        }
        hive_type::parse(&column.type_text)
            .map_err(|error| error.context(format!("column \"{}\"", column.name)).at(at))?;
    }
    Ok(())
}
