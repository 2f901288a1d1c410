//! Windows over time as a part of a plan: `TUMBLE`, `HOP`, `CUMULATE` and `SESSION`, the same node in batch and stream.
//!
//! The node takes a relation and gives each row once for each window it belongs to, with `window_start`, `window_end`
//! and `window_time` behind its own columns. In batch `exec` runs it; in a job the lowering turns it, together with
//! the aggregation above it, into a window operator.
//!
//! Invariant: which windows a row belongs to is decided by `headwater_engine::window` alone, in batch and stream.

mod exec;
mod planner;
#[cfg(test)]
mod tests;

use std::{cmp::Ordering, fmt, sync::Arc};

use arrow::datatypes::{DataType, Field};
use datafusion::{
    common::{DFSchema, DFSchemaRef, ExprSchema, Result as PlanResult},
    error::DataFusionError,
    logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore},
};
use headwater_engine::{
    error::{Error, Result},
    window::WindowSpec,
};

/// A relation whose rows are assigned to windows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WindowNode {
    /// The relation.
    pub input: LogicalPlan,
    /// Which windows.
    pub spec: WindowSpec,
    /// The column of the relation that tells a row's time.
    pub time: Expr,
    /// `PARTITION BY` of sessions.
    pub keys: Vec<Expr>,
    /// Names of the start, end and time columns.
    pub names: [String; 3],
    schema: DFSchemaRef,
}

impl WindowNode {
    /// A node over a relation; `names` are those of the window columns in the plan.
    pub fn try_new(
        input: LogicalPlan,
        spec: WindowSpec,
        time: Expr,
        keys: Vec<Expr>,
        names: [String; 3],
    ) -> Result<Self> {
        spec.validate()?;
        let time_type = time_type(&input, &time)?;
        let mut fields: Vec<_> =
            input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        fields.extend(names.iter().map(|name| (None, Arc::new(Field::new(name, time_type.clone(), false)))));
        let schema = DFSchema::new_with_metadata(fields, input.schema().as_arrow().metadata().clone())?;
        Ok(Self { input, spec, time, keys, names, schema: Arc::new(schema) })
    }
}

fn time_type(input: &LogicalPlan, time: &Expr) -> Result<DataType> {
    let Expr::Column(column) = time else {
        return Err(Error::internal("the time of a window is not a column"));
    };
    Ok(input.schema().field_from_column(column)?.data_type().clone())
}

impl PartialOrd for WindowNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl UserDefinedLogicalNodeCore for WindowNode {
    fn name(&self) -> &'static str {
        "Window"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        std::iter::once(self.time.clone()).chain(self.keys.iter().cloned()).collect()
    }

    /// A predicate on the relation's own columns may move below, except for sessions, which it would change.
    fn prevent_predicate_push_down_columns(&self) -> std::collections::HashSet<String> {
        let names = self.schema.fields().iter().map(|field| field.name().clone());
        match self.spec {
            WindowSpec::Session { .. } => names.collect(),
            _ => self.names.iter().cloned().collect(),
        }
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window: {} on {}", describe(&self.spec), self.time)?;
        if !self.keys.is_empty() {
            let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
            write!(f, " by {}", keys.join(", "))?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> PlanResult<Self> {
        let mut exprs = exprs.into_iter();
        let (Some(time), Some(input)) = (exprs.next(), inputs.into_iter().next()) else {
            return Err(DataFusionError::Internal("a window has a time and an input".to_owned()));
        };
        Ok(Self::try_new(input, self.spec, time, exprs.collect(), self.names.clone())?)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input.schema().fields().len();
        let index = |expr: &Expr| match expr {
            Expr::Column(column) => self.input.schema().index_of_column(column).ok(),
            _ => None,
        };
        let own: Option<Vec<usize>> = std::iter::once(&self.time).chain(&self.keys).map(index).collect();
        let mut needed = own?;
        needed.extend(output_columns.iter().copied().filter(|column| *column < width));
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

/// The windows as a user would write them.
pub fn describe(spec: &WindowSpec) -> String {
    let length = |micros: i64| match micros {
        micros if micros % 1_000_000 == 0 => format!("{} s", micros / 1_000_000),
        micros if micros % 1000 == 0 => format!("{} ms", micros / 1000),
        micros => format!("{micros} us"),
    };
    match *spec {
        WindowSpec::Tumble { size, .. } => format!("TUMBLE(size {})", length(size)),
        WindowSpec::Hop { size, slide, .. } => format!("HOP(slide {}, size {})", length(slide), length(size)),
        WindowSpec::Cumulate { size, step, .. } => format!("CUMULATE(step {}, size {})", length(step), length(size)),
        WindowSpec::Session { gap } => format!("SESSION(gap {})", length(gap)),
    }
}
