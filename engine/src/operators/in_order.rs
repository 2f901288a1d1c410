//! Changes that may come in another order than they were made in: per key, what is older than the newest is left out.
//!
//! A carrier such as a stream of several shards may repeat changes and bring an older one after a newer one, over a
//! restart too. So the order of each key's newest change is state of the job, of keys that are gone as well. Where the
//! changes themselves are the rows, each has a name, and one that is known is left out whatever its order.
//!
//! Invariant: at most `KEYS_MAX` keys are known to a task; those whose last change is oldest are forgotten first.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};

use crate::{
    connector::ChangelogMode,
    error::Result,
    hash::key_groups,
    memory::MemoryLease,
    message::ChangeBatch,
    operator::{Observation, Operator, OperatorContext, OperatorFactory, Output, Progress},
    operators::{
        groups::batch_of,
        keys::{Key, KeyEncoder},
    },
    runtime::filter_changes,
    state::{StateReader, StateWriter, key_group_field},
};

/// Keys known to a task.
const KEYS_MAX: usize = 1_000_000;
const TABLE: &str = "orders";
const BATCH_KEYS: usize = 8192;

/// Leaves out older changes of a key; its rows are exchanged by it. The column of the order goes no further.
#[derive(Debug, Clone)]
pub struct InOrder {
    key: Vec<usize>,
    order: usize,
    /// Each key comes once; otherwise its newest.
    is_once: bool,
    /// Columns of the output in terms of the input.
    kept: Vec<usize>,
    input: SchemaRef,
    output: SchemaRef,
}

impl InOrder {
    /// Rows of `input` with these key columns, ordered by the text of another column; NULL is news at any time.
    pub fn new(key: Vec<usize>, order: usize, input: SchemaRef) -> Result<Self> {
        let kept: Vec<usize> = (0..input.fields().len()).filter(|index| *index != order).collect();
        let output = Arc::new(input.project(&kept)?);
        Ok(Self { key, order, is_once: false, kept, input, output })
    }

    /// Rows of `input`, each of which is named by the text of a column: known names are left out, NULL is no name. The
    /// order says which names are forgotten first; neither column goes further.
    pub fn once(name: usize, order: usize, input: SchemaRef) -> Result<Self> {
        let kept: Vec<usize> = (0..input.fields().len()).filter(|index| ![name, order].contains(index)).collect();
        let output = Arc::new(input.project(&kept)?);
        Ok(Self { key: vec![name], order, is_once: true, kept, input, output })
    }

    fn key_of(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.key.iter().map(|index| Arc::clone(rows.column(*index))).collect()
    }

    fn keys(&self) -> Result<KeyEncoder> {
        KeyEncoder::new(self.key.iter().map(|index| self.input.field(*index).data_type().clone()))
    }
}

impl OperatorFactory for InOrder {
    fn name(&self) -> &'static str {
        if self.is_once { "once" } else { "in order" }
    }

    fn describe(&self) -> String {
        if self.is_once {
            return "each change once".to_owned();
        }
        let names: Vec<&str> = self.key.iter().map(|index| self.input.field(*index).name().as_str()).collect();
        format!("newest change by {}", names.join(", "))
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    fn output(&self, inputs: &[ChangelogMode]) -> Result<ChangelogMode> {
        Ok(inputs.iter().copied().max().unwrap_or(ChangelogMode::Append))
    }

    fn fingerprint(&self) -> Option<String> {
        let types: Vec<&DataType> = self.key.iter().map(|index| self.input.field(*index).data_type()).collect();
        Some(format!("{} 1: {types:?}", if self.is_once { "once" } else { "in-order" }))
    }

    fn create(&self, context: &OperatorContext) -> Result<Box<dyn Operator>> {
        let mut fields = vec![key_group_field(), Arc::new(Field::new("headwater_order", DataType::Utf8, false))];
        fields.extend(self.key.iter().map(|index| Arc::new(self.input.field(*index).clone())));
        Ok(Box::new(Newest {
            keys: self.keys()?,
            state: Arc::new(Schema::new(fields)),
            orders: HashMap::new(),
            dirty: HashSet::new(),
            lease: context.memory.lease(),
            bytes: 0,
            keys_max: KEYS_MAX,
            spec: self.clone(),
        }))
    }
}

#[derive(Debug)]
struct Newest {
    spec: InOrder,
    keys: KeyEncoder,
    state: SchemaRef,
    orders: HashMap<Key, String>,
    /// Keys that changed since the last snapshot.
    dirty: HashSet<Key>,
    lease: MemoryLease,
    bytes: usize,
    keys_max: usize,
}

fn size(key: &Key, order: &str) -> usize {
    key.len() + order.len() + 96
}

impl Newest {
    /// Takes note of a change, unless a newer one of its key is known.
    fn is_news(&mut self, key: Key, order: &str) -> bool {
        if let Some(known) = self.orders.get_mut(&key) {
            if self.spec.is_once || order < known.as_str() {
                return false;
            }
            order.clone_into(known);
        } else {
            self.bytes += size(&key, order);
            self.orders.insert(key.clone(), order.to_owned());
        }
        self.dirty.insert(key);
        true
    }

    /// Makes room: of too many keys the tenth whose last changes are oldest goes.
    fn forget(&mut self) {
        if self.orders.len() <= self.keys_max {
            return;
        }
        let mut orders: Vec<&str> = self.orders.values().map(String::as_str).collect();
        let place = orders.len() - self.keys_max + self.keys_max / 10;
        let (_, least, _) = orders.select_nth_unstable(place.min(self.orders.len() - 1));
        let least = least.to_owned();
        self.orders.retain(|_, order| *order >= least);
        // Many may be as old as that one: of those any go.
        let mut surplus = self.orders.len().saturating_sub(self.keys_max);
        self.orders.retain(|_, order| {
            let goes = surplus > 0 && *order == least;
            surplus -= usize::from(goes);
            !goes
        });
        self.bytes = self.orders.iter().map(|(key, order)| size(key, order)).sum();
    }

    fn snapshot_batch(&self, keys: &[&Key]) -> Result<RecordBatch> {
        let known: Vec<(&Key, &String)> = keys.iter().filter_map(|key| Some((*key, self.orders.get(*key)?))).collect();
        let columns = self.keys.decode(known.iter().map(|(key, _)| *key))?;
        let groups = key_groups(&columns, known.len())?;
        let orders: StringArray = known.iter().map(|(_, order)| Some(order.as_str())).collect();
        let mut all: Vec<ArrayRef> = vec![Arc::new(groups), Arc::new(orders)];
        all.extend(columns);
        batch_of(&self.state, all, known.len())
    }
}

impl Operator for Newest {
    fn on_changes(&mut self, _: usize, changes: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let keys = self.keys.encode(&self.spec.key_of(&changes.rows), changes.num_rows())?;
        let orders = Arc::clone(changes.rows.column(self.spec.order));
        let orders = orders.as_string::<i32>();
        let decides = if self.spec.is_once { self.spec.key[0] } else { self.spec.order };
        let decides = Arc::clone(changes.rows.column(decides));
        let news: Vec<bool> = (keys.into_iter().enumerate())
            .map(|(row, key)| {
                let order = if orders.is_null(row) { "" } else { orders.value(row) };
                decides.is_null(row) || self.is_news(key, order)
            })
            .collect();
        self.forget();
        self.lease.resize(self.bytes);
        let rows = changes.rows.project(&self.spec.kept)?;
        let kept = filter_changes(&ChangeBatch { rows, ..changes }, &BooleanArray::from(news))?;
        if kept.num_rows() > 0 {
            out.emit(kept);
        }
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, state: &mut StateWriter) -> Result<()> {
        let dirty = std::mem::take(&mut self.dirty);
        let keys: Vec<&Key> = if state.wants_whole() { self.orders.keys().collect() } else { dirty.iter().collect() };
        let batches = keys.chunks(BATCH_KEYS).map(|keys| self.snapshot_batch(keys)).collect::<Result<Vec<_>>>()?;
        state.write(TABLE, batches);
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        let columns: Vec<usize> = (2..2 + self.spec.key.len()).collect();
        for batch in state.batches(TABLE) {
            let keys = self.keys.encode(batch.project(&columns)?.columns(), batch.num_rows())?;
            let orders = batch.column(1).as_string::<i32>();
            for (row, key) in keys.into_iter().enumerate() {
                self.is_news(key, orders.value(row));
            }
        }
        self.dirty.clear();
        self.forget();
        self.lease.resize(self.bytes);
        Ok(())
    }

    fn observe(&self) -> Observation {
        let (state_bytes, state_rows) = (self.bytes as u64, self.orders.len() as u64);
        Observation { state_bytes, state_rows, ..Observation::default() }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int8Array, Int64Array};

    use super::*;
    use crate::{memory::MemoryBudget, message::RowKind, time::Watermark};

    fn spec() -> InOrder {
        let fields = vec![
            Field::new("k", DataType::Int64, true),
            Field::new("o", DataType::Utf8, true),
            Field::new("v", DataType::Int64, true),
        ];
        InOrder::new(vec![0], 1, Arc::new(Schema::new(fields))).unwrap()
    }

    fn operator() -> Box<dyn Operator> {
        spec().create(&OperatorContext::alone(1 << 30)).unwrap()
    }

    /// Key, order, value and what it does.
    type Change = (i64, Option<&'static str>, i64, RowKind);

    fn kept(operator: &mut dyn Operator, changes: &[Change]) -> Vec<i64> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(changes.iter().map(|change| change.0))),
            Arc::new(changes.iter().map(|change| change.1).collect::<StringArray>()),
            Arc::new(Int64Array::from_iter_values(changes.iter().map(|change| change.2))),
        ];
        let kinds = Int8Array::from_iter_values(changes.iter().map(|change| change.3 as i8));
        let rows = RecordBatch::try_new(spec().input, columns).unwrap();
        let mut out = Output::default();
        let _ = operator.on_changes(0, ChangeBatch::new(rows, Some(kinds)), &mut out).unwrap();
        let mut values = Vec::new();
        while let Some(changes) = out.next_changes() {
            assert_eq!(changes.kinds.as_ref().map(Array::len), Some(changes.num_rows()));
            let column = changes.rows.column(1).as_primitive::<arrow::datatypes::Int64Type>();
            values.extend_from_slice(column.values());
        }
        values
    }

    #[test]
    fn what_is_older_stays_out_over_restarts_and_after_deletes() {
        use RowKind::{Delete, UpdateAfter};
        let (mut running, mut saved) = (operator(), Vec::new());
        let rounds: [(&[Change], &[i64]); 4] = [
            (
                &[(1, Some("05"), 15, UpdateAfter), (1, Some("03"), 13, UpdateAfter), (2, None, 20, UpdateAfter)],
                &[15, 20],
            ),
            (&[(1, Some("04"), 14, UpdateAfter), (1, Some("05"), 155, UpdateAfter)], &[155]),
            (&[(1, Some("07"), 17, Delete), (1, Some("06"), 16, UpdateAfter)], &[17]),
            (
                &[(1, Some("06"), 16, UpdateAfter), (1, Some("08"), 18, UpdateAfter), (2, Some("01"), 21, Delete)],
                &[18, 21],
            ),
        ];
        for (index, (changes, expected)) in rounds.into_iter().enumerate() {
            assert_eq!(kept(running.as_mut(), changes), expected, "round {index}");
            let mut writer = StateWriter::new(index == 1);
            running.snapshot(&mut writer).unwrap();
            if index == 1 {
                saved.clear();
            }
            saved.extend(writer.into_increments().into_iter().flat_map(|increment| increment.batches));
            running = operator();
            let tables = vec![(TABLE.to_owned(), saved.clone())];
            running.restore(&StateReader::new(tables, &(0..128), Watermark::MIN).unwrap()).unwrap();
        }
    }

    #[test]
    fn a_change_with_a_name_comes_once_over_restarts_whatever_its_order() {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let input = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, true), text("id"), text("order")]));
        let once = InOrder::once(1, 2, Arc::clone(&input)).unwrap();
        let kept = |operator: &mut dyn Operator, changes: &[(i64, Option<&str>, Option<&str>)]| {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from_iter_values(changes.iter().map(|change| change.0))),
                Arc::new(changes.iter().map(|change| change.1).collect::<StringArray>()),
                Arc::new(changes.iter().map(|change| change.2).collect::<StringArray>()),
            ];
            let rows = RecordBatch::try_new(Arc::clone(&input), columns).unwrap();
            let mut out = Output::default();
            let _ = operator.on_changes(0, ChangeBatch::inserts(rows), &mut out).unwrap();
            let mut values = Vec::new();
            while let Some(changes) = out.next_changes() {
                assert_eq!(changes.rows.num_columns(), 1, "names and orders go no further");
                values.extend_from_slice(changes.rows.column(0).as_primitive::<arrow::datatypes::Int64Type>().values());
            }
            values
        };
        let mut first = once.create(&OperatorContext::alone(1 << 30)).unwrap();
        let news = kept(first.as_mut(), &[(1, Some("e1"), Some("1")), (2, Some("e1"), Some("9")), (3, None, None)]);
        assert_eq!(news, [1, 3]);
        let mut writer = StateWriter::new(false);
        first.snapshot(&mut writer).unwrap();
        let saved = writer.into_increments().into_iter().flat_map(|increment| increment.batches).collect();
        let saved = StateReader::new(vec![(TABLE.to_owned(), saved)], &(0..128), Watermark::MIN).unwrap();
        let mut second = once.create(&OperatorContext::alone(1 << 30)).unwrap();
        second.restore(&saved).unwrap();
        let news = kept(second.as_mut(), &[(4, Some("e1"), Some("99")), (5, None, None), (6, Some("e2"), None)]);
        assert_eq!(news, [5, 6]);
    }

    #[test]
    fn of_too_many_keys_those_that_changed_longest_ago_are_forgotten() {
        let mut newest = Newest {
            keys: spec().keys().unwrap(),
            state: spec().output,
            orders: HashMap::new(),
            dirty: HashSet::new(),
            lease: MemoryBudget::new(1 << 30).lease(),
            bytes: 0,
            keys_max: 100,
            spec: spec(),
        };
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..101));
        let keys = newest.keys.encode(&[column], 101).unwrap();
        for (number, key) in keys.iter().enumerate() {
            assert!(newest.is_news(key.clone(), &format!("{number:03}")));
        }
        newest.forget();
        assert_eq!(newest.orders.len(), 90);
        assert!(!newest.orders.contains_key(&keys[10]) && newest.orders.contains_key(&keys[11]));
        assert!(!newest.is_news(keys[100].clone(), "099"));
        for key in keys {
            newest.is_news(key, "200");
        }
        newest.forget();
        assert!(newest.orders.len() <= 100, "also when all are equally old");
    }
}
