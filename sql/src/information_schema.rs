//! `information_schema.{schemata, tables, columns}`, read from the catalog when a query names them.
//!
//! Invariant: names are as the catalog compares them, in lower case; types are in Trino's spelling.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, StringArray},
    datatypes::{DataType, Field, Schema},
    record_batch::RecordBatch,
};
use datafusion::{catalog::TableProvider, datasource::MemTable};
use headwater_connectors::lake::hive_type;
use headwater_engine::{
    catalog::{Table, TableKind},
    error::{Error, Result},
};

use crate::{
    diagnostics::{Classify, did_you_mean},
    session::Session,
    tables::{CATALOG, INFORMATION_SCHEMA},
    types::Type,
};

const TABLES: [&str; 4] = ["schemata", "tables", "columns", "views"];

/// One of the tables.
pub(crate) async fn table(session: &Session, name: &str) -> Result<Arc<dyn TableProvider>> {
    let batch = match name {
        "schemata" => schemata(session).await?,
        "tables" => tables(session).await?,
        "columns" => columns(session).await?,
        "views" => views(session).await?,
        _ => {
            let error = Error::user("TABLE_NOT_FOUND", format!("table \"{INFORMATION_SCHEMA}.{name}\" does not exist"));
            return Err(did_you_mean(error, name, TABLES));
        }
    };
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]]).classify()?))
}

/// Rows of texts, `None` being NULL, under these column names.
pub(crate) fn text_batch(names: &[&str], rows: &[Vec<Option<String>>]) -> Result<RecordBatch> {
    let columns = names.iter().enumerate().map(|(index, name)| {
        let values: StringArray = rows.iter().map(|row| row.get(index).and_then(Option::as_deref)).collect();
        (Field::new(*name, DataType::Utf8, true), Arc::new(values) as ArrayRef)
    });
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

async fn schemata(session: &Session) -> Result<RecordBatch> {
    let mut names: Vec<String> = session.catalog().databases().await?.into_iter().map(|found| found.name).collect();
    names.push(INFORMATION_SCHEMA.to_owned());
    let rows: Vec<_> = names.into_iter().map(|name| vec![Some(CATALOG.to_owned()), Some(name)]).collect();
    text_batch(&["catalog_name", "schema_name"], &rows)
}

async fn all_tables(session: &Session) -> Result<Vec<Arc<Table>>> {
    let mut all = Vec::new();
    for database in session.catalog().databases().await? {
        all.extend(session.catalog().tables(&database.name).await?);
    }
    Ok(all)
}

fn full_name(table: &Table) -> Vec<Option<String>> {
    vec![Some(CATALOG.to_owned()), Some(table.name.database.clone()), Some(table.name.table.clone())]
}

async fn tables(session: &Session) -> Result<RecordBatch> {
    let mut rows = Vec::new();
    for table in all_tables(session).await? {
        let kind = match table.kind {
            TableKind::View { .. } => "VIEW",
            TableKind::External | TableKind::Managed => "BASE TABLE",
        };
        let mut row = full_name(&table);
        row.push(Some(kind.to_owned()));
        rows.push(row);
    }
    for name in TABLES {
        let texts = [CATALOG, INFORMATION_SCHEMA, name, "BASE TABLE"];
        rows.push(texts.iter().map(|text| Some((*text).to_owned())).collect());
    }
    text_batch(&["table_catalog", "table_schema", "table_name", "table_type"], &rows)
}

async fn views(session: &Session) -> Result<RecordBatch> {
    let mut rows = Vec::new();
    for table in all_tables(session).await? {
        if let TableKind::View { sql, .. } = &table.kind {
            let mut row = full_name(&table);
            row.push(Some(sql.clone()));
            rows.push(row);
        }
    }
    text_batch(&["table_catalog", "table_schema", "table_name", "view_definition"], &rows)
}

/// A declared type as Trino spells it; nested ones are declared as Hive does.
fn shown_type(text: &str) -> String {
    let nested = || hive_type::parse(text).map(|data_type| Type::from_arrow(&data_type));
    Type::parse(text).or_else(|_| nested()).map_or_else(|_| text.to_owned(), |found| found.to_string())
}

async fn columns(session: &Session) -> Result<RecordBatch> {
    let mut rows = Vec::new();
    let mut positions = Vec::new();
    for table in all_tables(session).await? {
        let of_files = table.columns.iter().map(|column| (column, None));
        let keys = table.partition_keys.iter().map(|column| (column, Some("partition key".to_owned())));
        for (index, (column, extra)) in of_files.chain(keys).enumerate() {
            let mut row = full_name(&table);
            row.extend([Some(column.name.to_lowercase()), Some("YES".to_owned()), Some(shown_type(&column.type_text))]);
            row.extend([column.comment.clone(), extra]);
            rows.push(row);
            positions.push(i64::try_from(index).unwrap_or(i64::MAX).saturating_add(1));
        }
    }
    let names = [
        "table_catalog",
        "table_schema",
        "table_name",
        "column_name",
        "is_nullable",
        "data_type",
        "comment",
        "extra_info",
    ];
    let texts = text_batch(&names, &rows)?;
    let mut fields: Vec<_> = texts.schema().fields().iter().cloned().collect();
    let mut arrays = texts.columns().to_vec();
    fields.insert(4, Arc::new(Field::new("ordinal_position", DataType::Int64, true)));
    arrays.insert(4, Arc::new(Int64Array::from(positions)));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}
