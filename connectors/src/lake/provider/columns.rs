//! The columns of a lake table beside those of its files: declared types as Arrow's, hidden columns, rejected records.
//!
//! Invariant: a hidden column is marked in its metadata, wherever its schema goes.

use std::{collections::HashMap, sync::Arc};

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use headwater_engine::{catalog::Column, error::Result};

use crate::lake::hive_type;

/// Key of the metadata that marks a hidden column; its value is `true`.
pub const HIDDEN_MARK: &str = "headwater.hidden";

/// The columns of a table's files or keys as Arrow fields.
pub fn fields(columns: &[Column]) -> Result<Vec<FieldRef>> {
    columns
        .iter()
        .map(|column| {
            let data_type = hive_type::parse(&column.type_text)
                .map_err(|error| error.context(format!("column \"{}\"", column.name)))?;
            Ok(Arc::new(Field::new(column.name.to_lowercase(), data_type, true)))
        })
        .collect()
}

/// The hidden columns, each with its mark.
pub(super) fn hidden() -> impl Iterator<Item = FieldRef> {
    let marked = |name: &str, data_type| {
        let metadata = HashMap::from([(HIDDEN_MARK.to_owned(), "true".to_owned())]);
        Arc::new(Field::new(name, data_type, true).with_metadata(metadata))
    };
    [
        marked("$path", DataType::Utf8),
        marked("$file_size", DataType::Int64),
        marked("$file_modified_time", DataType::Timestamp(TimeUnit::Millisecond, None)),
    ]
    .into_iter()
}

/// Columns of `"t$rejected"`.
pub fn rejected_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("raw", DataType::Binary, true),
        Field::new("reason", DataType::Utf8, true),
        Field::new("split", DataType::Utf8, true),
        Field::new("offset", DataType::Utf8, true),
        Field::new("arrival", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("line", DataType::Int64, true),
    ]))
}
