//! The columns of a partition's new files, where its older files have others than the table.
//!
//! Invariant: fields of delimited files are told by their places, so all files of a partition have one order; a value
//! that has no place there is refused, never dropped.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, new_null_array},
    compute::cast,
    datatypes::{Field, Schema, SchemaRef},
    record_batch::RecordBatch,
};
use headwater_engine::{
    catalog::Column,
    error::{Error, Result},
};

use super::WriteFormat;
use crate::lake::hive_type;

/// Rows of a table as the files of one partition have them.
#[derive(Debug, Clone)]
pub struct Arranged {
    schema: SchemaRef,
    /// For each field of the file the column of the table, if the table still has it.
    from: Vec<Option<usize>>,
    /// Columns of the table that the files have no field for.
    left_out: Vec<usize>,
    is_same: bool,
}

impl Arranged {
    /// From the columns of the table to those a partition was written with, if they are other ones.
    pub fn new(format: &WriteFormat, table: &SchemaRef, partition: Option<&[Column]>) -> Result<Self> {
        let Some(columns) = partition.filter(|_| matches!(format, WriteFormat::Text { .. })) else {
            return Ok(Self { schema: table.clone(), from: Vec::new(), left_out: Vec::new(), is_same: true });
        };
        let place = |name: &str| table.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name));
        let from: Vec<Option<usize>> = columns.iter().map(|column| place(&column.name)).collect();
        let fields = columns.iter().map(|column| {
            let data_type = hive_type::parse(&column.type_text)?;
            Ok(Field::new(column.name.to_lowercase(), data_type, true))
        });
        let schema = Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?));
        let left_out = (0..table.fields().len()).filter(|index| !from.contains(&Some(*index))).collect();
        Ok(Self { schema, from, left_out, is_same: false })
    }

    /// Columns of the files.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows with the table's columns, in its order, as the files have them.
    pub fn rows(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        if self.is_same {
            return Ok(RecordBatch::try_new(self.schema.clone(), rows.columns().to_vec())?);
        }
        if let Some(lost) = self.left_out.iter().find(|index| rows.column(**index).null_count() < rows.num_rows()) {
            let name = rows.schema().field(*lost).name().clone();
            let message = format!("column \"{name}\" has no field in the files of this partition, which are older");
            return Err(Error::data("HIVE_WRITER_DATA_ERROR", message).with_hint(
                "leave the column out, or ALTER TABLE .. DROP PARTITION and write the partition to a folder of its own",
            ));
        }
        let column = |(field, from): (&Arc<Field>, &Option<usize>)| -> Result<ArrayRef> {
            Ok(match from {
                Some(index) => cast(rows.column(*index), field.data_type())?,
                None => new_null_array(field.data_type(), rows.num_rows()),
            })
        };
        let columns = self.schema.fields().iter().zip(&self.from).map(column).collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}
