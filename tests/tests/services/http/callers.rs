//! Who calls: signatures, where keys come from, bearer tokens, TLS.
//!
//! Invariant: what is refused leaves no record.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use headwater_tests::{http, jobs::JobFolder};

use super::{BINARY, Place};

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
    let job = place.listener(", 'auth' = 'sigv4', 'auth.keys' = 'AKID:sekret'").await?;
    place.client(CALLERS, &[]).await?;
    job.stop().await?;
    assert_eq!(place.arrived()?, [1, 2], "what was refused is not there");
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
        place.client(ONE_SIGNED, &[key, secret]).await?;
        let stopped = Command::new("kill").args(["-TERM", &running.id().to_string()]).status()?;
        ensure!(stopped.success(), "the job cannot be told to stop");
        running.finish()?;
        assert_eq!(place.arrived()?, [1], "{key}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_token_opens_the_listener() -> Result<()> {
    let place = Place::new()?;
    let job = place.listener(", 'auth' = 'bearer', 'auth.token' = 'open'").await?;
    for (token, expected) in [("Bearer open", 200), ("Bearer shut", 401), ("open", 401)] {
        let headers = [("Authorization", token)];
        let (status, answer) = http::request(place.port, ("POST", "/events"), &headers, b"{\"n\":1}").await?;
        assert_eq!(status, expected, "{token}: {answer}");
    }
    job.stop().await?;
    assert_eq!(place.arrived()?, [1]);
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
    let job = place.listener(&options).await?;
    let said = place.client(OVER_TLS, &[&cert.display().to_string()]).await?;
    assert!(said.starts_with("SSLError\n") && said.lines().count() == 2, "a stranger and plain HTTP fail: {said}");
    job.stop().await?;
    assert_eq!(place.arrived()?, (0..500).collect::<Vec<_>>());
    Ok(())
}
