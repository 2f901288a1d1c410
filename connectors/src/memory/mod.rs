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

use std::{collections::BTreeMap, path::Path, sync::Arc};

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
        if shards.is_some_and(|shards| shards == 0 || shards > SHARDS_MAX) {
            let shards = shards.unwrap_or_default().to_string();
            return Err(options.invalid("shards", &shards, &format!("between 1 and {SHARDS_MAX}")));
        }
        let is_bounded = options.choice("scan.bounded.mode", &[("unbounded", false), ("latest-offset", true)])?;
        let from_latest =
            options.choice("scan.startup.mode", &[("earliest-offset", false), ("latest-offset", true)])?;
        let format = formats::from_options(&mut options, &["format"], "", &Part::of_table(table))?;
        let folder = options.text("log.path");
        options.finish()?;
        let mut logs = self.logs.lock();
        let wanted = usize::try_from(shards.unwrap_or(1)).unwrap_or(1);
        let log = match logs.get(&name) {
            Some(known) => Arc::clone(known),
            None => {
                let made = match &folder {
                    Some(folder) => Log::kept(wanted, Path::new(folder), &name)?,
                    None => Log::new(wanted),
                };
                let made = Arc::new(made);
                logs.insert(name, Arc::clone(&made));
                made
            }
        };
        if shards.is_some() && log.shards() != wanted {
            let message = format!("table \"{}\": its log has {} shards, not {wanted}", table.name, log.shards());
            return Err(Error::user("INVALID_TABLE_PROPERTY", message)
                .with_hint("the first table of a name decides; leave 'shards' out of the others"));
        }
        let (is_bounded, from_latest) = (is_bounded.unwrap_or_default(), from_latest.unwrap_or_default());
        Ok(MemoryOptions { log, is_bounded, from_latest, format })
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
