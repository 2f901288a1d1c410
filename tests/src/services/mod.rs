//! Real servers for the tests: installed into a cache folder outside the clone, started on free ports, stopped when dropped.
//!
//! Invariant: a server that cannot be installed or does not answer fails the test that asked for it; none is ever skipped.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

mod dynamodb;
mod fan_out;
mod gate;
mod kafka;
mod kinesis;
mod minio;
mod proxy;
mod python;
mod registry;
mod topics;

pub use dynamodb::DynamoDbLocal;
pub use fan_out::{Asked, Break, FanOut};
pub use gate::Gate;
pub use kafka::{
    ClientCertificate, KAFKA_PLAIN_PASSWORD, KAFKA_SCRAM_PASSWORD, KAFKA_STORE_PASSWORD, KAFKA_USER, Kafka,
    SecureListeners,
};
pub use kinesis::KinesisLocal;
pub use minio::Minio;
pub use proxy::{Proxy, Verdict};
pub use python::{Ministack, pip_environment};
pub use registry::Registry;
pub use topics::{Sent, Topics};

/// How long a server may take to answer for the first time.
const START_TIMEOUT: Duration = Duration::from_secs(90);

/// A running server process and the folder of its data; both go when it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    data: tempfile::TempDir,
    log: PathBuf,
}

impl Server {
    /// Starts a command with its output in a log file beside its data.
    fn spawn(name: &str, command: &mut Command, data: tempfile::TempDir) -> Result<Self> {
        let log = data.path().join(format!("{name}.log"));
        let out = fs::File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, data, log })
    }

    /// Waits until `answers` says yes, or fails with the end of the server's log.
    fn wait_until(&mut self, name: &str, answers: impl Fn() -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            if answers() {
                return Ok(());
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || start.elapsed() > START_TIMEOUT {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                let tail: Vec<_> = log.lines().rev().take(30).collect();
                bail!("{name} did not start ({ended:?}):\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// The folder of its data.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Stops it at once, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _already_gone = self.kill();
    }
}

/// A port nothing listens on now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn accepts(port: u16) -> bool {
    TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_millis(200)).is_ok()
}

/// The folder servers are installed in: `HEADWATER_CACHE`, else `headwater/` in the user's cache folder.
fn cache() -> Result<PathBuf> {
    let root = std::env::var_os("HEADWATER_CACHE").map(PathBuf::from).or_else(|| {
        let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        base.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
            .map(|base| base.join("headwater"))
    });
    let services = root.context("neither HEADWATER_CACHE nor HOME is set")?.join("services");
    fs::create_dir_all(&services)?;
    Ok(services)
}

/// Installs once: runs `install` in an empty folder that is renamed when it succeeded, under a lock of the cache.
fn installed(name: &str, install: impl Fn(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = cache()?;
    let target = cache.join(name);
    let lock = fs::File::create(cache.join(format!("{name}.lock")))?;
    lock.lock()?;
    if !target.exists() {
        let partial = cache.join(format!("{name}.partial"));
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir_all(&partial)?;
        install(&partial).with_context(|| format!("cannot install {name}"))?;
        fs::rename(&partial, &target)?;
    }
    Ok(target)
}

/// Runs a command to its end and fails with its output.
fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Copies the jars of these Maven artifacts, with what they depend on, into `lib/` of a folder.
fn maven(folder: &Path, artifacts: &[(&str, &str, &str)]) -> Result<()> {
    let dependencies: String = artifacts
        .iter()
        .map(|(group, artifact, version)| {
            format!("<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>")
        })
        .collect();
    let pom = format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion><groupId>tests</groupId>\
         <artifactId>tests</artifactId><version>1</version><dependencies>{dependencies}</dependencies></project>"
    );
    fs::write(folder.join("pom.xml"), pom)?;
    run(Command::new("mvn")
        .args(["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"])
        .current_dir(folder))?;
    Ok(())
}
