//! What is read beside a table's rows: `"t$rejected"` and `"t$late"` in a job, what a decoder refuses in a query that
//! ends, and tables that are looked up whatever they are.
//!
//! Invariant: a job reads what is kept aside from the source of the table itself, so that it sees every row once.

use std::{any::Any, sync::Arc};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::{
    catalog::{Session as CatalogSession, TableProvider},
    logical_expr::{Expr, TableProviderFilterPushDown, TableType},
    physical_plan::ExecutionPlan,
};
use headwater_engine::{
    accounts::{late_schema, records_schema, rejected_schema},
    error::Error,
    graph::BranchInput,
};

use super::{
    scan::StreamScan,
    table::{StreamTable, stream_table},
};

/// `"t$rejected"` of a table of the run, in a query that ends: what its decoder refuses when it reads again.
#[derive(Debug)]
pub(crate) struct RejectedRows(pub(crate) StreamTable);

#[async_trait]
impl TableProvider for RejectedRows {
    fn schema(&self) -> SchemaRef {
        rejected_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _state: &dyn CatalogSession,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema().fields().len()).collect());
        Ok(Arc::new(StreamScan::rejected(&self.0, self.0.context.clone(), &columns)?))
    }
}

/// `"t$rejected"` or `"t$late"` as a job reads it: from the source of `t`, which it shares.
#[derive(Debug)]
pub(crate) struct SideRows {
    table: Arc<StreamTable>,
    which: BranchInput,
}

impl SideRows {
    /// What a job keeps aside of a table.
    pub(crate) fn new(table: StreamTable, which: BranchInput) -> Self {
        Self { table: Arc::new(table), which }
    }

    /// The table itself.
    pub(crate) fn table(&self) -> Arc<dyn TableProvider> {
        Arc::clone(&self.table) as _
    }
}

#[async_trait]
impl TableProvider for SideRows {
    fn schema(&self) -> SchemaRef {
        side_schema(&self.table, self.which)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _state: &dyn CatalogSession,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        Err(Error::not_supported(format!("a lookup in what is kept aside of \"{}\"", self.table.name)).into())
    }
}

/// Columns of the rows a source gives a branch of this kind.
pub(crate) fn side_schema(table: &StreamTable, which: BranchInput) -> SchemaRef {
    match which {
        BranchInput::Rows => Arc::clone(&table.schema),
        BranchInput::Rejected => rejected_schema(),
        BranchInput::Late => late_schema(&table.schema),
        BranchInput::Records => records_schema(),
    }
}

/// What is kept aside of a stream table, if a plan's scan reads that.
pub(crate) fn side_table(provider: &Arc<dyn TableProvider>) -> Option<&SideRows> {
    (provider.as_ref() as &dyn Any).downcast_ref()
}

/// The stream table a plan's scan reads, and which of its rows.
pub(crate) fn read_table(provider: &Arc<dyn TableProvider>) -> Option<(&StreamTable, BranchInput)> {
    match side_table(provider) {
        Some(side) => Some((&side.table, side.which)),
        None => Some((stream_table(provider)?, BranchInput::Rows)),
    }
}

/// A table that rows look up as it is now (`FOR SYSTEM_TIME AS OF`): read like one that ends.
#[derive(Debug)]
pub(crate) struct LookedUp(pub(crate) Arc<dyn TableProvider>);

#[async_trait]
impl TableProvider for LookedUp {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        self.0.table_type()
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::error::Result<Vec<TableProviderFilterPushDown>> {
        self.0.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        state: &dyn CatalogSession,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        self.0.scan(state, projection, filters, limit).await
    }
}

/// The stream table that is looked up, if a plan's scan reads one.
pub(crate) fn lookup_table(provider: &Arc<dyn TableProvider>) -> Option<&StreamTable> {
    match (provider.as_ref() as &dyn Any).downcast_ref::<LookedUp>() {
        Some(LookedUp(table)) => stream_table(table),
        None => stream_table(provider),
    }
}
