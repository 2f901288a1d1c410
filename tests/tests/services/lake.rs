//! Lake tables on a real S3 server, by the program as users run it: credentials from the environment, exit codes, messages.
//!
//! Invariant: what is said about the bucket is read back by another client than ours.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use headwater_tests::services::Minio;
use serde_json::Value;

/// How long something may take that happens in another process.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program, an S3 server with a bucket `lake`, and a folder for state.
struct Shell {
    minio: Minio,
    endpoint: String,
    folder: tempfile::TempDir,
}

/// What one run of the program gave.
struct Ran {
    rows: Vec<String>,
    said: String,
    code: Option<i32>,
}

impl Shell {
    fn start() -> Result<Self> {
        let minio = Minio::start()?;
        minio.create_bucket("lake")?;
        let endpoint = minio.endpoint.clone();
        Ok(Self { minio, endpoint, folder: tempfile::tempdir()? })
    }

    fn command(&self, state: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(program()?);
        command
            .arg("--state")
            .arg(self.folder.path().join(state))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.folder.path())
            .env("AWS_ENDPOINT_URL_S3", &self.endpoint)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ACCESS_KEY_ID", &self.minio.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &self.minio.secret_key)
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Runs statements in a state folder of their own and gives what they did.
    fn run_in(&self, state: &str, sql: &str) -> Result<Ran> {
        ran(&self.command(state, &["-c", sql])?.output()?)
    }

    /// The rows that statements give.
    fn rows(&self, sql: &str) -> Result<Vec<String>> {
        let ran = self.run_in("state", sql)?;
        ensure!(ran.code == Some(0), "{sql}: {}", ran.said);
        Ok(ran.rows)
    }

    /// The message of statements that fail.
    fn failure(&self, sql: &str) -> Result<String> {
        let ran = self.run_in("state", sql)?;
        ensure!(ran.code == Some(1), "{sql}: exit code {:?}: {}", ran.code, ran.said);
        ensure!(!ran.said.contains(&self.minio.secret_key), "the secret is in the message");
        Ok(ran.said)
    }

    /// The counters of the last of some statements.
    fn stats(&self, sql: &str) -> Result<Value> {
        let output = self.command("state", &["--stats", "json", "-c", sql])?.output()?;
        let ran = ran(&output)?;
        ensure!(ran.code == Some(0), "{sql}: {}", ran.said);
        let last = ran.said.lines().rev().find(|line| line.starts_with('{')).context("no counters")?;
        Ok(serde_json::from_str(last)?)
    }

    fn begin(&self, sql: &str) -> Result<Child> {
        Ok(self.command("state", &["-c", sql])?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    /// Runs Python with a client of S3 called `s3` and gives what it printed, line by line.
    fn client(&self, code: &str) -> Result<Vec<String>> {
        self.minio.client(code)
    }

    /// The keys of objects below a prefix.
    fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        self.minio.keys("lake", prefix)
    }
}

fn ran(output: &Output) -> Result<Ran> {
    let rows = String::from_utf8(output.stdout.clone())?.lines().skip(1).map(ToOwned::to_owned).collect();
    Ok(Ran { rows, said: String::from_utf8(output.stderr.clone())?, code: output.status.code() })
}

/// The program, built beside the tests.
fn program() -> Result<PathBuf> {
    let tests = std::env::current_exe()?;
    let folder = tests.ancestors().nth(2).context("the tests lie in no build folder")?;
    let program = folder.join("headwater");
    if !program.exists() {
        let built =
            Command::new(env!("CARGO")).args(["build", "-p", "headwater-sql", "--bin", "headwater"]).status()?;
        ensure!(built.success() && program.exists(), "the program cannot be built");
    }
    Ok(program)
}

fn wait_until(what: &str, mut happened: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !happened()? {
        if start.elapsed() > PATIENCE {
            bail!("{what} did not happen");
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok(())
}

const EVENTS: &str = "SELECT n, CAST(n % 7 AS varchar) AS word, n % 3 AS k FROM UNNEST(sequence(1, 3000)) AS s (n)";

#[test]
fn tables_are_written_and_read_on_s3() -> Result<()> {
    let shell = Shell::start()?;
    shell.rows(&format!(
        "CREATE TABLE t WITH (external_location = 's3://lake/t/', partitioned_by = ARRAY['k']) AS {EVENTS};
         INSERT INTO t SELECT n + 3000, word, k FROM t;
         INSERT OVERWRITE t SELECT 1, 'only', 2"
    ))?;
    assert_eq!(
        shell.rows("SELECT k, count(*), min(word) FROM t GROUP BY k ORDER BY k")?,
        ["0,2000,0", "1,2000,0", "2,1,only"]
    );
    assert_eq!(shell.rows("SHOW PARTITIONS t")?, ["k=0", "k=1", "k=2"]);
    shell.rows("UNLOAD (SELECT n, word, k FROM t WHERE k < 2) TO 's3://lake/out/' WITH (format = 'JSON', compression = 'gzip', partitioned_by = ARRAY['k'])")?;
    let keys = shell.keys("out/")?;
    assert!(keys.iter().filter(|key| !key.contains("/_headwater/")).all(|key| key.ends_with(".json.gz")), "{keys:?}");
    let found = shell.rows(
        "CREATE EXTERNAL TABLE back STORED AS JSON LOCATION 's3://lake/out/';
         SELECT k, count(*), sum(n) FROM back GROUP BY k ORDER BY k;
         SELECT count(*) FROM back WHERE \"$path\" LIKE 's3://lake/out/k=1/%'",
    )?;
    assert_eq!(found.last().map(String::as_str), Some("2000"));
    let left = shell.keys("t/_headwater/staging")?;
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(shell.minio.open_uploads("lake")?, 0);
    Ok(())
}

#[test]
fn a_killed_insert_leaves_nothing_and_two_at_once_both_land() -> Result<()> {
    let shell = Shell::start()?;
    shell.rows("CREATE TABLE t WITH (external_location = 's3://lake/t/') AS SELECT CAST(1 AS bigint) AS n")?;
    let mut endless =
        shell.begin("INSERT INTO t SELECT 2 FROM UNNEST(sequence(1, 3000)) AS a (n), UNNEST(sequence(1, 3000)) AS b (n), UNNEST(sequence(1, 3000)) AS c (n)")?;
    wait_until("the insert's begin", || Ok(shell.keys("t/_headwater/")?.iter().any(|key| key.ends_with(".begin"))))?;
    endless.kill()?;
    endless.wait()?;
    assert_eq!(shell.rows("SELECT count(*) FROM t")?, ["1"]);
    let inserts: Vec<Child> = (0..2)
        .map(|_| shell.begin("INSERT INTO t SELECT n FROM UNNEST(sequence(1, 500)) AS s (n)"))
        .collect::<Result<_>>()?;
    for insert in inserts {
        let ran = ran(&insert.wait_with_output()?)?;
        ensure!(ran.code == Some(0), "{}", ran.said);
    }
    assert_eq!(shell.rows("SELECT count(*) FROM t")?, ["1001"]);
    let begun = shell.keys("t/_headwater/")?;
    assert!(!begun.iter().any(|key| key.ends_with(".begin") || key.contains("/staging/")), "{begun:?}");
    Ok(())
}

#[test]
fn of_two_tables_created_in_one_folder_one_wins() -> Result<()> {
    let shell = Shell::start()?;
    let sql =
        "CREATE TABLE t WITH (external_location = 's3://lake/t/') AS SELECT n FROM UNNEST(sequence(1, 100)) AS s (n)";
    let both: Vec<Child> = ["one", "two"]
        .iter()
        .map(|state| Ok(shell.command(state, &["-c", sql])?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?))
        .collect::<Result<_>>()?;
    let ended: Vec<Ran> = both.into_iter().map(|child| ran(&child.wait_with_output()?)).collect::<Result<_>>()?;
    let won = ended.iter().filter(|ran| ran.code == Some(0)).count();
    let lost: Vec<&str> = ended.iter().filter(|ran| ran.code == Some(1)).map(|ran| ran.said.as_str()).collect();
    assert_eq!((won, lost.len()), (1, 1), "{lost:?}");
    assert!(lost[0].contains("HIVE_PATH_ALREADY_EXISTS") || lost[0].contains("TRANSACTION_CONFLICT"), "{}", lost[0]);
    let declare = "CREATE EXTERNAL TABLE all_of_it (n INT) STORED AS PARQUET LOCATION 's3://lake/t/';";
    assert_eq!(shell.rows(&format!("{declare} SELECT count(*) FROM all_of_it"))?, ["100"]);
    // The store itself keeps the promise the protocol is built on.
    let again = shell.client(
        "s3.put_object(Bucket='lake', Key='once', Body=b'1', IfNoneMatch='*')\ntry:\n    \
         s3.put_object(Bucket='lake', Key='once', Body=b'2', IfNoneMatch='*')\n\
         except Exception as error:\n    print(error.response['Error']['Code'])",
    )?;
    assert_eq!(again, ["PreconditionFailed"]);
    Ok(())
}

#[test]
fn a_filter_lists_the_folders_it_needs() -> Result<()> {
    let mut shell = Shell::start()?;
    shell.client(
        "for year in range(2020, 2025):\n    for month in range(1, 13):\n        \
         s3.put_object(Bucket='lake', Key=f'e/year={year}/month={month:02}/a.json', Body=b'{\"x\": 1}\\n')",
    )?;
    shell.rows(
        "CREATE EXTERNAL TABLE e (x INT) PARTITIONED BY (year INT, month INT) STORED AS JSON LOCATION 's3://lake/e/'",
    )?;
    let proxy = Proxy::start(&shell.minio.endpoint)?;
    shell.endpoint = proxy.endpoint.clone();
    let stats = shell.stats("SELECT count(*) FROM e WHERE year = 2023 AND month = 4")?;
    assert_eq!((&stats["files_read"], &stats["partitions_read"]), (&1.into(), &1.into()));
    // The table, the year and the month; and the records of statements, before and after.
    assert_eq!((proxy.listings(), proxy.objects()), (5, 1));
    assert!(stats["bytes_scanned"].as_u64().is_some_and(|bytes| bytes < 10_000), "{stats}");
    // Nothing is remembered that hides a new file.
    shell.client("s3.put_object(Bucket='lake', Key='e/year=2023/month=04/b.json', Body=b'{\"x\": 2}\\n')")?;
    assert_eq!(shell.rows("SELECT count(*) FROM e WHERE year = 2023 AND month = 4")?, ["2"]);
    let twice = "SELECT count(*) FROM e WHERE month = 4; SELECT count(*) FROM e WHERE year = 2023";
    let stats = shell.stats(twice)?;
    assert_eq!(stats["files_total"], 17, "what the first statement saw of other years is known to the second: {stats}");
    // What is known of the folders saves requests: the second statement lists the table in one go.
    let before = proxy.listings();
    assert_eq!(shell.rows("SELECT count(*) FROM e; SELECT count(*) FROM e")?, ["61", "_col0", "61"]);
    assert_eq!(proxy.listings() - before, (1 + 5 + 60 + 2) + (1 + 2));
    Ok(())
}

#[test]
fn errors_of_buckets_say_what_to_do() -> Result<()> {
    let shell = Shell::start()?;
    shell.minio.create_bucket("open")?;
    shell.client(
        "for bucket in ['lake', 'open']:\n    s3.put_object(Bucket=bucket, Key='t/a.json', Body=b'{\"x\": 1}\\n')",
    )?;
    shell.client(
        "s3.put_bucket_policy(Bucket='open', Policy=json.dumps({'Version': '2012-10-17', 'Statement': [{'Effect': 'Allow',\
         'Principal': {'AWS': ['*']}, 'Action': ['s3:GetObject', 's3:ListBucket'],\
         'Resource': ['arn:aws:s3:::open', 'arn:aws:s3:::open/*']}]}))",
    )?;
    let table = |name: &str, bucket: &str| {
        format!("CREATE EXTERNAL TABLE {name} (x INT) STORED AS JSON LOCATION 's3://{bucket}/t/';")
    };
    shell.rows(&format!("{}{}{}", table("shut", "lake"), table("open", "open"), table("missing", "no-such-bucket")))?;

    let missing = shell.failure("SELECT * FROM missing")?;
    assert!(missing.contains("s3://no-such-bucket/t") && missing.contains("does not exist"), "{missing}");
    shell.rows("CREATE EXTERNAL TABLE one_file (x INT) STORED AS JSON LOCATION 's3://lake/t/a.json'")?;
    let one_file = shell.failure("SELECT * FROM one_file")?;
    assert!(one_file.contains("is a file") && one_file.contains("read_json"), "{one_file}");
    assert_eq!(shell.rows("SELECT x FROM read_json('s3://lake/t/a.json')")?, ["1"]);
    assert_eq!(shell.rows("SELECT x FROM read_json('s3://lake/*/*.json')")?, ["1"]);
    assert_eq!(shell.rows("SET 's3.unsigned' = 'true'; SELECT x FROM open")?, ["1"]);
    let shut = shell.failure("SET 's3.unsigned' = 'true'; SELECT * FROM shut")?;
    assert!(
        shut.contains("error[PERMISSION_DENIED]") && shut.contains("s3://lake/t") && shut.contains("hint: "),
        "{shut}"
    );
    let read_only = shell.failure("SET 's3.unsigned' = 'true'; INSERT INTO open SELECT 2")?;
    assert!(read_only.contains("error[PERMISSION_DENIED]"), "{read_only}");
    assert_eq!(shell.client("print(s3.list_objects_v2(Bucket='open')['KeyCount'])")?, ["1"]);

    let output =
        shell.command("state", &["-c", "SELECT * FROM shut"])?.env("AWS_SECRET_ACCESS_KEY", "wrong").output()?;
    let wrong = ran(&output)?.said;
    assert!(wrong.contains("error[PERMISSION_DENIED]") && wrong.contains("did not accept the credentials"), "{wrong}");
    let mut command = shell.command("state", &["-c", "SELECT * FROM shut"])?;
    let none = ran(&command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").output()?)?.said;
    assert!(none.contains("needs AWS credentials and none were found") && none.contains("s3.unsigned"), "{none}");
    Ok(())
}

#[test]
fn what_is_written_is_encrypted_as_asked() -> Result<()> {
    let shell = Shell::start()?;
    let head = |prefix: &str| {
        shell.client(&format!(
            "for found in s3.list_objects_v2(Bucket='lake', Prefix='{prefix}/')['Contents']:\n    \
             if '_headwater' not in found['Key']:\n        \
             print(s3.head_object(Bucket='lake', Key=found['Key']).get('ServerSideEncryption'))"
        ))
    };
    let create =
        |name: &str| format!("CREATE TABLE {name} WITH (external_location = 's3://lake/{name}/') AS SELECT 1 AS n");
    shell.rows(&create("plain"))?;
    shell.rows(&format!("SET 's3.sse' = 'AES256'; {}", create("sse_s3")))?;
    shell.rows(&format!("SET 's3.sse' = 'aws:kms'; SET 's3.sse.kms-key-id' = 'tests'; {}", create("sse_kms")))?;
    assert_eq!(head("plain")?, ["None"]);
    assert_eq!(head("sse_s3")?, ["AES256"]);
    assert_eq!(head("sse_kms")?, ["aws:kms"]);
    assert_eq!(shell.rows("SELECT a.n + b.n FROM sse_s3 a, sse_kms b")?, ["2"]);
    let held: Vec<_> = fs::read_dir(shell.folder.path().join("state"))?.collect::<std::io::Result<_>>()?;
    for entry in held.iter().filter(|entry| entry.path().is_file()) {
        let bytes = fs::read(entry.path())?;
        let secret = shell.minio.secret_key.as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret), "the secret is in {:?}", entry.path());
    }
    Ok(())
}

/// A server between the program and S3 that counts requests; bytes pass as they are.
struct Proxy {
    endpoint: String,
    listings: Arc<AtomicUsize>,
    objects: Arc<AtomicUsize>,
}

impl Proxy {
    fn start(endpoint: &str) -> Result<Self> {
        let upstream = endpoint.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let proxy = Self {
            endpoint: format!("http://{}", listener.local_addr()?),
            listings: Arc::default(),
            objects: Arc::default(),
        };
        let (listings, objects) = (Arc::clone(&proxy.listings), Arc::clone(&proxy.objects));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&upstream) else { break };
                let (Ok(from), Ok(to)) = (server.try_clone(), client.try_clone()) else { break };
                let (listings, objects) = (Arc::clone(&listings), Arc::clone(&objects));
                std::thread::spawn(move || pass(from, to, |_| ()));
                std::thread::spawn(move || {
                    pass(client, server, |head| {
                        let line = String::from_utf8_lossy(head);
                        if line.starts_with("GET ") {
                            let counter = if line.contains("list-type=2") { &listings } else { &objects };
                            counter.fetch_add(1, SeqCst);
                        }
                    });
                });
            }
        });
        Ok(proxy)
    }

    fn listings(&self) -> usize {
        self.listings.load(SeqCst)
    }

    fn objects(&self) -> usize {
        self.objects.load(SeqCst)
    }
}

/// Copies bytes one way; each read begins with what a client wrote at once, the head of a request.
fn pass(mut from: TcpStream, mut to: TcpStream, see: impl Fn(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        see(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
