//! `'connector' = 'memory'`: logs and tables shared by the tables of a process, in place of Kinesis, Kafka or DynamoDB.
//!
//! Without a PRIMARY KEY a table is a log in shards; with one it is a changelog by that key, which a query sees as the
//! rows there are. With a 'format' the log holds payloads, which every table of its name reads in its own columns.
//!
//! Invariant: what is here is gone with the process unless `'log.path'` names a folder that keeps it; an offset into a log
//! that is gone reads as the log's beginning.

mod kept;
mod log;
mod sink;
mod source;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use arrow::datatypes::{DataType, TimeUnit};
use headwater_engine::{
    connector::{Connector, MetadataColumn, Sink, Source, TableSpec},
    error::{Error, Result},
};
use parking_lot::Mutex;

use self::{log::Log, sink::MemorySink, source::MemorySource};
use crate::{
    formats::{self, Part, TableFormat},
    options::Options,
};

/// Shards of one log, at most.
const SHARDS_MAX: u64 = 1024;

/// The connector, with everything that is written through it.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    logs: Arc<Mutex<BTreeMap<String, Arc<Log>>>>,
}

/// The options of a table.
#[derive(Debug, Clone)]
struct MemoryOptions {
    log: Arc<Log>,
    /// The log's name.
    name: String,
    is_bounded: bool,
    from_latest: bool,
    /// What the payloads of the log are, if it holds payloads.
    format: Option<TableFormat>,
}

/// Name of the only column of a log that holds payloads.
const PAYLOAD: &str = "headwater_payload";

impl Memory {
    fn options(&self, table: &TableSpec) -> Result<MemoryOptions> {
        let mut options = Options::new(&table.name, &table.options);
        options.accept(&["connector"]);
        let name = options.text("name").unwrap_or_else(|| table.name.clone());
        let shards = options.number("shards")?;
        if let Some(shards) = shards.filter(|shards| *shards == 0 || *shards > SHARDS_MAX) {
            return Err(options.invalid("shards", &shards.to_string(), &format!("between 1 and {SHARDS_MAX}")));
        }
        let shards = shards.and_then(|shards| usize::try_from(shards).ok());
        let is_bounded = options.choice("scan.bounded.mode", &[("unbounded", false), ("latest-offset", true)])?;
        let from_latest =
            options.choice("scan.startup.mode", &[("earliest-offset", false), ("latest-offset", true)])?;
        let format = formats::from_options(&mut options, &["format"], "", &Part::of_table(table))?;
        let folder = options.text("log.path");
        if let Some(folder) = folder.as_ref().filter(|folder| folder.contains("://")) {
            return Err(options.invalid("log.path", folder, "a folder of this machine"));
        }
        options.finish()?;
        let (log, folder) = (self.log(&name, shards, folder.as_deref()), folder.map(PathBuf::from));
        let differs = |what: &str, hint: &str| {
            let message = format!("table \"{}\": {what}", table.name);
            Error::user("INVALID_TABLE_PROPERTY", message).with_hint(hint)
        };
        if folder.is_some() && folder.as_deref() != log.folder() {
            let kept =
                log.folder().map_or("is not kept".to_owned(), |folder| format!("is kept in {}", folder.display()));
            let what = format!("its log \"{name}\" {kept}");
            return Err(differs(&what, "the first table of a name decides: give that one the 'log.path'"));
        }
        if let Some(wanted) = shards
            && let Some(known) = log.ask(wanted)
        {
            let what = format!("its log has {known} shards, not {wanted}");
            return Err(differs(&what, "the first table of a name decides; leave 'shards' out of the others"));
        }
        let (is_bounded, from_latest) = (is_bounded.unwrap_or_default(), from_latest.unwrap_or_default());
        Ok(MemoryOptions { log, name, is_bounded, from_latest, format })
    }

    /// The log of a name; the first who asks for it says what it is like.
    fn log(&self, name: &str, shards: Option<usize>, folder: Option<&str>) -> Arc<Log> {
        let mut logs = self.logs.lock();
        let made = || Arc::new(Log::new(shards, folder.map(PathBuf::from)));
        Arc::clone(logs.entry(name.to_owned()).or_insert_with(made))
    }
}

impl Connector for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn metadata_columns(&self) -> Vec<MetadataColumn> {
        let column = |key, data_type| MetadataColumn { key, data_type, writable: false };
        vec![
            column("timestamp", DataType::Timestamp(TimeUnit::Millisecond, None)),
            column("shard-id", DataType::Utf8),
            column("sequence-number", DataType::Utf8),
            column("partition", DataType::Int32),
            column("offset", DataType::Int64),
        ]
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(MemorySource::new(table, self.options(table)?)))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(MemorySink::new(table, self.options(table)?)?))
    }
}
