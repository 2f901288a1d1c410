//! A stream as a readable table.
//!
//! Invariant: shards are known in band: the children of one that ends come with its end, so that discovery only has to
//! find what nobody was reading.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use headwater_engine::{
    connector::{
        Boundedness, ChangelogMode, JobContext, Offset, OpenRequest, ReadsAgain, Source, Split, SplitId, SplitReader,
        TableSpec,
    },
    error::Result,
    format::Decoder,
    time::Clock,
};
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

use super::{
    api::{Shard, StreamApi},
    client::SdkStream,
    options::KinesisOptions,
    pace::Quotas,
    reader::KinesisReader,
    shard::{Shared, split_of},
};

/// The largest reply of the service.
const REPLY_BYTES: usize = 10 << 20;
/// Replies in memory at once at most.
const REPLIES_MAX: usize = 64;

/// A readable stream.
pub(super) struct KinesisSource {
    options: KinesisOptions,
    api: OnceCell<Arc<dyn StreamApi>>,
    hash_keys: HashKeys,
    quotas: Quotas,
}

/// The hash keys each shard takes, as far as they are known. A stream has at most some thousands of shards.
#[derive(Debug, Clone, Default)]
pub(super) struct HashKeys(Arc<Mutex<BTreeMap<String, (u128, u128)>>>);

impl HashKeys {
    pub(super) fn of(&self, split: &SplitId) -> Option<(u128, u128)> {
        self.0.lock().get(&*split.0).copied()
    }

    pub(super) fn learn(&self, shards: &[Shard]) {
        let known = shards.iter().filter_map(|shard| Some((shard.id.clone(), shard.hash_keys?)));
        self.0.lock().extend(known);
    }
}

impl KinesisSource {
    pub(super) fn new(table: &TableSpec, quotas: Quotas) -> Result<Self> {
        let options = KinesisOptions::parse(table)?;
        Ok(Self { options, api: OnceCell::new(), hash_keys: HashKeys::default(), quotas })
    }

    #[cfg(test)]
    pub(super) fn with_api(table: &TableSpec, api: Arc<dyn StreamApi>) -> Result<Self> {
        Ok(Self { api: OnceCell::new_with(Some(api)), ..Self::new(table, Quotas::default())? })
    }

    async fn api(&self, clock: &Arc<dyn Clock>) -> Result<Arc<dyn StreamApi>> {
        let connect = || async {
            let stream = SdkStream::connect(&self.options, Arc::clone(clock)).await?.for_reading(&self.options).await?;
            Ok(Arc::new(stream) as Arc<dyn StreamApi>)
        };
        self.api.get_or_try_init(connect).await.map(Arc::clone)
    }
}

impl fmt::Debug for KinesisSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KinesisSource").field("stream", &self.options.stream).finish_non_exhaustive()
    }
}

impl fmt::Display for KinesisSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kinesis stream {}", self.options.stream.text())
    }
}

#[async_trait]
impl Source for KinesisSource {
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

    fn discovery_interval(&self) -> Option<Duration> {
        self.options.discovery
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

    async fn splits(&self, job: &JobContext) -> Result<Vec<Split>> {
        let shards = self.api(&job.clock).await?.shards().await?;
        self.hash_keys.learn(&shards);
        Ok(shards.iter().map(split_of).collect())
    }

    /// A shard's name says nothing of its stream.
    fn keeps(&self, _split: &SplitId, origin: &str) -> bool {
        let name = |text: &str| text.rsplit(['/', ' ']).next().map(str::to_owned);
        origin.is_empty() || name(origin) == name(&self.to_string())
    }

    async fn open(&self, job: &JobContext, request: OpenRequest) -> Result<Box<dyn SplitReader>> {
        let share = job.memory.limit() / 8 / request.tasks.max(1);
        let mut memory = job.memory.buffer(share.min(REPLIES_MAX * REPLY_BYTES), REPLY_BYTES);
        let replies = (memory.bytes() / REPLY_BYTES).clamp(1, REPLIES_MAX);
        memory.resize(replies * REPLY_BYTES);
        let shared = Shared {
            api: self.api(&job.clock).await?,
            options: self.options.clone(),
            clock: Arc::clone(&job.clock),
            metadata: request.metadata,
            bound: request.bound,
            started_ms: job.clock.now().0,
            hash_keys: self.hash_keys.clone(),
            replies: Semaphore::new(replies),
            _memory: memory,
            quotas: self.quotas.clone(),
        };
        Ok(Box::new(KinesisReader::new(Arc::new(shared), request.splits)))
    }

    async fn acknowledge(&self, _job: &JobContext, _split: &SplitId, _up_to: &Offset) -> Result<()> {
        Ok(())
    }
}
