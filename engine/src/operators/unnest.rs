//! UNNEST: each row once for every element of its list, the element in the list's place.
//!
//! Invariant: a row whose list is NULL or empty is gone; row kinds follow their rows.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, ListArray, UInt32Array},
    compute::take,
    datatypes::{DataType, SchemaRef},
};

use crate::{
    connector::ChangelogMode,
    error::{Error, Result},
    message::ChangeBatch,
    operator::{Operator, OperatorContext, OperatorFactory, Output, Progress},
    operators::groups::batch_of,
    runtime::exchange::take_changes,
};

/// Unnests one list column.
#[derive(Debug, Clone)]
pub struct Unnest {
    list: usize,
    columns: Vec<usize>,
    schema: SchemaRef,
}

/// Rows that go out at once.
const BATCH_ROWS: usize = 8192;

impl Unnest {
    /// Unnests the column `list` of the input; output column `i` is the input's `columns[i]`, the list's being its
    /// elements.
    pub fn new(list: usize, columns: Vec<usize>, schema: SchemaRef) -> Result<Self> {
        if columns.len() != schema.fields().len() {
            return Err(Error::internal("an unnesting has other columns than its schema"));
        }
        Ok(Self { list, columns, schema })
    }

    fn emit(&self, changes: &ChangeBatch, rows: &[u32], elements: ArrayRef, out: &mut Output) -> Result<()> {
        let taken = take_changes(changes, &UInt32Array::from(rows.to_vec()))?;
        let column = |index: &usize| match *index == self.list {
            true => Arc::clone(&elements),
            false => Arc::clone(taken.rows.column(*index)),
        };
        let rows = batch_of(&self.schema, self.columns.iter().map(column).collect(), rows.len())?;
        out.emit(taken.in_columns(rows));
        Ok(())
    }
}

impl OperatorFactory for Unnest {
    fn name(&self) -> &'static str {
        "unnest"
    }

    fn describe(&self) -> String {
        format!("each element of column {}", self.list)
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn output(&self, inputs: &[ChangelogMode]) -> Result<ChangelogMode> {
        match inputs.iter().copied().max().unwrap_or(ChangelogMode::Append) {
            ChangelogMode::Upsert => Err(Error::internal("an unnesting of rows without their old value")),
            mode @ (ChangelogMode::Append | ChangelogMode::Retract) => Ok(mode),
        }
    }

    fn fingerprint(&self) -> Option<String> {
        None
    }

    fn create(&self, _: &OperatorContext) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.clone()))
    }
}

impl Operator for Unnest {
    fn on_changes(&mut self, _: usize, changes: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let column = changes.rows.column(self.list);
        let lists: &ListArray = match column.data_type() {
            DataType::List(_) => column.as_list(),
            other => return Err(Error::internal(format!("an unnesting of {other}"))),
        };
        let (mut rows, mut places): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        let offsets = lists.value_offsets();
        for row in (0..lists.len()).filter(|row| lists.is_valid(*row)) {
            for place in offsets[row]..offsets[row + 1] {
                rows.push(row as u32);
                places.push(place as u32);
            }
        }
        for (rows, places) in rows.chunks(BATCH_ROWS).zip(places.chunks(BATCH_ROWS)) {
            let elements = take(lists.values(), &UInt32Array::from(places.to_vec()), None)?;
            self.emit(&changes, rows, elements, out)?;
        }
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::{
        array::{Int8Array, Int64Array, RecordBatch},
        datatypes::{Field, Int64Type, Schema},
    };

    #[test]
    fn elements_take_the_place_of_their_list_and_keep_the_kind_of_their_row() {
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
            Some(vec![Some(3)]),
        ]);
        let input = Arc::new(Schema::new(vec![
            Field::new("l", lists.data_type().clone(), true),
            Field::new("k", DataType::Int64, true),
        ]));
        let keys: ArrayRef = Arc::new(Int64Array::from(vec![10, 20, 30, 40]));
        let rows = RecordBatch::try_new(input, vec![Arc::new(lists), keys]).unwrap();
        let output = Arc::new(Schema::new(["k", "e"].map(|name| Field::new(name, DataType::Int64, true)).to_vec()));
        let unnest = Unnest::new(0, vec![1, 0], output).unwrap();
        let mut operator = unnest.create(&OperatorContext::alone(1 << 20)).unwrap();
        let mut out = Output::default();
        let changes = ChangeBatch::new(rows, Some(Int8Array::from(vec![3, 0, 0, 0])));
        let _ = operator.on_changes(0, changes, &mut out).unwrap();
        let changes = out.next_changes().unwrap();
        let number = |column: usize| -> Vec<Option<i64>> {
            changes.rows.column(column).as_primitive::<Int64Type>().iter().collect()
        };
        assert_eq!(number(0), [Some(10), Some(10), Some(40)]);
        assert_eq!(number(1), [Some(1), None, Some(3)]);
        assert_eq!(changes.kinds.unwrap().values().to_vec(), [3, 3, 0]);
    }
}
