//! `'connector' = 'dynamodb-streams'`: the change stream of a table.
//!
//! ```text
//! streams of the table (one more each time it is enabled) ──> shards, parents first ──> records ──> rows
//! ```
//!
//! The shards without a parent of a stream that was enabled again follow the last shards of the one before.
//!
//! Invariant: a shard's split is named by its stream's label and its id, so that two streams of a table never share one.

mod lineage;
mod options;
mod reader;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client as TableClient;
use aws_sdk_dynamodbstreams::{Client, types::StreamViewType};
use headwater_engine::{
    connector::{
        Bound, Boundedness, ChangelogMode, JobContext, Offset, OpenRequest, Source, Split, SplitId, SplitReader,
        TableSpec,
    },
    error::{Error, Result},
    format::Decoder,
};

use self::{
    lineage::Lineage,
    options::{Startup, StreamOptions},
    reader::ShardReader,
};
use super::{
    SERVICE,
    changes::{ChangeDecoder, ChangeMode},
    decode::{ItemDecoder, may_refuse},
    keys,
    pages::Pages,
    pump::PumpedReader,
    source::{SEGMENTS_DEFAULT, SegmentReader},
};

/// Names of the service in the environment: its own endpoint, else that of the tables.
const SERVICES: [&str; 2] = ["DynamoDB Streams", SERVICE];

/// A readable change stream.
#[derive(Debug)]
pub(super) struct StreamSource {
    options: StreamOptions,
    needs: Needs,
}

/// The images a table's rows are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Needs {
    new: bool,
    old: bool,
}

impl Needs {
    fn of(spec: &TableSpec, mode: ChangeMode) -> Self {
        let has = |name: &str| spec.schema.fields().iter().any(|field| field.name().eq_ignore_ascii_case(name));
        match mode {
            ChangeMode::Changelog => Self { new: true, old: false },
            ChangeMode::Events => Self { new: has("new_image"), old: has("old_image") },
        }
    }

    /// Refuses a stream whose records never hold what is needed.
    fn check(self, stream: &str, view: &StreamViewType) -> Result<()> {
        let (new, old) = match view {
            StreamViewType::NewAndOldImages => (true, true),
            StreamViewType::NewImage => (true, false),
            StreamViewType::OldImage => (false, true),
            StreamViewType::KeysOnly => (false, false),
            _ => return Ok(()),
        };
        let missing = match () {
            () if self.new && !new => "new",
            () if self.old && !old => "old",
            () => return Ok(()),
        };
        let message = format!("the change stream of \"{stream}\" is {}: it has no {missing} images", view.as_str());
        Err(Error::user("NOT_SUPPORTED", message).with_hint(
            "enable the stream with the view type NEW_AND_OLD_IMAGES, or read keys of 'scan.mode' = 'events'",
        ))
    }
}

impl StreamSource {
    pub(super) fn new(spec: &TableSpec) -> Result<Self> {
        let options = StreamOptions::parse(spec)?;
        let needs = Needs::of(spec, options.mode);
        Ok(Self { options, needs })
    }

    async fn client(&self) -> Result<Client> {
        Ok(Client::new(&self.options.aws.connect(&SERVICES).await?))
    }

    /// The table's streams, oldest first.
    async fn streams(&self, client: &Client) -> Result<Vec<String>> {
        if let Some(arn) = &self.options.stream_arn {
            return Ok(vec![arn.clone()]);
        }
        let table = self.options.table_name.as_deref().unwrap_or_default();
        let found = lineage::streams_of(client, table).await?;
        if !found.is_empty() {
            return Ok(found);
        }
        let tables = TableClient::new(&self.options.aws.connect(&[SERVICE]).await?);
        keys::describe(&tables, table).await?;
        Err(Error::user("TABLE_NOT_FOUND", format!("DynamoDB table \"{table}\" has no change stream"))
            .with_hint("enable its stream with the view type NEW_AND_OLD_IMAGES"))
    }
}

impl fmt::Display for StreamSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.options.table_name.as_ref().or(self.options.stream_arn.as_ref());
        write!(f, "dynamodb stream of {}", named.map_or("?", String::as_str))
    }
}

#[async_trait]
impl Source for StreamSource {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Unbounded
    }

    fn changelog(&self) -> ChangelogMode {
        self.options.mode.changelog()
    }

    fn discovery_interval(&self) -> Option<Duration> {
        Some(self.options.discovery)
    }

    fn may_refuse(&self, data_type: &arrow::datatypes::DataType) -> bool {
        may_refuse(data_type)
    }

    fn decoder(&self, _: arrow::datatypes::SchemaRef) -> Result<Option<Box<dyn Decoder>>> {
        Ok(None)
    }

    async fn splits(&self, _: &JobContext) -> Result<Vec<Split>> {
        let client = self.client().await?;
        let mut lineage = Lineage::default();
        let mut view = None;
        for arn in self.streams(&client).await? {
            let described = lineage::described(&client, &arn).await?;
            lineage.add(described.shards);
            view = described.view.or(view);
        }
        if let Some(view) = &view {
            let named = self.options.table_name.as_ref().or(self.options.stream_arn.as_ref());
            self.needs.check(named.map_or("?", String::as_str), view)?;
        }
        let mut splits = lineage.splits();
        if self.options.startup == Startup::Initial {
            let scan: Vec<Split> = (0..SEGMENTS_DEFAULT)
                .map(|index| Split::new(format!("segment-{index}-of-{SEGMENTS_DEFAULT}")))
                .collect();
            for split in &mut splits {
                split.parents.extend(scan.iter().map(|scan| scan.id.clone()));
            }
            splits.splice(0..0, scan);
        }
        Ok(splits)
    }

    async fn open(&self, job: &JobContext, request: OpenRequest) -> Result<Box<dyn SplitReader>> {
        let client = self.client().await?;
        let scan = match (&self.options.startup, &self.options.table_name) {
            (Startup::Initial, Some(table)) => {
                let tables = TableClient::new(&self.options.aws.connect(&[SERVICE]).await?);
                let (clock, table) = (Arc::clone(&job.clock), table.clone());
                let pages = Pages { client: tables, table, consistent: true, attributes: Vec::new(), clock };
                Some(SegmentReader { pages, decoder: ItemDecoder::new(Arc::clone(&request.columns))? })
            }
            _ => None,
        };
        let arns = self.streams(&client).await?;
        let reader = ShardReader {
            client,
            arns,
            decoder: ChangeDecoder::new(self.options.mode, request.columns, &request.metadata)?,
            scan,
            options: self.options.clone(),
            ends_now: request.bound == Bound::EndNow,
            clock: Arc::clone(&job.clock),
        };
        Ok(Box::new(PumpedReader::new(reader, request.splits)))
    }

    async fn acknowledge(&self, _: &JobContext, _: &SplitId, _: &Offset) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_without_the_images_that_are_needed_is_refused_by_name() {
        let changelog = Needs { new: true, old: false };
        let refused = changelog.check("Orders", &StreamViewType::KeysOnly).unwrap_err();
        assert_eq!(refused.message(), "the change stream of \"Orders\" is KEYS_ONLY: it has no new images");
        assert!(changelog.check("Orders", &StreamViewType::OldImage).is_err());
        assert!(changelog.check("Orders", &StreamViewType::NewImage).is_ok());
        let both = Needs { new: true, old: true };
        assert!(both.check("Orders", &StreamViewType::NewImage).is_err());
        assert!(both.check("Orders", &StreamViewType::NewAndOldImages).is_ok());
        assert!(Needs { new: false, old: false }.check("Orders", &StreamViewType::KeysOnly).is_ok());
    }
}
