//! Reading: scans, keys, and the change stream with its shards, its end and its re-enabling.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
};
use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, ScalarAttributeType, StreamSpecification, StreamViewType},
};
use datafusion::prelude::SessionContext;
use headwater_connectors::{
    dynamodb::{DynamoDb, DynamoDbStreams},
    lake::stats::ScanStats,
};
use headwater_engine::{
    connector::{
        Bound, Connector, MetadataField, Offset, OpenRequest, Source, SourceData, SourceEvent, Split, SplitStart,
        StartAt, TableSpec,
    },
    graph::Malformed,
    message::{ChangeBatch, RowKind},
};

use headwater_tests::services::{DynamoDbLocal, Proxy, Verdict};

use super::{client, create, job, local, spec};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, true), Field::new("n", DataType::Int64, true)]))
}

async fn put(client: &Client, table: &str, id: &str, n: i64) -> Result<()> {
    let request = client.put_item().table_name(table).item("id", AttributeValue::S(id.to_owned()));
    request.item("n", AttributeValue::N(n.to_string())).send().await?;
    Ok(())
}

pub(crate) async fn set_stream(client: &Client, table: &str, enabled: bool) -> Result<()> {
    let stream = StreamSpecification::builder().stream_enabled(enabled);
    let stream = if enabled { stream.stream_view_type(StreamViewType::NewAndOldImages) } else { stream };
    client.update_table().table_name(table).stream_specification(stream.build()?).send().await?;
    Ok(())
}

/// What an attempt of a job reads: events with their kind, resume offsets by split.
#[derive(Debug, Default)]
struct Seen {
    rows: Vec<(RowKind, String, Option<i64>)>,
    resume: BTreeMap<String, Offset>,
    ended: Vec<String>,
}

impl Seen {
    fn take(&mut self, changes: &ChangeBatch) {
        let (ids, numbers) = (changes.rows.column(0).as_string::<i32>(), changes.rows.column(1));
        let numbers = numbers.as_primitive::<Int64Type>();
        for row in 0..changes.num_rows() {
            let n = numbers.is_valid(row).then(|| numbers.value(row));
            self.rows.push((changes.kind(row), ids.value(row).to_owned(), n));
        }
    }

    /// The table that the changes make.
    fn folded(&self) -> BTreeMap<String, i64> {
        let mut table = BTreeMap::new();
        for (kind, id, n) in &self.rows {
            match (kind, n) {
                (RowKind::Delete, _) => drop(table.remove(id)),
                (_, Some(n)) => drop(table.insert(id.clone(), *n)),
                (_, None) => {}
            }
        }
        table
    }
}

/// Reads every split to the end that is there now, parents first, as a job with `--once` does.
async fn read(source: &dyn Source, from: &BTreeMap<String, Offset>) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut waiting = source.splits(&job()).await?;
    while !waiting.is_empty() {
        let left: Vec<_> = waiting.iter().map(|split| split.id.clone()).collect();
        let (ready, later): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|split| !split.parents.iter().any(|parent| left.contains(parent)));
        let start = |split: &headwater_engine::connector::Split| match from.get(&split.id.to_string()) {
            Some(offset) => StartAt::Offset(offset.clone()),
            None => StartAt::TableDefault,
        };
        let splits: Vec<SplitStart> = ready.into_iter().map(|split| SplitStart { at: start(&split), split }).collect();
        waiting = later;
        read_splits(source, splits, &mut seen).await?;
    }
    Ok(seen)
}

async fn read_splits(source: &dyn Source, splits: Vec<SplitStart>, seen: &mut Seen) -> Result<()> {
    let mut open = splits.len();
    let columns = schema();
    let request = OpenRequest { splits, bound: Bound::EndNow, columns, metadata: Vec::new(), task: 0, tasks: 1 };
    let mut reader = source.open(&job(), request).await?;
    while open > 0 {
        match tokio::time::timeout(Duration::from_secs(120), reader.next()).await.context("no event")?? {
            SourceEvent::Batch(batch) => {
                seen.resume.insert(batch.split.to_string(), batch.resume_at);
                match batch.data {
                    SourceData::Rows { rows, rejected } if rejected.is_empty() => seen.take(&rows),
                    other => bail!("{other:?}"),
                }
            }
            SourceEvent::ReachedEnd { .. } => open -= 1,
            SourceEvent::Ended { split, .. } => {
                seen.ended.push(split.to_string());
                open -= 1;
            }
            SourceEvent::CaughtUp(_) => {}
        }
    }
    Ok(())
}

fn stream_spec(endpoint: &str, table: &str, extra: &[(&str, &str)]) -> TableSpec {
    spec(endpoint, table, schema(), &[&[("source.shard.idle-wait", "20 ms")], extra].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_followed_resumed_and_followed_again_when_it_is_enabled_anew() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "changes", &[("id", ScalarAttributeType::S)]).await?;
    put(&client, "changes", "before", 0).await?;
    set_stream(&client, "changes", true).await?;
    for n in 0..50 {
        put(&client, "changes", &format!("id{}", n % 10), n).await?;
    }
    client.delete_item().table_name("changes").key("id", AttributeValue::S("id3".into())).send().await?;

    let source = DynamoDbStreams.source(&stream_spec(&server.endpoint, "changes", &[]))?;
    let first = read(&*source, &BTreeMap::new()).await?;
    assert_eq!(first.rows.len(), 51);
    assert_eq!(first.rows[50], (RowKind::Delete, "id3".to_owned(), Some(43)));
    let expected: BTreeMap<String, i64> = (40..50).filter(|n| *n != 43).map(|n| (format!("id{}", n % 10), n)).collect();
    assert_eq!(first.folded(), expected);

    put(&client, "changes", "later", 7).await?;
    let resumed = read(&*source, &first.resume).await?;
    assert_eq!(resumed.rows, [(RowKind::UpdateAfter, "later".to_owned(), Some(7))]);

    // Disabled and enabled again: the old stream ends, the new one follows it.
    set_stream(&client, "changes", false).await?;
    set_stream(&client, "changes", true).await?;
    put(&client, "changes", "again", 8).await?;
    let mut from = first.resume.clone();
    from.extend(resumed.resume.clone());
    let again = read(&*source, &from).await?;
    assert_eq!(again.rows, [(RowKind::UpdateAfter, "again".to_owned(), Some(8))]);
    assert_eq!(again.ended.len(), 1, "the first stream has ended: {again:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn from_latest_nothing_is_missed_by_a_restart_before_the_first_record() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "latest", &[("id", ScalarAttributeType::S)]).await?;
    set_stream(&client, "latest", true).await?;
    let options = [("source.init.position", "LATEST")];
    let source = DynamoDbStreams.source(&stream_spec(&server.endpoint, "latest", &options))?;
    let first = read(&*source, &BTreeMap::new()).await?;
    assert!(first.rows.is_empty() && first.resume.len() == 1, "a position, though there is no record: {first:?}");
    put(&client, "latest", "between", 1).await?;
    let second = read(&*source, &first.resume).await?;
    assert_eq!(second.rows.len(), 1, "written while nobody read: {second:?}");
    put(&client, "latest", "later", 2).await?;
    let third = read(&*source, &second.resume).await?;
    assert_eq!(third.rows.iter().map(|(_, id, _)| id.as_str()).collect::<Vec<_>>(), ["later"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_iterator_of_a_change_stream_goes_on_behind_the_last_record() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "expiring", &[("id", ScalarAttributeType::S)]).await?;
    set_stream(&client, "expiring", true).await?;
    for n in 0..30 {
        put(&client, "expiring", &format!("id{n}"), n).await?;
    }
    // The first iterator never works, the second does, and is no longer valid after its records.
    let proxy = Proxy::start(&server.endpoint, |operation, nth| match (operation, nth) {
        ("GetRecords", 0 | 2) => Verdict::Refuse("ExpiredIteratorException"),
        ("GetRecords", 3) => Verdict::Throttle,
        _ => Verdict::Pass,
    })
    .await?;
    let source = DynamoDbStreams.source(&stream_spec(&proxy.endpoint, "expiring", &[]))?;
    let seen = read(&*source, &BTreeMap::new()).await?;
    let ids: Vec<String> = seen.rows.iter().map(|(_, id, _)| id.clone()).collect();
    assert_eq!(ids, (0..30).map(|n| format!("id{n}")).collect::<Vec<_>>());
    assert_eq!(proxy.requests("GetShardIterator"), 3, "asked for again each time");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_change_stream_no_longer_has_stops_the_job_unless_told_otherwise() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "trimmed", &[("id", ScalarAttributeType::S)]).await?;
    set_stream(&client, "trimmed", true).await?;
    put(&client, "trimmed", "old", 1).await?;
    let before = DynamoDbStreams.source(&stream_spec(&server.endpoint, "trimmed", &[]))?;
    let position = read(&*before, &BTreeMap::new()).await?.resume;
    put(&client, "trimmed", "new", 2).await?;
    for (code, lost, expected) in [
        ("TrimmedDataAccessException", "fail", None),
        ("TrimmedDataAccessException", "earliest", Some(&["old", "new"][..])),
        ("TrimmedDataAccessException", "latest", Some(&[][..])),
        ("ResourceNotFoundException", "fail", None),
        ("ResourceNotFoundException", "earliest", Some(&[][..])),
    ] {
        let proxy = Proxy::start(&server.endpoint, move |operation, nth| match (operation, nth) {
            ("GetShardIterator", 0) => Verdict::Refuse(code),
            _ => Verdict::Pass,
        })
        .await?;
        let options = [("scan.on-offset-lost", lost)];
        let source = DynamoDbStreams.source(&stream_spec(&proxy.endpoint, "trimmed", &options))?;
        let seen = read(&*source, &position).await;
        match expected {
            Some(expected) => {
                let seen = seen?;
                let ids: Vec<&str> = seen.rows.iter().map(|(_, id, _)| id.as_str()).collect();
                assert_eq!(ids, expected, "{code} {lost}");
            }
            None => {
                let said = seen.err().map(|error| format!("{error:#}")).unwrap_or_default();
                assert!(said.contains("no longer has what follows sequence number"), "{code}: {said}");
            }
        }
    }
    // A shard that had nothing yet when it was opened, and is wholly gone when the job comes back.
    let opened = position.keys().map(|split| (split.clone(), Offset::new("since@1795268853869"))).collect();
    let proxy = Proxy::start(&server.endpoint, |operation, _| match operation {
        "GetShardIterator" => Verdict::Refuse("ResourceNotFoundException"),
        _ => Verdict::Pass,
    })
    .await?;
    let source = DynamoDbStreams.source(&stream_spec(&proxy.endpoint, "trimmed", &[]))?;
    let said = read(&*source, &opened).await.err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(said.contains("no longer has what was written since it was opened"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_resumes_behind_its_pages_and_ends_where_it_has_ended() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "scanned", &[("id", ScalarAttributeType::S)]).await?;
    for n in 0..40 {
        put(&client, "scanned", &format!("id{n}"), n).await?;
    }
    let source = DynamoDb.source(&spec(&server.endpoint, "scanned", schema(), &[("scan.segments", "4")]))?;
    let first = read(&*source, &BTreeMap::new()).await?;
    assert_eq!((first.rows.len(), first.ended.len()), (40, 4));
    assert!(first.resume.len() > 1 && first.resume.values().all(|offset| &*offset.0 == "end"), "{:?}", first.resume);
    // Items that come later do not make a segment begin again, however its last page ended.
    put(&client, "scanned", "id99", 99).await?;
    let second = read(&*source, &first.resume).await?;
    let unread: Vec<_> = second.rows.iter().filter(|(_, id, _)| id != "id99").collect();
    assert!(unread.is_empty(), "{unread:?}");
    assert_eq!(second.ended.len(), 4);
    // From the key of a page's end the rest of its segment comes, and nothing twice.
    let whole = DynamoDb.source(&spec(&server.endpoint, "scanned", schema(), &[("scan.segments", "1")]))?;
    let all = read(&*whole, &BTreeMap::new()).await?;
    let (split, (_, middle, _)) = ("segment-0-of-1".to_owned(), &all.rows[20]);
    let at_middle = Offset::new(format!("{{\"id\":{{\"S\":\"{middle}\"}}}}"));
    let rest = read(&*whole, &BTreeMap::from([(split, at_middle)])).await?;
    assert_eq!(rest.rows, all.rows[21..], "in the order of the scan");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn initial_reads_the_table_then_its_changes() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "initial", &[("id", ScalarAttributeType::S)]).await?;
    for n in 0..20 {
        put(&client, "initial", &format!("old{n}"), n).await?;
    }
    set_stream(&client, "initial", true).await?;
    put(&client, "initial", "old5", 500).await?;
    client.delete_item().table_name("initial").key("id", AttributeValue::S("old6".into())).send().await?;
    let mode = [("scan.startup.mode", "initial")];
    let source = DynamoDbStreams.source(&stream_spec(&server.endpoint, "initial", &mode))?;
    let seen = read(&*source, &BTreeMap::new()).await?;
    let mut expected: BTreeMap<String, i64> = (0..20).map(|n| (format!("old{n}"), n)).collect();
    expected.insert("old5".to_owned(), 500);
    expected.remove("old6");
    assert_eq!(seen.folded(), expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn events_have_both_images_and_their_metadata() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "events", &[("id", ScalarAttributeType::S)]).await?;
    set_stream(&client, "events", true).await?;
    put(&client, "events", "a", 1).await?;
    put(&client, "events", "a", 2).await?;
    let image = DataType::Struct(vec![Field::new("n", DataType::Int64, true)].into());
    let columns = Arc::new(Schema::new(vec![
        Field::new("new_image", image.clone(), true),
        Field::new("old_image", image, true),
        Field::new("what", DataType::Utf8, true),
    ]));
    let mut table = stream_spec(&server.endpoint, "events", &[("scan.mode", "events")]);
    table.schema = Arc::clone(&columns);
    table.metadata = vec![MetadataField { column: 2, key: "event-name".into(), is_virtual: true }];
    let source = DynamoDbStreams.source(&table)?;
    let splits = source.splits(&job()).await?;
    let splits = splits.into_iter().map(|split| SplitStart { split, at: StartAt::TableDefault }).collect();
    let metadata = vec![(2, "event-name".to_owned())];
    let request = OpenRequest { splits, bound: Bound::EndNow, columns, metadata, task: 0, tasks: 1 };
    let mut reader = source.open(&job(), request).await?;
    let mut rows: Vec<RecordBatch> = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_secs(60), reader.next()).await?? {
            SourceEvent::Batch(batch) => match batch.data {
                SourceData::Rows { rows: changes, .. } => rows.push(changes.rows),
                SourceData::Payloads { .. } => bail!("ready rows are expected"),
            },
            SourceEvent::ReachedEnd { .. } => break,
            _ => {}
        }
    }
    let shown = arrow::util::pretty::pretty_format_batches(&rows)?.to_string();
    assert!(shown.contains("| {n: 1}    |           | INSERT |"), "{shown}");
    assert!(shown.contains("| {n: 2}    | {n: 1}    | MODIFY |"), "{shown}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_scan_in_segments_and_ask_by_key() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "queried", &[("id", ScalarAttributeType::S)]).await?;
    for n in 0..60 {
        put(&client, "queried", &format!("id{n}"), n).await?;
    }
    let table = spec(&server.endpoint, "queried", schema(), &[("scan.segments", "4")]);
    let provider = DynamoDb.query_table(&table, Malformed::Fail)?.context("DynamoDB answers queries")?;
    let stats = Arc::new(ScanStats::default());
    let config = datafusion::prelude::SessionConfig::new().with_extension(Arc::clone(&stats));
    let context = SessionContext::new_with_config(config);
    context.register_table("queried", provider)?;
    let ask = async |sql: &str| -> Result<(String, u64)> {
        let before = ScanStats::get(&stats.files_read);
        let rows = context.sql(sql).await?.collect().await?;
        let shown = arrow::util::pretty::pretty_format_batches(&rows)?.to_string();
        Ok((shown, ScanStats::get(&stats.files_read) - before))
    };
    let (sum, requests) = ask("SELECT count(*) AS c, sum(n) AS s FROM queried").await?;
    assert!(sum.contains("| 60 | 1770 |"), "{sum}");
    assert_eq!(requests, 4);
    let (one, requests) = ask("SELECT n FROM queried WHERE id = 'id7'").await?;
    assert!(one.contains("| 7 |"), "{one}");
    assert_eq!(requests, 1);
    let (two, requests) = ask("SELECT sum(n) AS s FROM queried WHERE id IN ('id7', 'id8', 'nope') AND n > 7").await?;
    assert!(two.contains("| 8 |"), "{two}");
    assert_eq!(requests, 3);
    Ok(())
}

/// A table whose keys are spelt in several ways, and what a query of it gives.
async fn asked(endpoint: &str, malformed: Malformed, sql: &str) -> Result<(String, Arc<ScanStats>)> {
    let time = DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None);
    let fields = vec![
        Field::new("p", DataType::Utf8, true),
        Field::new("w", time, true),
        Field::new("n", DataType::Decimal128(10, 2), true),
    ];
    let table = spec(endpoint, "spelt", Arc::new(Schema::new(fields)), &[]);
    let provider = DynamoDb.query_table(&table, malformed)?.context("DynamoDB answers queries")?;
    let stats = Arc::new(ScanStats::default());
    let config = datafusion::prelude::SessionConfig::new().with_extension(Arc::clone(&stats));
    let context = SessionContext::new_with_config(config);
    context.register_table("spelt", provider)?;
    let rows = context.sql(sql).await?.collect().await?;
    Ok((arrow::util::pretty::pretty_format_batches(&rows)?.to_string(), stats))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_spelt_in_several_ways_is_found_in_each() -> Result<()> {
    let server = DynamoDbLocal::start()?;
    let client = client(&server.endpoint);
    create(&client, "spelt", &[("p", ScalarAttributeType::S), ("w", ScalarAttributeType::S)]).await?;
    let put = async |p: &str, w: &str, n: &str| -> Result<()> {
        let request = client.put_item().table_name("spelt").item("p", AttributeValue::S(p.to_owned()));
        let request = request.item("w", AttributeValue::S(w.to_owned()));
        request.item("n", AttributeValue::N(n.to_owned())).send().await?;
        Ok(())
    };
    for w in ["2025-03-10T08:00:30Z", "2025-03-10T08:00:30.000Z", "2025-03-10 08:00:30", "2025-03-10T08:00:31Z"] {
        put("a", w, "1.25").await?;
    }
    let count = "SELECT count(*) AS c FROM spelt WHERE w = TIMESTAMP '2025-03-10 08:00:30'";
    for sql in [count.to_owned(), format!("{count} AND p = 'a'")] {
        let (found, _) = asked(&server.endpoint, Malformed::Fail, &sql).await?;
        assert!(found.contains("| 3 |"), "{sql}: {found}");
    }
    let (none, _) = asked(&server.endpoint, Malformed::Fail, "SELECT count(*) AS c FROM spelt WHERE p = ''").await?;
    assert!(none.contains("| 0 |"), "{none}");
    // Digits that the column has no room for are not cut off.
    put("b", "2025-03-10T08:00:30Z", "190.079").await?;
    let wrong = asked(&server.endpoint, Malformed::Fail, "SELECT n FROM spelt").await;
    let said = wrong.err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(said.contains("\"n\"") && said.contains("spelt"), "{said}");
    let (kept, stats) = asked(&server.endpoint, Malformed::Reject, "SELECT count(n) AS c FROM spelt").await?;
    assert!(kept.contains("| 4 |"), "{kept}");
    assert_eq!(ScanStats::get(&stats.rows_rejected), 1, "what is left out is counted");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_read_from_a_time_on_and_refused_without_its_images() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "timed", &[("id", ScalarAttributeType::S)]).await?;
    set_stream(&client, "timed", true).await?;
    put(&client, "timed", "a", 1).await?;
    for (from, expected) in [("2020-01-01T00:00:00Z", 1), ("2100-01-01T00:00:00Z", 0)] {
        let options = [("source.init.position", "AT_TIMESTAMP"), ("source.init.timestamp", from)];
        let source = DynamoDbStreams.source(&stream_spec(&server.endpoint, "timed", &options))?;
        assert_eq!(read(&*source, &BTreeMap::new()).await?.rows.len(), expected, "{from}");
    }
    create(&client, "keysonly", &[("id", ScalarAttributeType::S)]).await?;
    let stream = StreamSpecification::builder().stream_enabled(true).stream_view_type(StreamViewType::KeysOnly);
    client.update_table().table_name("keysonly").stream_specification(stream.build()?).send().await?;
    let source = DynamoDbStreams.source(&stream_spec(&server.endpoint, "keysonly", &[]))?;
    let refused = source.splits(&job()).await.unwrap_err();
    assert_eq!(refused.message(), "the change stream of \"keysonly\" is KEYS_ONLY: it has no new images");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_read_from_a_sequence_number_on() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "numbered", &[("id", ScalarAttributeType::S)]).await?;
    set_stream(&client, "numbered", true).await?;
    for (n, id) in ["a", "b"].iter().enumerate() {
        put(&client, "numbered", id, n as i64).await?;
    }
    let all = DynamoDbStreams.source(&stream_spec(&server.endpoint, "numbered", &[]))?;
    let (split, last) = read(&*all, &BTreeMap::new()).await?.resume.pop_first().context("a shard")?;
    put(&client, "numbered", "c", 2).await?;
    let (_, shard) = split.split_once('/').context("a shard of a stream")?;
    for named in [format!("{shard}:{last}"), format!("{split}:{last}")] {
        let options =
            [("source.init.position", "AT_SEQUENCE_NUMBER"), ("source.init.sequence-numbers", named.as_str())];
        let source = DynamoDbStreams.source(&stream_spec(&server.endpoint, "numbered", &options))?;
        let rows = read(&*source, &BTreeMap::new()).await?.rows;
        let ids: Vec<&str> = rows.iter().map(|(_, id, _)| id.as_str()).collect();
        assert_eq!(ids, ["b", "c"], "{named}");
    }
    Ok(())
}

/// Reads segments to their ends, and then shards, with what happens between.
#[tokio::test(flavor = "multi_thread")]
async fn items_that_go_or_change_after_they_were_scanned_are_what_they_are_now() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "between", &[("id", ScalarAttributeType::S)]).await?;
    set_stream(&client, "between", true).await?;
    for n in 0..40 {
        put(&client, "between", &format!("i{n}"), n).await?;
    }
    let mode = [("scan.startup.mode", "initial")];
    let source = DynamoDbStreams.source(&stream_spec(&server.endpoint, "between", &mode))?;
    let splits = source.splits(&job()).await?;
    let (segments, shards): (Vec<_>, Vec<_>) =
        splits.into_iter().partition(|split| split.id.to_string().starts_with("segment-"));
    assert!(!shards.is_empty() && shards.iter().all(|shard| shard.parents.len() >= segments.len()), "scan first");
    let starts = |splits: Vec<Split>| -> Vec<SplitStart> {
        splits.into_iter().map(|split| SplitStart { split, at: StartAt::TableDefault }).collect()
    };
    let mut seen = Seen::default();
    read_splits(&*source, starts(segments), &mut seen).await?;
    assert_eq!(seen.folded().len(), 40, "all are scanned");
    for n in 0..10 {
        let id = AttributeValue::S(format!("i{n}"));
        client.delete_item().table_name("between").key("id", id).send().await?;
        put(&client, "between", &format!("i{}", n + 10), 100 + n).await?;
    }
    put(&client, "between", "i3", 7).await?;
    read_splits(&*source, starts(shards), &mut seen).await?;
    let mut expected: BTreeMap<String, i64> = (20..40).map(|n| (format!("i{n}"), n)).collect();
    expected.extend((0..10).map(|n| (format!("i{}", n + 10), 100 + n)));
    expected.insert("i3".to_owned(), 7);
    assert_eq!(seen.folded(), expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_stream_says_so() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "still", &[("id", ScalarAttributeType::S)]).await?;
    let source = DynamoDbStreams.source(&stream_spec(&server.endpoint, "still", &[]))?;
    let missing = source.splits(&job()).await.unwrap_err();
    assert_eq!(missing.message(), "DynamoDB table \"still\" has no change stream");
    let source = DynamoDbStreams.source(&stream_spec(&server.endpoint, "nope", &[]))?;
    assert!(source.splits(&job()).await.unwrap_err().message().contains("\"nope\" does not exist"));
    Ok(())
}
