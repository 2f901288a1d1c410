//! The telemetry pipeline as it is deployed: signed requests in, encrypted objects out.
//!
//! Invariant: the files of `queries/` are run as they are; endpoints and credentials come from the environment.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use headwater_tests::{jobs::JobFolder, services::Minio};
use serde_json::Value;

use super::{BINARY, Place, python};

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
        include_str!("../../../../queries/telemetry/aws.sql"),
        include_str!("../../../../queries/telemetry/tables.sql"),
        include_str!("../../../../queries/telemetry/deliver.sql")
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
