//! Smallest and largest values of row groups, for leaving groups out.
//!
//! Invariant: what a file does not say, or says in a type that does not widen safely, counts as unknown; so do the bounds
//! of floating-point columns, for they leave NaN out, and `x <> 5` is true of it.

use std::collections::HashSet;

use arrow::{
    array::{ArrayRef, BooleanArray},
    datatypes::SchemaRef,
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
