//! Delivery as Firehose does it: prefixes, keys from the record, error objects, backups, object names.

use arrow::array::{BinaryArray, TimestampMillisecondArray};
use headwater_engine::{
    accounts::{records_schema, rejected_schema},
    connector::{BesideRows, Carries, Sink, SinkWriter},
};

use super::*;

/// 2026-07-03T14:05:09.120Z.
const NOW: i64 = 1_783_087_509_120;

/// A row with the record it came from.
fn carried(values: &[(Option<&str>, i64, i64, &str)]) -> ChangeBatch {
    let p: ArrayRef = Arc::new(values.iter().map(|(p, ..)| *p).collect::<StringArray>());
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values(values.iter().map(|(_, n, ..)| *n)));
    let arrival = TimestampMillisecondArray::from_iter_values(values.iter().map(|(_, _, arrival, _)| *arrival));
    let record = BinaryArray::from_iter_values(values.iter().map(|(.., record)| record.as_bytes()));
    let schema = Carries::Record.extend(&schema());
    ChangeBatch::inserts(RecordBatch::try_new(schema, vec![p, n, Arc::new(arrival), Arc::new(record)]).unwrap())
}

async fn writer_of(sink: &dyn Sink, bench: &Bench, schema: SchemaRef) -> Box<dyn SinkWriter> {
    bench.clock.0.store(NOW, SeqCst);
    sink.check(&bench.job(1), schema.clone()).await.unwrap();
    sink.writer(&bench.job(1), SinkTask { schema, ..task() }, Vec::new()).await.unwrap()
}

/// Closes everything and makes it visible, twice, as after a crash.
async fn delivered(bench: &mut Bench, sink: &dyn Sink, writer: &mut dyn SinkWriter) -> BTreeMap<String, String> {
    let closed = bench.keep(writer.prepare(Epoch(1), Cut::Final).await.unwrap().units);
    for _ in 0..2 {
        sink.commit(&bench.job(1), Epoch(1), bench.work(&closed)).await.unwrap();
    }
    bench.files()
}

/// Folder and content, with `*` for the part of a name that is random.
fn shown(files: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let name = |path: &String| {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parts: Vec<&str> = name.splitn(9, '-').collect();
        if parts.len() < 9 { path.clone() } else { format!("{folder}/{}-*{}", parts[..8].join("-"), extension(name)) }
    };
    files.iter().map(|(path, content)| (name(path), content.clone())).collect()
}

fn extension(name: &str) -> &str {
    name.find('.').map_or("", |dot| &name[dot..])
}

fn line(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn a_row_that_no_folder_can_be_called_after_is_an_error_and_the_rest_arrives() -> Result<()> {
    let mut bench = Bench::new();
    let options = [
        ("sink.prefix", "k=!{partitionKeyFromQuery:p}/"),
        ("sink.error-prefix", "errors/!{firehose:error-output-type}/"),
    ];
    let sink = connector().sink(&bench.spec(&options, &[]))?;
    let mut writer = writer_of(sink.as_ref(), &bench, Carries::Record.extend(&schema())).await;
    let long = "n".repeat(300);
    let rows = [(Some("good"), 1, NOW, "r1"), (Some(long.as_str()), 2, NOW, "r2"), (Some("a//b"), 3, NOW, "r3")];
    let refused = writer.write(carried(&rows)).await?;
    assert_eq!(refused.len(), 2, "{refused:?}");
    let files = delivered(&mut bench, sink.as_ref(), writer.as_mut()).await;
    let kept: Vec<&str> = files.keys().filter_map(|path| Some(path.split_once('/')?.0)).collect();
    assert_eq!(kept, ["errors", "k=good"], "{files:?}");
    let errors = files.iter().find(|(path, _)| path.starts_with("errors/metadata-extraction-failed/"));
    assert_eq!(errors.map(|(_, lines)| lines.lines().count()), Some(2));
    Ok(())
}

#[tokio::test]
async fn a_random_text_is_in_the_prefixes_of_rows_and_of_records() -> Result<()> {
    let mut bench = Bench::new();
    let options = [
        ("sink.prefix", "x/!{firehose:random-string}/"),
        ("sink.backup-prefix", "bk/!{firehose:random-string}/"),
        ("sink.error-prefix", "errors/!{firehose:error-output-type}/"),
    ];
    let sink = connector().sink(&bench.spec(&options, &[]))?;
    let mut writer = writer_of(sink.as_ref(), &bench, Carries::Record.extend(&schema())).await;
    let refused = writer.write(carried(&[(Some("a"), 1, NOW, "r1"), (Some("b"), 2, NOW, "r2")])).await?;
    assert!(refused.is_empty(), "{refused:?}");
    let files = delivered(&mut bench, sink.as_ref(), writer.as_mut()).await;
    let folders = |files: &BTreeMap<String, String>| -> Vec<(String, String, usize)> {
        let parts = |path: &String| path.split('/').map(str::to_owned).collect::<Vec<_>>();
        files.iter().map(|(path, text)| (parts(path)[0].clone(), text.clone(), parts(path)[1].len())).collect()
    };
    let rows = "{\"p\":\"a\",\"n\":1}\n{\"p\":\"b\",\"n\":2}\n";
    assert_eq!(folders(&files), [("x".to_owned(), rows.to_owned(), 11)]);

    let mut bench = Bench::new();
    let beside = connector().sink(&bench.spec(&options, &[]))?.beside();
    let backup = beside.iter().find(|beside| beside.takes == BesideRows::Records).unwrap().sink.as_ref();
    let mut writer = writer_of(backup, &bench, records_schema()).await;
    writer.write(records(&[b"one\n", b"two"])).await?;
    let files = delivered(&mut bench, backup, writer.as_mut()).await;
    assert_eq!(folders(&files), [("bk".to_owned(), "one\ntwo\n".to_owned(), 11)]);
    Ok(())
}

fn records(raw: &[&[u8]]) -> ChangeBatch {
    let arrivals = TimestampMillisecondArray::from_value(NOW, raw.len());
    let columns: Vec<ArrayRef> = vec![Arc::new(BinaryArray::from_vec(raw.to_vec())), Arc::new(arrivals)];
    ChangeBatch::inserts(RecordBatch::try_new(records_schema(), columns).unwrap())
}

#[tokio::test]
async fn records_that_no_backup_can_take_fail_the_job() -> Result<()> {
    let bench = Bench::new();
    let prefix = format!("{}/!{{timestamp:yyyy}}/", "b".repeat(300));
    let beside = connector().sink(&bench.spec(&[("sink.backup-prefix", &prefix)], &[]))?.beside();
    let backup = beside[0].sink.as_ref();
    let mut writer = writer_of(backup, &bench, records_schema()).await;
    let error = writer.write(records(&[b"one"])).await.unwrap_err();
    assert!(error.message().contains("'sink.backup-prefix'") && error.message().contains("300 bytes"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_row_of_a_partition_that_no_folder_can_be_called_after_is_refused() -> Result<()> {
    let mut bench = Bench::new();
    let sink = connector().sink(&bench.spec(&[], &["p"]))?;
    let mut writer = sink.writer(&bench.job(1), task(), Vec::new()).await?;
    let rows = [("a\u{0}b", 1), (&"n".repeat(300), 2), ("a\u{85}b", 3)];
    let refused = writer.write(super::rows(&rows)).await?;
    assert!(refused.len() == 1 && refused[0].reason.starts_with("partitioning-failed"), "{refused:?}");
    let files = delivered(&mut bench, sink.as_ref(), writer.as_mut()).await;
    let folders: Vec<&str> = files.keys().filter_map(|path| Some(path.split_once('/')?.0)).collect();
    assert_eq!(folders, ["p=a%00b", "p=a\u{85}b"]);
    Ok(())
}

#[tokio::test]
async fn a_rows_arrival_picks_its_folder_and_the_oldest_one_names_the_object() -> Result<()> {
    let mut bench = Bench::new();
    let options = [("sink.prefix", "n=!{partitionKeyFromQuery:p}/h=!{timestamp:yyyy-MM-dd'T'HH}/")];
    let sink = connector().sink(&bench.spec(&options, &[]))?;
    assert_eq!(sink.carries(), Carries::Arrival);
    let mut writer = writer_of(sink.as_ref(), &bench, Carries::Record.extend(&schema())).await;
    let hour = 3_600_000;
    let rows = [(Some("a"), 1, NOW, ""), (Some("a"), 2, NOW - 1000, ""), (Some("a"), 3, NOW + hour, "")];
    assert!(writer.write(carried(&rows)).await?.is_empty());
    let files = delivered(&mut bench, sink.as_ref(), writer.as_mut()).await;
    let expected = [
        ("n=a/h=2026-07-03T14/out-1-2026-07-03-14-05-08-*", "{\"p\":\"a\",\"n\":1}\n{\"p\":\"a\",\"n\":2}\n"),
        ("n=a/h=2026-07-03T15/out-1-2026-07-03-15-05-09-*", "{\"p\":\"a\",\"n\":3}\n"),
    ];
    assert_eq!(shown(&files), expected.map(own));
    Ok(())
}

#[tokio::test]
async fn a_time_zone_moves_folders_and_names_to_its_clocks() -> Result<()> {
    let mut bench = Bench::new();
    let options = [("sink.prefix", "d=!{timestamp:yyyy-MM-dd/HH}/"), ("sink.time-zone", "Asia/Kolkata")];
    let sink = connector().sink(&bench.spec(&options, &[]))?;
    let mut writer = writer_of(sink.as_ref(), &bench, Carries::Record.extend(&schema())).await;
    // Half past seven in the evening there; five hours later it is the next day.
    let rows = [(Some("a"), 1, NOW, ""), (Some("a"), 2, NOW + 5 * 3_600_000, "")];
    assert!(writer.write(carried(&rows)).await?.is_empty());
    let files = delivered(&mut bench, sink.as_ref(), writer.as_mut()).await;
    let expected = [
        ("d=2026-07-03/19/out-1-2026-07-03-19-35-09-*", "{\"p\":\"a\",\"n\":1}\n"),
        ("d=2026-07-04/00/out-1-2026-07-04-00-35-09-*", "{\"p\":\"a\",\"n\":2}\n"),
    ];
    assert_eq!(shown(&files), expected.map(own));
    let wrong = connector().sink(&bench.spec(&[("sink.time-zone", "Mars/Olympus")], &[])).unwrap_err();
    assert!(wrong.message().contains("'sink.time-zone' = 'Mars/Olympus'"), "{wrong}");
    Ok(())
}

#[tokio::test]
async fn rows_and_records_are_apart_as_the_delimiters_say() -> Result<()> {
    for (delimiter, backup, rows_as, records_as) in [
        ("none", "none", "{\"p\":\"a\",\"n\":1}{\"p\":\"a\",\"n\":2}", "one\ntwo"),
        ("\\n", "\\n", "{\"p\":\"a\",\"n\":1}\n{\"p\":\"a\",\"n\":2}\n", "one\ntwo\n"),
        (",", ";", "{\"p\":\"a\",\"n\":1},{\"p\":\"a\",\"n\":2},", "one\n;two;"),
    ] {
        let mut bench = Bench::new();
        let options = [
            ("sink.delimiter", delimiter),
            ("sink.backup-delimiter", backup),
            ("sink.object-names", "part"),
            ("sink.backup-prefix", "backup/!{timestamp:yyyy}/"),
        ];
        let sink = connector().sink(&bench.spec(&options, &[]))?;
        let mut writer = writer_of(sink.as_ref(), &bench, Carries::Record.extend(&schema())).await;
        let rows = [(Some("a"), 1, NOW, ""), (Some("a"), 2, NOW, "")];
        assert!(writer.write(carried(&rows)).await?.is_empty());
        let files = delivered(&mut bench, sink.as_ref(), writer.as_mut()).await;
        assert_eq!(files.values().collect::<Vec<_>>(), [rows_as], "{delimiter}");

        let mut bench = Bench::new();
        let beside = connector().sink(&bench.spec(&options, &[]))?.beside();
        let backup = beside[0].sink.as_ref();
        let mut writer = writer_of(backup, &bench, records_schema()).await;
        writer.write(records(&[b"one\n", b"two"])).await?;
        let files = delivered(&mut bench, backup, writer.as_mut()).await;
        assert_eq!(files.values().collect::<Vec<_>>(), [records_as], "{backup}");
    }
    let bench = Bench::new();
    for format in ["csv", "parquet"] {
        let refused = connector().sink(&bench.spec(&[("sink.delimiter", "none"), ("format", format)], &[]));
        assert!(refused.unwrap_err().message().contains("JSON and raw"), "{format}");
    }
    Ok(())
}

#[tokio::test]
async fn a_key_that_the_query_leaves_empty_is_a_failed_partitioning() -> Result<()> {
    let mut bench = Bench::new();
    let options = [
        ("sink.prefix", "rows/!{partitionKeyFromLambda:p}/"),
        ("sink.error-prefix", "errors/!{firehose:error-output-type}/"),
        ("sink.object-names", "part"),
    ];
    let sink = connector().sink(&bench.spec(&options, &[]))?;
    let mut writer = writer_of(sink.as_ref(), &bench, Carries::Record.extend(&schema())).await;
    let rows = [(Some("a"), 1, NOW, "one"), (None, 2, NOW - 9, "two"), (Some(""), 3, NOW, "three")];
    let refused = writer.write(carried(&rows)).await?;
    let reason = "partitioning-failed: PartitioningFailed: partition key \"p\" is null or empty";
    assert_eq!(refused.iter().map(|row| row.reason.as_str()).collect::<Vec<_>>(), [reason, reason]);
    let files = delivered(&mut bench, sink.as_ref(), writer.as_mut()).await;
    let paths: Vec<&str> = files.keys().map(|path| path.rsplit_once('/').map_or("", |(folder, _)| folder)).collect();
    assert_eq!(paths, ["errors/partitioning-failed", "rows/a"]);
    let lines: Vec<_> = files.values().next().map(|text| text.lines().map(line).collect()).unwrap_or_default();
    let expected = serde_json::json!({
        "attemptsMade": 1, "arrivalTimestamp": NOW - 9, "attemptEndingTimestamp": NOW,
        "errorCode": "DynamicPartitioning.PartitioningFailed",
        "errorMessage": "partition key \"p\" is null or empty", "rawData": "dHdv",
    });
    assert_eq!((lines.len(), &lines[0]), (2, &expected));
    Ok(())
}

#[tokio::test]
async fn keys_come_from_the_record_and_a_row_without_one_is_an_error_object() -> Result<()> {
    let mut bench = Bench::new();
    let options = [
        ("sink.prefix", "kind=!{partitionKeyFromQuery:kind}/"),
        ("sink.partition-keys-query", "{kind: .meta.kind}"),
        ("sink.error-prefix", "errors/!{firehose:error-output-type}/!{timestamp:yyyy}/"),
        ("compression", "gzip"),
    ];
    let sink = connector().sink(&bench.spec(&options, &[]))?;
    assert!(sink.carries() == Carries::Record && sink.needs_records());
    let mut writer = writer_of(sink.as_ref(), &bench, Carries::Record.extend(&schema())).await;
    let rows = [(Some("a"), 1, NOW, "{\"meta\": {\"kind\": \"k\"}}\n"), (Some("b"), 2, NOW - 5, "{\"meta\": {}}\n")];
    let refused = writer.write(carried(&rows)).await?;
    assert_eq!(refused[0].raw, "{\"p\":\"b\",\"n\":2}", "the accounts show the row");
    bench.clock.0.store(NOW + 7, SeqCst);
    let closed = bench.keep(writer.prepare(Epoch(1), Cut::Final).await?.units);
    sink.commit(&bench.job(1), Epoch(1), bench.work(&closed)).await?;
    let root = bench.folder.path().join("out");
    let names = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(root.join(folder)).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    };
    assert!(names("kind=k")[0].ends_with(".gz"), "{:?}", names("kind=k"));
    let folder = "errors/metadata-extraction-failed/2026";
    let error = line(&std::fs::read_to_string(root.join(folder).join(&names(folder)[0])).unwrap());
    let expected = serde_json::json!({
        "attemptsMade": 1, "arrivalTimestamp": NOW - 5, "attemptEndingTimestamp": NOW,
        "errorCode": "DynamicPartitioning.MetadataExtractionFailed",
        "errorMessage": "partitionKeys values must not be null or empty", "rawData": "eyJtZXRhIjoge319Cg==",
    });
    assert_eq!(error, expected);
    Ok(())
}

#[tokio::test]
async fn what_goes_over_the_limit_of_partitions_is_in_the_error_output() -> Result<()> {
    let mut bench = Bench::new();
    let options = [
        ("sink.partition.max-open", "2"),
        ("sink.partition.overflow", "error"),
        ("sink.error-prefix", "_errors/"),
        ("sink.object-names", "part"),
    ];
    let sink = connector().sink(&bench.spec(&options, &["p"]))?;
    let mut writer = writer_of(sink.as_ref(), &bench, Carries::Record.extend(&schema())).await;
    let row = |p, n| (Some(p), n, NOW, "raw");
    let refused = writer.write(carried(&[row("a", 1), row("b", 2), row("c", 3), row("d", 4), row("a", 5)])).await?;
    assert_eq!(refused.len(), 2, "both rows of partitions that are too many");
    let files = delivered(&mut bench, sink.as_ref(), writer.as_mut()).await;
    assert_eq!(files.len(), 3, "{files:?}");
    let errors = "_errors/metadata-extraction-failed/2026/07/03/14/part-counts-i1-1-1-0-2-i.json";
    let lines: Vec<_> = files[errors].lines().map(line).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["errorCode"], "DynamicPartitioning.ActivePartitionLimitExceeded");
    assert_eq!(lines[0]["rawData"], "cmF3");
    Ok(())
}

#[tokio::test]
async fn rejected_rows_become_error_objects_of_their_type() -> Result<()> {
    let mut bench = Bench::new();
    let options = [("sink.prefix", "rows/"), ("sink.error-prefix", "errors/!{firehose:error-output-type}/")];
    let sink = connector().sink(&bench.spec(&options, &[]))?;
    let beside = sink.beside();
    assert_eq!((beside.len(), beside[0].takes, beside[0].name), (1, BesideRows::Rejected, "errors"));
    let errors = beside[0].sink.as_ref();
    let mut writer = writer_of(errors, &bench, rejected_schema()).await;
    let reasons = ["the document ends early", "column \"n\": no number", "expression: division by zero"];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(BinaryArray::from_vec(vec![b"{", b"{}", b"x"])),
        Arc::new(StringArray::from(reasons.to_vec())),
        Arc::new(StringArray::from(vec!["0"; 3])),
        Arc::new(StringArray::from(vec!["7", "8", "9"])),
        Arc::new(TimestampMillisecondArray::from_value(NOW, 3)),
    ];
    let rows = RecordBatch::try_new(rejected_schema(), columns).unwrap();
    assert!(writer.write(ChangeBatch::inserts(rows)).await?.is_empty());
    let files = delivered(&mut bench, errors, writer.as_mut()).await;
    let of = |kind: &str| -> Vec<_> {
        let of_kind = files.iter().filter(|(path, _)| path.starts_with(&format!("errors/{kind}/out-1-")));
        of_kind.flat_map(|(_, content)| content.lines().map(line).collect::<Vec<_>>()).collect()
    };
    let conversion = of("format-conversion-failed");
    assert_eq!(conversion.len(), 2);
    assert_eq!(conversion[0]["lastErrorCode"], "DataFormatConversion.ParseError");
    assert_eq!(conversion[1]["lastErrorCode"], "DataFormatConversion.MalformedData");
    assert_eq!(
        (&conversion[0]["sequenceNumber"], &conversion[0]["dataCatalogTable"]["tableName"]),
        (&"7".into(), &"out".into())
    );
    assert_eq!(of("processing-failed")[0]["rawData"], "eA==");
    Ok(())
}

#[tokio::test]
async fn a_backup_keeps_the_bytes_a_record_a_line() -> Result<()> {
    let mut bench = Bench::new();
    let elsewhere = bench.folder.path().join("out/backup").display().to_string();
    let prefix = format!("{elsewhere}/!{{timestamp:yyyy}}/");
    let sink = connector().sink(&bench.spec(&[("sink.backup-prefix", &prefix), ("format", "parquet")], &[]))?;
    let beside = sink.beside();
    assert_eq!((beside.len(), beside[0].takes), (1, BesideRows::Records));
    let backup = beside[0].sink.as_ref();
    let mut writer = writer_of(backup, &bench, records_schema()).await;
    let raw: BinaryArray =
        [Some(&b"a|b"[..]), Some(b"{\"n\": 1}\n"), Some(b"\xff\x00"), None, Some(b"{\n}")].into_iter().collect();
    let arrivals = TimestampMillisecondArray::from_value(NOW, 5);
    let rows = RecordBatch::try_new(records_schema(), vec![Arc::new(raw), Arc::new(arrivals)]).unwrap();
    writer.write(ChangeBatch::inserts(rows)).await?;
    let closed = bench.keep(writer.prepare(Epoch(1), Cut::Final).await?.units);
    backup.commit(&bench.job(1), Epoch(1), bench.work(&closed)).await?;
    let folder = bench.folder.path().join("out/backup/2026");
    let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::read(file).unwrap(), b"a|b\n{\"n\": 1}\n\xff\x00\n\n{\n}\n");
    Ok(())
}

/// Once it is committed, a file that cannot be written would keep the job from ending for ever.
#[tokio::test]
async fn rows_that_the_format_cannot_have_are_refused_when_they_come() -> Result<()> {
    let bench = Bench::new();
    let lines = Arc::new(Schema::new(vec![Field::new("line", DataType::Utf8, true)]));
    let given = StringArray::from(vec![Some("a"), None, Some("b\nc"), Some("")]);
    let rows = RecordBatch::try_new(Arc::clone(&lines), vec![Arc::new(given)]).unwrap();
    for (format, expected) in [("raw", vec!["{}", "b\\nc"]), ("csv", Vec::new())] {
        let mut spec = bench.spec(&[("format", format)], &[]);
        spec.schema = Arc::clone(&lines);
        let sink = connector().sink(&spec)?;
        let mut writer = writer_of(sink.as_ref(), &bench, Arc::clone(&lines)).await;
        let refused = writer.write(ChangeBatch::inserts(rows.clone())).await?;
        assert_eq!(refused.len(), expected.len(), "{format}: {refused:?}");
        for (row, expected) in refused.iter().zip(expected) {
            assert!(row.reason.starts_with("format-conversion-failed: MalformedData: "), "{row:?}");
            assert!(row.raw.contains(expected), "{row:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_prefix_whose_keys_nobody_gives_is_refused() {
    let bench = Bench::new();
    let refused = async |options: &[(&str, &str)], keys: &[&str]| {
        let sink = match connector().sink(&bench.spec(options, keys)) {
            Ok(sink) => sink,
            Err(error) => return error.to_string(),
        };
        sink.check(&bench.job(1), schema()).await.unwrap_err().to_string()
    };
    assert!(refused(&[("sink.prefix", "!{partitionKeyFromLambda:other}/")], &[]).await.contains("\"other\""));
    assert!(refused(&[("sink.prefix", "!{timestamp:yyyy}/")], &["p"]).await.contains("PARTITIONED BY"));
    assert!(refused(&[("sink.partition-keys-query", "{a: .a")], &[]).await.contains("no JQ"));
    assert!(refused(&[("sink.error-prefix", "e/!{timestamp:yyyy}/")], &[]).await.contains("error-output-type"));
}
