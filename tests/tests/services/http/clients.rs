//! The HTTP listener with the clients people have: boto3 against its Firehose and Kinesis calls, and plain requests.

use std::path::Path;

use anyhow::Result;
use headwater_tests::{
    http::listening,
    scripts::{self, Until},
    services::free_port,
};

use super::{numbers, python};

const TABLES: &str = "
    CREATE TABLE events (n BIGINT, name VARCHAR, \"partition-key\" VARCHAR METADATA VIRTUAL)
    WITH ('connector' = 'http', 'listen' = '127.0.0.1:${port}', 'stream' = 'events_stream_json', 'path' = '/events',
          'auth' = '${auth}', 'auth.keys' = 'AKID:sekret', 'auth.token' = 'token', 'format' = 'json');
    CREATE TABLE kept (n BIGINT, name VARCHAR, key VARCHAR)
    WITH ('connector' = 'filesystem', 'path' = '${out}', 'format' = 'json');
    INSERT INTO kept SELECT n, name, \"partition-key\" FROM events;";

const CLIENT: &str = r#"
import sys, json, gzip, urllib.request, urllib.error
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

port, secret = sys.argv[1], sys.argv[2]
url = f"http://127.0.0.1:{port}"
def client(service, secret=secret):
    return boto3.client(service, endpoint_url=url, region_name="us-east-1", aws_access_key_id="AKID",
                        aws_secret_access_key=secret, config=Config(retries={"max_attempts": 1}))
firehose, kinesis = client("firehose"), client("kinesis")
line = lambda n: (json.dumps({"n": n, "name": "batch"}) + "\n").encode()

sent = 0
for start in range(0, 5000, 500):
    reply = firehose.put_record_batch(DeliveryStreamName="events_stream_json",
                                      Records=[{"Data": line(n)} for n in range(start, start + 500)])
    assert reply["FailedPutCount"] == 0 and len(reply["RequestResponses"]) == 500, reply
    sent += 500
assert "RecordId" in firehose.put_record(DeliveryStreamName="events_stream_json", Record={"Data": line(5000)})
assert firehose.list_delivery_streams()["DeliveryStreamNames"] == ["events_stream_json"]
described = firehose.describe_delivery_stream(DeliveryStreamName="events_stream_json")
assert described["DeliveryStreamDescription"]["DeliveryStreamStatus"] == "ACTIVE"
reply = kinesis.put_records(StreamName="events_stream_json",
                            Records=[{"Data": line(n), "PartitionKey": str(n)} for n in range(5001, 5011)])
assert reply["FailedRecordCount"] == 0 and len(reply["Records"]) == 10, reply
assert "SequenceNumber" in kinesis.put_record(StreamName="events_stream_json", Data=line(5011), PartitionKey="k")
sent += 12

def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, (code, error.response)
        return
    raise AssertionError(f"{code} expected")

batch = firehose.put_record_batch
name = "events_stream_json"
refused("ValidationException", batch, DeliveryStreamName=name, Records=[{"Data": b"x"}] * 501)
refused("ValidationException", batch, DeliveryStreamName=name, Records=[{"Data": b"x" * 1024001}])
refused("InvalidArgumentException", batch, DeliveryStreamName=name,
        Records=[{"Data": b"x" * 1000000}] * 4 + [{"Data": b"x" * (4 * 1048576 - 4000000 + 1)}])
refused("ResourceNotFoundException", batch, DeliveryStreamName="none", Records=[{"Data": b"x"}])
if secret == "sekret":
    refused("InvalidSignatureException", client("firehose", "other").put_record, DeliveryStreamName=name,
            Record={"Data": b"x"})

def post(path, body, headers={}, method="POST"):
    request = urllib.request.Request(url + path, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()

if secret != "sekret":
    event = lambda n: {"n": n, "name": "event"}
    assert post("/events", json.dumps(event(5012)).encode()) == (200, b'{"accepted":1}')
    assert post("/events", json.dumps([event(5013), event(5014)]).encode())[1] == b'{"accepted":2}'
    lines = "\n".join(json.dumps(event(n)) for n in range(5015, 5020)).encode()
    assert post("/events", gzip.compress(lines), {"Content-Encoding": "gzip"})[1] == b'{"accepted":5}'
    gateway = json.dumps({"Data": json.dumps(event(5020)), "PartitionKey": 1}).encode()
    assert post("/streams/events_stream_json/record", gateway, method="PUT")[0] == 200
    assert post("/events", b"not json at all")[0] == 200
    empty = post("/events", b"")
    assert empty[0] == 400, empty
    assert post("/events", b"junk", {"Content-Encoding": "gzip"})[0] == 400
    assert post("/other", b"{}")[0] == 404
    assert post("/events", b"{}", method="DELETE")[0] == 405
    # More than is taken is read to its end all the same, so that the client sees the answer.
    assert post("/events", b" " * (17 << 20))[0] == 413
    assert post("/other", b" " * (17 << 20))[0] == 404
    sent += 10
print(sent)
"#;

fn parameters<'p>(port: &'p str, out: &'p str, auth: &'p str) -> [(&'p str, &'p str); 3] {
    [("port", port), ("out", out), ("auth", auth)]
}

async fn boto3(folder: &Path, port: u16, secret: &str) -> Result<u64> {
    Ok(python(folder, CLIENT, &[&port.to_string(), secret]).await?.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_arrives_once_over_a_crash() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (state, out) = (folder.path().join("state"), folder.path().join("out"));
    std::fs::create_dir_all(&out)?;
    let (port, out_text) = (free_port()?, out.to_string_lossy().into_owned());
    let port_text = port.to_string();
    let parameters = parameters(&port_text, &out_text, "none");
    let mut job = scripts::start(TABLES, &parameters, &state, Until::Stopped).await?;
    listening(&mut job, port).await?;
    let sent = boto3(folder.path(), port, "any").await;
    assert!(job.is_running().await?, "the job has ended");
    assert_eq!(sent?, 5022);
    drop(job);
    let mut again = scripts::start(TABLES, &parameters, &state, Until::Stopped).await?;
    listening(&mut again, port).await?;
    again.stop().await?;
    let summary = scripts::run_once(TABLES, &parameters, &state).await?;
    assert_eq!(numbers(&out)?, (0..5021).collect::<Vec<u64>>());
    let accounts = summary.ledger.values().flat_map(|account| account.values());
    assert_eq!(accounts.map(|tally| tally.rejected).sum::<u64>(), 1, "the line that is no JSON: {:?}", summary.ledger);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_of_boto3_are_checked() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (state, out) = (folder.path().join("state"), folder.path().join("out"));
    std::fs::create_dir_all(&out)?;
    let (port, out_text) = (free_port()?, out.to_string_lossy().into_owned());
    let port_text = port.to_string();
    let parameters = parameters(&port_text, &out_text, "sigv4");
    let mut job = scripts::start(TABLES, &parameters, &state, Until::Stopped).await?;
    listening(&mut job, port).await?;
    assert_eq!(boto3(folder.path(), port, "sekret").await?, 5012);
    job.stop().await?;
    scripts::run_once(TABLES, &parameters, &state).await?;
    assert_eq!(numbers(&out)?, (0..5012).collect::<Vec<u64>>());
    Ok(())
}
