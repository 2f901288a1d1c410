//! Sizes at the limits of the services, the forms of a gateway, and throttling.
//!
//! Invariant: a request beyond a limit stores nothing.

use anyhow::Result;

use super::Place;

/// `client.py PORT`: sizes at the limits of the services.
const SIZES: &str = r#"
import sys, json, urllib.request
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
url = f"http://127.0.0.1:{sys.argv[1]}"
options = dict(endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b",
               config=Config(retries={"total_max_attempts": 1}))
firehose, kinesis = boto3.client("firehose", **options), boto3.client("kinesis", **options)
def code(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
sent = 0
def sized(size):
    global sent
    sent += 1
    return {"Data": (json.dumps({"n": sent}) + " " * size)[:size].encode()}
batch = lambda sizes: code(firehose.put_record_batch, DeliveryStreamName="s", Records=[sized(size) for size in sizes])
assert batch([1024000]) is None
assert batch([1024000] * 4 + [4 * 1048576 - 4 * 1024000]) is None
assert batch([1024000] * 4 + [4 * 1048576 - 4 * 1024000 + 1]) == "InvalidArgumentException"; sent -= 5
assert batch([20] * 500) is None
assert batch([20] * 501) == "ValidationException"; sent -= 501
assert batch([1024001]) == "ValidationException"; sent -= 1
put = lambda sizes, key="k": code(kinesis.put_records, StreamName="s",
                                  Records=[{**sized(size), "PartitionKey": key} for size in sizes])
assert put([1048575]) is None
assert put([1048576]) == "ValidationException"; sent -= 1
assert put([20] * 501) == "ValidationException"; sent -= 501
assert put([20], "k" * 257) == "ValidationException"; sent -= 1
print(sent)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn sizes_are_those_of_the_services_to_the_byte() -> Result<()> {
    let place = Place::new()?;
    let job = place.listener("").await?;
    let sent: u64 = place.client(SIZES, &[]).await?.parse()?;
    job.stop().await?;
    assert_eq!(place.arrived()?, (1..=sent).collect::<Vec<_>>());
    Ok(())
}

/// `client.py PORT`: the forms in which an API gateway passes requests on to Kinesis.
const GATEWAY: &str = r#"
import sys, json, urllib.request
url = f"http://127.0.0.1:{sys.argv[1]}"
def gateway(form, body):
    request = urllib.request.Request(f"{url}/streams/s/{form}", data=json.dumps(body).encode(), method="PUT")
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)
data = lambda n: json.dumps({"n": n})
reply = gateway("record", {"Data": data(1), "PartitionKey": 1})
assert "SequenceNumber" in reply and "ShardId" in reply, reply
reply = gateway("records", {"Records": [{"Data": data(n), "PartitionKey": n} for n in (2, 3, 4)]})
assert len(reply["Records"]) == 3 and reply["FailedRecordCount"] == 0, reply
reply = gateway("records", {"records": [{"data": data(5), "partition-key": "x"}]})
assert len(reply["Records"]) == 1, reply
"#;

#[tokio::test(flavor = "multi_thread")]
async fn both_forms_of_an_api_gateway_are_taken() -> Result<()> {
    let place = Place::new()?;
    let job = place.listener("").await?;
    place.client(GATEWAY, &[]).await?;
    job.stop().await?;
    assert_eq!(place.arrived()?, [1, 2, 3, 4, 5]);
    Ok(())
}

/// `client.py PORT CALLS`: sends calls of 500 records with the SDK's own retries; prints how many were sent again.
const RETRYING: &str = r#"
import sys
import boto3
from botocore.config import Config
client = boto3.client("firehose", endpoint_url=f"http://127.0.0.1:{sys.argv[1]}", region_name="us-east-1",
                      aws_access_key_id="a", aws_secret_access_key="b",
                      config=Config(retries={"mode": "standard", "total_max_attempts": 20}))
retries = 0
for call in range(int(sys.argv[2])):
    records = [{"Data": b'{"n":%d}' % n} for n in range(call * 500, call * 500 + 500)]
    reply = client.put_record_batch(DeliveryStreamName="s", Records=records)
    assert reply["FailedPutCount"] == 0, reply
    retries += reply["ResponseMetadata"]["RetryAttempts"]
print(retries)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_buffer_throttles_and_sdks_send_again() -> Result<()> {
    let place = Place::new()?;
    let job = place.listener(", 'buffer.max-size' = '64 kb'").await?;
    let retries: u64 = place.client(RETRYING, &["30"]).await?.parse()?;
    assert!(retries > 0, "nothing was throttled");
    job.stop().await?;
    assert_eq!(place.arrived()?, (0..15_000).collect::<Vec<_>>());
    Ok(())
}
