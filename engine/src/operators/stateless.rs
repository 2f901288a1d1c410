//! Filters and projections behind the first exchange: HAVING, and the SELECT list over a stateful operator.
//!
//! An error here stops the job, since the state before it has already moved on.
//!
//! Invariant: row kinds follow their rows.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::physical_expr::PhysicalExpr;

use crate::{
    connector::{ChangelogMode, RefusedRow},
    error::{Error, Result},
    graph::{Step, check_filters},
    message::ChangeBatch,
    operator::{Operator, OperatorContext, OperatorFactory, Output, Progress},
    operators::groups::mask,
    runtime::{evaluate_all, filter_changes},
};

/// What to do where a row behind state has no result.
const WAY_OUT: &str = "the job keeps its state and stops before this row: change the query so that there is a result, \
                       with a wider type, as in sum(CAST(x AS DECIMAL(38,0))), or TRY(..); explain --against says \
                       what becomes of the state";
/// Characters of a row that an error shows.
const SHOWN_MAX: usize = 400;

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
        let changes = inputs.iter().copied().max().unwrap_or(ChangelogMode::Append);
        check_filters(&self.steps, changes)?;
        Ok(changes)
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
        let came = changes.num_rows();
        for step in &self.steps {
            changes = applied(step, &changes).map_err(|error| explained(error, step, &changes.rows))?;
        }
        out.drop_rows((came - changes.num_rows()) as u64);
        out.emit(changes);
        Ok(Progress::Done)
    }
}

fn applied(step: &Step, changes: &ChangeBatch) -> Result<ChangeBatch> {
    match step {
        Step::Filter(expr) => {
            let kept = expr.evaluate(&changes.rows)?.into_array(changes.num_rows())?;
            filter_changes(changes, &mask(&kept)?)
        }
        Step::Project(projection) => Ok(changes.in_columns(evaluate_all(projection, &changes.rows)?)),
    }
}

/// The error of the first row that fails alone, with the expression and the row's values.
fn explained(error: Error, step: &Step, rows: &RecordBatch) -> Error {
    let exprs = match step {
        Step::Filter(expr) => std::slice::from_ref(expr),
        Step::Project(projection) => projection.exprs.as_slice(),
    };
    for row in (0..rows.num_rows()).map(|row| rows.slice(row, 1)) {
        let failed = |expr: &&Arc<dyn PhysicalExpr>| expr.evaluate(&row).and_then(|value| value.into_array(1)).is_err();
        if let Some(expr) = exprs.iter().find(failed) {
            let values = RefusedRow::of(&row, 0, "").map(|row| row.raw).unwrap_or_default();
            let shown: String = values.chars().take(SHOWN_MAX).collect();
            let told = if error.hint().is_some() { error } else { error.with_hint(WAY_OUT) };
            return told.context(format!("expression {expr} over {shown}"));
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{ArrayRef, Int64Array},
        datatypes::{DataType, Field, Schema},
    };
    use datafusion::{
        logical_expr::Operator as Symbol,
        physical_expr::expressions::{BinaryExpr, Column},
    };

    use super::*;
    use crate::graph::Projection;

    #[test]
    fn an_error_names_the_expression_and_the_row() {
        let schema =
            Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Int64, true)]));
        let column = |values: [i64; 3]| Arc::new(Int64Array::from_iter_values(values)) as ArrayRef;
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![column([6, 7, 8]), column([3, 0, 0])]).unwrap();
        let side = |name, index| Arc::new(Column::new(name, index)) as Arc<dyn PhysicalExpr>;
        let expr = Arc::new(BinaryExpr::new(side("a", 0), Symbol::Divide, side("b", 1))) as Arc<dyn PhysicalExpr>;
        let result = Arc::new(Schema::new(vec![Field::new("q", DataType::Int64, true)]));
        let step = Step::Project(Projection { exprs: vec![expr], schema: result });
        let error = applied(&step, &ChangeBatch::inserts(rows.clone())).unwrap_err();
        let told = explained(error, &step, &rows);
        assert_eq!(told.hint(), Some(WAY_OUT));
        assert!(told.message().starts_with("expression a@0 / b@1 over {\"a\":7,\"b\":0}: "), "{told}");
    }
}
