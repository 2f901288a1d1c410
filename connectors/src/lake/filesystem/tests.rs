//! The sink as the runtime uses it: units over epochs, repeated commits, restored writers.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
};

use arrow::{
    array::{ArrayRef, Int64Array, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
    record_batch::RecordBatch,
};
use futures::StreamExt;
use headwater_engine::{
    catalog::{Database, PartitionDiscovery, Properties, TableName},
    connector::{
        Bound, CommitFacts, Committable, Connector, Cut, Distribution, JobContext, Offset, OpenRequest, OpenUnit,
        PreparedUnit, SinkTask, SourceData, SourceEvent, SplitReader, SplitStart, StartAt, TableSpec,
    },
    error::Result,
    message::{ChangeBatch, Epoch, Generation},
    testing::job_context,
    time::{Clock, Instant, Watermark},
};

mod delivery;
mod placing;
mod reading;

use reading::read;

use super::{Filesystem, options};
use crate::{catalogs::memory::MemoryCatalog, lake::stores::Stores};

#[derive(Debug, Default)]
struct Hands(AtomicI64);

impl Clock for Hands {
    fn now(&self) -> Instant {
        Instant(self.0.load(SeqCst))
    }
}

struct Bench {
    folder: tempfile::TempDir,
    clock: Arc<Hands>,
    outbox: BTreeMap<String, Vec<ChangeBatch>>,
    details: BTreeMap<String, String>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, clock: Arc::default(), outbox: BTreeMap::new(), details: BTreeMap::new() }
    }

    fn job(&self, generation: u64) -> JobContext {
        JobContext {
            incarnation: "i1".into(),
            generation: Generation(generation),
            local_state: self.folder.path().into(),
            clock: self.clock.clone(),
            ..job_context("counts")
        }
    }

    fn spec(&self, options: &[(&str, &str)], keys: &[&str]) -> TableSpec {
        let path = self.folder.path().join("out").display().to_string();
        let always = [("connector", "filesystem"), ("path", path.as_str()), ("format", "json")];
        TableSpec {
            partitioned_by: keys.iter().map(|key| (*key).to_owned()).collect(),
            ..TableSpec::new("out", schema(), always.into_iter().chain(options.iter().copied()))
        }
    }

    /// Keeps what was prepared, as the outbox does; gives back what the epoch commits.
    fn keep(&mut self, units: Vec<PreparedUnit>) -> Vec<String> {
        let mut closed = Vec::new();
        for unit in units {
            self.outbox.entry(unit.unit.clone()).or_default().extend(unit.rows);
            self.details.insert(unit.unit.clone(), unit.detail);
            if unit.closes {
                closed.push(unit.unit);
            }
        }
        closed
    }

    fn work(&self, closed: &[String]) -> Vec<Committable> {
        let unit = |name: &String| Committable {
            unit: name.clone(),
            detail: self.details[name].clone(),
            rows: futures::stream::iter(self.outbox[name].clone().into_iter().map(Ok)).boxed(),
        };
        closed.iter().map(unit).collect()
    }

    fn files(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let root = self.folder.path().join("out");
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten() {
                let path: PathBuf = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&root).unwrap().display().to_string();
                    found.insert(name, std::fs::read_to_string(&path).unwrap());
                }
            }
        }
        found
    }
}

fn own(pair: (&str, &str)) -> (String, String) {
    (pair.0.to_owned(), pair.1.to_owned())
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("p", DataType::Utf8, true), Field::new("n", DataType::Int64, true)]))
}

fn rows(values: &[(&str, i64)]) -> ChangeBatch {
    let p: ArrayRef = Arc::new(StringArray::from_iter_values(values.iter().map(|(p, _)| *p)));
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values(values.iter().map(|(_, n)| *n)));
    ChangeBatch::inserts(RecordBatch::try_new(schema(), vec![p, n]).unwrap())
}

fn task() -> SinkTask {
    SinkTask {
        insert: "i".into(),
        index: 0,
        count: 1,
        schema: schema(),
        changes: headwater_engine::connector::ChangelogMode::Append,
    }
}

fn connector() -> Filesystem {
    Filesystem::new(Arc::new(Stores::new(Properties::new(), "/".into())), None)
}

#[tokio::test]
async fn a_file_over_several_epochs_appears_once_with_the_epoch_in_which_it_closed() -> Result<()> {
    let mut bench = Bench::new();
    let sink = connector().sink(&bench.spec(&[], &["p"]))?;
    sink.check(&bench.job(1), schema()).await?;
    let mut writer = sink.writer(&bench.job(1), task(), Vec::new()).await?;
    writer.write(rows(&[("a", 1), ("b", 2)])).await?;
    assert!(bench.keep(writer.prepare(Epoch(1), Cut::Periodic).await?.units).is_empty());
    writer.write(rows(&[("a", 3)])).await?;
    bench.clock.0.store(6 * 60_000, SeqCst);
    assert_eq!(bench.files().len(), 0);
    let closed = bench.keep(writer.prepare(Epoch(2), Cut::Final).await?.units);
    assert_eq!(closed.len(), 2);
    for _ in 0..2 {
        sink.commit(&bench.job(1), Epoch(2), bench.work(&closed)).await?;
        let files = bench.files();
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        assert!(names[0].starts_with("p=a/part-counts-i1-1-2-0-"));
        assert!(names[1].starts_with("p=b/part-counts-i1-1-2-0-"));
        assert_eq!(files[names[0]], "{\"n\":1}\n{\"n\":3}\n");
        assert_eq!(files.len(), 2);
    }
    Ok(())
}

#[tokio::test]
async fn a_restored_writer_goes_on_with_its_files() -> Result<()> {
    let mut bench = Bench::new();
    let sink = connector().sink(&bench.spec(&[("sink.rolling-policy.inactivity-interval", "1 s")], &[]))?;
    let mut writer = sink.writer(&bench.job(1), task(), Vec::new()).await?;
    writer.write(rows(&[("a", 1)])).await?;
    bench.keep(writer.prepare(Epoch(1), Cut::Periodic).await?.units);
    drop(writer);
    let (unit, detail) = bench.details.iter().next().map(|(a, b)| (a.clone(), b.clone())).unwrap();
    let open = vec![OpenUnit { unit, detail, rows: 1, bytes: 20 }];
    sink.recover(
        &bench.job(2),
        &CommitFacts { published: Some(Epoch(1)), committed: Some(Epoch(1)), ..CommitFacts::default() },
    )
    .await?;
    let mut writer = sink.writer(&bench.job(2), task(), open).await?;
    writer.write(rows(&[("b", 2)])).await?;
    bench.clock.0.store(2_000, SeqCst);
    let closed = bench.keep(writer.prepare(Epoch(2), Cut::Periodic).await?.units);
    sink.commit(&bench.job(2), Epoch(2), bench.work(&closed)).await?;
    let files = bench.files();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["part-counts-i1-1-2-0-0-i.json"]);
    assert_eq!(files.values().next().unwrap().lines().count(), 2);
    Ok(())
}

#[tokio::test]
async fn what_a_killed_probe_or_commit_left_is_gone_after_recovery() -> Result<()> {
    let bench = Bench::new();
    let own = bench.folder.path().join("out/_headwater/jobs/i1");
    for name in ["probe", ".tmp-0123", "staging/1-0-0", "staging/.tmp-4567"] {
        std::fs::create_dir_all(own.join(name).parent().unwrap())?;
        std::fs::write(own.join(name), "half")?;
    }
    let sink = connector().sink(&bench.spec(&[], &[]))?;
    sink.recover(&bench.job(2), &CommitFacts::default()).await?;
    assert_eq!(bench.files(), BTreeMap::new());
    Ok(())
}

#[tokio::test]
async fn files_close_by_size_and_partitions_overflow_as_asked() -> Result<()> {
    let bench = Bench::new();
    let options = [("sink.rolling-policy.file-size", "30 b"), ("sink.partition.max-open", "2")];
    let sink = connector().sink(&bench.spec(&options, &["p"]))?;
    let mut writer = sink.writer(&bench.job(1), task(), Vec::new()).await?;
    for n in 0..5 {
        writer.write(rows(&[("a", n)])).await?;
    }
    let closed = writer.prepare(Epoch(1), Cut::Periodic).await?.units.into_iter().filter(|unit| unit.closes).count();
    assert!(closed >= 1);
    writer.write(rows(&[("b", 1), ("c", 1), ("d", 1)])).await?;
    let closed = writer.prepare(Epoch(2), Cut::Periodic).await?.units.into_iter().filter(|unit| unit.closes).count();
    assert!(closed >= 1, "the least recently written ones close");

    let options = [("sink.partition.max-open", "2"), ("sink.partition.overflow", "error")];
    let sink = connector().sink(&bench.spec(&options, &["p"]))?;
    let mut writer = sink.writer(&bench.job(1), task(), Vec::new()).await?;
    let refused = writer.write(rows(&[("a", 1), ("b", 1), ("c", 1)])).await?;
    assert_eq!(refused.len(), 1);
    assert!(refused[0].reason.contains("ActivePartitionLimitExceeded"), "{}", refused[0].reason);
    Ok(())
}

#[tokio::test]
async fn a_partition_is_declared_complete_after_its_delay() -> Result<()> {
    let mut bench = Bench::new();
    let options = [
        ("sink.rolling-policy.rollover-interval", "1 s"),
        ("sink.partition-commit.policy.kind", "success-file"),
        ("sink.partition-commit.delay", "10 s"),
    ];
    let sink = connector().sink(&bench.spec(&options, &["p"]))?;
    let mut writer = sink.writer(&bench.job(1), task(), Vec::new()).await?;
    writer.write(rows(&[("a", 1)])).await?;
    for (epoch, now, success) in [(1, 2_000, false), (2, 5_000, false), (3, 12_001, true)] {
        bench.clock.0.store(now, SeqCst);
        let closed = bench.keep(writer.prepare(Epoch(epoch), Cut::Periodic).await?.units);
        sink.commit(&bench.job(1), Epoch(epoch), bench.work(&closed)).await?;
        assert_eq!(bench.files().contains_key("p=a/_SUCCESS"), success, "epoch {epoch}");
    }
    Ok(())
}

#[tokio::test]
async fn a_partition_is_declared_complete_when_the_watermark_passes_its_time() -> Result<()> {
    let mut bench = Bench::new();
    let options = [
        ("sink.partition-commit.policy.kind", "success-file"),
        ("sink.partition-commit.success-file.name", "_DONE"),
        ("sink.partition-commit.trigger", "partition-time"),
        ("sink.partition-commit.delay", "1 h"),
        ("partition.time-extractor.timestamp-pattern", "1970-01-01 $p:00:00"),
    ];
    let sink = connector().sink(&bench.spec(&options, &["p"]))?;
    assert_eq!(sink.distribution(), Distribution::ByKey(vec![0]));
    let mut writer = sink.writer(&bench.job(1), task(), Vec::new()).await?;
    writer.write(rows(&[("01", 1), ("05", 2), ("never", 3)])).await?;
    let hour = 3_600_000_000;
    let is_done =
        |files: &BTreeMap<String, String>| ["01", "05", "never"].map(|p| files.contains_key(&format!("p={p}/_DONE")));
    for (epoch, watermark, done) in [(1, hour, [false; 3]), (2, 2 * hour, [true, false, false])] {
        writer.on_watermark(Watermark(watermark));
        let closed = bench.keep(writer.prepare(Epoch(epoch), Cut::Periodic).await?.units);
        sink.commit(&bench.job(1), Epoch(epoch), bench.work(&closed)).await?;
        assert_eq!(is_done(&bench.files()), done, "epoch {epoch}");
    }
    // A job that is stopped closes its files, but what is not complete is not declared so.
    let closed = bench.keep(writer.prepare(Epoch(3), Cut::Final).await?.units);
    sink.commit(&bench.job(1), Epoch(3), bench.work(&closed)).await?;
    assert_eq!((is_done(&bench.files()), bench.files().len()), ([true, false, false], 4));
    let open: Vec<OpenUnit> = (bench.details.iter())
        .filter(|(unit, _)| !closed.contains(unit) && bench.outbox[*unit].is_empty())
        .map(|(unit, detail)| OpenUnit { unit: unit.clone(), detail: detail.clone(), rows: 0, bytes: 0 })
        .filter(|unit| !unit.detail.contains("\"01\""))
        .collect();
    assert_eq!(open.len(), 2, "two partitions wait for their time");
    let mut writer = sink.writer(&bench.job(2), task(), open).await?;
    writer.on_watermark(Watermark::MAX);
    let closed = bench.keep(writer.prepare(Epoch(4), Cut::Final).await?.units);
    sink.commit(&bench.job(2), Epoch(4), bench.work(&closed)).await?;
    assert_eq!(is_done(&bench.files()), [true; 3]);
    Ok(())
}

#[tokio::test]
async fn files_roll_by_age_and_by_silence() -> Result<()> {
    let bench = Bench::new();
    let options =
        [("sink.rolling-policy.rollover-interval", "10 s"), ("sink.rolling-policy.inactivity-interval", "4 s")];
    let sink = connector().sink(&bench.spec(&options, &["p"]))?;
    let mut writer = sink.writer(&bench.job(1), task(), Vec::new()).await?;
    let mut closed = Vec::new();
    for second in 0..12_i64 {
        bench.clock.0.store(second * 1000, SeqCst);
        let busy = rows(&[("busy", second)]);
        writer.write(if second == 0 { rows(&[("busy", 0), ("silent", 0)]) } else { busy }).await?;
        let units = writer.prepare(Epoch(second as u64 + 1), Cut::Periodic).await?.units;
        closed.extend(units.into_iter().filter(|unit| unit.closes).map(|unit| {
            let which = if unit.detail.contains("busy") { "busy" } else { "silent" };
            (second, which)
        }));
    }
    assert_eq!(closed, [(4, "silent"), (10, "busy")]);
    Ok(())
}

#[tokio::test]
async fn files_are_compressed_as_asked_and_read_back() -> Result<()> {
    let all = [
        ("json", "none", "json"),
        ("json", "gzip", "json.gz"),
        ("csv", "zstd", "csv.zst"),
        ("json", "snappy", "json.snappy"),
        ("csv", "zip", "csv.zip"),
        ("parquet", "zstd", "parquet"),
    ];
    for (format, codec, extension) in all {
        let mut bench = Bench::new();
        let options = [("format", format), ("compression", codec)];
        let sink = connector().sink(&bench.spec(&options, &["p"]))?;
        let mut writer = sink.writer(&bench.job(1), task(), Vec::new()).await?;
        writer.write(rows(&[("a", 1), ("a", 2)])).await?;
        let closed = bench.keep(writer.prepare(Epoch(1), Cut::Final).await?.units);
        sink.commit(&bench.job(1), Epoch(1), bench.work(&closed)).await?;
        let path = bench.folder.path().join(format!("out/p=a/part-counts-i1-1-1-0-0-i.{extension}"));
        assert!(path.exists(), "{format} {codec}");
        let source = Connector::source(&connector(), &bench.spec(&options, &["p"]))?;
        let (found, _, _) = read(&source, &bench.job(1), &BTreeMap::new(), usize::MAX).await?;
        assert_eq!(found, [("a".to_owned(), 1), ("a".to_owned(), 2)], "{format} {codec}");
    }
    Ok(())
}

#[tokio::test]
async fn partitions_of_a_cataloged_table_are_registered_with_their_files() -> Result<()> {
    let mut bench = Bench::new();
    let catalog: Arc<dyn headwater_engine::catalog::Catalog> = Arc::new(MemoryCatalog::default());
    let name = TableName::new("lake", "out");
    let database = Database { name: "lake".into(), comment: None, location: None, properties: Properties::new() };
    catalog.create_database(database).await?;
    let (mut table, _, _) = options::of_spec(&bench.spec(&[], &["p"]))?;
    table.name = name.clone();
    table.discovery = PartitionDiscovery::Registered;
    catalog.create_table(table.clone(), Vec::new()).await?;
    let stores = Arc::new(Stores::new(Properties::new(), "/".into()));
    let sink = Filesystem::new(stores, Some(catalog.clone())).sink_of_table(&table)?;
    let mut writer = sink.writer(&bench.job(1), task(), Vec::new()).await?;
    writer.write(rows(&[("a", 1), ("b", 1)])).await?;
    let closed = bench.keep(writer.prepare(Epoch(1), Cut::Final).await?.units);
    sink.commit(&bench.job(1), Epoch(1), bench.work(&closed)).await?;
    assert_eq!(catalog.partitions(&name).await?.len(), 2);
    Ok(())
}

#[test]
fn options_are_checked() {
    let bench = Bench::new();
    let refused = |options: &[(&str, &str)]| connector().sink(&bench.spec(options, &["p"])).unwrap_err();
    assert_eq!(
        refused(&[("sink.rolling-policy.filesize", "1")]).hint(),
        Some("did you mean 'sink.rolling-policy.file-size'?")
    );
    let error = refused(&[("sink.partition-commit.trigger", "partition-tim")]);
    assert!(error.message().ends_with("is not one of process-time, partition-time"), "{error}");
    assert_eq!(refused(&[("partition.time-extractor.kind", "custom")]).code().0, "NOT_SUPPORTED");
    assert_eq!(refused(&[("sink.partition-commit.policy.kind", "metastore")]).code().0, "NOT_SUPPORTED");
}
