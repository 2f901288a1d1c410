//! The conformance suites over every connector that needs no server: what all sources and all sinks promise.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::Result;
use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use futures::FutureExt;
use headwater_connectors::{
    datagen::Datagen, http::Http, lake::filesystem::Filesystem, lake::stores::Stores, memory::Memory,
};
use headwater_engine::{
    connector::{Bound, ChangelogMode, Connector, OpenRequest, Sink, Source, SplitStart, StartAt, TableSpec},
    testing::{MemoryLog, MemoryTable},
};
use headwater_tests::{
    conformance::{SinkUnderTest, rows_of, sink_conforms, source_conforms},
    http::post,
    services::free_port,
};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("word", DataType::Utf8, true)]))
}

fn rows(numbers: std::ops::Range<i64>) -> Result<RecordBatch> {
    let words = StringArray::from_iter_values(numbers.clone().map(|n| format!("w{n}")));
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(numbers)), Arc::new(words)];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

fn spec(options: &[(&str, &str)]) -> TableSpec {
    TableSpec::new("t", schema(), options.iter().copied())
}

fn filesystem() -> Filesystem {
    Filesystem::new(Arc::new(Stores::new(BTreeMap::new(), "/".into())), None)
}

/// A file that has not changed for a while, so that nobody waits for it to settle.
fn put(folder: &Path, name: &str, text: &str) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(name), text)?;
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    Ok(std::fs::File::options().write(true).open(folder.join(name))?.set_modified(then)?)
}

#[tokio::test]
async fn sources_in_memory_conform() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = MemoryLog::new(false, 7);
    log.append("a", rows(0..20)?);
    log.append("b", rows(20..33)?);
    source_conforms(Arc::new(log), schema(), folder.path()).await?;

    let memory = Memory::default();
    let table = spec(&[("shards", "3")]);
    let sink: Arc<dyn Sink> = memory.sink(&table)?;
    let job = headwater_tests::conformance::job(1, folder.path());
    let rows = rows(0..50)?;
    let batch = futures::stream::iter([Ok(headwater_engine::message::ChangeBatch::inserts(rows))]);
    let unit = headwater_engine::connector::Committable {
        unit: "u".to_owned(),
        detail: String::new(),
        rows: futures::StreamExt::boxed(batch),
    };
    sink.commit(&job, headwater_engine::message::Epoch(1), vec![unit]).await?;
    source_conforms(memory.source(&table)?, schema(), folder.path()).await
}

#[tokio::test]
async fn generated_rows_conform() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let options = [("number-of-rows", "300"), ("rows-per-second", "1000000"), ("seed", "7")];
    source_conforms(Datagen.source(&spec(&options))?, schema(), folder.path()).await
}

#[tokio::test]
async fn sources_of_files_conform() -> Result<()> {
    for (format, more) in [("json", None), ("csv", None), ("json", Some("true"))] {
        let folder = tempfile::tempdir()?;
        for file in 0..3 {
            let line = |n: i64| match format {
                "json" => format!("{{\"n\":{n},\"word\":\"w{n}\"}}\n"),
                _ => format!("{n},w{n}\n"),
            };
            let lines: String = (file * 9_000..(file + 1) * 9_000).map(line).collect();
            put(&folder.path().join("in"), &format!("{file}.{format}"), &lines)?;
        }
        let path = folder.path().join("in").display().to_string();
        let mut options = vec![("path", path.as_str()), ("format", format), ("source.monitor-interval", "100 ms")];
        options.extend(more.map(|growing| ("source.growing-files", growing)));
        let source: Arc<dyn Source> = Connector::source(&filesystem(), &spec(&options))?;
        source_conforms(source, schema(), folder.path())
            .await
            .map_err(|error| error.context(format!("{options:?}")))?;
    }
    Ok(())
}

#[tokio::test]
async fn records_over_http_conform() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let options = [("listen", address.as_str()), ("path", "/numbers"), ("format", "json")];
    let source: Arc<dyn Source> = Http::default().source(&spec(&options))?;
    let job = headwater_tests::conformance::job(1, folder.path());
    let splits = source.splits(&job).await?;
    let listening = OpenRequest {
        splits: splits.into_iter().map(|split| SplitStart { split, at: StartAt::Beginning }).collect(),
        bound: Bound::Table,
        columns: schema(),
        metadata: Vec::new(),
        task: 0,
        tasks: 1,
    };
    let reader = source.open(&job, listening).await?;
    let port: u16 = address.split_once(':').map_or("", |(_, port)| port).parse()?;
    for request in 0..5 {
        let lines: String =
            (request * 20..(request + 1) * 20).map(|n| format!("{{\"n\":{n},\"word\":\"w{n}\"}}\n")).collect();
        post(port, "/numbers", &lines).await?;
    }
    drop(reader);
    assert_eq!(rows_of(&source, &schema(), folder.path()).await?.len(), 100);
    source_conforms(source, schema(), folder.path()).await
}

#[tokio::test]
async fn sinks_in_memory_conform() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for epochs in [1, 3] {
        let table = MemoryTable::new(ChangelogMode::Append, epochs);
        let shown = table.clone();
        let texts = move || {
            let shown = shown.clone();
            async move {
                let log = MemoryLog::new(false, 100);
                shown.rows().into_iter().for_each(|rows| log.append("s", rows));
                if shown.rows().is_empty() {
                    return Ok(Vec::new());
                }
                let source: Arc<dyn Source> = Arc::new(log);
                rows_of(&source, &schema(), &std::env::temp_dir()).await
            }
            .boxed()
        };
        let sink = SinkUnderTest {
            open: Box::new(move || Ok(Arc::new(table.clone()) as Arc<dyn Sink>)),
            visible: Box::new(texts),
            rows: rows(0..12)?,
            asks_fence: false,
        };
        sink_conforms(sink, folder.path()).await?;
    }
    let (memory, table) = (Memory::default(), spec(&[]));
    let (reading, declared) = (memory.clone(), table.clone());
    let sink = SinkUnderTest {
        open: Box::new(move || Ok(memory.sink(&table)?)),
        visible: Box::new(move || {
            let (reading, declared) = (reading.clone(), declared.clone());
            async move { rows_of(&reading.source(&declared)?, &schema(), &std::env::temp_dir()).await }.boxed()
        }),
        rows: rows(0..12)?,
        asks_fence: false,
    };
    sink_conforms(sink, folder.path()).await
}

#[tokio::test]
async fn sinks_of_files_conform() -> Result<()> {
    let rolls: [&[(&str, &str)]; 2] = [&[], &[("sink.rolling-policy.file-size", "1 b")]];
    for (format, roll) in [("json", rolls[0]), ("json", rolls[1]), ("csv", rolls[1]), ("parquet", rolls[0])] {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("out").display().to_string();
        let mut options = vec![("path", path.as_str()), ("format", format)];
        options.extend(roll);
        let table = spec(&options);
        let (declared, state) = (table.clone(), folder.path().to_owned());
        let sink = SinkUnderTest {
            open: Box::new(|| Ok(Connector::sink(&filesystem(), &table)?)),
            visible: Box::new(move || {
                let (declared, state) = (declared.clone(), state.clone());
                async move {
                    let source: Arc<dyn Source> = Connector::source(&filesystem(), &declared)?;
                    rows_of(&source, &schema(), &state).await
                }
                .boxed()
            }),
            rows: rows(0..12)?,
            asks_fence: false,
        };
        sink_conforms(sink, folder.path()).await.map_err(|error| error.context(format!("{options:?}")))?;
    }
    Ok(())
}
