//! Files read without DDL: `read_json('..')`, `read_csv('..')`, `read_parquet('..')`.
//!
//! Invariant: what a path means is decided here: a folder with everything below it, a pattern, or one file; the rest is
//! the lake's, with columns inferred as for a table whose DDL leaves them out.

use std::sync::Arc;

use headwater_connectors::lake::{
    listing::{Pattern, SPECIAL},
    provider::LakeTable,
    stores::{Place, store_error},
};
use headwater_engine::{
    catalog::{FileFormat, PartitionDiscovery, Properties, Storage, Table, TableKind, TableName},
    error::{Error, Result},
};
use object_store::ObjectStoreExt;

use crate::{ddl::infer, session::Session};

/// The table functions that read files, and the formats they read.
pub(crate) const FUNCTIONS: [(&str, FileFormat); 3] =
    [("read_json", FileFormat::Json), ("read_csv", FileFormat::Csv), ("read_parquet", FileFormat::Parquet)];

/// The files that a path or pattern means, as a table.
pub(crate) async fn read(session: &Session, function: &str, path: &str) -> Result<LakeTable> {
    let Some((name, format)) = FUNCTIONS.iter().find(|(name, _)| *name == function) else {
        return Err(Error::internal(format!("table function \"{function}\" reads no files")));
    };
    if path.trim().is_empty() {
        return Err(Error::user("INVALID_FUNCTION_ARGUMENT", format!("the path of {name} is empty")));
    }
    let whole = session.stores().resolve(path, &Properties::new()).await?;
    let is_pattern = path.contains(SPECIAL);
    let is_file = !is_pattern && !path.ends_with('/') && exists(&whole).await?;
    let only = (is_pattern || is_file).then(|| Pattern::new(whole.path.as_ref()));
    let folder = if only.is_some() { folder_of(path) } else { path };
    let has_folders = path[folder.len()..].contains('/') || only.is_none();
    let mut table = Table {
        name: TableName::new("default", *name),
        kind: TableKind::External,
        columns: Vec::new(),
        partition_keys: Vec::new(),
        storage: Storage {
            format: *format,
            serde: None,
            serde_properties: Properties::new(),
            input_format: None,
            output_format: None,
        },
        location: if folder.is_empty() { "./".to_owned() } else { folder.to_owned() },
        discovery: if has_folders { PartitionDiscovery::Discovered } else { PartitionDiscovery::Registered },
        properties: Properties::new(),
        comment: None,
        version: 0,
    };
    infer::fill_in(session, &mut table, only.as_ref()).await.map_err(|error| nothing_there(error, path))?;
    let table = LakeTable::new(Arc::new(table), Arc::clone(session.catalog()), Arc::clone(session.stores()))?;
    Ok(match only {
        Some(only) => table.of_files(only),
        None => table,
    })
}

/// What stands before the first part with a special character, else before the file's name.
fn folder_of(path: &str) -> &str {
    let fixed = path.find(SPECIAL).map_or(path, |at| &path[..at]);
    fixed.rfind('/').map_or("", |at| &path[..=at])
}

async fn exists(place: &Place) -> Result<bool> {
    match place.store.head(&place.path).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(store_error(&place.to_string(), error)),
    }
}

fn nothing_there(error: Error, path: &str) -> Error {
    if error.code().0 != "INVALID_TABLE_PROPERTY" {
        return error;
    }
    Error::user("FILE_NOT_FOUND", format!("no file with rows is meant by \"{path}\""))
        .with_hint("name a file, a folder or a pattern such as 'data/*.json.gz', where ** stands for folders")
}
