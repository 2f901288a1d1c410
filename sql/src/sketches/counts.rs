//! `histogram`: how often each value occurs, kept as counts.
//!
//! The state holds each distinct value once, however many rows had it; parts are merged by adding their counts.
//!
//! Invariant: values are told apart as grouping does: both zeros are one value, and so are all NaNs.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, ListArray, new_empty_array},
    buffer::OffsetBuffer,
    datatypes::{DataType, Field, FieldRef, Int64Type},
    row::{RowConverter, SortField},
};
use datafusion::{
    common::{Result as PlanResult, ScalarValue},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
};
use headwater_engine::error::{Error, Result};
use indexmap::IndexMap;

use super::shown::{map_of, one_map};
use crate::kernels::collected::positive_zeros;

/// The aggregate of values of a type.
pub fn histogram(of: &DataType) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(Histogram {
        of: of.clone(),
        signature: Signature::any(1, Volatility::Immutable),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Histogram {
    of: DataType,
    signature: Signature,
}

fn list_field(name: &str, of: &DataType) -> FieldRef {
    Field::new(name, DataType::List(Field::new("item", of.clone(), true).into()), true).into()
}

impl AggregateUDFImpl for Histogram {
    fn name(&self) -> &str {
        "histogram"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> PlanResult<DataType> {
        Ok(map_of(self.of.clone(), DataType::Int64))
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> PlanResult<Box<dyn Accumulator>> {
        Ok(Box::new(Counts::new(&self.of)?))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> PlanResult<Vec<FieldRef>> {
        Ok(vec![
            list_field(&format!("{}[values]", args.name), &self.of),
            list_field(&format!("{}[counts]", args.name), &DataType::Int64),
        ])
    }
}

/// Counts of values, each as the bytes of its row.
#[derive(Debug)]
struct Counts {
    of: DataType,
    rows: RowConverter,
    counts: IndexMap<Box<[u8]>, i64>,
    /// Bytes of the values held.
    bytes: usize,
}

impl Counts {
    fn new(of: &DataType) -> Result<Self> {
        let rows = RowConverter::new(vec![SortField::new(of.clone())])?;
        Ok(Self { of: of.clone(), rows, counts: IndexMap::new(), bytes: 0 })
    }

    fn add(&mut self, values: &ArrayRef, often: impl Fn(usize) -> i64) -> Result<()> {
        let values = positive_zeros(values);
        let rows = self.rows.convert_columns(&[Arc::clone(&values)])?;
        let nulls = values.logical_nulls();
        for at in (0..values.len()).filter(|at| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*at))) {
            let row = rows.row(at);
            match self.counts.get_mut(row.data()) {
                Some(count) => *count += often(at),
                None => {
                    self.bytes += row.data().len();
                    self.counts.insert(row.data().into(), often(at));
                }
            }
        }
        Ok(())
    }

    /// The values and their counts.
    fn entries(&self) -> Result<(ArrayRef, ArrayRef)> {
        let parser = self.rows.parser();
        let rows = self.counts.keys().map(|bytes| parser.parse(bytes));
        let values = self.rows.convert_rows(rows)?.into_iter().next();
        let values = values.unwrap_or_else(|| new_empty_array(&self.of));
        Ok((values, Arc::new(self.counts.values().copied().collect::<Int64Array>())))
    }
}

fn one_list(values: ArrayRef) -> Result<ScalarValue> {
    let item = Field::new("item", values.data_type().clone(), true);
    let list = ListArray::try_new(item.into(), OffsetBuffer::from_lengths([values.len()]), values, None)?;
    Ok(ScalarValue::List(Arc::new(list)))
}

impl Accumulator for Counts {
    fn update_batch(&mut self, values: &[ArrayRef]) -> PlanResult<()> {
        let values = values.first().ok_or_else(|| Error::internal("histogram has an argument"))?;
        Ok(self.add(values, |_| 1)?)
    }

    fn evaluate(&mut self) -> PlanResult<ScalarValue> {
        let of = map_of(self.of.clone(), DataType::Int64);
        if self.counts.is_empty() {
            return ScalarValue::try_from(&of);
        }
        let (values, counts) = self.entries()?;
        ScalarValue::try_from_array(&one_map(values, counts, &of)?, 0)
    }

    fn size(&self) -> usize {
        const OF_ENTRY: usize = 2 * size_of::<(Box<[u8]>, i64, u64)>();
        size_of_val(self) + self.rows.size() + self.bytes + self.counts.capacity() * OF_ENTRY
    }

    fn state(&mut self) -> PlanResult<Vec<ScalarValue>> {
        let (values, counts) = self.entries()?;
        Ok(vec![one_list(values)?, one_list(counts)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> PlanResult<()> {
        let [values, counts] = states else {
            return Err(Error::internal("the state of a histogram is values and counts").into());
        };
        let (values, counts) = (values.as_list::<i32>(), counts.as_list::<i32>());
        for state in (0..values.len()).filter(|state| values.is_valid(*state) && counts.is_valid(*state)) {
            let counts = counts.value(state);
            let counts = counts.as_primitive::<Int64Type>();
            self.add(&values.value(state), |at| counts.value(at))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Float64Array;

    use super::*;

    #[test]
    fn merged_parts_count_what_the_whole_counts_and_hold_each_value_once() {
        let part = |values: Vec<Option<f64>>| -> ArrayRef { Arc::new(Float64Array::from(values)) };
        let (a, b) = (part(vec![Some(0.0), None, Some(f64::NAN), Some(1.0)]), part(vec![Some(-0.0), Some(-f64::NAN)]));
        let new = || Counts::new(&DataType::Float64).unwrap();
        let (mut whole, mut left, mut right, mut merged) = (new(), new(), new(), new());
        for values in [&a, &b, &b] {
            whole.update_batch(&[Arc::clone(values)]).unwrap();
        }
        left.update_batch(&[a]).unwrap();
        right.update_batch(&[Arc::clone(&b)]).unwrap();
        right.update_batch(&[b]).unwrap();
        for part in [&mut left, &mut right] {
            let states: Vec<ArrayRef> = part.state().unwrap().iter().map(|s| s.to_array().unwrap()).collect();
            merged.merge_batch(&states).unwrap();
        }
        assert_eq!(merged.evaluate().unwrap(), whole.evaluate().unwrap());
        assert_eq!(whole.counts.values().copied().collect::<Vec<_>>(), [3, 3, 1]);
        let before = whole.size();
        whole.update_batch(&[Arc::new(Float64Array::from(vec![1.0; 100_000]))]).unwrap();
        assert!(whole.size() <= before + 1024, "rows are kept");
        assert!(new().evaluate().unwrap().is_null());
    }
}
