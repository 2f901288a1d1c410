//! `'format' = 'dynamodb-cdc'`: change records of a DynamoDB table that another system carries.
//!
//! Both shapes are read: records of DynamoDB Streams as pipes and functions forward them (time in seconds, a sequence
//! number), and those of Kinesis Data Streams for DynamoDB (time with its stated precision, no sequence number). A
//! carrier may repeat and reorder records. So the newest change of each key is remembered, in all readers of the table
//! together, as long as one of them reads: a changelog drops what is older or known, events drop what is known. A job
//! that goes on from its last checkpoint reads again what it had read, which then is news; what is known over restarts
//! is state of the job, which tells changes by the two columns of this format that no table declares.
//!
//! Invariant: at most `KEYS_MAX` keys are remembered; those that changed longest ago are forgotten first.

use std::sync::{Arc, Weak};

use arrow::{array::BooleanArray, compute::filter_record_batch, datatypes::SchemaRef};
use headwater_engine::{
    error::{Error, Result},
    format::{Decoded, Decoder, Encoder, Format, Payloads, RejectedRow},
    message::ChangeBatch,
};
use indexmap::IndexMap;
use parking_lot::Mutex;
use serde_json::Value;

use crate::dynamodb::cdc::{Change, ChangeDecoder, ChangeMode, Event, item_of_json, tagged_json};

/// Keys whose newest change is remembered.
const KEYS_MAX: usize = 1_000_000;

/// The format, with what its decoders have seen; it goes with the last of them.
#[derive(Debug, Clone)]
pub struct DynamoDbCdc {
    mode: ChangeMode,
    seen: Arc<Mutex<Weak<Mutex<Seen>>>>,
}

/// The newest change of each key.
#[derive(Debug, Default)]
struct Seen(IndexMap<String, Order>);

/// What orders two changes of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Order {
    id: String,
    sequence: Option<String>,
    created_us: Option<i64>,
}

impl Order {
    fn of(change: &Change) -> Self {
        Self { id: change.id.clone(), sequence: change.sequence.clone(), created_us: change.created_us }
    }

    /// Whether this is the same change as another, or an earlier one. Sequence numbers are text of many digits.
    fn is_not_after(&self, other: &Self) -> bool {
        if !self.id.is_empty() && self.id == other.id {
            return true;
        }
        match (&self.sequence, &other.sequence) {
            (Some(a), Some(b)) => (a.len(), a) <= (b.len(), b),
            _ => matches!((self.created_us, other.created_us), (Some(a), Some(b)) if a < b),
        }
    }
}

impl Seen {
    /// Whether a change is news in this mode.
    fn is_news(&mut self, mode: ChangeMode, change: &Change) -> bool {
        let key = match mode {
            ChangeMode::Changelog => tagged_json(&change.keys).to_string(),
            ChangeMode::Events if change.id.is_empty() => return true,
            ChangeMode::Events => change.id.clone(),
        };
        let order = Order::of(change);
        if let Some((place, _, known)) = self.0.get_full_mut(&key) {
            if order.is_not_after(known) {
                return false;
            }
            *known = order;
            let last = self.0.len() - 1;
            self.0.swap_indices(place, last);
            return true;
        }
        if self.0.len() >= KEYS_MAX {
            self.0.drain(..KEYS_MAX / 10);
        }
        self.0.insert(key, order);
        true
    }
}

impl DynamoDbCdc {
    /// The format in a mode.
    pub(crate) fn new(mode: ChangeMode) -> Self {
        Self { mode, seen: Arc::default() }
    }
}

impl Format for DynamoDbCdc {
    fn name(&self) -> &'static str {
        "dynamodb-cdc"
    }

    fn decoder(&self, schema: SchemaRef) -> Result<Box<dyn Decoder>> {
        let decoder = ChangeDecoder::new(self.mode, schema, &[])?;
        let mut shared = self.seen.lock();
        let seen = shared.upgrade().unwrap_or_default();
        *shared = Arc::downgrade(&seen);
        Ok(Box::new(CdcDecoder { decoder, mode: self.mode, seen: Some(seen), places: Vec::new() }))
    }

    fn encoder(&self, _: SchemaRef) -> Result<Box<dyn Encoder>> {
        Err(Error::not_supported("writing with 'format' = 'dynamodb-cdc'")
            .with_hint("write rows with 'format' = 'json', or to the table itself with 'connector' = 'dynamodb'"))
    }
}

#[derive(Debug)]
struct CdcDecoder {
    decoder: ChangeDecoder,
    mode: ChangeMode,
    /// What is known of the changes; without it all are news, for reading what was read.
    seen: Option<Arc<Mutex<Seen>>>,
    /// For each row of the last batch the number of its change within its payload.
    places: Vec<u32>,
}

impl Decoder for CdcDecoder {
    fn decode(&mut self, payloads: &Payloads) -> Result<Decoded> {
        let (mut changes, mut payload_of, mut places, mut rejected) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for payload in 0..payloads.len() {
            match read_all(payloads.payload(payload)) {
                Ok(read) => {
                    payload_of.extend(std::iter::repeat_n(payload as u32, read.len()));
                    places.extend(0..read.len() as u32);
                    changes.extend(read);
                }
                Err(reason) => rejected.push(RejectedRow::whole(payloads, payload, reason)),
            }
        }
        let decoded = self.decoder.decode(&changes)?;
        for (index, reason) in decoded.misfits {
            rejected.push(RejectedRow::whole(payloads, payload_of[index] as usize, reason));
        }
        let mut seen = self.seen.as_ref().map(|seen| seen.lock());
        let mut is_news = |change: &Change| seen.as_mut().is_none_or(|seen| seen.is_news(self.mode, change));
        let news: Vec<bool> = decoded.kept.iter().map(|index| is_news(&changes[*index as usize])).collect();
        drop(seen);
        let kept = decoded.kept.iter().zip(&news).filter(|(_, is_news)| **is_news).map(|(index, _)| *index as usize);
        let (payload_of_row, places) = kept.map(|index| (payload_of[index], places[index])).unzip();
        self.places = places;
        let rows = filtered(decoded.rows, news)?;
        Ok(Decoded { rows, payload_of_row: Some(payload_of_row), rejected, values_nulled: 0 })
    }

    fn places(&self) -> Option<&[u32]> {
        Some(&self.places)
    }

    fn again(&self, schema: SchemaRef) -> Result<Option<Box<dyn Decoder>>> {
        let decoder = ChangeDecoder::new(self.mode, schema, &[])?;
        Ok(Some(Box::new(Self { decoder, mode: self.mode, seen: None, places: Vec::new() })))
    }
}

fn filtered(changes: ChangeBatch, kept: Vec<bool>) -> Result<ChangeBatch> {
    if kept.iter().all(|kept| *kept) {
        return Ok(changes);
    }
    let kinds = changes
        .kinds
        .map(|kinds| kinds.values().iter().zip(&kept).filter(|(_, kept)| **kept).map(|(kind, _)| *kind).collect());
    Ok(ChangeBatch::new(filter_record_batch(&changes.rows, &BooleanArray::from(kept))?, kinds))
}

/// The records of a payload: one object, several one after another, or a list.
fn read_all(payload: &[u8]) -> std::result::Result<Vec<Change>, String> {
    if payload.iter().all(u8::is_ascii_whitespace) {
        return Err("empty".to_owned());
    }
    let mut found = Vec::new();
    for value in serde_json::Deserializer::from_slice(payload).into_iter::<Value>() {
        match value.map_err(|error| format!("no JSON: {error}"))? {
            Value::Array(values) => found.extend(values),
            value => found.push(value),
        }
    }
    found.into_iter().map(read).collect()
}

fn read(mut record: Value) -> std::result::Result<Change, String> {
    let name = record["eventName"].as_str().unwrap_or_default();
    let event = Event::named(name).ok_or_else(|| match name {
        "" => "a change record has an \"eventName\"".to_owned(),
        other => format!("\"eventName\" is \"{other}\", not INSERT, MODIFY or REMOVE"),
    })?;
    let id = record["eventID"].as_str().unwrap_or_default().to_owned();
    let user_identity = record["userIdentity"]["principalId"].as_str().map(ToOwned::to_owned);
    let mut body = record["dynamodb"].take();
    let created_us = created(&body);
    let mut part = |name: &str| match body[name].take() {
        Value::Null => Ok(None),
        value => item_of_json(value).map(Some).ok_or_else(|| format!("\"{name}\" is no item of DynamoDB")),
    };
    let (keys, new_image, old_image) = (part("Keys")?, part("NewImage")?, part("OldImage")?);
    let keys = keys.ok_or_else(|| "a change record has \"dynamodb.Keys\"".to_owned())?;
    let sequence = body["SequenceNumber"].as_str().map(ToOwned::to_owned);
    let size_bytes = body["SizeBytes"].as_i64();
    Ok(Change { id, event, sequence, created_us, keys, new_image, old_image, size_bytes, user_identity, shard: None })
}

/// Microseconds since 1970: seconds as DynamoDB Streams writes them, or in the precision that is stated.
fn created(body: &Value) -> Option<i64> {
    let time = body["ApproximateCreationDateTime"].as_f64()?;
    let factor = match body["ApproximateCreationDateTimePrecision"].as_str() {
        Some("MICROSECOND") => 1.0,
        Some("MILLISECOND") => 1e3,
        // Without a word, milliseconds are told from seconds by their size.
        _ if time > 1e11 => 1e3,
        _ => 1e6,
    };
    Some((time * factor) as i64)
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::AsArray,
        datatypes::{DataType, Field, Float64Type, Schema},
    };
    use headwater_engine::message::RowKind;

    use super::*;

    /// As the sales pipeline's stream has it.
    const STREAMS: &str = r#"{"eventID":"a1","eventName":"INSERT","eventVersion":"1.1","eventSource":"aws:dynamodb",
        "awsRegion":"us-east-1","dynamodb":{"ApproximateCreationDateTime":1705732562,"Keys":{"orderid":{"S":"3714"}},
        "NewImage":{"quantity":{"N":"5"},"orderid":{"S":"3714"},"price":{"N":"190.07"},"product_name":{"S":"Charger"}},
        "SequenceNumber":"300","SizeBytes":60,"StreamViewType":"NEW_IMAGE"},"eventSourceARN":"arn"}"#;

    fn kinesis(id: &str, event: &str, micros: i64, price: &str) -> String {
        let image = format!(r#"{{"orderid":{{"S":"1"}},"price":{{"N":"{price}"}}}}"#);
        format!(
            r#"{{"eventID":"{id}","eventName":"{event}","recordFormat":"application/json","tableName":"OrderTable",
            "dynamodb":{{"ApproximateCreationDateTime":{micros},"ApproximateCreationDateTimePrecision":"MICROSECOND",
            "Keys":{{"orderid":{{"S":"1"}}}},"NewImage":{image}}}}}"#
        )
    }

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("orderid", DataType::Utf8, true),
            Field::new("price", DataType::Float64, true),
        ]))
    }

    fn decode(format: &DynamoDbCdc, parts: &[&str]) -> Decoded {
        let mut end = 0;
        let ends = parts.iter().map(|part| {
            end += part.len();
            end
        });
        let payloads = Payloads { ends: ends.collect(), buffer: parts.concat().into_bytes().into() };
        format.decoder(schema()).unwrap().decode(&payloads).unwrap()
    }

    fn prices(decoded: &Decoded) -> Vec<f64> {
        decoded.rows.rows.column(1).as_primitive::<Float64Type>().values().to_vec()
    }

    #[test]
    fn both_shapes_become_rows_and_the_rest_is_refused() {
        let format = DynamoDbCdc::new(ChangeMode::Changelog);
        let removed = STREAMS.replace("INSERT", "REMOVE").replace("\"300\"", "\"1200\"").replace("a1", "a2");
        let (kinesis, wrong) = (kinesis("k1", "MODIFY", 5, "2.5"), r#"{"eventName":"CHANGED"}"#);
        let decoded = decode(&format, &[STREAMS, &removed, &kinesis, wrong, "{", ""]);
        assert_eq!(prices(&decoded), [190.07, 0.0, 2.5]);
        assert_eq!(decoded.rows.kind(1), RowKind::Delete);
        assert_eq!(decoded.payload_of_row, Some(vec![0, 1, 2]));
        let reasons: Vec<&str> = decoded.rejected.iter().map(|row| row.reason.as_str()).collect();
        assert_eq!(reasons[0], "\"eventName\" is \"CHANGED\", not INSERT, MODIFY or REMOVE");
        assert!(reasons[1].starts_with("no JSON"), "{reasons:?}");
        assert_eq!(reasons[2], "empty");
    }

    #[test]
    fn repeats_and_what_is_older_are_dropped_over_all_decoders() {
        let format = DynamoDbCdc::new(ChangeMode::Changelog);
        let _reads = format.decoder(schema()).unwrap();
        let (first, second) = (kinesis("k1", "INSERT", 10, "1"), kinesis("k2", "MODIFY", 20, "2"));
        assert_eq!(prices(&decode(&format, &[&second])), [2.0]);
        assert_eq!(prices(&decode(&format, &[&first, &second])), Vec::<f64>::new());
        let same_time = kinesis("k3", "MODIFY", 20, "3");
        assert_eq!(prices(&decode(&format, &[&same_time, &same_time])), [3.0]);
    }

    #[test]
    fn an_attempt_that_reads_again_knows_nothing_of_the_one_before() {
        for mode in [ChangeMode::Changelog, ChangeMode::Events] {
            let format = DynamoDbCdc::new(mode);
            let schema = || match mode {
                ChangeMode::Changelog => schema(),
                ChangeMode::Events => Arc::new(Schema::new(vec![Field::new("event_id", DataType::Utf8, true)])),
            };
            let change = kinesis("k1", "INSERT", 10, "1");
            let payloads = || Payloads { ends: vec![change.len()], buffer: change.clone().into_bytes().into() };
            let rows = |decoder: &mut dyn Decoder| decoder.decode(&payloads()).unwrap().rows.num_rows();
            let (mut first, mut other) = (format.decoder(schema()).unwrap(), format.decoder(schema()).unwrap());
            assert_eq!((rows(first.as_mut()), rows(other.as_mut())), (1, 0), "one change for all readers");
            drop((first, other));
            assert_eq!(rows(format.decoder(schema()).unwrap().as_mut()), 1);
        }
    }

    #[test]
    fn what_was_read_is_read_again_whole_and_in_its_places() {
        let format = DynamoDbCdc::new(ChangeMode::Changelog);
        let (first, second) = (kinesis("k1", "INSERT", 10, "1"), kinesis("k2", "MODIFY", 20, "2"));
        let both = format!("[{first},{second}]");
        let payloads = |parts: &[&str]| Payloads {
            ends: parts
                .iter()
                .scan(0, |end, part| {
                    *end += part.len();
                    Some(*end)
                })
                .collect(),
            buffer: parts.concat().into_bytes().into(),
        };
        let mut decoder = format.decoder(schema()).unwrap();
        assert_eq!(prices(&decoder.decode(&payloads(&[&first, &both])).unwrap()), [1.0, 2.0]);
        assert_eq!(decoder.places(), Some([0, 1].as_slice()), "of the list the second change is news");
        let mut again = decoder.again(schema()).unwrap().unwrap();
        for _ in 0..2 {
            assert_eq!(prices(&again.decode(&payloads(&[&both])).unwrap()), [1.0, 2.0]);
            assert_eq!(again.places(), Some([0, 1].as_slice()));
        }
    }

    #[test]
    fn sequence_numbers_are_compared_by_length_first() {
        let of = |sequence: &str| Order { id: String::new(), sequence: Some(sequence.into()), created_us: None };
        assert!(of("99").is_not_after(&of("100")));
        assert!(!of("100").is_not_after(&of("99")));
        assert!(of("100").is_not_after(&of("100")));
    }
}
