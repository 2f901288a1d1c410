//! The aggregates that can take rows back, and calls of them.
//!
//! Invariant: what is not one of them is refused by name before a job starts.

use std::sync::Arc;

use arrow::{
    compute::SortOptions,
    datatypes::{DataType, Field, FieldRef, Schema},
};
use datafusion::physical_expr::PhysicalExpr;

use super::cells::SUM_DIGITS;
use crate::error::{Error, Result};

/// The aggregates that can take rows back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retractable {
    /// `count(*)`, `count(x)`.
    Count,
    /// `sum(x)`.
    Sum,
    /// `avg(x)` of a double, or of a decimal, rounded half up.
    Avg,
    /// `min(x)`.
    Min,
    /// `max(x)`.
    Max,
    /// `count(distinct x)`.
    CountDistinct,
    /// `first_value(x ORDER BY ..)`; without an order the least value.
    First,
    /// `last_value(x ORDER BY ..)`.
    Last,
}

impl Retractable {
    /// The aggregate of this name, or an error that names it.
    pub fn by_name(name: &str, is_distinct: bool) -> Result<Self> {
        match (name, is_distinct) {
            ("count", false) => Ok(Self::Count),
            ("count", true) | ("approx_distinct", _) => Ok(Self::CountDistinct),
            ("sum", false) => Ok(Self::Sum),
            ("avg", false) => Ok(Self::Avg),
            ("min" | "bool_and", _) => Ok(Self::Min),
            ("max" | "bool_or", _) => Ok(Self::Max),
            ("first_value", false) => Ok(Self::First),
            ("last_value", false) => Ok(Self::Last),
            _ => Err(Error::not_supported(format!("the aggregate \"{name}\" over rows that are updated later"))
                .with_hint(
                    "count, sum, avg, min, max, count(distinct), max_by, min_by, arbitrary, bool_and and bool_or can \
                     take rows back; or group by a window before",
                )),
        }
    }
}

/// One aggregate call.
#[derive(Debug, Clone)]
pub struct RetractableCall {
    /// The aggregate.
    pub aggregate: Retractable,
    /// Its argument, of the type values are kept in (the planner casts); `None` for `count(*)`.
    pub argument: Option<Arc<dyn PhysicalExpr>>,
    /// `FILTER (WHERE ..)`.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// `ORDER BY` of a first or last value.
    pub order: Vec<(Arc<dyn PhysicalExpr>, SortOptions)>,
    /// Whether a first or last value is one that is not NULL.
    pub ignores_nulls: bool,
    /// Field of the result.
    pub field: FieldRef,
}

impl RetractableCall {
    /// The columns of what is kept of a row, as they are compared: the order, then the argument.
    pub(super) fn kept(&self, input: &Schema) -> Result<Vec<(DataType, SortOptions)>> {
        let turned = |options: &SortOptions| match self.aggregate {
            Retractable::Last => SortOptions { descending: !options.descending, nulls_first: !options.nulls_first },
            _ => *options,
        };
        let mut kept = Vec::new();
        for (expr, options) in &self.order {
            kept.push((expr.data_type(input)?, turned(options)));
        }
        let argument = self.argument.as_ref().map(|argument| argument.data_type(input)).transpose()?;
        let argument = argument.unwrap_or(DataType::Int64);
        let argument = match self.aggregate {
            Retractable::Sum | Retractable::Avg => summed(argument),
            _ => argument,
        };
        kept.push((argument, SortOptions::default()));
        Ok(kept)
    }
}

/// The type in which values are summed up.
fn summed(argument: DataType) -> DataType {
    match argument {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => DataType::Float64,
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) => {
            DataType::Decimal256(SUM_DIGITS, scale)
        }
        whole if whole.is_integer() => DataType::Decimal256(SUM_DIGITS, 0),
        other => other,
    }
}

/// The type of what is kept in state: the columns, as one.
pub(super) fn stored(kept: &[(DataType, SortOptions)]) -> DataType {
    match kept {
        [(only, _)] => only.clone(),
        columns => {
            let field = |(place, (data_type, _)): (usize, &(DataType, SortOptions))| {
                Field::new(format!("c{place}"), data_type.clone(), true)
            };
            DataType::Struct(columns.iter().enumerate().map(field).collect())
        }
    }
}
