//! Statements that write real files: what is in them, where they are, and that a failure leaves nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{
        ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
        ListArray, StringArray, TimestampMillisecondArray,
    },
    datatypes::{DataType, Int32Type, Int64Type},
    record_batch::RecordBatch,
};
use datafusion::{
    datasource::memory::MemorySourceConfig,
    execution::TaskContext,
    physical_plan::{ExecutionPlan, streaming::StreamingTableExec},
};
use headwater_engine::{
    catalog::{Properties, Storage},
    error::{Error, ErrorKind, Result},
    time::SystemClock,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{
    compress::{CODECS, Codec},
    format::{ParquetOptions, TextOptions},
    partition::Found,
    *,
};
use crate::lake::commit::{
    owner::Owner,
    place::LocalPlace,
    transaction::{Ending, NoCatalog, Site},
};
use crate::lake::compression::Compression;

struct Lake {
    _folder: tempfile::TempDir,
    root: PathBuf,
}

impl Lake {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("t");
        Self { _folder: folder, root }
    }

    fn target(&self, format: WriteFormat, keys: &[&str]) -> WriteTarget {
        let root = self.root.to_string_lossy().trim_start_matches('/').to_owned();
        let site = Site {
            place: Arc::new(LocalPlace),
            root: root.clone(),
            registrar: Arc::new(NoCatalog),
            clock: Arc::new(SystemClock),
            owner: Owner::this_process(),
        };
        let layout = Layout { keys: keys.iter().map(|key| (*key).to_owned()).collect(), ..Layout::flat(root) };
        let location = self.root.display().to_string();
        let explain = |error| Error::from(error);
        let (limits, stats) = (Limits::default(), Arc::default());
        WriteTarget { site, location, format, layout, register: None, limits, stats, explain }
    }

    /// Paths below the folder that any engine sees.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.root, &mut found);
        let root = format!("{}/", self.root.display());
        let mut paths: Vec<String> =
            found.iter().map(|path| path.to_string_lossy().trim_start_matches(&root).to_owned()).collect();
        paths.retain(|path| !path.split('/').any(|name| name.starts_with(['_', '.'])));
        paths.sort();
        paths
    }

    fn folders(&self) -> BTreeSet<String> {
        self.files().iter().map(|path| path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned()).collect()
    }

    fn text(&self) -> String {
        let bytes: Vec<Vec<u8>> = self.files().iter().map(|file| fs::read(self.root.join(file)).unwrap()).collect();
        String::from_utf8(bytes.concat()).unwrap()
    }

    fn parquet(&self) -> Vec<(String, RecordBatch)> {
        let mut read = Vec::new();
        for file in self.files() {
            let open = fs::File::open(self.root.join(&file)).unwrap();
            let batches = ParquetRecordBatchReaderBuilder::try_new(open).unwrap().build().unwrap();
            read.extend(batches.map(|batch| (file.clone(), batch.unwrap())));
        }
        read
    }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

fn plan(partitions: Vec<Vec<RecordBatch>>) -> Arc<dyn ExecutionPlan> {
    let schema = partitions[0][0].schema();
    MemorySourceConfig::try_new_exec(&partitions, schema, None).unwrap()
}

async fn write(target: WriteTarget, mode: Mode, partitions: Vec<Vec<RecordBatch>>) -> Result<Ending> {
    write_statement(plan(partitions), Arc::new(TaskContext::default()), target, mode).await
}

fn numbers(from: i64, to: i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(from..to))
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn parquet() -> WriteFormat {
    WriteFormat::Parquet(ParquetOptions::default())
}

fn json(codec: Codec) -> WriteFormat {
    WriteFormat::Json { codec, options: Default::default() }
}

#[tokio::test]
async fn rows_of_several_tasks_are_all_written() {
    let lake = Lake::new();
    let parts = vec![vec![batch(vec![("n", numbers(0, 10))])], vec![batch(vec![("n", numbers(10, 30))])]];
    let ending = write(lake.target(parquet(), &[]), Mode::Append, parts).await.unwrap();
    assert_eq!((ending.rows, ending.files), (30, 2));
    let mut seen: Vec<i64> = Vec::new();
    for (_, rows) in lake.parquet() {
        seen.extend(rows.column(0).as_primitive::<Int64Type>().values());
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..30).collect::<Vec<_>>());
}

/// Trap 9: DataFusion writes a NULL key as `p=0` or `p=`, and keeps the key's values out of nothing else.
#[tokio::test]
async fn null_and_empty_keys_are_one_partition_and_odd_values_are_encoded() {
    let lake = Lake::new();
    let keys = [Some("a"), None, Some(""), Some("x/y"), Some("10:30"), Some("50%"), Some("a")];
    let rows = batch(vec![("n", numbers(0, 7)), ("P", texts(&keys))]);
    write(lake.target(json(Codec::None), &["P"]), Mode::Append, vec![vec![rows]]).await.unwrap();
    let expected = ["p=10%3A30", "p=50%25", "p=__HIVE_DEFAULT_PARTITION__", "p=a", "p=x%2Fy"];
    assert_eq!(lake.folders(), expected.map(str::to_owned).into());
    assert!(!lake.text().contains("\"P\""), "partition columns are in the path only");
    assert_eq!(lake.text().lines().count(), 7);
}

#[tokio::test]
async fn keys_of_other_types_are_spelled_as_hive_spells_them() {
    let lake = Lake::new();
    let rows = batch(vec![
        ("n", numbers(0, 2)),
        ("d", Arc::new(Date32Array::from(vec![19_723, 19_724]))),
        ("at", Arc::new(TimestampMillisecondArray::from(vec![1_704_103_445_000, 1_704_103_445_500]))),
        ("b", Arc::new(BooleanArray::from(vec![true, false]))),
        ("m", Arc::new(Decimal128Array::from(vec![150, -5]).with_precision_and_scale(5, 2).unwrap())),
    ]);
    write(lake.target(json(Codec::None), &["d", "at", "b", "m"]), Mode::Append, vec![vec![rows]]).await.unwrap();
    let expected = [
        "d=2024-01-01/at=2024-01-01 10%3A04%3A05/b=true/m=1.50",
        "d=2024-01-02/at=2024-01-01 10%3A04%3A05.500/b=false/m=-0.05",
    ];
    assert_eq!(lake.folders(), expected.map(str::to_owned).into());
}

/// Ten thousand partitions from unsorted rows, with few files open at a time and little memory.
#[tokio::test]
async fn many_partitions_need_few_open_files() {
    let lake = Lake::new();
    let rows: i64 = 30_000;
    let make = |task: i64| -> Vec<RecordBatch> {
        (0..3)
            .map(|part| {
                let n: Vec<i64> = (0..rows / 6).map(|row| (row * 6 + part * 2 + task) * 7_919 % rows).collect();
                let p: Vec<i64> = n.iter().map(|n| n % 2_000).collect();
                batch(vec![("n", Arc::new(Int64Array::from(n))), ("p", Arc::new(Int64Array::from(p)))])
            })
            .collect()
    };
    let mut target = lake.target(json(Codec::None), &["p"]);
    target.limits = Limits { open_files: 16, memory_bytes: 24 << 20, ..Limits::default() };
    let ending = write(target, Mode::Append, vec![make(0), make(1)]).await.unwrap();
    assert_eq!(ending.rows, rows as u64);
    assert_eq!(lake.folders().len(), 2_000);
    assert!(ending.files <= 2_000 + 16, "{} files", ending.files);
    let mut seen = BTreeMap::<i64, usize>::new();
    for line in lake.text().lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        *seen.entry(row["n"].as_i64().unwrap()).or_default() += 1;
    }
    assert_eq!(seen.len(), rows as usize);
    assert!(seen.values().all(|count| *count == 1));
}

#[tokio::test]
async fn files_are_rolled_by_their_size() {
    let lake = Lake::new();
    let mut target = lake.target(json(Codec::None), &[]);
    target.limits.file_bytes = 1_000;
    let batches = (0..10).map(|part| batch(vec![("n", numbers(part * 50, part * 50 + 50))])).collect();
    let ending = write(target, Mode::Append, vec![batches]).await.unwrap();
    assert!(ending.files >= 3, "{}", ending.files);
    assert_eq!(lake.text().lines().count(), 500);
}

#[tokio::test]
async fn overwrite_replaces_the_partitions_it_writes() {
    let lake = Lake::new();
    let rows = |n: i64, key: &str| batch(vec![("n", numbers(n, n + 1)), ("p", texts(&[Some(key)]))]);
    let both = vec![vec![rows(1, "a"), rows(2, "b")]];
    write(lake.target(json(Codec::None), &["p"]), Mode::Append, both).await.unwrap();
    let overwrite = |also| Mode::Overwrite { also };
    write(lake.target(json(Codec::None), &["p"]), overwrite(vec![]), vec![vec![rows(3, "a")]]).await.unwrap();
    let mut lines: Vec<String> = lake.text().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["{\"n\":2}", "{\"n\":3}"]);
    let none = vec![vec![rows(0, "a").slice(0, 0)]];
    let also = overwrite(vec![vec![Some("b".into())]]);
    write(lake.target(json(Codec::None), &["p"]), also, none).await.unwrap();
    assert_eq!(lake.text(), "{\"n\":3}\n");
}

#[tokio::test]
async fn overwriting_a_table_without_partitions_replaces_everything() {
    let lake = Lake::new();
    for n in 0..3 {
        let rows = vec![vec![batch(vec![("n", numbers(n, n + 1))])]];
        write(lake.target(json(Codec::None), &[]), Mode::Overwrite { also: vec![] }, rows).await.unwrap();
        assert_eq!(lake.text(), format!("{{\"n\":{n}}}\n"));
    }
}

#[tokio::test]
async fn a_known_partition_keeps_its_folder() {
    let lake = Lake::new();
    let mut target = lake.target(json(Codec::None), &["m"]);
    let folder = format!("{}/elsewhere/x", target.layout.root);
    let found = |value: &str, folder| Found { values: vec![Some(value.to_owned())], folder, columns: None };
    let known = vec![found("01", None), found("002", Some(folder))];
    target.layout.know(&[DataType::Int64], known).unwrap();
    let rows = batch(vec![("n", numbers(0, 3)), ("m", numbers(1, 4))]);
    write(target, Mode::Append, vec![vec![rows]]).await.unwrap();
    assert_eq!(lake.folders(), ["m=01", "elsewhere/x", "m=3"].map(str::to_owned).into());
}

#[tokio::test]
async fn a_folder_with_files_is_not_created_again() {
    let lake = Lake::new();
    let rows = || vec![vec![batch(vec![("n", numbers(0, 1))])]];
    let create = || Mode::CreateNew { table: None };
    write(lake.target(parquet(), &[]), create(), rows()).await.unwrap();
    let error = write(lake.target(parquet(), &[]), create(), rows()).await.unwrap_err();
    assert_eq!((error.code().0, error.kind()), ("HIVE_PATH_ALREADY_EXISTS", ErrorKind::User));
    assert_eq!(lake.files().len(), 1);
}

#[derive(Debug)]
struct Breaks(RecordBatch);

impl datafusion::physical_plan::streaming::PartitionStream for Breaks {
    fn schema(&self) -> &arrow::datatypes::SchemaRef {
        self.0.schema_ref()
    }

    fn execute(&self, _context: Arc<TaskContext>) -> datafusion::execution::SendableRecordBatchStream {
        let error = Error::data("HIVE_BAD_DATA", "line 3 is broken").into();
        let items = futures::stream::iter(vec![Ok(self.0.clone()), Ok(self.0.clone()), Err(error)]);
        Box::pin(datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(self.0.schema(), items))
    }
}

/// Trap 9: DataFusion leaves finished files visible when a statement fails.
#[tokio::test]
async fn a_statement_that_fails_leaves_nothing() {
    let lake = Lake::new();
    let rows = batch(vec![("n", numbers(0, 100)), ("p", numbers(0, 100))]);
    let schema = rows.schema();
    let plan =
        StreamingTableExec::try_new(schema, vec![Arc::new(Breaks(rows))], None, Vec::new(), false, None).unwrap();
    let mut target = lake.target(json(Codec::None), &["p"]);
    target.limits.file_bytes = 1;
    let error =
        write_statement(Arc::new(plan), Arc::new(TaskContext::default()), target, Mode::Append).await.unwrap_err();
    assert_eq!((error.code().0, error.message()), ("HIVE_BAD_DATA", "line 3 is broken"));
    assert!(!lake.root.exists(), "{:?}", fs::read_dir(&lake.root).map(|entries| entries.count()));
}

#[tokio::test]
async fn a_target_that_cannot_be_written_is_an_error_and_stays_as_it_is() {
    let lake = Lake::new();
    // A file where the folder should be: no permission bits are involved, so it holds for root too.
    fs::write(&lake.root, "not a folder").unwrap();
    let rows = vec![vec![batch(vec![("n", numbers(0, 1))])]];
    write(lake.target(parquet(), &[]), Mode::Append, rows).await.unwrap_err();
    assert_eq!(fs::read_to_string(&lake.root).unwrap(), "not a folder");
}

fn mixed() -> RecordBatch {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), None]);
    batch(vec![
        ("n", Arc::new(Int64Array::from(vec![Some(1), None]))),
        ("f", Arc::new(Float64Array::from(vec![1.5, 2.0]))),
        ("s", texts(&[Some("a,\"b\"\tc"), None])),
        ("at", Arc::new(TimestampMillisecondArray::from(vec![1_704_103_445_678, 0]))),
        ("d", Arc::new(Date32Array::from(vec![19_723, 0]))),
        ("bin", Arc::new(BinaryArray::from_vec(vec![b"hi", &[0xff]]))),
        ("l", Arc::new(list)),
    ])
}

#[tokio::test]
async fn json_is_what_serdes_read() {
    let lake = Lake::new();
    write(lake.target(json(Codec::None), &[]), Mode::Append, vec![vec![mixed()]]).await.unwrap();
    let expected = concat!(
        r#"{"n":1,"f":1.5,"s":"a,\"b\"\tc","at":"2024-01-01 10:04:05.678","d":"2024-01-01","bin":"aGk=","l":[1,null]}"#,
        "\n",
        r#"{"f":2.0,"at":"1970-01-01 00:00:00.000","d":"1970-01-01","bin":"/w=="}"#,
        "\n"
    );
    assert_eq!(lake.text(), expected);
}

fn storage(format: headwater_engine::catalog::FileFormat, serde: &[(&str, &str)]) -> Storage {
    let serde_properties = serde.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Storage { format, serde: None, serde_properties, input_format: None, output_format: None }
}

#[tokio::test]
async fn delimited_text_follows_its_row_format() {
    let lake = Lake::new();
    let properties: Properties = [("compression".to_owned(), "none".to_owned())].into();
    let serde = [("field.delim", "\\t"), ("escape.delim", "\\\\"), ("serialization.null.format", "-")];
    let format = WriteFormat::of(&storage(headwater_engine::catalog::FileFormat::Text, &serde), &properties).unwrap();
    assert_eq!(format.extension(), "txt");
    write(lake.target(format, &[]), Mode::Append, vec![vec![mixed()]]).await.unwrap();
    let expected = "1\t1.5\ta,\"b\"\\\tc\t2024-01-01 10:04:05.678\t2024-01-01\taGk=\t1\x02-\n\
                    -\t2.0\t-\t1970-01-01 00:00:00\t1970-01-01\t/w==\t-\n";
    assert_eq!(lake.text(), expected);
}

#[tokio::test]
async fn csv_quotes_what_needs_it_and_names_its_columns() {
    let lake = Lake::new();
    let rows =
        batch(vec![("id", numbers(0, 4)), ("text", texts(&[Some("plain"), Some("a,\"b\"\nc"), None, Some("")]))]);
    let options = TextOptions { header_lines: 1, ..TextOptions::csv() };
    let format = WriteFormat::Text { codec: Codec::None, options };
    write(lake.target(format, &[]), Mode::Append, vec![vec![rows]]).await.unwrap();
    assert_eq!(lake.text(), "id,text\n0,plain\n1,\"a,\"\"b\"\"\nc\"\n2,\n3,\"\"\n");
}

#[test]
fn every_codec_is_read_back_by_its_own_reader() {
    let text: Vec<u8> =
        (0..60_000u32).flat_map(|n| format!("{}\n", n.wrapping_mul(2_654_435_761)).into_bytes()).collect();
    for (name, codec) in CODECS {
        assert_eq!(Codec::parse(&name.to_uppercase()).unwrap(), codec);
        let mut compressor = codec.compressor().unwrap();
        let mut file = Vec::new();
        for chunk in text.chunks(70_000) {
            compressor.write(chunk).unwrap();
            file.extend_from_slice(&compressor.drain());
        }
        file.extend_from_slice(&compressor.finish().unwrap());
        assert_eq!(inflate(codec, &file), text, "{name}");
    }
}

fn inflate(codec: Codec, file: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match codec {
        Codec::None => out.extend_from_slice(file),
        Codec::Gzip => drop(flate2::read::GzDecoder::new(file).read_to_end(&mut out).unwrap()),
        Codec::Zip => {
            let mut archive = zip::ZipArchive::new(std::io::Cursor::new(file)).unwrap();
            archive.by_index(0).unwrap().read_to_end(&mut out).unwrap();
        }
        Codec::Snappy => {
            // What Firehose writes is told by the mark of snappy-java, and by no other.
            assert_eq!(Compression::of("a.snappy", file), Some(Compression::SnappyXerial));
            let read = Compression::SnappyXerial.reader(file).unwrap().read_to_end(&mut out).unwrap();
            assert_eq!(read, out.len());
        }
        Codec::HadoopSnappy => {
            let mut rest = file;
            while !rest.is_empty() {
                let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap()) as usize;
                let (raw, compressed) = (number(&rest[..4]), number(&rest[4..8]));
                let block = snap::raw::Decoder::new().decompress_vec(&rest[8..8 + compressed]).unwrap();
                assert_eq!(block.len(), raw);
                out.extend_from_slice(&block);
                rest = &rest[8 + compressed..];
            }
        }
        Codec::Zstd => out = zstd::decode_all(file).unwrap(),
        Codec::Bzip2 => drop(bzip2::read::BzDecoder::new(file).read_to_end(&mut out).unwrap()),
    }
    out
}
