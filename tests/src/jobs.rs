//! Jobs as processes of their own, which tests kill at any moment and start again.
//!
//! Invariant: a process that a test started is dead when the test ends.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};

/// How long a job may take for what a test waits for.
const PATIENCE: Duration = Duration::from_secs(180);

/// A folder with a script, its settings and its state, and the binary that runs it.
#[derive(Debug)]
pub struct JobFolder {
    folder: tempfile::TempDir,
    binary: PathBuf,
    parameters: Vec<String>,
    state: String,
    environment: Vec<(String, String)>,
}

/// A job that runs.
#[derive(Debug)]
pub struct RunningJob {
    child: Child,
    log: PathBuf,
    started: SystemTime,
}

impl JobFolder {
    /// A folder for this script; `settings` are lines of `headwater.toml`.
    pub fn new(binary: &str, name: &str, script: &str, settings: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join(name), script)?;
        fs::write(folder.path().join("headwater.toml"), settings)?;
        let state = "state".to_owned();
        Ok(Self { folder, binary: binary.into(), parameters: Vec::new(), state, environment: Vec::new() })
    }

    /// Gives the script the value of a parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.parameters.extend(["--param".to_owned(), format!("{name}={value}")]);
        self
    }

    /// Keeps the state at this URL.
    #[must_use]
    pub fn with_state(mut self, state: &str) -> Self {
        state.clone_into(&mut self.state);
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A command line in this folder and on its state.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .current_dir(self.folder.path())
            .args(["--state", &self.state])
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("XDG_CONFIG_HOME", self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Starts the job.
    pub fn start(&self, script: &str, arguments: &[&str]) -> Result<RunningJob> {
        let (log, started) = (self.folder.path().join(format!("log-{}", rand::random::<u32>())), SystemTime::now());
        let out = fs::File::create(&log)?;
        let mut command = self.command(&["run", script]);
        let child = command.args(&self.parameters).args(arguments).stdout(out.try_clone()?).stderr(out).spawn()?;
        Ok(RunningJob { child, log, started })
    }

    /// Runs a command line to its end; what it printed.
    pub fn ended(&self, arguments: &[&str]) -> Result<Output> {
        Ok(self.command(arguments).output()?)
    }

    /// The lines a query gives, as CSV without the header.
    pub fn query(&self, sql: &str) -> Result<Vec<String>> {
        let output = self.ended(&["--format", "csv", "-c", sql])?;
        if !output.status.success() {
            bail!("{sql}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?.lines().skip(1).map(str::to_owned).collect())
    }

    /// Waits until a query gives these lines.
    pub fn wait_for(&self, sql: &str, done: impl Fn(&[String]) -> bool) -> Result<Vec<String>> {
        let begun = Instant::now();
        loop {
            let lines = self.query(sql)?;
            if done(&lines) {
                return Ok(lines);
            }
            if begun.elapsed() > PATIENCE {
                bail!("{sql} still gives {lines:?}; the jobs said:\n{}", self.logs()?);
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// What all jobs of the folder have said so far.
    fn logs(&self) -> Result<String> {
        let mut logs = String::new();
        for entry in fs::read_dir(self.folder.path())? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("log-") {
                logs.push_str(&fs::read_to_string(entry.path())?);
            }
        }
        Ok(logs)
    }
}

impl RunningJob {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it at once, as a power cut would.
    pub fn kill(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the job had ended with {status}:\n{}", self.log()?);
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until it ends; its exit code and what it said.
    pub fn wait(mut self) -> Result<(Option<i32>, String)> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok((status.code(), self.log()?));
            }
            if begun.elapsed() > PATIENCE {
                bail!("the job did not end:\n{}", self.log()?);
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Waits until it ends, which it should do well.
    pub fn finish(self) -> Result<String> {
        let (code, log) = self.wait()?;
        if code != Some(0) {
            bail!("the job ended with {code:?}:\n{log}");
        }
        Ok(log)
    }

    /// When it was started.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// Waits until it has said this.
    pub fn wait_for_log(&self, what: &str) -> Result<()> {
        let begun = Instant::now();
        while !self.log()?.contains(what) {
            if begun.elapsed() > PATIENCE {
                bail!("{what:?} is not said:\n{}", self.log()?);
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        Ok(())
    }

    /// What it has said so far.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).context("the log of a job")
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
