//! The calls of Firehose and Kinesis that producers make, with the limits and errors of the services.
//!
//! A batch for which there is no room is refused as a whole, so that no answer has failed records: SDKs send a refused call
//! again by themselves, but leave the failed records of an answered one to their callers, many of whom do not look.
//!
//! Invariant: a call that breaks a limit stores nothing; SDKs do not check the limits, so they are checked here.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hyper::{StatusCode, http::request::Parts};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{api::store, auth, listener::Endpoint, log::Refused, record::record_id, reply::ServiceError};

/// Records of one call.
const CALL_RECORDS: usize = 500;
/// Bytes of a Firehose record.
const FIREHOSE_RECORD: usize = 1_024_000;
/// Bytes of a Firehose call.
const FIREHOSE_CALL: usize = 4 << 20;
/// Bytes of a Kinesis record, key included.
const KINESIS_RECORD: usize = 1 << 20;
/// Bytes of a Kinesis call.
const KINESIS_CALL: usize = 10 << 20;
/// Streams that are listed at once unless the caller says how many.
const STREAMS_LISTED: u64 = 10;
/// Characters of a partition key.
const KEY_CHARACTERS: usize = 256;
/// Digits of a hash key.
const HASH_KEY_DIGITS: usize = 39;
/// The region of streams for callers who name none.
const REGION_DEFAULT: &str = "us-east-1";

/// Whose API a call is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Firehose,
    Kinesis,
}

impl Service {
    /// Service and operation of a target.
    pub(super) fn of_target(target: &str) -> Result<(Self, &str), ServiceError> {
        match target.split_once('.') {
            Some(("Firehose_20150804", operation)) => Ok((Self::Firehose, operation)),
            Some(("Kinesis_20131202", operation)) => Ok((Self::Kinesis, operation)),
            _ => Err(ServiceError::of_caller("UnknownOperationException", format!("unknown target {target}"))),
        }
    }

    /// What makes a client try again later.
    pub(super) fn slow_down(self) -> ServiceError {
        match self {
            Self::Firehose => ServiceError {
                status: StatusCode::SERVICE_UNAVAILABLE,
                code: "ServiceUnavailableException",
                message: "Slow down.".to_owned(),
            },
            Self::Kinesis => {
                ServiceError::of_caller("ProvisionedThroughputExceededException", "Rate exceeded: the buffer is full.")
            }
        }
    }

    fn refusal(self, refused: Refused) -> ServiceError {
        match (self, refused) {
            (_, Refused::Full) => self.slow_down(),
            (Self::Firehose, Refused::Failed(message)) => {
                ServiceError { status: StatusCode::SERVICE_UNAVAILABLE, code: "ServiceUnavailableException", message }
            }
            (Self::Kinesis, Refused::Failed(message)) => {
                ServiceError { status: StatusCode::INTERNAL_SERVER_ERROR, code: "InternalFailure", message }
            }
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FirehoseRecord {
    data: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FirehosePut {
    delivery_stream_name: String,
    #[serde(default)]
    record: Option<FirehoseRecord>,
    #[serde(default)]
    records: Option<Vec<FirehoseRecord>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KinesisRecord {
    data: String,
    partition_key: String,
    #[serde(default)]
    explicit_hash_key: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KinesisPut {
    #[serde(default)]
    stream_name: Option<String>,
    #[serde(default, rename = "StreamARN")]
    stream_arn: Option<String>,
    #[serde(default)]
    records: Option<Vec<KinesisRecord>>,
    #[serde(default)]
    data: Option<String>,
    #[serde(default)]
    partition_key: Option<String>,
    #[serde(default)]
    explicit_hash_key: Option<String>,
}

/// The names of streams in order, from behind the one that is named, as many as are asked for.
fn listed<'a>(streams: impl Iterator<Item = &'a str>, asked: &Value) -> Result<Value, ServiceError> {
    let limit = match &asked["Limit"] {
        Value::Null => STREAMS_LISTED,
        limit => limit
            .as_u64()
            .filter(|limit| (1..=10_000).contains(limit))
            .ok_or_else(|| invalid("limit", "Member must have value between 1 and 10000"))?,
    };
    let behind = asked["ExclusiveStartDeliveryStreamName"].as_str().unwrap_or_default();
    // All streams here take records as they are put; none reads a Kinesis stream.
    let is_meant = asked["DeliveryStreamType"].as_str().is_none_or(|kind| kind == "DirectPut");
    let mut names: Vec<&str> = streams.filter(|name| is_meant && *name > behind).collect();
    names.sort_unstable();
    let more = names.len() as u64 > limit;
    names.truncate(limit as usize);
    Ok(json!({ "DeliveryStreamNames": names, "HasMoreDeliveryStreams": more }))
}

/// Does what a call asks for, on the tables its sender may use.
pub(super) async fn call(
    service: Service,
    operation: &str,
    endpoints: &[Arc<Endpoint>],
    parts: &Parts,
    body: &Bytes,
) -> Result<Value, ServiceError> {
    match (service, operation) {
        (Service::Firehose, "PutRecord" | "PutRecordBatch") => {
            let put: FirehosePut = parsed(body)?;
            let endpoint = named(endpoints, &put.delivery_stream_name, service)?;
            let (records, is_batch) = match (put.record, put.records, operation) {
                (Some(record), _, "PutRecord") => (vec![record], false),
                (_, Some(records), "PutRecordBatch") => (records, true),
                _ => return Err(invalid("records", "Member must not be null")),
            };
            firehose_put(&endpoint, parts, records, is_batch).await
        }
        (Service::Firehose, "DescribeDeliveryStream") => {
            let asked: Value = parsed(body)?;
            let name = asked["DeliveryStreamName"].as_str().unwrap_or_default();
            let region = auth::region(parts).unwrap_or(REGION_DEFAULT);
            named(endpoints, name, service).map(|_| json!({ "DeliveryStreamDescription": described(name, region) }))
        }
        (Service::Firehose, "ListDeliveryStreams") => {
            listed(endpoints.iter().map(|endpoint| endpoint.options.stream.as_str()), &parsed(body)?)
        }
        (Service::Kinesis, "PutRecord" | "PutRecords") => {
            let put: KinesisPut = parsed(body)?;
            let of_arn = put.stream_arn.as_deref().and_then(|arn| arn.rsplit_once('/')).map(|(_, name)| name);
            let endpoint = named(endpoints, put.stream_name.as_deref().or(of_arn).unwrap_or_default(), service)?;
            let explicit_hash_key = put.explicit_hash_key;
            let record = |(data, partition_key)| KinesisRecord { data, partition_key, explicit_hash_key };
            let single = put.data.zip(put.partition_key).map(record);
            let (records, is_batch) = match (single, put.records, operation) {
                (Some(record), _, "PutRecord") => (vec![record], false),
                (_, Some(records), "PutRecords") => (records, true),
                _ => return Err(invalid("records", "Member must not be null")),
            };
            for (index, record) in records.iter().enumerate() {
                let member = if is_batch { format!("records.{}.member.", index + 1) } else { String::new() };
                hash_key_is_allowed(record.explicit_hash_key.as_deref(), &format!("{member}explicitHashKey"))?;
            }
            let records = records.into_iter().map(|record| Ok((decoded(&record.data)?, record.partition_key)));
            let records = records.collect::<Result<Vec<_>, ServiceError>>()?;
            kinesis_put(&endpoint, parts, records, is_batch).await
        }
        (_, other) => Err(ServiceError::of_caller("UnknownOperationException", format!("unknown operation {other}"))),
    }
}

fn parsed<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, ServiceError> {
    serde_json::from_slice(body).map_err(|error| ServiceError::of_caller("SerializationException", error.to_string()))
}

fn decoded(data: &str) -> Result<Bytes, ServiceError> {
    let bytes = STANDARD.decode(data);
    bytes.map(Bytes::from).map_err(|_| ServiceError::of_caller("SerializationException", "Data is no base64"))
}

fn named(endpoints: &[Arc<Endpoint>], name: &str, service: Service) -> Result<Arc<Endpoint>, ServiceError> {
    let found = endpoints.iter().find(|endpoint| endpoint.options.stream == name).cloned();
    found.ok_or_else(|| {
        let message = match service {
            Service::Firehose => format!("Firehose {name} under account 000000000000 not found."),
            Service::Kinesis => format!("Stream {name} under account 000000000000 not found."),
        };
        ServiceError::of_caller("ResourceNotFoundException", message)
    })
}

fn invalid(member: &str, constraint: &str) -> ServiceError {
    let message =
        format!("1 validation error detected: Value at '{member}' failed to satisfy constraint: {constraint}");
    ServiceError::of_caller("ValidationException", message)
}

fn count_is_allowed(records: usize) -> Result<(), ServiceError> {
    match records {
        0 => Err(invalid("records", "Member must have length greater than or equal to 1")),
        1..=CALL_RECORDS => Ok(()),
        _ => Err(invalid("records", "Member must have length less than or equal to 500")),
    }
}

/// A hash key is a decimal number below 2^128.
fn hash_key_is_allowed(key: Option<&str>, member: &str) -> Result<(), ServiceError> {
    let Some(key) = key else { return Ok(()) };
    let is_plain =
        matches!(key.as_bytes(), [b'0'] | [b'1'..=b'9', ..]) && key.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain || key.len() > HASH_KEY_DIGITS {
        return Err(invalid(member, "Member must satisfy regular expression pattern: 0|([1-9]\\d{0,38})"));
    }
    key.parse::<u128>().map(drop).map_err(|_| {
        let message = "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1].";
        ServiceError::of_caller("InvalidArgumentException", format!("{message} Specified value was {key}"))
    })
}

async fn firehose_put(
    endpoint: &Endpoint,
    parts: &Parts,
    records: Vec<FirehoseRecord>,
    is_batch: bool,
) -> Result<Value, ServiceError> {
    count_is_allowed(records.len())?;
    let mut payloads = Vec::with_capacity(records.len());
    for (index, record) in records.iter().enumerate() {
        let data = decoded(&record.data)?;
        if data.len() > FIREHOSE_RECORD {
            let member = format!("records.{}.member.data", index + 1);
            return Err(invalid(&member, "Member must have length less than or equal to 1024000"));
        }
        payloads.push((data, String::new()));
    }
    if payloads.iter().map(|(data, _)| data.len()).sum::<usize>() > FIREHOSE_CALL {
        return Err(ServiceError::of_caller("InvalidArgumentException", "Records size exceeds 4 MB limit"));
    }
    let count = payloads.len() as u64;
    let first =
        store(endpoint, &parts.headers, payloads).await.map_err(|refused| Service::Firehose.refusal(refused))?;
    if !is_batch {
        return Ok(json!({ "RecordId": record_id(first), "Encrypted": false }));
    }
    let replies: Vec<Value> = (first..first + count).map(|number| json!({ "RecordId": record_id(number) })).collect();
    Ok(json!({ "FailedPutCount": 0, "Encrypted": false, "RequestResponses": replies }))
}

async fn kinesis_put(
    endpoint: &Endpoint,
    parts: &Parts,
    records: Vec<(Bytes, String)>,
    is_batch: bool,
) -> Result<Value, ServiceError> {
    count_is_allowed(records.len())?;
    for (index, (data, key)) in records.iter().enumerate() {
        if !(1..=KEY_CHARACTERS).contains(&key.chars().count()) {
            let member = format!("records.{}.member.partitionKey", index + 1);
            return Err(invalid(&member, "Member must have length between 1 and 256"));
        }
        if data.len() + key.len() > KINESIS_RECORD {
            let member = format!("records.{}.member.data", index + 1);
            return Err(invalid(&member, "Member must have length less than or equal to 1048576"));
        }
    }
    if records.iter().map(|(data, key)| data.len() + key.len()).sum::<usize>() > KINESIS_CALL {
        return Err(ServiceError::of_caller("InvalidArgumentException", "Records size exceeds 10 MB limit"));
    }
    let count = records.len() as u64;
    let first = store(endpoint, &parts.headers, records).await.map_err(|refused| Service::Kinesis.refusal(refused))?;
    let placed = |number| json!({ "SequenceNumber": record_id(number), "ShardId": "shardId-000000000000" });
    if !is_batch {
        return Ok(placed(first));
    }
    Ok(json!({ "FailedRecordCount": 0, "Records": (first..first + count).map(placed).collect::<Vec<Value>>() }))
}

fn described(name: &str, region: &str) -> Value {
    json!({
        "DeliveryStreamName": name,
        "DeliveryStreamARN": format!("arn:aws:firehose:{region}:000000000000:deliverystream/{name}"),
        "DeliveryStreamStatus": "ACTIVE",
        "DeliveryStreamType": "DirectPut",
        "VersionId": "1",
        "Destinations": [],
        "HasMoreDestinations": false,
    })
}

/// Stream of `/streams/<stream>/record` or `/records`, and whether it is the latter.
pub(super) fn gateway_path(path: &str) -> Option<(String, bool)> {
    let (stream, form) = path.strip_prefix("/streams/")?.split_once('/')?;
    let is_batch = match form {
        "record" => false,
        "records" => true,
        _ => return None,
    };
    Some((percent_encoding::percent_decode_str(stream).decode_utf8_lossy().into_owned(), is_batch))
}

/// A record, or a list of them, as an API gateway before Kinesis takes them: data as plain text, in either spelling.
pub(super) async fn gateway(
    endpoint: &Endpoint,
    parts: &Parts,
    body: &Bytes,
    is_batch: bool,
) -> Result<Value, ServiceError> {
    let sent: Value = parsed(body)?;
    let member = |of: &Value, names: [&str; 3]| names.iter().find_map(|name| of.get(*name).cloned());
    let record = |of: &Value| {
        let data = member(of, ["Data", "data", "DATA"]).ok_or_else(|| invalid("data", "Member must not be null"))?;
        let key = member(of, ["PartitionKey", "partition-key", "partitionKey"]).unwrap_or(Value::Null);
        Ok((Bytes::from(text(data)), Some(text(key)).filter(|key| !key.is_empty()).unwrap_or_else(|| "-".to_owned())))
    };
    let records = if is_batch {
        let listed = member(&sent, ["Records", "records", "RECORDS"]);
        let listed =
            listed.as_ref().and_then(Value::as_array).ok_or_else(|| invalid("records", "Member must be a list"))?;
        listed.iter().map(record).collect::<Result<Vec<_>, ServiceError>>()?
    } else {
        vec![record(&sent)?]
    };
    kinesis_put(endpoint, parts, records, is_batch).await
}

/// A text as it is, anything else as JSON.
fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_listed_in_order_a_page_at_a_time() {
        let list = |asked: Value| listed(["b", "a", "c"].into_iter(), &asked);
        let page = |names: &[&str], more| json!({ "DeliveryStreamNames": names, "HasMoreDeliveryStreams": more });
        assert_eq!(list(json!({})).ok(), Some(page(&["a", "b", "c"], false)));
        assert_eq!(list(json!({ "Limit": 2 })).ok(), Some(page(&["a", "b"], true)));
        let rest = json!({ "Limit": 2, "ExclusiveStartDeliveryStreamName": "b", "DeliveryStreamType": "DirectPut" });
        assert_eq!(list(rest).ok(), Some(page(&["c"], false)));
        assert_eq!(list(json!({ "DeliveryStreamType": "KinesisStreamAsSource" })).ok(), Some(page(&[], false)));
        assert!(list(json!({ "Limit": 0 })).is_err());
    }
    #[test]
    fn a_hash_key_is_a_decimal_number_below_2_to_the_128th() {
        let code = |key: &str| hash_key_is_allowed(Some(key), "explicitHashKey").err().map(|error| error.code);
        let largest = u128::MAX.to_string();
        for key in ["0", "17", largest.as_str()] {
            assert_eq!(code(key), None, "{key}");
        }
        let one_more = format!("{}6", &largest[..38]);
        assert_eq!(code(&one_more), Some("InvalidArgumentException"), "{one_more}");
        for key in ["", "-1", "+1", "007", "1e3", "0x1f", &format!("{largest}0")] {
            assert_eq!(code(key), Some("ValidationException"), "{key}");
        }
    }
}
