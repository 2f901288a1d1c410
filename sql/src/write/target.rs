//! Where a statement writes: a table's folder or a location, with its format, keys and known partitions.
//!
//! Invariant: partitions of one table lie in one store; rows of a registered or projected partition go to its own folder.

use std::sync::Arc;

use headwater_connectors::lake::{
    commit::{
        CatalogRegistrar,
        site::site_of,
        transaction::{NoCatalog, visible_files},
    },
    write::{
        Layout, Limits, WriteFormat, WriteTarget,
        known::{Change, Written, projection_of},
    },
};
use headwater_engine::{
    catalog::{FileFormat, PartitionDiscovery, Properties, Table, TableName},
    error::{Error, Result},
};

use super::options::FileOptions;
use crate::{
    diagnostics::classify,
    run_tables::filesystem_entry,
    session::Session,
    settings::{ByteCount, SettingValue},
    tables::RunTable,
};

/// The target of a table's rows.
pub(super) async fn of_table(session: &Session, table: &Table, change: Change) -> Result<WriteTarget> {
    let catalog = session.catalog();
    let place = session.stores().resolve(&table.location, &table.properties).await?;
    let registrar = CatalogRegistrar::new(Arc::clone(catalog));
    // A table of the run hides one of the catalog, which is not the one that is written then.
    let is_of_run = session.run_tables().read().contains_key(&table.name);
    let registrar = match catalog.table(&table.name).await? {
        Some(_) if !is_of_run => registrar.writing(table),
        _ => registrar,
    };
    let site = site_of(&place, Arc::new(registrar));
    let written = Written { table, place: &place, stores: session.stores(), catalog: Some(catalog.as_ref()) };
    let layout = written.layout(change).await?;
    let is_registered = !layout.keys.is_empty() && table.discovery == PartitionDiscovery::Registered;
    let register = (is_registered && projection_of(table)?.is_none()).then(|| table.name.clone());
    if register.is_some() {
        catalog.id().await?;
    }
    let format = WriteFormat::of(&table.storage, &table.properties)?;
    let limits = limits_of(table)?;
    let (location, stats) = (table.location.clone(), session.counters());
    Ok(WriteTarget { site, location, format, layout, register, limits, stats, explain: classify })
}

/// The property that says at how many bytes a file is closed.
pub(crate) const FILE_SIZE: &str = "sink.rolling-policy.file-size";

/// What a table's properties bound its writers to.
pub(crate) fn limits_of(table: &Table) -> Result<Limits> {
    let mut limits = Limits::default();
    if let Some((_, size)) = table.properties.iter().find(|(key, _)| key.eq_ignore_ascii_case(FILE_SIZE)) {
        let bytes = ByteCount::parse(size.trim()).ok().filter(|bytes| bytes.0 > 0).ok_or_else(|| {
            Error::user("INVALID_TABLE_PROPERTY", format!("'{FILE_SIZE}' is \"{size}\""))
                .with_hint("write a size such as '128 MB'")
        })?;
        limits.file_bytes = bytes.0;
    }
    Ok(limits)
}

/// The target of rows that belong to no table.
pub(super) async fn of_location(session: &Session, location: &str, files: &FileOptions) -> Result<WriteTarget> {
    let place = session.stores().resolve(location, &Properties::new()).await?;
    let site = site_of(&place, Arc::new(NoCatalog));
    let layout = Layout { keys: files.partitioned_by.clone(), ..Layout::flat(site.root.clone()) };
    let format = WriteFormat::of(&files.storage, &files.properties)?;
    let (location, limits, stats) = (location.to_owned(), Limits::default(), session.counters());
    Ok(WriteTarget { site, location, format, layout, register: None, limits, stats, explain: classify })
}

/// The lake table that a table of the run is.
pub(super) fn of_run_table(name: &TableName, table: &RunTable) -> Result<Arc<Table>> {
    match table {
        RunTable::Table(table) if table.option("connector") == Some("filesystem") => {
            let mut entry = filesystem_entry(name, table)?;
            // What jobs write to a path is not compressed unless it is asked for.
            if entry.storage.format != FileFormat::Parquet {
                entry.properties.entry("compression".into()).or_insert_with(|| "none".into());
            }
            Ok(Arc::new(entry))
        }
        RunTable::Table(_) => Err(Error::not_supported(format!("table \"{name}\" cannot be written in batch"))
            .with_hint("run the file with: headwater run FILE")),
        RunTable::View(_) => Err(Error::not_supported(format!("\"{name}\" is a view; it holds no rows"))
            .with_hint("insert into the tables it reads")),
    }
}

/// `HIVE_PATH_ALREADY_EXISTS` if files are there.
pub(super) async fn expect_empty(target: &WriteTarget) -> Result<()> {
    if visible_files(&target.site, std::slice::from_ref(&target.site.root)).await?.is_empty() {
        return Ok(());
    }
    let message = format!("target folder \"{}\" already exists and is not empty", target.location);
    Err(Error::user("HIVE_PATH_ALREADY_EXISTS", message)
        .with_hint("choose another location, or delete its files first"))
}
