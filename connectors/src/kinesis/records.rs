//! Records of one shard as batches: payloads in one buffer, aggregates taken apart, metadata in columns.
//!
//! Invariant: a batch ends between two records of the stream, never inside an aggregate.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray},
    datatypes::{DataType, TimeUnit},
};
use headwater_engine::{
    connector::{MetadataColumn, Positions, SourceBatch, SourceData, SplitId},
    error::{Error, Result},
    format::Payloads,
};

use super::{
    aggregate::{self, SubRecord},
    api::StreamRecord,
    offset::{RecordPosition, ShardOffset},
};

/// A batch is full with so many rows,
const BATCH_ROWS: usize = 16_384;
/// or so many bytes.
const BATCH_BYTES: usize = 2 << 20;

/// What `METADATA FROM` may name.
pub(super) fn metadata_columns() -> Vec<MetadataColumn> {
    let column = |key, data_type| MetadataColumn { key, data_type, writable: false };
    vec![
        column("timestamp", DataType::Timestamp(TimeUnit::Millisecond, None)),
        column("shard-id", DataType::Utf8),
        column("sequence-number", DataType::Utf8),
        column("sub-sequence-number", DataType::Int64),
        column("partition-key", DataType::Utf8),
    ]
}

/// Records gathered for one batch.
#[derive(Debug, Default)]
pub(super) struct Records {
    values: Vec<u8>,
    ends: Vec<usize>,
    positions: Vec<RecordPosition>,
    keys: Vec<String>,
    arrivals_ms: Vec<i64>,
    last: Option<RecordPosition>,
    is_started: bool,
}

impl Records {
    /// Takes a record, or those it aggregates; of these only the ones whose hash key the shard takes: the others were
    /// put here while the shards changed, and their producer has put them again where they belong.
    pub(super) fn push(&mut self, record: &StreamRecord, hash_keys: Option<(u128, u128)>, now_ms: i64) {
        self.is_started = true;
        let arrival_ms = record.arrival_ms.unwrap_or(now_ms);
        let position = |sub_sequence| RecordPosition { sequence: record.sequence.clone(), sub_sequence };
        let Some(subs) = aggregate::sub_records(&record.data) else {
            self.add(&record.data, position(None), record.partition_key.clone(), arrival_ms);
            self.last = Some(position(None));
            return;
        };
        self.last = Some(position((subs.len() as u64).checked_sub(1)));
        let belongs = |sub: &SubRecord| hash_keys.is_none_or(|(first, last)| (first..=last).contains(&sub.hash_key));
        for (index, sub) in subs.into_iter().enumerate() {
            if belongs(&sub) {
                let position = position(Some(index as u64));
                self.add(&record.data[sub.data], position, sub.partition_key, arrival_ms);
            } else {
                tracing::debug!("kinesis: record {}:{index} belongs to another shard", record.sequence);
            }
        }
    }

    fn add(&mut self, data: &[u8], position: RecordPosition, key: String, arrival_ms: i64) {
        self.values.extend_from_slice(data);
        self.ends.push(self.values.len());
        self.positions.push(position);
        self.keys.push(key);
        self.arrivals_ms.push(arrival_ms);
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.is_started
    }

    pub(super) fn is_full(&self) -> bool {
        self.ends.len() >= BATCH_ROWS || self.values.len() >= BATCH_BYTES
    }

    /// The batch; reading goes on after its last record, or after `before` when it has none.
    pub(super) fn into_batch(
        self,
        split: &SplitId,
        metadata: &[(usize, String)],
        before: ShardOffset,
    ) -> Result<(SourceBatch, ShardOffset)> {
        let arrays = metadata.iter().map(|(_, key)| self.metadata(key, split)).collect::<Result<Vec<ArrayRef>>>()?;
        let seen_ms = self.arrivals_ms.last().copied().unwrap_or(before.seen_ms).max(before.seen_ms);
        let after = self.last.or(before.after);
        let resume = ShardOffset { after, seen_ms };
        let batch = SourceBatch {
            split: split.clone(),
            data: SourceData::Payloads {
                payloads: Payloads { buffer: self.values.into(), ends: self.ends },
                metadata: arrays,
            },
            resume_at: resume.to_offset(),
            positions: Positions::Texts(self.positions.iter().map(|position| Some(position.text())).collect()),
            arrivals_ms: Some(self.arrivals_ms),
            lag: None,
        };
        Ok((batch, resume))
    }

    fn metadata(&self, key: &str, split: &SplitId) -> Result<ArrayRef> {
        let sequences = self.positions.iter().map(|position| position.sequence.as_str());
        let subs = self.positions.iter().map(|position| position.sub_sequence.unwrap_or(0) as i64);
        Ok(match key {
            "timestamp" => Arc::new(TimestampMillisecondArray::from(self.arrivals_ms.clone())),
            "shard-id" => Arc::new(StringArray::from(vec![&*split.0; self.ends.len()])),
            "sequence-number" => Arc::new(StringArray::from_iter_values(sequences)),
            "sub-sequence-number" => Arc::new(Int64Array::from_iter_values(subs)),
            "partition-key" => Arc::new(StringArray::from_iter_values(&self.keys)),
            other => return Err(Error::internal(format!("kinesis has no metadata \"{other}\""))),
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    fn record(sequence: &str, data: Vec<u8>) -> StreamRecord {
        StreamRecord {
            sequence: sequence.to_owned(),
            arrival_ms: Some(1000),
            partition_key: "outer".to_owned(),
            data: data.into(),
        }
    }

    #[test]
    fn an_aggregate_is_its_records_and_one_position_to_resume_at() -> Result<()> {
        let inside = aggregate::hash_of("a");
        let data =
            aggregate::tests::aggregate(&[("a", None, b"one"), ("b", Some(inside + 1), b"far"), ("a", None, b"three")]);
        let mut records = Records::default();
        records.push(&record("7", b"plain".to_vec()), Some((inside, inside)), 0);
        records.push(&record("8", data), Some((inside, inside)), 0);
        let wanted = [(0, "partition-key".to_owned()), (1, "sub-sequence-number".to_owned())];
        let start = ShardOffset { after: None, seen_ms: 5 };
        let (batch, resume) = records.into_batch(&SplitId::new("s"), &wanted, start)?;
        let SourceData::Payloads { payloads, metadata } = &batch.data else { panic!("payloads") };
        let all: Vec<&[u8]> = (0..payloads.len()).map(|index| payloads.payload(index)).collect();
        assert_eq!(all, [&b"plain"[..], b"one", b"three"]);
        assert_eq!(metadata[0].as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["outer", "a", "a"]);
        assert_eq!(batch.positions.text(2), "8:2");
        assert_eq!((&*batch.resume_at.0, resume.seen_ms), ("8:2@1000", 1000));
        Ok(())
    }
}
