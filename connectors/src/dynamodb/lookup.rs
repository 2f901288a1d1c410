//! A DynamoDB table in a join by key: BatchGetItem for whole keys, Query where only the partition key is given.
//!
//! Invariant: a key is asked for once; what a request leaves unprocessed is asked for again until it is answered.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, SchemaRef},
};
use async_trait::async_trait;
use aws_sdk_dynamodb::{Client, types::KeysAndAttributes};
use futures::{StreamExt, TryStreamExt};
use headwater_engine::{
    connector::{KeyedTable, LookupCache, TableSpec},
    error::{Error, Result},
    graph::Malformed,
    time::{Clock, SystemClock},
};
use tokio::sync::OnceCell;

use super::{
    SERVICE,
    decode::ItemDecoder,
    encode::ItemEncoder,
    keys::{self, Description, is_spelt_one_way},
    options::DynamoOptions,
    pages::{Pages, Part},
    provider::MISFIT_HINT,
    size::Item,
};
use crate::aws::{Backoff, Failure, failed};

/// Keys of one BatchGetItem, the service's limit.
const BATCH_KEYS: usize = 100;
/// Requests on their way at a time.
const IN_FLIGHT: usize = 8;
/// Requests in a row that may answer nothing before the job fails.
const TRIES: u32 = 12;

/// A table that is looked up.
pub(super) struct DynamoLookup {
    options: DynamoOptions,
    spec: TableSpec,
    malformed: Malformed,
    table: OnceCell<Outside>,
}

/// The table as it is outside.
#[derive(Debug)]
struct Outside {
    pages: Pages,
    description: Description,
}

impl DynamoLookup {
    pub(super) fn new(spec: &TableSpec, malformed: Malformed) -> Result<Self> {
        Ok(Self { options: DynamoOptions::parse(spec)?, spec: spec.clone(), malformed, table: OnceCell::new() })
    }

    async fn outside(&self) -> Result<&Outside> {
        let connect = || async {
            let client = Client::new(&self.options.aws.connect(&[SERVICE]).await?);
            let description = keys::describe(&client, &self.options.table_name).await?;
            description.columns(&self.options.table, &self.spec.schema, &self.spec.primary_key)?;
            let pages = Pages {
                client,
                table: self.options.table_name.clone(),
                consistent: self.options.consistent_read,
                attributes: Vec::new(),
                clock: Arc::new(SystemClock) as Arc<dyn Clock>,
            };
            Ok(Outside { pages, description })
        };
        self.table.get_or_try_init(connect).await
    }

    fn no_key(&self, description: &Description) -> Error {
        let key = description.keys.first().map_or("", |key| key.name.as_str());
        needs_key(&self.options.table, &format!("\"{key}\""))
    }
}

fn needs_key(table: &str, key: &str) -> Error {
    Error::user("NOT_SUPPORTED", format!("a join looks rows of \"{table}\" up by another column than its key {key}"))
        .with_hint(format!("join ON .. = {table}.{key}, or read the table whole with 'lookup.cache' = 'FULL'"))
}

/// Whether a key of some kind has one attribute for each value of a column.
fn can_be_asked(data_type: &DataType) -> bool {
    ["S", "N", "B"].iter().any(|kind| is_spelt_one_way(data_type, kind))
}

fn has_spellings(table: &str, key: &str, data_type: &DataType) -> Error {
    let shown = match data_type {
        DataType::Timestamp(..) => "a time".to_owned(),
        DataType::Date32 => "a date".to_owned(),
        DataType::Float32 | DataType::Float64 => "a float".to_owned(),
        other => format!("{other}"),
    };
    let message = format!(
        "a join looks rows of \"{table}\" up by \"{key}\", which is {shown}: more than one key of the DynamoDB table is read as \
         one value"
    );
    Error::user("NOT_SUPPORTED", message).with_hint(format!(
        "declare \"{key}\" as VARCHAR and join by the text the items have, or read the table whole with 'lookup.cache' = 'FULL'"
    ))
}

impl fmt::Debug for DynamoLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoLookup").field("table", &self.options.table_name).finish_non_exhaustive()
    }
}

impl fmt::Display for DynamoLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dynamodb table {}", self.options.table_name)
    }
}

#[async_trait]
impl KeyedTable for DynamoLookup {
    fn cache(&self) -> LookupCache {
        self.options.lookup
    }

    /// By a declared key; without one the table's own is found when the job starts.
    fn check(&self, columns: &[&str]) -> Result<()> {
        let Some(first) = self.spec.primary_key.first() else { return Ok(()) };
        let is_key = |column: &&str| self.spec.primary_key.iter().any(|key| key.eq_ignore_ascii_case(column));
        if !columns.iter().any(is_key) {
            return Err(needs_key(&self.options.table, first));
        }
        match self.spec.schema.field_with_name(first) {
            Ok(field) if self.spec.primary_key.len() == 1 && !can_be_asked(field.data_type()) => {
                Err(has_spellings(&self.options.table, first, field.data_type()))
            }
            _ => Ok(()),
        }
    }

    async fn rows(&self, keys: &RecordBatch, columns: &SchemaRef) -> Result<RecordBatch> {
        let outside = self.outside().await?;
        let asked = Asked::new(&outside.description, keys, &self.options.table)?
            .ok_or_else(|| self.no_key(&outside.description))?;
        let items = match asked.is_whole {
            true => outside.items(asked.keys).await?,
            false => outside.partitions(asked.keys).await?,
        };
        let mut decoder = ItemDecoder::new(Arc::clone(columns))?;
        if self.malformed == Malformed::Reject {
            decoder = decoder.judging(&self.spec.schema);
        }
        let decoded = decoder.decode(&items.iter().map(Some).collect::<Vec<_>>())?;
        let Some(reason) = decoded.misfits.values().next() else { return Ok(decoded.rows) };
        let message = format!("an item of the DynamoDB table \"{}\": {reason}", self.options.table_name);
        if self.malformed == Malformed::Reject {
            tracing::warn!("{message}; {} items are left out of a join", decoded.misfits.len());
            return Ok(decoded.rows);
        }
        Err(Error::data("TYPE_MISMATCH", message).with_hint(MISFIT_HINT))
    }
}

/// The keys of a question, each once.
struct Asked {
    keys: Vec<Item>,
    /// Whether they name an item each; else a partition.
    is_whole: bool,
}

impl Asked {
    /// `None` if the partition key is not among the columns.
    fn new(description: &Description, keys: &RecordBatch, table: &str) -> Result<Option<Self>> {
        let schema = keys.schema();
        let place = |name: &str| schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name));
        let places: Vec<usize> = description.keys.iter().map_while(|key| place(&key.name)).collect();
        if places.is_empty() {
            return Ok(None);
        }
        let keys = keys.project(&places)?;
        let part = Description { keys: description.keys[..places.len()].to_vec(), ..description.clone() };
        let names = part.keys.iter().map(|key| key.name.clone()).collect();
        let encoder = ItemEncoder::new(&keys.schema(), names, &Default::default(), true)?;
        part.check_types(table, &encoder, &(0..places.len()).collect::<Vec<_>>())?;
        let (first, kind) = (keys.schema().field(0).data_type().clone(), &part.keys[0].kind);
        if !is_spelt_one_way(&first, kind) {
            return Err(has_spellings(table, &part.keys[0].name, &first));
        }
        // A sort key that can be spelt in other ways too is looked for among all items of its partition.
        if let (Some(sort), Some(key)) = (places.get(1), description.keys.get(1))
            && !is_spelt_one_way(schema.field(*sort).data_type(), &key.kind)
        {
            let first = Description { keys: description.keys[..1].to_vec(), ..description.clone() };
            let asked = Self::new(&first, &keys.project(&[0])?, table)?;
            return Ok(asked.map(|asked| Self { is_whole: false, ..asked }));
        }
        // What cannot be a key of the table (an empty text, 3,000 bytes) is none of its keys.
        let found = (0..keys.num_rows()).filter_map(|row| part.key_of(&encoder.item(&keys, row).ok()?).ok());
        let each: HashMap<String, Item> = found.map(|(key, id)| (id, key)).collect();
        Ok(Some(Self { keys: each.into_values().collect(), is_whole: places.len() == description.keys.len() }))
    }
}

impl Outside {
    /// The items of these keys, those that are there.
    async fn items(&self, keys: Vec<Item>) -> Result<Vec<Item>> {
        let batches: Vec<Vec<Item>> = keys.chunks(BATCH_KEYS).map(<[Item]>::to_vec).collect();
        let answers = futures::stream::iter(batches.into_iter().map(|batch| self.batch(batch)));
        let answers: Vec<Vec<Item>> = answers.buffer_unordered(IN_FLIGHT).try_collect().await?;
        Ok(answers.concat())
    }

    async fn batch(&self, mut keys: Vec<Item>) -> Result<Vec<Item>> {
        let table = &self.pages.table;
        let doing = format!("cannot read the DynamoDB table \"{table}\"");
        let mut backoff = Backoff::new(Duration::from_millis(25), Duration::from_secs(5));
        let mut found = Vec::new();
        while !keys.is_empty() {
            let wanted = KeysAndAttributes::builder().set_keys(Some(keys.clone()));
            let wanted = wanted.consistent_read(self.pages.consistent).build();
            let wanted = wanted.map_err(|error| Error::internal(format!("an incomplete request: {error}")))?;
            match self.pages.client.batch_get_item().request_items(table, wanted).send().await {
                Ok(answer) => {
                    found.extend(answer.responses.and_then(|mut all| all.remove(table)).unwrap_or_default());
                    let left = answer.unprocessed_keys.and_then(|mut all| all.remove(table));
                    let left = left.map(|left| left.keys).unwrap_or_default();
                    if left.is_empty() {
                        break;
                    }
                    if left.len() < keys.len() {
                        backoff.reset();
                    }
                    keys = left;
                }
                Err(error) if Failure::of(&error) == Failure::Refused => return Err(failed(&doing, &error)),
                Err(error) if backoff.attempts() >= TRIES => return Err(failed(&doing, &error)),
                Err(error) => tracing::debug!(%error, "keys of a DynamoDB table are asked for again"),
            }
            if backoff.attempts() > TRIES {
                return Err(Error::unavailable(format!("{doing}: keys stay unprocessed")));
            }
            backoff.wait(&self.pages.clock).await;
        }
        Ok(found)
    }

    /// All items of these partition keys.
    async fn partitions(&self, keys: Vec<Item>) -> Result<Vec<Item>> {
        let parts = keys.into_iter().flatten().map(|(name, value)| Part::Partition { name, value });
        let answers = futures::stream::iter(parts.map(|part| self.partition(part)));
        let answers: Vec<Vec<Item>> = answers.buffer_unordered(IN_FLIGHT).try_collect().await?;
        Ok(answers.concat())
    }

    async fn partition(&self, part: Part) -> Result<Vec<Item>> {
        let (mut items, mut from) = (Vec::new(), None);
        loop {
            let page = self.pages.page(&part, from.as_ref(), None).await?;
            items.extend(page.items);
            from = page.next;
            if from.is_none() {
                return Ok(items);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray},
        datatypes::{Field, Schema},
    };

    use super::*;

    fn description() -> Description {
        let key = |name: &str, kind: &str| keys::KeyAttribute { name: name.into(), kind: kind.into() };
        Description { keys: vec![key("post_id", "S"), key("Window", "N")], bytes: 0, stream_arn: None }
    }

    fn keys_of(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        RecordBatch::try_new(schema, columns.into_iter().map(|(_, column)| column).collect()).unwrap()
    }

    #[test]
    fn whole_keys_name_items_and_the_first_alone_partitions() {
        let posts = || Arc::new(StringArray::from(vec!["a", "", "a"])) as ArrayRef;
        let windows = Arc::new(Int64Array::from(vec![1, 2, 1]));
        let both = keys_of(vec![("window", windows.clone()), ("post_id", posts())]);
        let asked = Asked::new(&description(), &both, "t").unwrap().unwrap();
        assert_eq!((asked.keys.len(), asked.is_whole), (1, true), "once, and without the empty one");
        assert!(asked.keys[0].contains_key("Window"));
        let asked = Asked::new(&description(), &keys_of(vec![("POST_ID", posts())]), "t").unwrap().unwrap();
        assert_eq!((asked.keys.len(), asked.is_whole), (1, false));
        assert!(Asked::new(&description(), &keys_of(vec![("window", windows)]), "t").unwrap().is_none());
        let timed = Description {
            keys: vec![description().keys[0].clone(), keys::KeyAttribute { name: "Window".into(), kind: "S".into() }],
            ..description()
        };
        let times = Arc::new(TimestampMillisecondArray::from(vec![1, 2, 3]));
        let by_time = keys_of(vec![("window", times), ("post_id", posts())]);
        let asked = Asked::new(&timed, &by_time, "t").unwrap().unwrap();
        assert_eq!((asked.keys.len(), asked.is_whole), (1, false), "a time is spelt in more than one way");
        let by_time = keys_of(vec![("post_id", Arc::new(TimestampMillisecondArray::from(vec![1])) as ArrayRef)]);
        for description in [description(), Description { keys: description().keys[..1].to_vec(), ..description() }] {
            let refused = Asked::new(&description, &by_time, "t").err().unwrap();
            assert_eq!(refused.code().0, "NOT_SUPPORTED", "an item of the same time in other words would not be found");
            assert!(refused.message().contains("\"post_id\", which is a time"), "{refused}");
        }
        let number = keys_of(vec![("post_id", Arc::new(Int64Array::from(vec![1])))]);
        assert_eq!(Asked::new(&description(), &number, "t").err().map(|e| e.code().0), Some("TYPE_MISMATCH"));
    }

    #[test]
    fn a_key_that_can_be_none_of_the_service_s_is_refused_before_the_job_runs() {
        let lookup = |data_type| {
            let schema = Arc::new(Schema::new(vec![Field::new("at", data_type, true)]));
            let spec = TableSpec::new("t", schema, [("table-name", "T")]);
            let spec = TableSpec { primary_key: vec!["at".to_owned()], ..spec };
            DynamoLookup::new(&spec, Malformed::Fail).unwrap().check(&["at"])
        };
        assert!(lookup(DataType::Utf8).is_ok() && lookup(DataType::Int64).is_ok());
        for spelt in [DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None), DataType::Date32] {
            let hint = lookup(spelt).unwrap_err().hint().map(ToOwned::to_owned);
            assert!(hint.is_some_and(|hint| hint.contains("'lookup.cache' = 'FULL'")));
        }
    }
}
