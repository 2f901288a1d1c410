//! The pipelines of `queries/`: which files run together, and their connections replaced by logs and tables in memory.
//!
//! The forms of a pipeline's connections are alike once they are replaced, so that the embedded one stands for all.
//!
//! Invariant: every file with an INSERT that can go on runs; a table that is read and has no records here fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use arrow::{
    array::{BinaryArray, RecordBatch, TimestampMillisecondArray, UInt32Array},
    compute::take_record_batch,
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use headwater_engine::testing::MemoryLog;
use headwater_sql::{
    generate::{Dataset, DatasetFormat, Options, generate},
    parser::{Parameters, Statement, StatementKind, parse, statement::Insert, stream_ddl::TableOption},
};

use crate::connector::{ARRIVAL, PAYLOAD};

/// The folder that the harness reads by itself.
const NEXMARK: &str = "nexmark";
/// When the first record arrived, in milliseconds: 2026-01-01; each later one a minute after the one before.
const ARRIVED: i64 = 1_767_225_600_000;

/// The records that go over the connections, by data set.
static RECORDS: LazyLock<BTreeMap<&'static str, Records>> = LazyLock::new(|| {
    let all = [
        ("engagements", Dataset::Engagements, DatasetFormat::Stream, 500),
        ("posts", Dataset::Posts, DatasetFormat::Ndjson, 150),
        ("sales", Dataset::Sales, DatasetFormat::Stream, 400),
        ("crimes", Dataset::Crimes, DatasetFormat::Stream, 250),
        ("telemetry", Dataset::Telemetry, DatasetFormat::Ndjson, 300),
    ];
    let generated =
        all.into_iter().map(|(name, dataset, format, rows)| (name, Records::generated(dataset, format, rows)));
    generated.chain([("app_events", Records::new(&lists_of_events(120)))]).collect()
});

/// Lists of up to three events of an app, of which some say less than others.
fn lists_of_events(lists: u64) -> Vec<String> {
    let event = |list: u64, place: u64| {
        let context = match (list + place) % 4 {
            0 => String::new(),
            n => format!(
                r#","eventContext":{{"ip":"10.0.0.{n}","app":{{"name":"maps"}},"device":{{"os":"os{place}"}}}}"#
            ),
        };
        format!(r#"{{"eventId":"{list}-{place}","eventName":"tap"{context},"eventPayload":{{"durationMs":{list}}}}}"#)
    };
    let list = |list| (0..=list % 3).map(|place| event(list, place)).collect::<Vec<_>>().join(",");
    (0..lists).map(|number| format!("[{}]", list(number))).collect()
}

struct Records {
    rows: RecordBatch,
    /// Records of one key are in one split.
    keys: Vec<String>,
}

impl Records {
    fn generated(dataset: Dataset, format: DatasetFormat, rows: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("records");
        generate(&Options { dataset, rows: Some(rows), seed: 3, format: Some(format), target: target.clone() })
            .unwrap();
        let mut files: Vec<PathBuf> = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        assert_eq!(lines.len() as u64, rows, "records of {dataset:?}");
        Self::new(&lines)
    }

    fn new(lines: &[String]) -> Self {
        let arrivals = (0..lines.len() as i64).map(|row| ARRIVED + row * 60_000);
        let schema = Schema::new(vec![
            Field::new(PAYLOAD, DataType::Binary, false),
            Field::new(ARRIVAL, DataType::Timestamp(TimeUnit::Millisecond, None), false),
        ]);
        let payloads = BinaryArray::from_iter_values(lines.iter().map(|line| line.as_bytes()));
        let arrivals = TimestampMillisecondArray::from_iter_values(arrivals);
        let rows = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(payloads), Arc::new(arrivals)]).unwrap();
        let keys = lines.iter().enumerate().map(|(index, line)| key(index, line)).collect();
        Self { rows, keys }
    }

    fn split(&self, split: usize, splits: usize) -> RecordBatch {
        let is_of = |key: &String| {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            hasher.finish() as usize % splits == split
        };
        let places = (0..).zip(&self.keys).filter(|(_, key)| is_of(key)).map(|(place, _)| place);
        take_record_batch(&self.rows, &UInt32Array::from_iter_values(places)).unwrap()
    }
}

/// What divides records over splits: the key of a change, as its stream does it; else each record by itself.
fn key(index: usize, line: &str) -> String {
    let change = serde_json::from_str::<serde_json::Value>(line).unwrap_or_default();
    change["dynamodb"]["Keys"]["orderid"]["S"].as_str().map_or_else(|| index.to_string(), str::to_owned)
}

/// Logs of all data sets, each over some splits.
pub(crate) fn logs(splits: usize, batch_rows: usize) -> Vec<(String, MemoryLog)> {
    let log = |records: &Records| {
        let log = MemoryLog::new(false, batch_rows);
        (0..splits).for_each(|split| log.append(&format!("split-{split}"), records.split(split, splits)));
        log
    };
    RECORDS.iter().map(|(name, records)| ((*name).to_owned(), log(records))).collect()
}

/// Logs of half of each data set, which end.
pub(crate) fn halves() -> Vec<(String, MemoryLog)> {
    let log = |records: &Records| {
        let log = MemoryLog::new(true, 10_000);
        log.append("split-0", records.split(0, 2));
        log
    };
    RECORDS.iter().map(|(name, records)| ((*name).to_owned(), log(records))).collect()
}

/// The data set that a table reads, and the format of its records.
fn read_as(table: &str) -> Option<(&'static str, &'static str)> {
    Some(match table {
        "engagement_events" | "engagements" => ("engagements", "json"),
        "engagement_files" => ("engagements", "raw"),
        "posts_arriving" => ("posts", "json"),
        "crime_lines" | "crime_files" => ("crimes", "raw"),
        "order_changes" | "orders" => ("sales", "dynamodb-cdc"),
        "change_files" => ("sales", "raw"),
        "events_stream_json" => ("telemetry", "json"),
        "event_files" => ("telemetry", "raw"),
        "app_events" => ("app_events", "json"),
        _ => return None,
    })
}

/// The statements of some files with each connection replaced.
pub(crate) fn replaced(mut statements: Vec<Statement>) -> Vec<Statement> {
    let written = targets(&statements);
    for statement in &mut statements {
        let StatementKind::CreateStreamTable(table) = &mut statement.kind else { continue };
        let (at, name) = (table.name.at(), table.name.parts.last().unwrap().value.to_lowercase());
        let mut options = Vec::new();
        if table.option("connector").is_some() {
            options.push(("connector", "kept".to_owned()));
        }
        if let Some((data, format)) = read_as(&name).filter(|_| !written.contains(&name)) {
            options.extend([("data", data.to_owned()), ("format", format.to_owned())]);
        }
        let mode = table.option("scan.mode").or(table.option("dynamodb-cdc.mode"));
        options.extend(mode.map(|mode| ("dynamodb-cdc.mode", mode.to_owned())));
        table.options = options.into_iter().map(|(key, value)| TableOption { key: key.into(), value, at }).collect();
    }
    statements
}

/// The INSERTs of a statement.
pub(crate) fn inserts(statement: &Statement) -> Vec<&Insert> {
    match &statement.kind {
        StatementKind::Insert(insert) => vec![insert],
        StatementKind::StatementSet(all) => all.iter().flat_map(inserts).collect(),
        _ => Vec::new(),
    }
}

/// The tables that INSERTs which can go on write.
fn targets(statements: &[Statement]) -> BTreeSet<String> {
    let inserts = statements.iter().flat_map(inserts).filter(|insert| !insert.overwrite);
    inserts.map(|insert| insert.table.parts.last().unwrap().value.to_lowercase()).collect()
}

/// Whether a file declares what its INSERTs write, whole: no table is like one of another file.
fn stands_alone(statements: &[Statement]) -> bool {
    let tables: BTreeMap<String, bool> = statements
        .iter()
        .filter_map(|statement| match &statement.kind {
            StatementKind::CreateStreamTable(table) => {
                Some((table.name.parts.last().unwrap().value.to_lowercase(), table.like.is_none()))
            }
            _ => None,
        })
        .collect();
    targets(statements).iter().all(|target| tables.get(target).copied().unwrap_or_default())
}

/// What the files of `queries/` need to be parsed.
pub(crate) fn parameters() -> Parameters {
    [("lake", "lake"), ("brokers", "brokers")].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Every file with an INSERT that can go on, after the connections and the tables of its folder unless it has its own.
pub(crate) fn all() -> Vec<Vec<PathBuf>> {
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("../queries");
    let mut folders: Vec<PathBuf> = fs::read_dir(queries).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| !folder.ends_with(NEXMARK));
    folders.sort();
    let mut scripts = Vec::new();
    for folder in folders {
        let shared = ["embedded.sql", "tables.sql"].map(|name| folder.join(name));
        for file in super::files(&folder) {
            let text = fs::read_to_string(&file).unwrap();
            let statements = parse(&text, &parameters());
            let statements = statements.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            if targets(&statements).is_empty() {
                continue;
            }
            let mut files = Vec::new();
            if !stands_alone(&statements) {
                files.extend(shared.clone());
            }
            files.push(file);
            scripts.push(files);
        }
    }
    scripts
}
