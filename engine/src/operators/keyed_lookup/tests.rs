//! The join by key over a table that counts what it is asked.

use std::{fmt, sync::Mutex, time::Duration};

use arrow::{
    array::{AsArray, Int64Array},
    datatypes::{DataType, Field, Int64Type},
};
use async_trait::async_trait;

use super::*;
use crate::connector::{LookupCache, PartialCache};

/// Key k has the rows (k, 10 k) and, if it is even, (k, 10 k + 1); from 100 on there are none.
#[derive(Debug)]
struct Table {
    cache: LookupCache,
    asked: Mutex<Vec<Vec<i64>>>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("table")
    }
}

#[async_trait]
impl KeyedTable for Table {
    fn cache(&self) -> LookupCache {
        self.cache
    }

    fn check(&self, _: &[&str]) -> Result<()> {
        Ok(())
    }

    async fn rows(&self, keys: &RecordBatch, _: &SchemaRef) -> Result<RecordBatch> {
        assert_eq!(keys.schema().field(0).name(), "id");
        let keys = keys.column(0).as_primitive::<Int64Type>().values().to_vec();
        let there = keys.iter().filter(|key| **key < 100);
        let pairs = there.flat_map(|key| (0..=i64::from(key % 2 == 0)).map(move |more| (*key, key * 10 + more)));
        let (ids, values): (Vec<i64>, Vec<i64>) = pairs.unzip();
        self.asked.lock().unwrap().push(keys);
        Ok(rows(["id", "value"], [ids.into_iter().map(Some).collect(), values.into_iter().map(Some).collect()]))
    }
}

fn schema(names: [&str; 2]) -> SchemaRef {
    Arc::new(Schema::new(names.map(|name| Field::new(name, DataType::Int64, true)).to_vec()))
}

fn rows(names: [&str; 2], columns: [Vec<Option<i64>>; 2]) -> RecordBatch {
    let columns = columns.map(|column| Arc::new(Int64Array::from(column)) as ArrayRef);
    RecordBatch::try_new(schema(names), columns.to_vec()).unwrap()
}

struct Joined {
    table: Arc<Table>,
    operator: Box<dyn Operator>,
}

impl Joined {
    fn new(cache: LookupCache, keeps_unmatched: bool) -> Self {
        let table = Arc::new(Table { cache, asked: Mutex::default() });
        let asked = AskedTable {
            table: Arc::clone(&table) as _,
            columns: schema(["id", "value"]),
            steps: Vec::new(),
            schema: schema(["id", "value"]),
            key_names: vec![Some("id".to_owned())],
        };
        let lookup = KeyedLookup::new(asked, &schema(["k", "v"]), [vec![0], vec![0]], keeps_unmatched);
        Self { table, operator: lookup.create(&OperatorContext::alone(1 << 20)).unwrap() }
    }

    /// `(key, value found)` of each row that comes out.
    async fn join(&mut self, keys: &[Option<i64>], now: i64) -> Vec<(Option<i64>, Option<i64>)> {
        let input = ChangeBatch::inserts(rows(["k", "v"], [keys.to_vec(), vec![Some(0); keys.len()]]));
        let mut out = Output::default();
        assert!(self.operator.between_calls(Instant(now)).is_none(), "nothing to ask yet");
        if self.operator.on_changes(0, input, &mut out).unwrap() == Progress::More {
            self.operator.between_calls(Instant(now)).unwrap().await.unwrap();
            assert_eq!(self.operator.resume(&mut out).unwrap(), Progress::Done);
        }
        let Some(joined) = out.next_changes() else { return Vec::new() };
        let number = |column: usize, row| {
            let column = joined.rows.column(column).as_primitive::<Int64Type>();
            column.is_valid(row).then(|| column.value(row))
        };
        (0..joined.num_rows()).map(|row| (number(0, row), number(3, row))).collect()
    }

    fn asked(&self) -> Vec<Vec<i64>> {
        std::mem::take(&mut *self.table.asked.lock().unwrap())
    }
}

fn partial(rows_max: usize) -> LookupCache {
    LookupCache::Partial(PartialCache {
        rows_max,
        expire_after_write: Some(Duration::from_secs(10)),
        expire_after_access: Some(Duration::from_secs(5)),
        keeps_missing: true,
    })
}

#[tokio::test]
async fn each_key_of_a_batch_is_asked_for_once() {
    let mut left = Joined::new(LookupCache::None, true);
    let keys = [Some(3), None, Some(2), Some(100), Some(3)];
    let expected = [(Some(3), Some(30)), (None, None), (Some(2), Some(20)), (Some(2), Some(21)), (Some(100), None)];
    let found = left.join(&keys, 0).await;
    assert_eq!(found[..5], expected);
    assert_eq!(found[5], (Some(3), Some(30)));
    assert_eq!(left.asked(), [vec![3, 2, 100]]);
    left.join(&[Some(3)], 0).await;
    assert_eq!(left.asked(), [vec![3]], "nothing is kept");
    let mut inner = Joined::new(LookupCache::None, false);
    assert_eq!(inner.join(&[Some(100), None, Some(1)], 0).await, [(Some(1), Some(10))]);
    assert_eq!(inner.join(&[Some(100)], 0).await, []);
}

#[tokio::test]
async fn what_is_cached_is_not_asked_for_until_it_is_too_old() {
    let mut joined = Joined::new(partial(100), true);
    joined.join(&[Some(1), Some(100)], 0).await;
    assert_eq!(joined.join(&[Some(1), Some(100)], 4_000).await, [(Some(1), Some(10)), (Some(100), None)]);
    assert_eq!(joined.asked(), [vec![1, 100]], "a key without rows is known too");
    joined.join(&[Some(1)], 8_000).await;
    assert_eq!(joined.asked(), [] as [Vec<i64>; 0]);
    joined.join(&[Some(1)], 10_000).await;
    assert_eq!(joined.asked(), [vec![1]], "ten seconds after it was read");
    joined.join(&[Some(100)], 10_000).await;
    assert_eq!(joined.asked(), [vec![100]], "five seconds after it was used");
}

#[tokio::test]
async fn the_cache_keeps_to_its_bound_and_forgets_what_was_not_used() {
    let mut joined = Joined::new(partial(3), true);
    joined.join(&[Some(1), Some(2)], 0).await;
    joined.join(&[Some(1)], 1).await;
    joined.join(&[Some(5)], 2).await;
    assert_eq!(joined.operator.observe().state_rows, 2, "2 had two rows and was not used");
    joined.asked();
    joined.join(&[Some(1), Some(5), Some(2)], 3).await;
    assert_eq!(joined.asked(), [vec![2]]);
    assert!(joined.operator.observe().state_rows <= 3 && joined.operator.observe().state_bytes > 0);
}
