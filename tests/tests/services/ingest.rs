//! The HTTP listener at its limits: signatures, sizes, TLS, throttling, a process that is killed, a store that hangs.
//!
//! Invariant: what is said here of SDKs is said by boto3 itself, unchanged but for its endpoint.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use headwater_tests::{
    http::{self, listening, post},
    jobs::JobFolder,
    scripts::{self, Until},
    services::{Gate, Minio, free_port, pip_environment},
};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_headwater-under-test");

/// Runs a Python program with boto3; what it printed.
async fn python(folder: &Path, program: &str, arguments: &[&str]) -> Result<String> {
    let python = pip_environment("boto3", &["boto3"])?;
    let script = folder.join(format!("client-{}.py", rand::random::<u32>()));
    std::fs::write(&script, program)?;
    let mut command = Command::new(python);
    command.arg(script).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(said.trim().to_owned())
}

fn numbers(out: &Path) -> Result<Vec<u64>> {
    let number = |line: &String| Ok(serde_json::from_str::<Value>(line)?["n"].as_u64().unwrap_or(u64::MAX));
    let mut numbers = scripts::lines(out)?.iter().map(number).collect::<Result<Vec<u64>>>()?;
    numbers.sort_unstable();
    Ok(numbers)
}

/// Folders of a job and its output.
struct Place {
    folder: tempfile::TempDir,
    port: u16,
}

impl Place {
    fn new() -> Result<Self> {
        let (folder, port) = (tempfile::tempdir()?, free_port()?);
        std::fs::create_dir_all(folder.path().join("out"))?;
        Ok(Self { folder, port })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Waits until another process listens.
    async fn reached(&self) -> Result<()> {
        for _ in 0..1200 {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("nothing listens on {}", self.port)
    }

    /// A script with a listener of these options, and a folder of JSON lines.
    fn script(&self, options: &str) -> String {
        format!(
            "CREATE TABLE events (n BIGINT) WITH ('connector' = 'http', 'listen' = '127.0.0.1:{}', 'stream' = 's',
                                                  'path' = '/events', 'format' = 'json'{options});
             CREATE TABLE kept (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
             INSERT INTO kept SELECT n FROM events;",
            self.port,
            self.path("out").display()
        )
    }
}

/// `client.py PORT`: each way in which a caller can be wrong about who it is.
const CALLERS: &str = r#"
import sys, json, urllib.request, urllib.error, datetime
import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
url = f"http://127.0.0.1:{sys.argv[1]}"
def client(key, secret):
    return boto3.client("firehose", endpoint_url=url, region_name="us-east-1", aws_access_key_id=key,
                        aws_secret_access_key=secret, config=Config(retries={"total_max_attempts": 1}))
def code(call):
    try:
        call()
    except ClientError as error:
        return error.response["Error"]["Code"]
put = lambda key, secret: code(lambda: client(key, secret).put_record(DeliveryStreamName="s", Record={"Data": b'{"n":1}'}))
assert put("AKID", "sekret") is None
assert put("AKID", "other") == "InvalidSignatureException", put("AKID", "other")
assert put("NOBODY", "sekret") == "UnrecognizedClientException"

body = json.dumps({"DeliveryStreamName": "s", "Record": {"Data": "eyJuIjoyfQ=="}}).encode()
plain = {"X-Amz-Target": "Firehose_20150804.PutRecord", "Content-Type": "application/x-amz-json-1.1"}
def send(headers, path="/", body=body):
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data=body, headers=headers)) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
def signed(minutes, target="Firehose_20150804.PutRecord", body=body):
    headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
    request = AWSRequest("POST", url + "/", headers=headers, data=body)
    signer = SigV4Auth(Credentials("AKID", "sekret"), "firehose", "us-east-1")
    at = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=minutes)
    request.context["timestamp"] = at.strftime("%Y%m%dT%H%M%SZ")
    signer._modify_request_before_signing(request)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    signer._inject_signature_to_request(request, signer.signature(text, request))
    return dict(request.headers)
status, reply = send(plain)
assert (status, reply["__type"]) == (400, "MissingAuthenticationTokenException"), (status, reply)
assert send(signed(0))[0] == 200, send(signed(0))
for minutes in (6, -6):
    status, reply = send(signed(minutes))
    assert (status, reply["__type"]) == (400, "InvalidSignatureException"), (minutes, status, reply)
status, reply = send(signed(0, "Firehose_20150804.DeleteEverything"))
assert (status, reply["__type"]) == (400, "UnknownOperationException"), (status, reply)
status, reply = send(signed(0, body=b"{"), body=b"{")
assert (status, reply["__type"]) == (400, "SerializationException"), (status, reply)
assert send({}, "/events", b'{"n":3}')[0] == 401
"#;

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_told_what_is_wrong_with_their_signature() -> Result<()> {
    let place = Place::new()?;
    let script = place.script(", 'auth' = 'sigv4', 'auth.keys' = 'AKID:sekret'");
    let mut job = scripts::start(&script, &[], &place.path("state"), Until::Stopped).await?;
    listening(&mut job, place.port).await?;
    python(place.folder.path(), CALLERS, &[&place.port.to_string()]).await?;
    job.stop().await?;
    assert_eq!(numbers(&place.path("out"))?, [1, 2], "what was refused is not there");
    Ok(())
}

/// `client.py PORT KEY SECRET`: sends a record under this key, and another under a key that nobody knows.
const ONE_SIGNED: &str = r#"
import sys
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
port, key, secret = sys.argv[1:4]
for key, expected in ((key, None), ("NOBODY", "UnrecognizedClientException")):
    client = boto3.client("firehose", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
                          aws_access_key_id=key, aws_secret_access_key=secret,
                          config=Config(retries={"total_max_attempts": 1}))
    try:
        client.put_record(DeliveryStreamName="s", Record={"Data": b'{"n":1}'})
        found = None
    except ClientError as error:
        found = error.response["Error"]["Code"]
    assert found == expected, (key, found)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_from_the_options_from_files_or_from_the_environment() -> Result<()> {
    let secrets = tempfile::tempdir()?;
    let profile = secrets.path().join("credentials");
    std::fs::write(&profile, "[default]\naws_access_key_id = FILEKEY\naws_secret_access_key = of-the-file\n")?;
    let secret = secrets.path().join("secret");
    std::fs::write(&secret, "of-a-secret")?;
    let named = "'auth.access-key-id' = '${env:LISTENER_KEY}', 'auth.secret-access-key' = '${file:SECRET}'";
    let named = format!(", 'auth' = 'sigv4', {}", named.replace("SECRET", &secret.to_string_lossy()));
    let profile = profile.to_string_lossy().into_owned();
    let environment = [("AWS_ACCESS_KEY_ID", "ENVKEY"), ("AWS_SECRET_ACCESS_KEY", "of-the-environment")];
    let cases = [
        (", 'auth' = 'sigv4'", &environment[..], "ENVKEY", "of-the-environment"),
        (", 'auth' = 'sigv4'", &[("AWS_SHARED_CREDENTIALS_FILE", profile.as_str())][..], "FILEKEY", "of-the-file"),
        (named.as_str(), &[("LISTENER_KEY", "NAMED")][..], "NAMED", "of-a-secret"),
    ];
    for (options, variables, key, secret) in cases {
        let place = Place::new()?;
        let mut job = JobFolder::new(BINARY, "keys.sql", &place.script(options), "")?;
        for (name, value) in variables {
            job = job.with_variable(name, value);
        }
        let running = job.start("keys.sql", &[])?;
        place.reached().await.with_context(|| running.log().unwrap_or_default())?;
        python(place.folder.path(), ONE_SIGNED, &[&place.port.to_string(), key, secret]).await?;
        let stopped = Command::new("kill").args(["-TERM", &running.id().to_string()]).status()?;
        ensure!(stopped.success(), "the job cannot be told to stop");
        running.finish()?;
        assert_eq!(numbers(&place.path("out"))?, [1], "{key}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_token_opens_the_listener() -> Result<()> {
    let place = Place::new()?;
    let script = place.script(", 'auth' = 'bearer', 'auth.token' = 'open'");
    let mut job = scripts::start(&script, &[], &place.path("state"), Until::Stopped).await?;
    listening(&mut job, place.port).await?;
    for (token, expected) in [("Bearer open", 200), ("Bearer shut", 401), ("open", 401)] {
        let headers = [("Authorization", token)];
        let (status, answer) = http::request(place.port, ("POST", "/events"), &headers, b"{\"n\":1}").await?;
        assert_eq!(status, expected, "{token}: {answer}");
    }
    job.stop().await?;
    assert_eq!(numbers(&place.path("out"))?, [1]);
    Ok(())
}

/// `client.py PORT`: sizes at the limits of the services, and both forms of an API gateway.
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
def gateway(form, body):
    request = urllib.request.Request(f"{url}/streams/s/{form}", data=json.dumps(body).encode(), method="PUT")
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)
one = lambda: {"Data": sized(20)["Data"].decode(), "PartitionKey": 1}
assert "SequenceNumber" in gateway("record", one())
assert len(gateway("records", {"Records": [one(), one(), one()]})["Records"]) == 3
assert len(gateway("records", {"records": [{"data": sized(20)["Data"].decode(), "partition-key": "x"}]})["Records"]) == 1
print(sent)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn sizes_are_those_of_the_services_to_the_byte() -> Result<()> {
    let place = Place::new()?;
    let script = place.script("");
    let mut job = scripts::start(&script, &[], &place.path("state"), Until::Stopped).await?;
    listening(&mut job, place.port).await?;
    let sent: u64 = python(place.folder.path(), SIZES, &[&place.port.to_string()]).await?.parse()?;
    job.stop().await?;
    assert_eq!(numbers(&place.path("out"))?, (1..=sent).collect::<Vec<_>>());
    Ok(())
}

/// `client.py PORT CERTIFICATE`: boto3 over TLS, and clients that must not get through.
const OVER_TLS: &str = r#"
import sys, ssl, urllib.request
import boto3
from botocore.config import Config
port, certificate = sys.argv[1:3]
options = dict(endpoint_url=f"https://127.0.0.1:{port}", region_name="us-east-1", aws_access_key_id="AKID",
               aws_secret_access_key="sekret", config=Config(retries={"total_max_attempts": 1}))
client = boto3.client("firehose", verify=certificate, **options)
records = [{"Data": b'{"n":%d}' % n} for n in range(500)]
assert client.put_record_batch(DeliveryStreamName="s", Records=records)["FailedPutCount"] == 0
for options in (options, dict(options, endpoint_url=f"http://127.0.0.1:{port}")):
    try:
        boto3.client("firehose", **options).list_delivery_streams()
    except Exception as error:
        print(type(error).__name__)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_with_the_tables_certificate() -> Result<()> {
    let place = Place::new()?;
    let (cert, key) = (place.path("cert.pem"), place.path("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let options = format!(
        ", 'tls.cert' = '{}', 'tls.key' = '{}', 'auth' = 'sigv4', 'auth.keys' = 'AKID:sekret'",
        cert.display(),
        key.display()
    );
    let script = place.script(&options);
    let mut job = scripts::start(&script, &[], &place.path("state"), Until::Stopped).await?;
    listening(&mut job, place.port).await?;
    let arguments = [place.port.to_string(), cert.display().to_string()];
    let said = python(place.folder.path(), OVER_TLS, &[&arguments[0], &arguments[1]]).await?;
    assert!(said.starts_with("SSLError\n") && said.lines().count() == 2, "a stranger and plain HTTP fail: {said}");
    job.stop().await?;
    assert_eq!(numbers(&place.path("out"))?, (0..500).collect::<Vec<_>>());
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
    let script = place.script(", 'buffer.max-size' = '64 kb'");
    let mut job = scripts::start(&script, &[], &place.path("state"), Until::Stopped).await?;
    listening(&mut job, place.port).await?;
    let retries: u64 = python(place.folder.path(), RETRYING, &[&place.port.to_string(), "30"]).await?.parse()?;
    assert!(retries > 0, "nothing was throttled");
    job.stop().await?;
    assert_eq!(numbers(&place.path("out"))?, (0..15_000).collect::<Vec<_>>());
    Ok(())
}

/// Sends lines of ten numbers each, starting at its own, until told to stop; what was answered, and what was not.
async fn load(port: u16, first: u64, done: Arc<AtomicBool>) -> (Vec<u64>, Vec<u64>) {
    let (mut answered, mut open) = (Vec::new(), Vec::new());
    let mut next = first;
    while !done.load(SeqCst) {
        let numbers: Vec<u64> = (next..next + 10).collect();
        let lines: Vec<String> = numbers.iter().map(|n| format!("{{\"n\":{n}}}")).collect();
        match post(port, "/events", &lines.join("\n")).await {
            Ok(()) => answered.extend(numbers),
            Err(_) => {
                open.extend(numbers);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        next += 10;
    }
    (answered, open)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_arrives_once_however_often_the_process_is_killed() -> Result<()> {
    let place = Place::new()?;
    let settings = "\"checkpoint.interval\" = \"300 ms\"\n";
    let job = JobFolder::new(BINARY, "ingest.sql", &place.script(""), settings)?;
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> =
        (0..4).map(|client| tokio::spawn(load(place.port, client * 10_000_000, Arc::clone(&done)))).collect();
    for kill in 0..4 {
        let running = job.start("ingest.sql", &[])?;
        tokio::time::sleep(Duration::from_millis(1500 + kill * 217)).await;
        running.kill()?;
    }
    done.store(true, SeqCst);
    let (mut answered, mut open) = (Vec::new(), Vec::new());
    for client in clients {
        let (of_client, not_of_client) = client.await?;
        answered.extend(of_client);
        open.extend(not_of_client);
    }
    ensure!(answered.len() > 100, "only {} records were answered", answered.len());
    let last = job.start("ingest.sql", &["--once"])?;
    last.finish()?;
    let found = numbers(&place.path("out"))?;
    let mut once = found.clone();
    once.dedup();
    assert_eq!(once.len(), found.len(), "a record arrived twice");
    let lost: Vec<u64> = answered.iter().filter(|n| found.binary_search(n).is_err()).copied().collect();
    assert!(lost.is_empty(), "{} answered records are missing: {:?}", lost.len(), &lost[..lost.len().min(10)]);
    let extra = found.len() - answered.len();
    assert!(extra <= open.len(), "{extra} records arrived that nobody sent");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_stops_neither_the_listener_nor_the_delivery() -> Result<()> {
    let place = Place::new()?;
    let minio = Minio::start()?;
    minio.create_bucket("lake")?;
    let gate = Gate::start(&minio.endpoint).await?;
    let script = format!(
        "CREATE TABLE events (n BIGINT, filler VARCHAR)
         WITH ('connector' = 'http', 'listen' = '127.0.0.1:{}', 'path' = '/events', 'format' = 'json', 'buffer.max-size' = '200 kb');
         CREATE TABLE kept (n BIGINT) WITH ('connector' = 'filesystem', 'path' = 's3://lake/kept/', 'format' = 'json',
             'sink.rolling-policy.rollover-interval' = '1 s',
             's3.endpoint' = '{}', 's3.region' = 'us-east-1', 's3.timeout' = '1 s', 's3.retries' = '1');
         INSERT INTO kept SELECT n FROM events;",
        place.port, gate.endpoint
    );
    let job = JobFolder::new(BINARY, "hangs.sql", &script, "\"checkpoint.interval\" = \"300 ms\"\n")?
        .with_variable("AWS_ACCESS_KEY_ID", &minio.access_key)
        .with_variable("AWS_SECRET_ACCESS_KEY", &minio.secret_key)
        .with_variable("AWS_EC2_METADATA_DISABLED", "true");
    let running = job.start("hangs.sql", &[])?;
    let (mut sent, mut accepted, filler) = (0_u64, Vec::new(), "x".repeat(10_000));
    let mut send = async || {
        let line = format!("{{\"n\":{sent},\"filler\":\"{filler}\"}}");
        sent += 1;
        let answer = http::request(place.port, ("POST", "/events"), &[], line.as_bytes()).await;
        let status = answer.map(|(status, _)| status)?;
        if status == 200 {
            accepted.push(sent - 1);
        }
        Ok::<_, anyhow::Error>(status)
    };
    place.reached().await.with_context(|| running.log().unwrap_or_default())?;
    send().await?;
    gate.shut();
    let mut refused = 0;
    for _ in 0..200 {
        // Every request is answered while the store hangs: first taken, then refused.
        match send().await.context("the listener does not answer")? {
            503 => refused += 1,
            status => ensure!(status == 200, "{status}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(refused > 0, "the buffer has no bound");
    gate.open();
    let mut is_back = false;
    for _ in 0..300 {
        is_back = send().await? == 200;
        if is_back {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ensure!(is_back, "nothing is taken although the store is back: {}", running.log()?);
    let stopped = Command::new("kill").args(["-TERM", &running.id().to_string()]).status()?;
    ensure!(stopped.success(), "the job cannot be told to stop");
    running.finish()?;
    let table = format!(
        "CREATE EXTERNAL TABLE kept_lines (n bigint) STORED AS JSON LOCATION 's3://lake/kept/'
         TBLPROPERTIES ('s3.endpoint' = '{}', 's3.region' = 'us-east-1');",
        minio.endpoint
    );
    let rows = job.query(&format!("{table} SELECT n FROM kept_lines ORDER BY n"))?;
    let found: Vec<u64> = rows.iter().filter_map(|row| row.parse().ok()).collect();
    assert_eq!(found, accepted, "what was accepted arrives once the store is back");
    Ok(())
}

/// `client.py PORT S3 KEY SECRET`: sends to both streams as `telemetry/aws.sql` wants it signed.
const SIGNED: &str = r#"
import sys, json
import boto3
port, s3, key, secret = sys.argv[1:5]
client = boto3.client("firehose", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
                      aws_access_key_id=key, aws_secret_access_key=secret)
event = lambda n: {"name": ["anonymous_visited", "account_created"][n % 2], "tstamp": "2023-06-18 14:27:52.000000",
                   "payload": "{}", "payload_md5": str(n)}
records = [{"Data": (json.dumps(event(n)) + "\n").encode()} for n in range(499)] + [{"Data": b"no event\n"}]
for stream in ("events_stream_json", "events_stream_parquet"):
    assert client.put_record_batch(DeliveryStreamName=stream, Records=records)["FailedPutCount"] == 0
"#;

/// `client.py PORT S3 KEY SECRET`: what the bucket holds, as another client sees it.
const STORED: &str = r#"
import sys, json
import boto3
port, s3, key, secret = sys.argv[1:5]
bucket = boto3.client("s3", endpoint_url=s3, region_name="us-east-1", aws_access_key_id=key, aws_secret_access_key=secret)
keys = [entry["Key"] for entry in bucket.list_objects_v2(Bucket="lake").get("Contents", [])]
for name in keys:
    if not name.startswith("_headwater/"):
        head = bucket.head_object(Bucket="lake", Key=name)
        print(json.dumps({"key": name, "sse": head.get("ServerSideEncryption")}))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_is_delivered_to_s3_with_its_objects_encrypted() -> Result<()> {
    let place = Place::new()?;
    let minio = Minio::start()?;
    minio.create_bucket("lake")?;
    let script = concat!(
        include_str!("../../../queries/telemetry/aws.sql"),
        include_str!("../../../queries/telemetry/deliver.sql")
    );
    let job = JobFolder::new(BINARY, "telemetry.sql", script, "\"checkpoint.interval\" = \"300 ms\"\n")?
        .with("lake", "s3://lake")
        .with("listen", &format!("127.0.0.1:{}", place.port))
        .with_variable("AWS_ENDPOINT_URL_S3", &minio.endpoint)
        .with_variable("AWS_REGION", "us-east-1")
        .with_variable("AWS_ACCESS_KEY_ID", &minio.access_key)
        .with_variable("AWS_SECRET_ACCESS_KEY", &minio.secret_key);
    let running = job.start("telemetry.sql", &[])?;
    place.reached().await.with_context(|| running.log().unwrap_or_default())?;
    let arguments = [&place.port.to_string(), &minio.endpoint, &minio.access_key, &minio.secret_key];
    let arguments = arguments.map(String::as_str);
    python(place.folder.path(), SIGNED, &arguments).await?;
    let stopped = Command::new("kill").args(["-TERM", &running.id().to_string()]).status()?;
    ensure!(stopped.success(), "the job cannot be told to stop");
    running.finish()?;
    let said = python(place.folder.path(), STORED, &arguments).await?;
    let objects = said.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let keys: Vec<&str> = objects.iter().filter_map(|object| object["key"].as_str()).collect();
    for kind in ["json", "parquet"] {
        for name in ["anonymous_visited", "account_created"] {
            let prefix = format!("events_raw/{kind}/name={name}/d=20");
            assert!(keys.iter().any(|key| key.starts_with(&prefix)), "{prefix}: {keys:?}");
        }
        let errors =
            |key: &&str| key.starts_with(&format!("errors/{kind}/d=20")) && key.contains("/format-conversion-failed/");
        assert!(keys.iter().any(errors), "{keys:?}");
    }
    assert!(objects.iter().all(|object| object["sse"] == "AES256"), "{objects:?}");
    Ok(())
}
