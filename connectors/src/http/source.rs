//! A listener as a readable table: its log is one split.
//!
//! Invariant: the port is open only while a job runs, and opens only after the log is recovered.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use headwater_engine::{
    connector::{
        Bound, Boundedness, ChangelogMode, JobContext, Offset, OpenRequest, ReadsAgain, Source, Split, SplitId,
        SplitReader, TableSpec,
    },
    error::Result,
    format::Decoder,
};
use parking_lot::Mutex;

use super::{
    listener::{Endpoint, Listeners},
    log::Log,
    options::HttpOptions,
    reader::{HttpReader, position},
};

/// The one split.
const SPLIT: &str = "log";
/// Tries to open a log that the attempt before is still giving back.
const OPENS: u32 = 50;

/// A readable listener.
pub(super) struct HttpSource {
    options: HttpOptions,
    listeners: Arc<Listeners>,
    /// The log, once a reader has opened it; goes with that reader.
    log: Mutex<std::sync::Weak<Log>>,
}

impl HttpSource {
    pub(super) fn new(table: &TableSpec, listeners: Arc<Listeners>) -> Result<Self> {
        Ok(Self { options: HttpOptions::parse(table)?, listeners, log: Mutex::default() })
    }

    fn folder(&self, job: &JobContext) -> PathBuf {
        let table = percent_encoding::utf8_percent_encode(&self.options.table, percent_encoding::NON_ALPHANUMERIC);
        let folder = self.options.log_dir.clone().unwrap_or_else(|| job.local_state.join("http"));
        folder.join(table.to_string())
    }

    async fn open_log(&self, job: &JobContext) -> Result<Arc<Log>> {
        let folder = self.folder(job);
        let mut tries = 0;
        loop {
            let (folder, incarnation, limit) = (folder.clone(), job.incarnation.clone(), self.options.buffer_bytes);
            let opened = tokio::task::spawn_blocking(move || Log::open(&folder, &incarnation, limit)).await;
            let opened = opened.map_err(|error| headwater_engine::error::Error::internal(error.to_string()))?;
            match opened {
                Err(error) if error.code().0 == "LOG_IN_USE" && tries < OPENS => {
                    tries += 1;
                    job.clock.sleep(Duration::from_millis(100)).await;
                }
                other => return other.map(Arc::new),
            }
        }
    }
}

impl fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSource").field("options", &self.options).finish_non_exhaustive()
    }
}

impl fmt::Display for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http {}{}", self.options.listen, self.options.path)
    }
}

#[async_trait]
impl Source for HttpSource {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Unbounded
    }

    fn changelog(&self) -> ChangelogMode {
        self.options.format.changelog()
    }

    fn change_order(&self) -> Option<&'static str> {
        self.options.format.change_order()
    }

    fn change_id(&self) -> Option<&'static str> {
        self.options.format.change_id()
    }

    fn may_refuse(&self, data_type: &DataType) -> bool {
        self.options.format.may_refuse(data_type)
    }

    fn reads_again(&self) -> ReadsAgain {
        ReadsAgain::Payloads
    }

    fn decoder(&self, columns: SchemaRef) -> Result<Option<Box<dyn Decoder>>> {
        self.options.format.decoder(columns).map(Some)
    }

    async fn splits(&self, _job: &JobContext) -> Result<Vec<Split>> {
        Ok(vec![Split::new(SPLIT)])
    }

    async fn open(&self, job: &JobContext, mut request: OpenRequest) -> Result<Box<dyn SplitReader>> {
        let start = request.splits.pop();
        let bound = request.bound;
        let mut reader = HttpReader::new(request);
        let Some(start) = start else { return Ok(Box::new(reader)) };
        let log = self.open_log(job).await?;
        *self.log.lock() = Arc::downgrade(&log);
        let registration = match bound {
            Bound::EndNow => None,
            Bound::Table => {
                let mut options = self.options.clone();
                options.auth = options.auth.resolved(&options.table).await?;
                let (log, clock) = (Arc::clone(&log), Arc::clone(&job.clock));
                let endpoint = Endpoint { options, log, clock, memory: job.memory.clone() };
                Some(self.listeners.register(Arc::new(endpoint)).await?)
            }
        };
        reader.start(start, log, registration)?;
        Ok(Box::new(reader))
    }

    async fn acknowledge(&self, _job: &JobContext, _split: &SplitId, up_to: &Offset) -> Result<()> {
        let number = position(up_to)?;
        let log = self.log.lock().upgrade();
        if let Some(log) = log {
            log.acknowledge(number);
        }
        Ok(())
    }
}
