//! UNION ALL: rows of several inputs as they come.
//!
//! Invariant: the watermark is the minimum of the inputs', which the runtime has already taken.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use crate::{
    connector::ChangelogMode,
    error::Result,
    message::ChangeBatch,
    operator::{Operator, OperatorContext, OperatorFactory, Output, Progress},
    operators::groups::batch_of,
};

/// Rows of all inputs under one schema.
#[derive(Debug, Clone)]
pub struct Union {
    schema: SchemaRef,
}

impl Union {
    /// A union of inputs with these columns.
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema }
    }
}

impl OperatorFactory for Union {
    fn name(&self) -> &'static str {
        "union"
    }

    fn describe(&self) -> String {
        "all rows of all inputs".to_owned()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn output(&self, inputs: &[ChangelogMode]) -> Result<ChangelogMode> {
        Ok(inputs.iter().copied().max().unwrap_or(ChangelogMode::Append))
    }

    fn fingerprint(&self) -> Option<String> {
        None
    }

    fn create(&self, _: &OperatorContext) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.clone()))
    }
}

impl Operator for Union {
    fn on_changes(&mut self, _: usize, changes: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let rows = batch_of(&self.schema, changes.rows.columns().to_vec(), changes.num_rows())?;
        out.emit(changes.in_columns(rows));
        Ok(Progress::Done)
    }
}
