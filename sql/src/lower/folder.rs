//! A declared folder with computed columns, in a statement that ends: what its files and partitions can be left out by.
//!
//! Invariant: a filter goes to the folder only if it says nothing of a computed column, and means the same there.

use std::sync::Arc;

use datafusion::{
    catalog::{Session as CatalogSession, TableProvider},
    error::Result,
    logical_expr::{Expr, TableProviderFilterPushDown},
    physical_plan::{ExecutionPlan, projection::ProjectionExec},
};
use headwater_engine::graph::Projection;

use super::{
    sources::{projection, read_columns},
    table::{ColumnSource, StreamTable},
};

impl StreamTable {
    /// What the folder makes of filters over the declared columns.
    pub(super) fn folder_filters(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| -> Result<TableProviderFilterPushDown> {
            let folder = self.batch.as_ref().filter(|folder| self.is_pruned && self.is_of_folder(folder, filter));
            let support = folder.map(|folder| folder.supports_filters_pushdown(&[*filter])).transpose()?;
            let support = support.and_then(|mut support| support.pop());
            Ok(support.unwrap_or(TableProviderFilterPushDown::Unsupported))
        };
        filters.iter().map(support).collect()
    }

    /// Whether a filter is over columns that the folder has as they were declared.
    fn is_of_folder(&self, folder: &Arc<dyn TableProvider>, filter: &Expr) -> bool {
        let there = folder.schema();
        filter.column_refs().into_iter().all(|column| {
            let Ok(index) = self.schema.index_of(&column.name) else { return false };
            let own = self.schema.field(index).data_type();
            matches!(self.columns.get(index), Some(ColumnSource::Spec(_)))
                && there.field_with_name(&column.name).is_ok_and(|field| field.data_type() == own)
        })
    }

    /// A scan of the folder in batch, with the columns that are computed from its own.
    pub(super) async fn scan_folder(
        &self,
        folder: &Arc<dyn TableProvider>,
        state: &dyn CatalogSession,
        kept: &[usize],
        (filters, limit): (&[Expr], Option<usize>),
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let there = folder.schema();
        let read = read_columns(self, kept)?;
        let name = |index: &usize| self.spec.schema.field(*index).name();
        let places = read.iter().map(|index| there.index_of(name(index))).collect::<Result<Vec<usize>, _>>()?;
        let limit = limit.filter(|_| self.is_pruned);
        let rows = folder.scan(state, Some(&places), filters, limit).await?;
        let place = |index: usize| read.iter().position(|column| *column == index);
        let (Projection { exprs, schema }, is_same) = projection(self, kept, &rows.schema(), &place)?;
        if is_same {
            return Ok(rows);
        }
        let named = exprs.into_iter().zip(schema.fields()).map(|(expr, field)| (expr, field.name().clone()));
        Ok(Arc::new(ProjectionExec::try_new(named.collect::<Vec<_>>(), rows)?))
    }
}
