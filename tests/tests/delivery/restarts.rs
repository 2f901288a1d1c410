//! Records that come again, attempts that fail and jobs that are killed: each record is delivered once.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use anyhow::Result;
use async_trait::async_trait;
use axum::body::Bytes;
use headwater_engine::{
    checkpoint::store::{CheckpointStore, Created, LocalStore},
    error::{Error, ErrorKind},
};
use headwater_sql::generate::{Dataset, DatasetFormat, Options, generate};
use headwater_tests::{
    http::{listening, post},
    scripts::{self, Until},
    services::free_port,
};

use crate::{errors, parsed};

const CHANGES: &str = "
    CREATE TABLE changes (event_name VARCHAR, new_image ROW<n BIGINT>)
    WITH ('connector' = 'http', 'listen' = '127.0.0.1:${port}', 'format' = 'dynamodb-cdc',
          'dynamodb-cdc.mode' = 'events');
    CREATE TABLE kept (event_name VARCHAR, share BIGINT)
    WITH ('connector' = 'filesystem', 'path' = '${out}', 'format' = 'json', 'sink.prefix' = 'rows/!{timestamp:yyyy}/',
          'sink.error-prefix' = 'errors/!{firehose:error-output-type}/', 'sink.backup-prefix' = 'backup/');
    INSERT INTO kept SELECT event_name, 12 / new_image.n FROM changes WHERE event_name <> 'REMOVE';";

/// A change record as Kinesis Data Streams for DynamoDB has it: with a name and without a sequence number.
fn change(id: &str, event: &str, n: u32) -> String {
    format!(
        r#"{{"eventID":"{id}","eventName":"{event}","dynamodb":{{"ApproximateCreationDateTime":{n},"Keys":{{"k":{{"S":"a"}}}},"NewImage":{{"n":{{"N":"{n}"}}}}}}}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_comes_again_after_a_restart_is_not_delivered_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (state, out) = (folder.path().join("state"), folder.path().join("out"));
    let (port, out_text) = (free_port()?, out.to_string_lossy().into_owned());
    let port_text = port.to_string();
    let parameters = [("port", port_text.as_str()), ("out", out_text.as_str())];
    let (one, two, three) = (change("e1", "INSERT", 1), change("e2", "MODIFY", 2), change("e3", "MODIFY", 3));
    let (failing, removed) = (change("e4", "MODIFY", 0), change("e5", "REMOVE", 4));
    for sent in [vec![&one, &one, &two, &failing], vec![&two, &one, &three, &removed]] {
        let mut job = scripts::start(CHANGES, &parameters, &state, Until::Stopped).await?;
        listening(&mut job, port).await?;
        for record in &sent {
            post(port, "/changes", record).await?;
        }
        job.stop().await?;
    }
    let rows: Vec<String> = parsed(&out.join("rows"))?.iter().map(|row| row["share"].to_string()).collect();
    assert_eq!(rows, ["12", "4", "6"]);
    assert_eq!(errors(&out, "processing-failed")?, [(failing, "Expression.Failed".to_owned())]);
    assert_eq!(scripts::lines(&out.join("backup"))?.len(), 8, "the backup has every record as it came");
    Ok(())
}

/// A store that refuses every write while it is told to.
#[derive(Debug)]
struct Breaking {
    store: LocalStore,
    is_broken: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
}

impl fmt::Display for Breaking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store that breaks")
    }
}

impl Breaking {
    fn check(&self) -> headwater_engine::error::Result<()> {
        if !self.is_broken.load(SeqCst) {
            return Ok(());
        }
        self.refused.fetch_add(1, SeqCst);
        Err(Error::new(ErrorKind::Conflict, "OUTAGE", "nothing is written now"))
    }
}

#[async_trait]
impl CheckpointStore for Breaking {
    async fn create(&self, path: &str, bytes: Bytes) -> headwater_engine::error::Result<Created> {
        self.check()?;
        self.store.create(path, bytes).await
    }

    async fn put(&self, path: &str, bytes: Bytes) -> headwater_engine::error::Result<()> {
        self.check()?;
        self.store.put(path, bytes).await
    }

    async fn get(&self, path: &str) -> headwater_engine::error::Result<Option<Bytes>> {
        self.store.get(path).await
    }

    async fn folders(&self) -> headwater_engine::error::Result<Vec<String>> {
        self.store.folders().await
    }

    async fn list(&self, prefix: &str) -> headwater_engine::error::Result<Vec<String>> {
        self.store.list(prefix).await
    }

    async fn delete(&self, path: &str) -> headwater_engine::error::Result<()> {
        self.store.delete(path).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_were_read_before_an_attempt_failed_are_read_and_delivered_after_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (state, out) = (folder.path().join("state"), folder.path().join("out"));
    let (port, out_text) = (free_port()?, out.to_string_lossy().into_owned());
    let port_text = port.to_string();
    let parameters = [("port", port_text.as_str()), ("out", out_text.as_str())];
    let (is_broken, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let store = LocalStore::new(state.clone());
    let store = Arc::new(Breaking { store, is_broken: Arc::clone(&is_broken), refused: Arc::clone(&refused) });
    let mut job = scripts::start_on(store, CHANGES, &parameters, (&state, Until::Stopped)).await?;
    listening(&mut job, port).await?;
    post(port, "/changes", &change("e1", "INSERT", 1)).await?;
    is_broken.store(true, SeqCst);
    post(port, "/changes", &change("e2", "INSERT", 2)).await?;
    let begun = std::time::Instant::now();
    while refused.load(SeqCst) < 2 {
        anyhow::ensure!(job.is_running().await?, "the job has ended");
        anyhow::ensure!(begun.elapsed().as_secs() < 60, "no attempt fails");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    is_broken.store(false, SeqCst);
    listening(&mut job, port).await?;
    post(port, "/changes", &change("e3", "INSERT", 3)).await?;
    job.stop().await?;
    let rows: Vec<String> = parsed(&out.join("rows"))?.iter().map(|row| row["share"].to_string()).collect();
    assert_eq!(rows, ["12", "4", "6"]);
    Ok(())
}

/// Whether a file below a folder has bytes.
fn has_bytes(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| match path.is_dir() {
        true => has_bytes(&path),
        false => path.metadata().is_ok_and(|file| file.len() > 0),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_pipeline_as_one_job_loses_nothing_over_a_crash_and_restarts() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (state, lake) = (folder.path().join("state"), folder.path().join("lake"));
    generate(&Options {
        dataset: Dataset::Crimes,
        rows: Some(300),
        seed: 3,
        format: Some(DatasetFormat::Stream),
        target: lake.join("crimes_lines"),
    })?;
    let files = ["embedded", "tables", "send", "decode"].map(|name| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../queries/crimes/{name}.sql")))
    });
    let script = files.into_iter().collect::<std::io::Result<String>>()?;
    let lake_text = lake.to_string_lossy().into_owned();
    let parameters = [("lake", lake_text.as_str())];
    let mut job = scripts::start(&script, &parameters, &state, Until::Stopped).await?;
    let begun = std::time::Instant::now();
    while !has_bytes(&lake.join(".streams")) {
        anyhow::ensure!(job.is_running().await?, "the job has ended");
        anyhow::ensure!(begun.elapsed().as_secs() < 60, "nothing is put on the stream");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // The files are taken; what they hold is on the stream and nowhere else.
    drop(job);
    for _ in 0..2 {
        scripts::run_once(&script, &parameters, &state).await?;
    }
    let mut sent = scripts::lines(&lake.join("crimes_lines"))?;
    let mut kept = scripts::lines(&lake.join("crimes_backup"))?;
    sent.sort();
    kept.sort();
    assert_eq!(kept, sent, "every line once");
    assert_eq!(scripts::lines(&lake.join("crimes_raw"))?.len(), 300);
    Ok(())
}
