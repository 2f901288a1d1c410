//! Tables of the run in a batch statement.
//!
//! Invariant: a `filesystem` table reads like a lake table whose folders are listed; every other connector is read to
//! the end that was there at the start.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use headwater_engine::{
    catalog::{Column, FileFormat, PartitionDiscovery, Properties, Storage, Table, TableKind, TableName},
    error::{Error, Result},
};

use crate::{
    diagnostics::did_you_mean,
    lower::table::{StreamTable, written},
    parser::stream_ddl::{CreateStreamTable, StreamColumn, StreamColumnKind, TableOption},
    tables::{StatementTables, TableReader},
};

/// What reads a table of the run.
pub(crate) async fn provider(
    tables: &StatementTables,
    name: &TableName,
    table: &CreateStreamTable,
) -> Result<Arc<dyn TableProvider>> {
    match (table.option("connector").unwrap_or_default(), tables.reader) {
        ("filesystem", TableReader::Batch) => {
            let entry = tables.with_secrets(Arc::new(filesystem_entry(name, table)?))?;
            let folder: Arc<dyn TableProvider> = Arc::new(tables.lake(entry)?.with_not_null(&not_null(table)));
            match table.columns.iter().any(|column| matches!(column.kind, StreamColumnKind::Computed { .. })) {
                true => Ok(Arc::new(StreamTable::over_folder(&tables.session, table, folder)?)),
                false => Ok(folder),
            }
        }
        (_, TableReader::Batch) => Ok(Arc::new(StreamTable::new(&tables.session, table)?)),
        (_, TableReader::Job { once }) => Ok(Arc::new(StreamTable::of_job(&tables.session, table, once)?)),
    }
}

/// A `filesystem` table as the catalog would hold it.
pub(crate) fn filesystem_entry(name: &TableName, table: &CreateStreamTable) -> Result<Table> {
    check_columns(table)?;
    let required = |key: &str, hint: &str| {
        table.option(key).map(str::to_owned).ok_or_else(|| {
            Error::user("MISSING_TABLE_PROPERTY", format!("table \"{name}\" has no '{key}'"))
                .with_hint(hint)
                .at(table.name.at())
        })
    };
    let location = required("path", "'path' names the folder of its files")?;
    let format = required("format", "'format' is json, csv, parquet or raw")?;
    let (mut columns, mut keys) = (Vec::new(), Vec::new());
    for column in &table.columns {
        let type_text = match &column.kind {
            StreamColumnKind::Physical { type_text, .. } => type_text,
            StreamColumnKind::Computed { .. } => continue,
            StreamColumnKind::Metadata { .. } => {
                return Err(Error::not_supported(format!("column \"{}\" of a filesystem table", column.name.value))
                    .with_hint("declare the columns of the files; the path is in the hidden column \"$path\"")
                    .at(column.name.at));
            }
        };
        let is_key = table.partitioned_by.iter().any(|key| key.value.eq_ignore_ascii_case(&column.name.value));
        let entry =
            Column { name: column.name.value.clone(), type_text: type_text.clone(), comment: column.comment.clone() };
        if is_key { keys.push(entry) } else { columns.push(entry) }
    }
    keys.sort_by_key(|key| table.partitioned_by.iter().position(|named| named.value.eq_ignore_ascii_case(&key.name)));
    let is_property = |option: &&TableOption| !["connector", "path", "format"].contains(&option.key.as_str());
    let mut properties: Properties =
        table.options.iter().filter(is_property).map(|option| (option.key.clone(), option.value.clone())).collect();
    // Flink's word for the policy, which holds where ours is not given.
    if let Some(ignore) = table.options.iter().rfind(|option| option.key.ends_with(".ignore-parse-errors")) {
        let policy = if ignore.value.eq_ignore_ascii_case("true") { "skip" } else { "fail" };
        properties.entry("malformed".into()).or_insert_with(|| policy.into());
    }
    Ok(Table {
        name: name.clone(),
        kind: TableKind::External,
        columns,
        partition_keys: keys,
        storage: Storage {
            format: format_named(table, &format)?,
            serde: None,
            serde_properties: Properties::new(),
            input_format: None,
            output_format: None,
        },
        location,
        discovery: PartitionDiscovery::Discovered,
        properties,
        comment: table.comment.clone(),
        version: 0,
    })
}

/// The columns that are declared `NOT NULL`.
pub(crate) fn not_null(table: &CreateStreamTable) -> Vec<String> {
    let is_not_null =
        |column: &&StreamColumn| matches!(column.kind, StreamColumnKind::Physical { is_nullable: false, .. });
    table.columns.iter().filter(is_not_null).map(|column| column.name.value.clone()).collect()
}

/// A connection has no columns, and nothing reads or writes it.
pub(crate) fn check_columns(table: &CreateStreamTable) -> Result<()> {
    if !table.columns.is_empty() {
        return Ok(());
    }
    let name = table.name.parts.last().map(written).unwrap_or_default();
    Err(Error::user("INVALID_TABLE_PROPERTY", format!("table \"{name}\" has no columns"))
        .with_hint(format!("it is a connection for others: CREATE TABLE .. (columns) LIKE {name}")))
}

fn format_named(table: &CreateStreamTable, format: &str) -> Result<FileFormat> {
    Ok(match format {
        "json" => FileFormat::Json,
        "csv" => FileFormat::Csv,
        "parquet" => FileFormat::Parquet,
        "raw" => FileFormat::Raw,
        other => {
            let at =
                table.options.iter().find(|option| option.key == "format").map_or(table.name.at(), |option| option.at);
            let error = Error::not_supported(format!("format \"{other}\" is not supported for files")).at(at);
            return Err(did_you_mean(error, other, ["json", "csv", "parquet", "raw"]));
        }
    })
}
