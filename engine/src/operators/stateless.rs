//! Filters and projections behind the first exchange: HAVING, and the SELECT list over a stateful operator.
//!
//! An error here stops the job, since the state before it has already moved on.
//!
//! Invariant: row kinds follow their rows.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use crate::{
    connector::ChangelogMode,
    error::Result,
    graph::Step,
    message::ChangeBatch,
    operator::{Operator, OperatorContext, OperatorFactory, Output, Progress},
    operators::groups::mask,
    runtime::{evaluate_all, filter_changes},
};

/// Steps applied in order.
#[derive(Debug, Clone)]
pub struct Steps {
    steps: Vec<Step>,
    schema: SchemaRef,
}

impl Steps {
    /// Steps that yield rows of `schema`.
    pub fn new(steps: Vec<Step>, schema: SchemaRef) -> Self {
        Self { steps, schema }
    }
}

impl OperatorFactory for Steps {
    fn name(&self) -> &'static str {
        "steps"
    }

    fn describe(&self) -> String {
        let step = |step: &Step| match step {
            Step::Filter(expr) => format!("filter {expr}"),
            Step::Project(projection) => {
                let exprs: Vec<String> = projection.exprs.iter().map(ToString::to_string).collect();
                format!("project {}", exprs.join(", "))
            }
        };
        self.steps.iter().map(step).collect::<Vec<_>>().join("; ")
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

impl Operator for Steps {
    fn on_changes(&mut self, _: usize, mut changes: ChangeBatch, out: &mut Output) -> Result<Progress> {
        for step in &self.steps {
            match step {
                Step::Filter(expr) => {
                    let kept = expr.evaluate(&changes.rows)?.into_array(changes.num_rows())?;
                    changes = filter_changes(&changes, &mask(&kept)?)?;
                }
                Step::Project(projection) => changes.rows = evaluate_all(projection, &changes.rows)?,
            }
        }
        out.emit(changes);
        Ok(Progress::Done)
    }
}
