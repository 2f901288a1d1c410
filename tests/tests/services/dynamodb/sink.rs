//! The sink: keys, values, throttling, repeats, refusals and older generations.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::Result;
use arrow::{
    array::{ArrayRef, Int8Array, Int64Array, LargeStringArray, RecordBatch, StringArray, TimestampSecondArray},
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use async_trait::async_trait;
use aws_sdk_dynamodb::types::{AttributeValue, ScalarAttributeType};
use headwater_engine::{
    connector::{ChangelogMode, CommitFacts, Fence, JobContext, SinkTask},
    error::{Error, ErrorKind},
    message::{ChangeBatch, Epoch, RowKind},
};
use headwater_tests::services::{Proxy, Verdict};

use super::{Item, client, create, get, inserts, items, job, job_with, local, sink, spec, text, unit};

fn counts_schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, true), Field::new("n", DataType::Int64, true)]))
}

#[expect(clippy::unwrap_used, reason = "a test that cannot go on may stop")]
fn counts(rows: &[(&str, i64)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|(id, _)| *id)));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, n)| *n)));
    RecordBatch::try_new(counts_schema(), vec![ids, numbers]).unwrap()
}

fn numbered(ids: std::ops::Range<usize>, n: i64) -> RecordBatch {
    let ids: Vec<String> = ids.map(|id| format!("id{id}")).collect();
    counts(&ids.iter().map(|id| (id.as_str(), n)).collect::<Vec<_>>())
}

fn changed(rows: RecordBatch, kinds: &[RowKind]) -> ChangeBatch {
    ChangeBatch::new(rows, Some(Int8Array::from_iter_values(kinds.iter().map(|kind| *kind as i8))))
}

async fn total(client: &aws_sdk_dynamodb::Client, table: &str) -> Result<(usize, i64)> {
    let items = items(client, table).await?;
    let sum = items.iter().map(|item| Ok(text(item, "n")?.parse::<i64>()?)).sum::<Result<i64>>()?;
    Ok((items.len(), sum))
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_of_a_window_become_items_by_the_tables_key() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    let keys = [("post_id", ScalarAttributeType::S), ("window_start", ScalarAttributeType::S)];
    create(&client, "ProcessedStream", &keys).await?;
    let time = DataType::Timestamp(TimeUnit::Second, None);
    let schema = Arc::new(Schema::new(vec![
        Field::new("post_id", DataType::Utf8, true),
        Field::new("window_start", time.clone(), true),
        Field::new("engagement_counts.like", DataType::Int64, true),
        Field::new("engagement_counts.share", DataType::Int64, true),
        Field::new("window_end", time, true),
    ]));
    let start = 1_741_593_600;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["p1", "p1"])),
        Arc::new(TimestampSecondArray::from(vec![start, start + 30])),
        Arc::new(Int64Array::from(vec![3, 4])),
        Arc::new(Int64Array::from(vec![None, Some(1)])),
        Arc::new(TimestampSecondArray::from(vec![start + 30, start + 60])),
    ];
    let rows = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    let sink = sink(&spec(&server.endpoint, "ProcessedStream", Arc::clone(&schema), &[]))?;
    sink.check(&job(), schema).await?;
    let report = sink.commit(&job(), Epoch(1), vec![unit(vec![inserts(rows)], false)]).await?;
    assert_eq!((report.rows, report.refused.len()), (2, 0));

    let mut found = items(&client, "ProcessedStream").await?;
    found.sort_by_key(|item| text(item, "window_start").map(ToOwned::to_owned).unwrap_or_default());
    assert_eq!(text(&found[0], "window_start")?, "2025-03-10T08:00:00Z");
    assert_eq!(text(&found[0], "window_end")?, "2025-03-10T08:00:30Z");
    assert_eq!(found[0].get("engagement_counts.like"), Some(&AttributeValue::N("3".to_owned())));
    assert_eq!(found[0].get("engagement_counts.share"), None, "NULL is no attribute");
    assert_eq!(text(&found[1], "engagement_counts.share")?, "1");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_all_calls_throttled_and_every_epoch_repeated_gives_the_same_totals() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "counts", &[("id", ScalarAttributeType::S)]).await?;
    let proxy = Proxy::start(&server.endpoint, |operation, nth| match (operation, nth % 8) {
        ("BatchWriteItem", 0 | 2) => Verdict::Throttle,
        ("BatchWriteItem", 4 | 6) => Verdict::Half,
        ("BatchWriteItem", 5) => Verdict::LoseReply,
        _ => Verdict::Pass,
    })
    .await?;
    let sink = sink(&spec(&proxy.endpoint, "counts", counts_schema(), &[("sink.requests.max-buffered", "300")]))?;
    for repeat in 0..3 {
        for epoch in 1..=2_u64 {
            // Every key several times in one epoch: the last value counts.
            let batches = (1..=4).map(|step| inserts(numbered(0..500, step * epoch as i64))).collect();
            let report = sink.commit(&job(), Epoch(epoch), vec![unit(batches, false)]).await?;
            assert!(report.refused.is_empty());
        }
        assert_eq!(total(&client, "counts").await?, (500, 500 * 8), "after repeat {repeat}");
    }
    assert_eq!(proxy.overlaps(), 0, "two writes of one key were on their way at once");
    assert!(proxy.most_at_once() > 1, "batches wait for each other");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_a_transaction_of_another_application_holds_is_sent_again() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "conflicted", &[("id", ScalarAttributeType::S)]).await?;
    let proxy = Proxy::start(&server.endpoint, |operation, nth| match (operation, nth) {
        ("BatchWriteItem", 0) => Verdict::Refuse("TransactionConflictException"),
        ("BatchWriteItem", 1) => Verdict::Refuse("ReplicatedWriteConflictException"),
        _ => Verdict::Pass,
    })
    .await?;
    let sink = sink(&spec(&proxy.endpoint, "conflicted", counts_schema(), &[]))?;
    let report = sink.commit(&job(), Epoch(1), vec![unit(vec![inserts(numbered(0..10, 1))], false)]).await?;
    assert!(report.refused.is_empty(), "{:?}", report.refused);
    assert_eq!(total(&client, "conflicted").await?, (10, 10));
    assert!(proxy.requests("BatchWriteItem") >= 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_refused_with_its_key_and_the_rest_arrives() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "docs", &[("id", ScalarAttributeType::S)]).await?;
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, true),
        Field::new("doc", DataType::LargeUtf8, true),
    ]));
    let large = format!("\"{}\"", "x".repeat(410_000));
    let number = format!("{{\"n\":{}}}", "1234567890".repeat(5));
    let docs: Vec<&str> = vec!["1", &large, "2", &number, "3"];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![Some("a"), Some("big"), Some(""), Some("digits"), Some("b")])),
        Arc::new(LargeStringArray::from(docs)),
    ];
    let rows_of_docs = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    let sink = sink(&spec(&server.endpoint, "docs", Arc::clone(&schema), &[]))?;
    sink.check(&job(), Arc::clone(&schema)).await?;
    let task = SinkTask { insert: "i".into(), index: 0, count: 1, schema, changes: ChangelogMode::Append };
    let mut writer = sink.writer(&job(), task.clone(), Vec::new()).await?;

    let refused = writer.write(inserts(rows_of_docs.clone())).await?;
    let reasons: Vec<&str> = refused.iter().map(|row| row.reason.as_str()).collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons[0].contains("DynamoDB takes 409600 (id = \"big\")"), "{}", reasons[0]);
    assert!(reasons[1].contains("key \"id\" is empty"), "{}", reasons[1]);

    let prepared = writer.prepare(Epoch(1), headwater_engine::connector::Cut::Periodic).await?;
    let rows = prepared.units.into_iter().flat_map(|unit| unit.rows).collect();
    let report = sink.commit(&job(), Epoch(1), vec![unit(rows, false)]).await?;
    assert_eq!((report.rows, report.refused.len()), (2, 1), "{:?}", report.refused);
    assert!(report.refused[0].raw.contains("digits"), "{:?}", report.refused);
    assert_eq!(items(&client, "docs").await?.len(), 2);

    let failing = [("sink.fail-on-error", "true")];
    let sink = super::sink(&spec(&server.endpoint, "docs", rows_of_docs.schema(), &failing))?;
    let mut writer = sink.writer(&job(), task, Vec::new()).await?;
    let error = writer.write(inserts(rows_of_docs.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data, "the job ends");
    assert!(error.message().contains("the item of id = \"big\" cannot be written"), "{error}");
    let digits = vec![unit(vec![inserts(rows_of_docs.slice(3, 1))], false)];
    let error = sink.commit(&job(), Epoch(2), digits).await.unwrap_err();
    assert!(error.message().contains("the item of id = \"digits\" cannot be written"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_remove_and_an_older_epoch_overwrites_nothing() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "orders", &[("id", ScalarAttributeType::S)]).await?;
    let sink = sink(&spec(&server.endpoint, "orders", counts_schema(), &[]))?;
    let epoch = |number, n| {
        let rows = counts(&[("a", n), ("b", n), ("b", n), ("c", n)]);
        let kinds = [RowKind::UpdateAfter, RowKind::Insert, RowKind::Delete, RowKind::UpdateBefore];
        (Epoch(number), vec![unit(vec![changed(rows, &kinds)], true)])
    };
    for (number, n) in [(1, 10), (2, 20), (3, 30)] {
        let (epoch, work) = epoch(number, n);
        sink.commit(&job(), epoch, work).await?;
    }
    assert_eq!(total(&client, "orders").await?, (1, 30));

    // A copy of the job that was paused before epoch 2 wakes up: it does no harm, even if the log does not stop it.
    let (older, work) = epoch(2, 20);
    sink.commit(&job(), older, work).await?;
    assert_eq!(text(&get(&client, "orders", "a").await?, "n")?, "30");

    // Nor does its delete take away what a newer epoch has written since.
    let gone = |number| (Epoch(number), vec![unit(vec![changed(counts(&[("a", 0)]), &[RowKind::Delete])], true)]);
    let (older, work) = gone(2);
    sink.commit(&job(), older, work).await?;
    assert_eq!(text(&get(&client, "orders", "a").await?, "n")?, "30");
    let (newer, work) = gone(4);
    sink.commit(&job(), newer, work).await?;
    assert!(get(&client, "orders", "a").await.is_err(), "the newest epoch's delete does");

    // A job that begins anew writes again, though its epochs are small.
    let (first, work) = epoch(1, 1);
    sink.commit(&job_with("inc2", 1, Arc::new(headwater_engine::connector::Unfenced)), first, work).await?;
    assert_eq!(text(&get(&client, "orders", "a").await?, "n")?, "1");
    Ok(())
}

#[derive(Debug, Default)]
struct Taken(AtomicBool);

#[async_trait]
impl Fence for Taken {
    async fn check(&self) -> headwater_engine::error::Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::Fenced, "FENCED", "another copy holds the job")),
            false => Ok(()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_has_lost_the_job_writes_nothing() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "fenced", &[("id", ScalarAttributeType::S)]).await?;
    let sink = sink(&spec(&server.endpoint, "fenced", counts_schema(), &[]))?;
    let fence = Arc::new(Taken::default());
    let job = job_with("inc1", 1, Arc::clone(&fence) as Arc<dyn Fence>);
    sink.commit(&job, Epoch(1), vec![unit(vec![inserts(numbered(0..3, 1))], false)]).await?;
    fence.0.store(true, Ordering::Relaxed);
    let lost = sink.commit(&job, Epoch(2), vec![unit(vec![inserts(numbered(0..3, 9))], false)]).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Fenced);
    assert_eq!(total(&client, "fenced").await?, (3, 3));
    Ok(())
}

/// A job whose log stops nobody, at this generation.
fn unstopped(incarnation: &str, generation: u64) -> JobContext {
    job_with(incarnation, generation, Arc::new(Taken::default()))
}

const NOTHING: CommitFacts = CommitFacts { insert: String::new(), published: None, committed: None };
const BY_TRANSACTION: [(&str, &str); 2] =
    [("sink.fencing", "transaction"), ("sink.fencing.table-name", "headwater_fencing")];

fn deleted(id: &str) -> ChangeBatch {
    changed(counts(&[(id, 0)]), &[RowKind::Delete])
}

/// What is left after a copy that was paused in epoch 1 goes on once another one has deleted an item in epoch 2.
async fn after_a_paused_copy(table: &str, options: &[(&str, &str)]) -> Result<(Vec<Item>, Option<ErrorKind>)> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, table, &[("id", ScalarAttributeType::S)]).await?;
    let spec = spec(&server.endpoint, table, counts_schema(), options);
    let (older, newer) = (sink(&spec)?, sink(&spec)?);
    let (paused, next) = (unstopped("inc1", 1), unstopped("inc1", 2));
    let first = || vec![unit(vec![inserts(counts(&[("a", 1), ("b", 1)]))], true)];
    older.recover(&paused, &NOTHING).await?;
    older.commit(&paused, Epoch(1), first()).await?;
    newer.recover(&next, &NOTHING).await?;
    newer.commit(&next, Epoch(1), first()).await?;
    newer.commit(&next, Epoch(2), vec![unit(vec![deleted("a")], true)]).await?;
    let said = older.commit(&paused, Epoch(1), first()).await.err().map(|error| error.kind());
    Ok((items(&client, table).await?, said))
}

#[tokio::test(flavor = "multi_thread")]
async fn by_transaction_a_paused_copy_puts_back_nothing_that_was_deleted() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "headwater_fencing", &[("entry", ScalarAttributeType::S)]).await?;
    let (left, said) = after_a_paused_copy("held", &BY_TRANSACTION).await?;
    assert_eq!(said, Some(ErrorKind::Fenced));
    assert_eq!(left.len(), 1);
    assert_eq!((text(&left[0], "id")?, left[0].len()), ("b", 2), "items have no attribute of ours");
    // This is what versions of items alone cannot do, as EXPLAIN says.
    let (left, said) = after_a_paused_copy("versioned", &[]).await?;
    assert_eq!((left.len(), said), (2, None));

    // A smaller generation cannot take over again; a job that begins anew can, and then it is the one.
    let held = sink(&spec(&server.endpoint, "held", counts_schema(), &BY_TRANSACTION))?;
    let again = held.recover(&unstopped("inc1", 1), &NOTHING).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Fenced, "{again}");
    let anew = unstopped("inc2", 1);
    held.recover(&anew, &NOTHING).await?;
    held.commit(&anew, Epoch(1), vec![unit(vec![inserts(counts(&[("c", 3)]))], true)]).await?;
    let late = held.commit(&unstopped("inc1", 2), Epoch(3), vec![unit(vec![deleted("c")], true)]).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Fenced, "{late}");
    assert_eq!(text(&get(&client, "held", "c").await?, "n")?, "3");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_arrive_whole_while_half_of_all_calls_fail_and_name_the_row_they_refuse() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "fencing_of_many", &[("entry", ScalarAttributeType::S)]).await?;
    create(&client, "many", &[("id", ScalarAttributeType::S)]).await?;
    let proxy = Proxy::start(&server.endpoint, |operation, nth| match (operation, nth % 4) {
        ("TransactWriteItems" | "PutItem", 1) => Verdict::Throttle,
        ("TransactWriteItems", 3) => Verdict::LoseReply,
        _ => Verdict::Pass,
    })
    .await?;
    let options = [("sink.fencing", "transaction"), ("sink.fencing.table-name", "fencing_of_many")];
    let schema =
        Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, true), Field::new("n", DataType::LargeUtf8, true)]));
    let sink = sink(&spec(&proxy.endpoint, "many", Arc::clone(&schema), &options))?;
    let job = unstopped("inc1", 1);
    sink.check(&job, Arc::clone(&schema)).await?;
    sink.recover(&job, &NOTHING).await?;
    let bad = format!("{{\"n\":{}}}", "1234567890".repeat(5));
    let batch = |n: usize| -> Result<ChangeBatch> {
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values((0..1_000).map(|id| format!("id{id}"))));
        let docs = (0..1_000).map(|id| if id == 500 { bad.clone() } else { n.to_string() });
        let docs: ArrayRef = Arc::new(LargeStringArray::from_iter_values(docs));
        Ok(inserts(RecordBatch::try_new(Arc::clone(&schema), vec![ids, docs])?))
    };
    for _ in 0..2 {
        let report = sink.commit(&job, Epoch(1), vec![unit(vec![batch(1)?, batch(2)?], true)]).await?;
        assert_eq!(report.refused.len(), 1, "{:?}", report.refused);
        assert!(report.refused[0].raw.contains("\"id500\""), "{:?}", report.refused);
        assert_eq!(total(&client, "many").await?, (999, 2 * 999));
    }
    let requests = proxy.requests("TransactWriteItems");
    assert!(requests < 1_000, "{requests} transactions for 2,000 items");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_at_the_same_time_do_not_end_one_another() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    let options = [("sink.fencing", "transaction"), ("sink.fencing.table-name", "fencing_of_statements")];
    create(&client, "fencing_of_statements", &[("entry", ScalarAttributeType::S)]).await?;
    create(&client, "of_two", &[("id", ScalarAttributeType::S)]).await?;
    let spec = spec(&server.endpoint, "of_two", counts_schema(), &options);
    let statement = |incarnation: &str| job_with(incarnation, 1, Arc::new(headwater_engine::connector::Unfenced));
    let (one, other) = (sink(&spec)?, sink(&spec)?);
    one.recover(&statement("a"), &NOTHING).await?;
    other.recover(&statement("b"), &NOTHING).await?;
    one.commit(&statement("a"), Epoch(1), vec![unit(vec![inserts(counts(&[("a", 1)]))], false)]).await?;
    other.commit(&statement("b"), Epoch(1), vec![unit(vec![inserts(counts(&[("b", 2)]))], false)]).await?;
    assert_eq!(total(&client, "of_two").await?, (2, 3));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fencing_table_that_is_missing_or_has_another_key_is_said_before_anything_runs() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "fenced_target", &[("id", ScalarAttributeType::S)]).await?;
    let keys = [("entry", ScalarAttributeType::S), ("more", ScalarAttributeType::S)];
    create(&client, "two_keys", &keys).await?;
    let said = async |name: &str| {
        let options = [("sink.fencing", "transaction"), ("sink.fencing.table-name", name)];
        let sink = sink(&spec(&server.endpoint, "fenced_target", counts_schema(), &options))?;
        let error = sink.check(&job(), counts_schema()).await.unwrap_err();
        anyhow::Ok(format!("{error} {}", error.hint().unwrap_or_default()))
    };
    let missing = said("no_such_table").await?;
    assert!(missing.contains("\"no_such_table\" of 'sink.fencing.table-name' does not exist"), "{missing}");
    let other = said("two_keys").await?;
    assert!(other.contains("partition key of type S and no sort key"), "{other}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_and_another_key_are_errors_before_anything_runs() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "numbers", &[("id", ScalarAttributeType::N)]).await?;
    let missing = sink(&spec(&server.endpoint, "nope", counts_schema(), &[]))?.check(&job(), counts_schema()).await;
    assert_eq!(missing.unwrap_err().message(), "DynamoDB table \"nope\" does not exist");
    let text_key = sink(&spec(&server.endpoint, "numbers", counts_schema(), &[]))?.check(&job(), counts_schema()).await;
    assert!(text_key.unwrap_err().message().contains("is of type N, column \"id\""));
    let mut declared = spec(&server.endpoint, "numbers", counts_schema(), &[]);
    declared.primary_key = vec!["n".to_owned()];
    let other = sink(&declared)?.check(&job(), counts_schema()).await.unwrap_err();
    assert!(other.message().contains("declares PRIMARY KEY (n), the key of the DynamoDB table is (\"id\")"), "{other}");
    Ok(())
}
