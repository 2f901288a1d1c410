//! `CREATE TABLE .. LIKE`: a table of the run with the columns of another, of the run or of the catalog.
//!
//! Invariant: what comes out says everything itself; the other table may change or go afterwards.

use headwater_connectors::lake::hive_type;
use headwater_engine::{
    catalog::{Column, Table},
    error::{Error, Location, Result},
};

use crate::{
    parser::{
        cursor::Identifier,
        stream_ddl::{self, CreateStreamTable, Kept, StreamColumn, StreamColumnKind},
    },
    session::Session,
    tables::{Found, RunTable, find, not_found},
};

/// The declaration with what it takes over from the table it is like.
pub(super) async fn expanded(session: &Session, table: &CreateStreamTable) -> Result<CreateStreamTable> {
    let Some(like) = &table.like else { return Ok(table.clone()) };
    let (full, at) = (session.table_name(&like.source)?, like.source.at());
    let (catalog, run) = (session.catalog().as_ref(), session.run_tables());
    let taken = match find(catalog, run, &full).await? {
        Some(Found::Run(RunTable::Table(source))) => placed((*source).clone(), at),
        Some(Found::Cataloged(source)) if !source.columns.is_empty() => of_catalog(table, &source, at)?,
        Some(Found::Cataloged(_) | Found::Run(RunTable::View(_))) => {
            return Err(Error::not_supported(format!("\"{full}\" is a view; a table can be like a table")).at(at));
        }
        None => return Err(not_found(catalog, run, &full).await.at(at)),
    };
    let merged = merged(taken, table, like.keeps);
    if !merged.columns.is_empty() {
        stream_ddl::check(&merged)?;
    }
    Ok(merged)
}

/// Everything in it stands where its name is said, so that errors point there.
fn placed(mut source: CreateStreamTable, at: Location) -> CreateStreamTable {
    source.columns.iter_mut().for_each(|column| column.name.at = at);
    source.options.iter_mut().for_each(|option| option.at = at);
    for name in source.primary_key.iter_mut().chain(&mut source.partitioned_by) {
        name.at = at;
    }
    source
}

/// A table of the catalog as one of the run: its columns, then its partition keys. Its properties are those of files.
fn of_catalog(table: &CreateStreamTable, source: &Table, at: Location) -> Result<CreateStreamTable> {
    let name = |name: &str| Identifier { value: name.to_owned(), is_quoted: true, at };
    let column = |column: &Column| -> Result<StreamColumn> {
        let (data_type, type_text) = (hive_type::parse(&column.type_text)?, column.type_text.clone());
        let kind = StreamColumnKind::Physical { data_type, type_text, is_nullable: true };
        Ok(StreamColumn { name: name(&column.name), kind, comment: column.comment.clone() })
    };
    let columns = source.columns.iter().chain(&source.partition_keys).map(column).collect::<Result<_>>()?;
    Ok(CreateStreamTable {
        columns,
        watermark: None,
        primary_key: Vec::new(),
        comment: source.comment.clone(),
        partitioned_by: source.partition_keys.iter().map(|key| name(&key.name)).collect(),
        options: Vec::new(),
        ..table.clone()
    })
}

/// The new declaration over the one it is like.
fn merged(source: CreateStreamTable, new: &CreateStreamTable, keeps: Kept) -> CreateStreamTable {
    let is_kept = |column: &StreamColumn| match column.kind {
        StreamColumnKind::Physical { .. } => true,
        StreamColumnKind::Metadata { .. } => keeps.metadata,
        StreamColumnKind::Computed { .. } => keeps.generated,
    };
    let mut columns: Vec<StreamColumn> = source.columns.into_iter().filter(is_kept).collect();
    columns.extend(new.columns.iter().cloned());
    let mut options = if keeps.options { source.options } else { Vec::new() };
    options.retain(|option| new.options.iter().all(|own| own.key != option.key));
    options.extend(new.options.iter().cloned());
    let either = |own: &Vec<Identifier>, others: Vec<Identifier>, is_kept: bool| match own.is_empty() && is_kept {
        true => others,
        false => own.clone(),
    };
    CreateStreamTable {
        columns,
        watermark: new.watermark.clone().or(source.watermark.filter(|_| keeps.watermarks)),
        primary_key: either(&new.primary_key, source.primary_key, keeps.constraints),
        comment: new.comment.clone().or(source.comment),
        partitioned_by: either(&new.partitioned_by, source.partitioned_by, keeps.partitions),
        options,
        like: None,
        ..new.clone()
    }
}
