//! Where a statement writes: a table's folder or a location, with its format, keys and known partitions.
//!
//! Invariant: partitions of one table lie in one store; rows of a registered or projected partition go to its own folder.

use std::sync::Arc;

use arrow::datatypes::DataType;
use headwater_connectors::lake::{
    commit::{
        CatalogRegistrar,
        site::site_of,
        transaction::{NoCatalog, visible_files},
    },
    hive_type,
    layout::Key,
    projection::{Projection, at_millis},
    pruning::FileFilter,
    stores::Place,
    write::{Layout, Limits, WriteFormat, WriteTarget},
};
use headwater_engine::{
    catalog::{Column, FileFormat, PartitionDiscovery, Properties, Table, TableName},
    error::{Error, Result},
    time::{Clock, SystemClock},
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
pub(super) async fn of_table(session: &Session, table: &Table) -> Result<WriteTarget> {
    let registrar = Arc::new(CatalogRegistrar::new(Arc::clone(session.catalog())));
    let place = session.stores().resolve(&table.location, &table.properties).await?;
    let site = site_of(&place, registrar);
    let mut layout = Layout::flat(site.root.clone());
    layout.keys = table.partition_keys.iter().map(|key| key.name.clone()).collect();
    let mut register = None;
    if let Some(projection) = projection_of(table)? {
        know_projected(session, table, &projection, &place, &mut layout).await?;
    } else if !layout.keys.is_empty() && table.discovery == PartitionDiscovery::Registered {
        register = Some(table.name.clone());
        know_partitions(session, table, &place, &mut layout).await?;
    }
    let format = WriteFormat::of(&table.storage, &table.properties)?;
    let limits = limits_of(table)?;
    Ok(WriteTarget { site, location: table.location.clone(), format, layout, register, limits, explain: classify })
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
    let location = location.to_owned();
    Ok(WriteTarget { site, location, format, layout, register: None, limits: Limits::default(), explain: classify })
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

async fn know_partitions(session: &Session, table: &Table, place: &Place, layout: &mut Layout) -> Result<()> {
    let types: Vec<DataType> =
        table.partition_keys.iter().map(|key| hive_type::parse(&key.type_text)).collect::<Result<_>>()?;
    let registered = match session.catalog().partitions(&table.name).await {
        // The table is about to be created.
        Err(error) if error.code().0 == "TABLE_NOT_FOUND" => Vec::new(),
        registered => registered?,
    };
    let mut known = Vec::new();
    for partition in registered {
        let folder = match &partition.location {
            None => None,
            Some(location) => Some(folder_in(session, table, place, location).await?),
        };
        known.push((partition.values, folder));
    }
    layout.know(&types, known)
}

fn keys(table: &Table) -> Result<Vec<Key>> {
    let key = |key: &Column| Ok(Key { name: key.name.clone(), data_type: hive_type::parse(&key.type_text)? });
    table.partition_keys.iter().map(key).collect()
}

/// How a table projects its partitions, if it does.
pub(crate) fn projection_of(table: &Table) -> Result<Option<Projection>> {
    Projection::of(table, &keys(table)?, at_millis(SystemClock.now().0))
}

/// The folders where readers of a projected table look; rows of other partitions would not be found again.
async fn know_projected(
    session: &Session,
    table: &Table,
    projection: &Projection,
    place: &Place,
    layout: &mut Layout,
) -> Result<()> {
    if projection.has_injected() {
        if projection.has_template() {
            let message = format!("\"{}\" has an injected key and a location template", table.name);
            return Err(Error::not_supported(message)
                .with_hint("write to a table over the same folder with partitions that are registered"));
        }
        return Ok(());
    }
    let keys = keys(table)?;
    let types: Vec<DataType> = keys.iter().map(|key| key.data_type.clone()).collect();
    let mut known = Vec::new();
    for values in projection.partitions(&FileFilter::none(Vec::new()))?.partitions {
        let folder = match projection.has_template() {
            true => Some(folder_in(session, table, place, &projection.location(&table.location, &values)).await?),
            false => None,
        };
        known.push((values.into_iter().map(|value| value.raw).collect(), folder));
    }
    layout.know(&types, known)?;
    layout.only_known = true;
    Ok(())
}

async fn folder_in(session: &Session, table: &Table, site: &Place, location: &str) -> Result<String> {
    let found = session.stores().resolve(location, &table.properties).await?;
    if found.root != site.root {
        let message = format!("a partition of \"{}\" lies in another store: {location}", table.name);
        return Err(Error::not_supported(message).with_hint(format!("its other files are in {}", site.root)));
    }
    Ok(found.path.to_string())
}
