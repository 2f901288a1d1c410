//! A DynamoDB table as an input of a job that ends: the segments of a scan are its splits.
//!
//! Invariant: a page's resume position is the key its next one begins after, so that a restart repeats no item.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use headwater_engine::{
    connector::{
        Boundedness, JobContext, Offset, OpenRequest, Positions, RejectedRecord, Source, SourceBatch, SourceData,
        SourceEvent, Split, SplitId, SplitReader, SplitStart, StartAt, TableSpec,
    },
    error::{Error, Result},
    format::Decoder,
    message::ChangeBatch,
};

use super::{
    SERVICE,
    attributes::{item_of_json, tagged_json},
    decode::{ItemDecoder, may_refuse},
    options::DynamoOptions,
    pages::{Pages, Part},
    pump::{Events, PumpedReader, ReadSplit},
    size::Item,
};

/// Segments of a scan unless the table says otherwise: fixed, since restarts must find the same ones.
pub(super) const SEGMENTS_DEFAULT: usize = 8;

/// The position behind a segment's last page.
const AT_END: &str = "end";

/// A readable table.
#[derive(Debug)]
pub(super) struct DynamoSource {
    options: DynamoOptions,
}

impl DynamoSource {
    pub(super) fn new(spec: &TableSpec) -> Result<Self> {
        Ok(Self { options: DynamoOptions::parse(spec)? })
    }

    fn segments(&self) -> usize {
        self.options.segments.unwrap_or(SEGMENTS_DEFAULT)
    }
}

impl fmt::Display for DynamoSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dynamodb table {}", self.options.table_name)
    }
}

#[async_trait]
impl Source for DynamoSource {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn may_refuse(&self, data_type: &arrow::datatypes::DataType) -> bool {
        may_refuse(data_type)
    }

    fn decoder(&self, _: arrow::datatypes::SchemaRef) -> Result<Option<Box<dyn Decoder>>> {
        Ok(None)
    }

    async fn splits(&self, _: &JobContext) -> Result<Vec<Split>> {
        let of = self.segments();
        Ok((0..of).map(|index| Split::new(format!("segment-{index}-of-{of}"))).collect())
    }

    async fn open(&self, job: &JobContext, request: OpenRequest) -> Result<Box<dyn SplitReader>> {
        let client = Client::new(&self.options.aws.connect(&[SERVICE]).await?);
        let pages = Pages {
            client,
            table: self.options.table_name.clone(),
            consistent: self.options.consistent_read,
            attributes: Vec::new(),
            clock: Arc::clone(&job.clock),
        };
        let decoder = ItemDecoder::new(Arc::clone(&request.columns))?;
        Ok(Box::new(PumpedReader::new(SegmentReader { pages, decoder }, request.splits)))
    }

    async fn acknowledge(&self, _: &JobContext, _: &SplitId, _: &Offset) -> Result<()> {
        Ok(())
    }
}

/// Reads segments.
#[derive(Debug)]
pub(super) struct SegmentReader {
    pub(super) pages: Pages,
    pub(super) decoder: ItemDecoder,
}

#[async_trait]
impl ReadSplit for SegmentReader {
    async fn read(&self, start: SplitStart, events: &Events) -> Result<()> {
        let part = segment(&start.split.id)?;
        let mut from = match &start.at {
            StartAt::Offset(offset) if &*offset.0 == AT_END => {
                let ended = SourceEvent::Ended { split: start.split.id.clone(), children: Vec::new() };
                let _nobody_listens = events.send(Ok(ended)).await;
                return Ok(());
            }
            StartAt::Offset(offset) => Some(key_of_offset(offset)?),
            StartAt::TableDefault | StartAt::Beginning => None,
        };
        loop {
            let page = self.pages.page(&part, from.as_ref(), None).await?;
            if !page.items.is_empty() {
                let resume_at = match &page.next {
                    Some(key) => Offset::new(tagged_json(key).to_string()),
                    None => Offset::new(AT_END),
                };
                let batch = batch(&self.decoder, &start.split.id, &page.items, resume_at)?;
                if events.send(Ok(SourceEvent::Batch(batch))).await.is_err() {
                    return Ok(());
                }
            }
            from = page.next;
            if from.is_none() {
                let ended = SourceEvent::Ended { split: start.split.id.clone(), children: Vec::new() };
                let _nobody_listens = events.send(Ok(ended)).await;
                return Ok(());
            }
        }
    }
}

/// Rows of items, all inserts.
fn batch(decoder: &ItemDecoder, split: &SplitId, items: &[Item], resume_at: Offset) -> Result<SourceBatch> {
    let decoded = decoder.decode(&items.iter().map(Some).collect::<Vec<_>>())?;
    let rejected = decoded.misfits.into_iter().map(|(index, reason)| RejectedRecord {
        raw: tagged_json(&items[index]).to_string().into(),
        reason,
        position: index.to_string(),
    });
    let positions = Positions::Numbers(decoded.kept.iter().map(|index| i64::from(*index)).collect());
    Ok(SourceBatch {
        split: split.clone(),
        data: SourceData::Rows { rows: ChangeBatch::inserts(decoded.rows), rejected: rejected.collect() },
        resume_at,
        positions,
        arrivals_ms: None,
        lag: None,
    })
}

/// The part that a split `segment-2-of-8` is.
pub(super) fn segment(split: &SplitId) -> Result<Part> {
    let numbers = split.0.strip_prefix("segment-").and_then(|rest| rest.split_once("-of-"));
    let parsed = numbers.and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
    let (index, of) = parsed.ok_or_else(|| Error::internal(format!("\"{split}\" is no segment of a scan")))?;
    Ok(Part::Segment { index, of })
}

fn key_of_offset(offset: &Offset) -> Result<Item> {
    let value = serde_json::from_str(&offset.0).ok();
    value.and_then(item_of_json).ok_or_else(|| Error::internal(format!("offset \"{offset}\" is no key")))
}
