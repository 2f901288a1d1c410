//! Smallest and largest values of row groups, for leaving groups out.
//!
//! Invariant: what a file does not say, or says in a type that does not widen safely, counts as unknown; so do the bounds
//! of floating-point columns, for they leave NaN out, and `x <> 5` is true of it.

use std::collections::HashSet;

use arrow::{
    array::{ArrayRef, BooleanArray},
    datatypes::{DataType, SchemaRef},
};
use datafusion::{
    common::{Column, pruning::PruningStatistics},
    scalar::ScalarValue,
};
use parquet::{
    arrow::arrow_reader::{ArrowReaderMetadata, statistics::StatisticsConverter},
    file::metadata::RowGroupMetaData,
};

use super::widen;

/// Row groups of one file.
pub(super) struct Groups<'a> {
    /// The file's footer.
    pub(super) metadata: &'a ArrowReaderMetadata,
    /// Columns as the table declares them.
    pub(super) table: &'a SchemaRef,
    /// The groups in question.
    pub(super) groups: Vec<&'a RowGroupMetaData>,
}

impl Groups<'_> {
    fn converter<'a>(&'a self, column: &Column) -> Option<StatisticsConverter<'a>> {
        let file = self.metadata.schema();
        let index = widen::position(file.fields(), &column.name)?;
        StatisticsConverter::try_new(file.field(index).name(), file, self.metadata.parquet_schema()).ok()
    }

    fn in_table_type(&self, column: &Column, found: ArrayRef) -> Option<ArrayRef> {
        let wanted = self.table.field_with_name(&column.name).ok()?.data_type();
        if wanted.is_floating() || found.data_type().is_floating() {
            return None;
        }
        // Numbers read as text have another order than their text.
        if *wanted == DataType::Utf8 && found.data_type().is_numeric() {
            return None;
        }
        widen::check(found.data_type(), wanted).ok()?;
        widen::widen(&found, wanted).ok()
    }
}

impl PruningStatistics for Groups<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        let found = self.converter(column)?.row_group_mins(self.groups.iter().copied()).ok()?;
        self.in_table_type(column, found)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        let found = self.converter(column)?.row_group_maxes(self.groups.iter().copied()).ok()?;
        self.in_table_type(column, found)
    }

    fn num_containers(&self) -> usize {
        self.groups.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let converter = self.converter(column)?.with_missing_null_counts_as_zero(false);
        let counts = converter.row_group_null_counts(self.groups.iter().copied()).ok()?;
        Some(std::sync::Arc::new(counts))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let counts = self.groups.iter().map(|group| u64::try_from(group.num_rows()).ok());
        Some(std::sync::Arc::new(counts.collect::<arrow::array::UInt64Array>()))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{Array, AsArray, Decimal256Array, RecordBatch},
        datatypes::{Decimal128Type, Field, Schema, i256},
    };
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;

    use super::*;

    #[test]
    fn numbers_that_are_read_as_text_have_no_bounds() -> Result<(), Box<dyn std::error::Error>> {
        let values = Decimal256Array::from_iter_values([2, 5, 10].map(i256::from)).with_precision_and_scale(60, 0)?;
        let schema = Arc::new(Schema::new(vec![Field::new("c", values.data_type().clone(), true)]));
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, Arc::clone(&schema), None)?;
        writer.write(&RecordBatch::try_new(schema, vec![Arc::new(values)])?)?;
        writer.close()?;
        let metadata = ArrowReaderMetadata::load(&Bytes::from(file), Default::default())?;
        let bounds = |table: DataType| {
            let table = Arc::new(Schema::new(vec![Field::new("c", table, true)]));
            let groups = metadata.metadata().row_groups().iter().collect();
            let groups = Groups { metadata: &metadata, table: &table, groups };
            groups.min_values(&Column::from_name("c")).zip(groups.max_values(&Column::from_name("c")))
        };
        let (least, most) = bounds(DataType::Decimal128(38, 0)).ok_or("numbers have bounds")?;
        let value = |bound: &ArrayRef| bound.as_primitive::<Decimal128Type>().value(0);
        assert_eq!((value(&least), value(&most)), (2, 10));
        assert!(bounds(DataType::Utf8).is_none(), "'10' is less than '2' as text");
        Ok(())
    }
}
