//! The columns of a declared table as its connector has them.
//!
//! Invariant: columns that are computed are none of the connector's; metadata is what it offers.

use arrow::datatypes::{DataType, Field, Schema};
use headwater_engine::{
    connector::{Connector, MetadataField, TextLength},
    error::{Error, Result},
};

use super::table::written;
use crate::{
    diagnostics::did_you_mean,
    kernels::stored,
    parser::stream_ddl::{CreateStreamTable, StreamColumnKind},
};

/// The columns of a connector's table, and the metadata among them.
pub(super) fn spec_columns(
    connector: &dyn Connector,
    declared: &CreateStreamTable,
) -> Result<(Vec<Field>, Vec<MetadataField>)> {
    let offered = connector.metadata_columns();
    let (mut fields, mut metadata) = (Vec::new(), Vec::new());
    for column in &declared.columns {
        let name = written(&column.name);
        match &column.kind {
            StreamColumnKind::Physical { data_type, is_nullable, .. } => {
                fields.push(Field::new(name, data_type.clone(), *is_nullable));
            }
            StreamColumnKind::Metadata { key, is_virtual, .. } => {
                let key = key.clone().unwrap_or_else(|| name.clone());
                let Some(found) = offered.iter().find(|column| column.key == key) else {
                    let message = format!("connector \"{}\" offers no metadata \"{key}\"", connector.name());
                    let error = Error::user("COLUMN_NOT_FOUND", message).at(column.name.at);
                    return Err(did_you_mean(error, &key, offered.iter().map(|column| column.key)));
                };
                metadata.push(MetadataField { column: fields.len(), key, is_virtual: *is_virtual || !found.writable });
                fields.push(Field::new(name, found.data_type.clone(), true));
            }
            StreamColumnKind::Computed { .. } => {}
        }
    }
    Ok((fields, metadata))
}

/// The columns of text among these that are declared with a length.
pub(super) fn lengths<'a>(
    schema: &Schema,
    declared: impl Iterator<Item = (String, &'a str)>,
) -> Vec<(usize, TextLength)> {
    let of = |(name, type_text): (String, &str)| {
        let index = schema.index_of(&name).ok().filter(|index| *schema.field(*index).data_type() == DataType::Utf8)?;
        Some((index, stored::declared(&name, type_text)?))
    };
    declared.filter_map(of).collect()
}
