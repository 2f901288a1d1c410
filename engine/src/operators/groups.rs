//! Grouped aggregation on DataFusion's accumulators: update from rows, merge from partial states, drain, evaluate.
//!
//! Every aggregate DataFusion knows, user-defined ones too, works here over inserts. Partial states travel as rows: keys,
//! then the state columns of each aggregate.
//!
//! Invariant: draining and merging back is the identity on what `evaluate` returns.

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions},
    compute::prep_null_mask_filter,
    datatypes::{FieldRef, Schema, SchemaRef},
};
use datafusion::{
    logical_expr::{EmitTo, GroupsAccumulator},
    physical_expr::{GroupsAccumulatorAdapter, PhysicalExpr, aggregate::AggregateFunctionExpr},
    physical_plan::aggregates::{
        group_values::{GroupValues, new_group_values},
        order::GroupOrdering,
    },
};

use crate::error::{Error, Result};

/// One aggregate call.
#[derive(Debug, Clone)]
pub struct AggregateCall {
    /// The function with its arguments.
    pub function: Arc<AggregateFunctionExpr>,
    /// `FILTER (WHERE ..)`.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

/// What is grouped and computed.
#[derive(Debug, Clone)]
pub struct Grouping {
    /// Keys over the input, with the field each becomes.
    pub keys: Vec<(Arc<dyn PhysicalExpr>, FieldRef)>,
    /// Aggregates over the input.
    pub aggregates: Vec<AggregateCall>,
}

impl Grouping {
    /// Fields of the keys.
    pub fn key_fields(&self) -> Vec<FieldRef> {
        self.keys.iter().map(|(_, field)| Arc::clone(field)).collect()
    }

    /// Fields of the partial states, aggregate by aggregate.
    pub fn state_fields(&self) -> Result<Vec<FieldRef>> {
        let mut fields = Vec::new();
        for (index, call) in self.aggregates.iter().enumerate() {
            for (part, field) in call.function.state_fields()?.into_iter().enumerate() {
                let name = format!("state_{index}_{part}");
                fields.push(Arc::new(field.as_ref().clone().with_name(name).with_nullable(true)));
            }
        }
        Ok(fields)
    }

    /// Fields of the results.
    pub fn value_fields(&self) -> Vec<FieldRef> {
        self.aggregates.iter().map(|call| call.function.field()).collect()
    }

    /// What the state of this grouping means, in one text.
    pub fn fingerprint(&self) -> String {
        let keys: Vec<String> = self.keys.iter().map(|(expr, field)| format!("{expr}:{}", field.data_type())).collect();
        let calls = self.aggregates.iter().map(|call| {
            let filter = call.filter.as_ref().map(|filter| format!(" where {filter}")).unwrap_or_default();
            let args: Vec<String> = call.function.expressions().iter().map(ToString::to_string).collect();
            let distinct = if call.function.is_distinct() { "distinct " } else { "" };
            format!("{}({distinct}{}){filter}", call.function.fun().name(), args.join(","))
        });
        format!("group by {} compute {}", keys.join(","), calls.collect::<Vec<_>>().join(","))
    }
}

/// Groups with their accumulators.
pub struct Groups {
    grouping: Arc<Grouping>,
    values: Option<Box<dyn GroupValues>>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    state_widths: Vec<usize>,
    indexes: Vec<usize>,
    key_schema: SchemaRef,
    has_rows: bool,
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Groups").field("groups", &self.len()).finish_non_exhaustive()
    }
}

fn accumulator(call: &AggregateCall) -> Result<Box<dyn GroupsAccumulator>> {
    if call.function.groups_accumulator_supported() {
        return Ok(call.function.create_groups_accumulator()?);
    }
    let function = Arc::clone(&call.function);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
}

impl Groups {
    /// No groups yet.
    pub fn new(grouping: Arc<Grouping>) -> Result<Self> {
        let key_schema: SchemaRef = Arc::new(Schema::new(grouping.key_fields()));
        let values = match grouping.keys.is_empty() {
            true => None,
            false => Some(new_group_values(Arc::clone(&key_schema), &GroupOrdering::None)?),
        };
        let accumulators = grouping.aggregates.iter().map(accumulator).collect::<Result<Vec<_>>>()?;
        let widths = grouping.aggregates.iter().map(|call| Ok(call.function.state_fields()?.len()));
        let state_widths = widths.collect::<Result<Vec<_>>>()?;
        Ok(Self { grouping, values, accumulators, state_widths, indexes: Vec::new(), key_schema, has_rows: false })
    }

    /// How many groups.
    pub fn len(&self) -> usize {
        match &self.values {
            Some(values) => values.len(),
            None => usize::from(self.has_rows),
        }
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        let values = self.values.as_ref().map_or(0, |values| values.size());
        values + self.accumulators.iter().map(|accumulator| accumulator.size()).sum::<usize>()
    }

    fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<usize> {
        self.has_rows |= rows > 0;
        self.indexes.clear();
        match &mut self.values {
            Some(values) => values.intern(keys, &mut self.indexes)?,
            None => self.indexes.resize(rows, 0),
        }
        Ok(self.len())
    }

    /// Takes rows of the input.
    pub fn update(&mut self, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let evaluate = |expr: &Arc<dyn PhysicalExpr>| -> Result<ArrayRef> {
            Ok(expr.evaluate(rows)?.into_array(rows.num_rows())?)
        };
        let grouping = Arc::clone(&self.grouping);
        let keys = grouping.keys.iter().map(|(expr, _)| evaluate(expr)).collect::<Result<Vec<_>>>()?;
        let total = self.intern(&keys, rows.num_rows())?;
        for (call, accumulator) in grouping.aggregates.iter().zip(&mut self.accumulators) {
            let (args, filter) = arguments(call, &evaluate)?;
            accumulator.update_batch(&args, &self.indexes, filter.as_ref(), total)?;
        }
        Ok(())
    }

    /// Whether [`Groups::states_of`] is cheap for these aggregates.
    pub fn converts(&self) -> bool {
        self.grouping.aggregates.iter().all(|call| call.function.groups_accumulator_supported())
    }

    /// Rows of the input as partial states, each row a group of its own: keys, then states. Nothing is kept.
    pub fn states_of(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let evaluate = |expr: &Arc<dyn PhysicalExpr>| -> Result<ArrayRef> {
            Ok(expr.evaluate(rows)?.into_array(rows.num_rows())?)
        };
        let mut columns = self.grouping.keys.iter().map(|(expr, _)| evaluate(expr)).collect::<Result<Vec<_>>>()?;
        for (call, accumulator) in self.grouping.aggregates.iter().zip(&self.accumulators) {
            let (args, filter) = arguments(call, &evaluate)?;
            columns.extend(accumulator.convert_to_state(&args, filter.as_ref())?);
        }
        Ok(columns)
    }

    /// The group of each row of the last update or merge.
    pub fn last_indexes(&self) -> &[usize] {
        &self.indexes
    }

    /// Takes partial states: keys, then states.
    pub fn merge(&mut self, keys: &[ArrayRef], states: &[ArrayRef], rows: usize) -> Result<()> {
        if rows == 0 {
            return Ok(());
        }
        let total = self.intern(keys, rows)?;
        let mut rest = states;
        for (width, accumulator) in self.state_widths.iter().zip(&mut self.accumulators) {
            let (own, others) =
                rest.split_at_checked(*width).ok_or_else(|| Error::internal("a partial state is short"))?;
            accumulator.merge_batch(own, &self.indexes, total)?;
            rest = others;
        }
        Ok(())
    }

    fn emit_keys(&mut self) -> Result<(Vec<ArrayRef>, usize)> {
        let rows = self.len();
        let keys = match &mut self.values {
            Some(values) => {
                let keys = values.emit(EmitTo::All)?;
                // Group values may come in the type they are kept in.
                let fields = self.key_schema.fields().iter();
                keys.into_iter().zip(fields).map(|(key, field)| same_type(key, field)).collect::<Result<_>>()?
            }
            None => Vec::new(),
        };
        self.has_rows = false;
        if self.values.is_some() {
            // What has emitted everything still remembers where its groups were.
            self.values = Some(new_group_values(Arc::clone(&self.key_schema), &GroupOrdering::None)?);
        }
        Ok((keys, rows))
    }

    /// Takes everything out as partial states: keys, states, and how many rows.
    pub fn drain(&mut self) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>, usize)> {
        let (keys, rows) = self.emit_keys()?;
        let mut states = Vec::new();
        if rows > 0 {
            for accumulator in &mut self.accumulators {
                states.extend(accumulator.state(EmitTo::All)?);
            }
        }
        Ok((keys, states, rows))
    }

    /// Takes everything out as results: keys, values, and how many rows.
    pub fn evaluate(&mut self) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>, usize)> {
        let (keys, rows) = self.emit_keys()?;
        let mut values = Vec::new();
        if rows > 0 {
            for (accumulator, field) in self.accumulators.iter_mut().zip(self.grouping.value_fields()) {
                values.push(same_type(accumulator.evaluate(EmitTo::All)?, &field)?);
            }
        }
        Ok((keys, values, rows))
    }
}

/// The arguments of a call over a batch, and the rows it takes.
fn arguments(
    call: &AggregateCall,
    evaluate: &impl Fn(&Arc<dyn PhysicalExpr>) -> Result<ArrayRef>,
) -> Result<(Vec<ArrayRef>, Option<BooleanArray>)> {
    let mut args = call.function.expressions().iter().map(evaluate).collect::<Result<Vec<_>>>()?;
    for order in call.function.order_bys() {
        args.push(evaluate(&order.expr)?);
    }
    let filter = match &call.filter {
        Some(filter) => Some(mask(&evaluate(filter)?)?),
        None => None,
    };
    Ok((args, filter))
}

/// A boolean column as a filter: NULL is false.
pub(crate) fn mask(column: &ArrayRef) -> Result<BooleanArray> {
    let mask = column.as_boolean_opt().ok_or_else(|| Error::internal("a FILTER that is no boolean"))?;
    Ok(if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() })
}

fn same_type(column: ArrayRef, field: &FieldRef) -> Result<ArrayRef> {
    if column.data_type() == field.data_type() {
        return Ok(column);
    }
    Ok(arrow::compute::cast(&column, field.data_type())?)
}

/// A batch from columns, also when there are none.
pub(crate) fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}
