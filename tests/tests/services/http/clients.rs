//! The calls of the clients people have, unchanged but for their endpoint: boto3 of both services, and plain requests.
//! Who may call is in `callers`, how much they may send in `limits`.
//!
//! Invariant: what was answered with success arrives once, also when the job is gone right after.

use anyhow::Result;
use headwater_tests::scripts;

use super::Place;

/// `client.py PORT`: the calls of both services; prints how many records were sent.
const SERVICES: &str = r#"
import sys, json
import boto3
from botocore.exceptions import ClientError
client = lambda service, region="us-east-1": boto3.client(
    service, endpoint_url=f"http://127.0.0.1:{sys.argv[1]}", region_name=region,
    aws_access_key_id="any", aws_secret_access_key="any")
firehose, kinesis = client("firehose"), client("kinesis")
line = lambda n: (json.dumps({"n": n}) + "\n").encode()
for start in range(0, 5000, 500):
    reply = firehose.put_record_batch(DeliveryStreamName="s",
                                      Records=[{"Data": line(n)} for n in range(start, start + 500)])
    assert reply["FailedPutCount"] == 0 and len(reply["RequestResponses"]) == 500, reply
assert "RecordId" in firehose.put_record(DeliveryStreamName="s", Record={"Data": line(5000)})
assert firehose.list_delivery_streams()["DeliveryStreamNames"] == ["s"]
described = firehose.describe_delivery_stream(DeliveryStreamName="s")
assert described["DeliveryStreamDescription"]["DeliveryStreamStatus"] == "ACTIVE"
elsewhere = client("firehose", "eu-central-1").describe_delivery_stream(DeliveryStreamName="s")
assert elsewhere["DeliveryStreamDescription"]["DeliveryStreamARN"].startswith("arn:aws:firehose:eu-central-1:"), elsewhere
try:
    kinesis.put_record(StreamName="s", Data=line(0), PartitionKey="k", ExplicitHashKey=str(2 ** 128))
    assert False, "a hash key of 129 bits"
except ClientError as error:
    assert error.response["Error"]["Code"] == "InvalidArgumentException", error
reply = kinesis.put_records(StreamName="s",
                            Records=[{"Data": line(n), "PartitionKey": str(n)} for n in range(5001, 5011)])
assert reply["FailedRecordCount"] == 0 and len(reply["Records"]) == 10, reply
assert "SequenceNumber" in kinesis.put_record(StreamName="s", Data=line(5011), PartitionKey="k")
try:
    firehose.put_record(DeliveryStreamName="none", Record={"Data": b"x"})
    raise AssertionError("there is no such stream")
except ClientError as error:
    assert error.response["Error"]["Code"] == "ResourceNotFoundException", error.response
print(5012)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_boto3_was_told_to_be_taken_arrives_once_over_a_crash() -> Result<()> {
    let place = Place::new()?;
    let mut job = place.listener("").await?;
    let sent = place.client(SERVICES, &[]).await;
    assert!(job.is_running().await?, "the job has ended");
    let sent: u64 = sent?.parse()?;
    drop(job);
    place.listener("").await?.stop().await?;
    scripts::run_once(&place.script(""), &[], &place.path("state")).await?;
    assert_eq!(place.arrived()?, (0..sent).collect::<Vec<u64>>());
    Ok(())
}

/// `client.py PORT`: plain requests and their answers; prints how many records were sent.
const PLAIN: &str = r#"
import sys, json, gzip, urllib.request, urllib.error
url = f"http://127.0.0.1:{sys.argv[1]}"
def post(path, body, headers={}, method="POST"):
    request = urllib.request.Request(url + path, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()

event = lambda n: {"n": n}
assert post("/events", json.dumps(event(0)).encode()) == (200, b'{"accepted":1}')
assert post("/events", json.dumps([event(1), event(2)]).encode())[1] == b'{"accepted":2}'
lines = "\n".join(json.dumps(event(n)) for n in range(3, 8)).encode()
assert post("/events", gzip.compress(lines), {"Content-Encoding": "gzip"})[1] == b'{"accepted":5}'
assert post("/events", b"not json at all", method="PUT")[0] == 200
# Small requests take little of the memory for bodies, whatever they might grow to.
packed = gzip.compress(json.dumps(event(8)).encode())
assert post("/events", packed, {"Content-Encoding": "gzip"})[1] == b'{"accepted":1}'
assert post("/events", b"")[0] == 400
assert post("/events", b"junk", {"Content-Encoding": "gzip"})[0] == 400
assert post("/events", b"{}", {"Content-Encoding": "br"})[0] == 415
assert post("/other", b"{}")[0] == 404
assert post("/events", b"{}", method="DELETE")[0] == 405
# More than is taken is read to its end all the same, so that the client sees the answer.
assert post("/events", b" " * (17 << 20))[0] == 413
assert post("/events", gzip.compress(b" " * (17 << 20)), {"Content-Encoding": "gzip"})[0] == 413
assert post("/other", b" " * (17 << 20))[0] == 404
print(9)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn plain_requests_are_taken_in_every_form_or_told_why_not() -> Result<()> {
    let place = Place::new()?;
    let job = place.listener("").await?;
    let sent: u64 = place.client(PLAIN, &[]).await?.parse()?;
    let summary = job.stop().await?;
    assert_eq!(place.arrived()?, (0..sent).collect::<Vec<u64>>());
    let accounts = summary.ledger.values().flat_map(|account| account.values());
    assert_eq!(accounts.map(|tally| tally.rejected).sum::<u64>(), 1, "the line that is no JSON: {:?}", summary.ledger);
    Ok(())
}
