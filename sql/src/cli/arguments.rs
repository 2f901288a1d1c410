//! The command line as clap sees it.
//!
//! Invariant: an option means the same wherever it stands, before the command or after it.

use std::path::PathBuf;

use super::job::JobOptions;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{generate, output::Format};

/// One SQL for the lake and for the streams that feed it.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, disable_help_subcommand = true)]
pub(super) struct Arguments {
    /// Options of every command.
    #[command(flatten)]
    pub(super) common: Common,
    /// How results are written.
    #[command(flatten)]
    pub(super) results: Results,
    /// Statements of the command line.
    #[command(flatten)]
    pub(super) input: Input,
    /// The command; a REPL or the statements given, if absent.
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(super) struct Common {
    /// Directory or URL of catalog, checkpoints and history.
    #[arg(long, global = true, value_name = "DIR|URL", default_value = crate::session::DEFAULT_STATE)]
    pub(super) state: String,
    /// File of the catalog [default: catalog.db in a local --state].
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) catalog: Option<PathBuf>,
    /// Directory for what must be on a local disk [default: a local --state, else .headwater].
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) local_state: Option<PathBuf>,
    /// Where tables without a location are written [default: warehouse in --local-state].
    #[arg(long, global = true, value_name = "DIR|URL")]
    pub(super) warehouse: Option<String>,
    /// File of settings, the same keys as SET [default: headwater.toml here, else in the user's configuration].
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Address for Prometheus and health checks of a job, such as 127.0.0.1:9464 [default: none].
    #[arg(long, global = true, value_name = "ADDR")]
    pub(super) metrics: Option<std::net::SocketAddr>,
    /// How messages for operators are written to standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub(super) log_format: LogFormat,
}

/// Options of commands that run statements.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Results {
    /// Value of ${NAME} in statements.
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    pub(super) parameters: Vec<(String, String)>,
    /// How results are written [default: table on a terminal, csv in a pipe].
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(super) format: Option<Format>,
    /// Write what each statement did to standard error, one object a line.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(super) stats: Option<StatsFormat>,
    /// Warnings make the exit code 1.
    #[arg(long)]
    pub(super) strict: bool,
    /// Stop a statement that takes longer, such as 30s.
    #[arg(long, value_name = "DURATION")]
    pub(super) timeout: Option<String>,
    /// Refuse a query that would scan more, such as 10GB.
    #[arg(long, value_name = "BYTES")]
    pub(super) max_scan: Option<String>,
}

impl Results {
    /// These options, and where they are absent those that stood before the command.
    pub(super) fn or(self, before: Self) -> Self {
        Self {
            parameters: before.parameters.into_iter().chain(self.parameters).collect(),
            format: self.format.or(before.format),
            stats: self.stats.or(before.stats),
            strict: self.strict || before.strict,
            timeout: self.timeout.or(before.timeout),
            max_scan: self.max_scan.or(before.max_scan),
        }
    }
}

/// Where the statements come from.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Input {
    /// Run these statements and end.
    #[arg(short = 'c', long = "command", value_name = "SQL", conflicts_with = "files", allow_hyphen_values = true)]
    pub(super) statements: Option<String>,
    /// Run the statements of a file and end; - is standard input.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// The job whose "t$rejected" and "t$late" are meant.
    #[arg(long, value_name = "NAME")]
    pub(super) job: Option<String>,
}

/// The commands.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Command {
    /// Start the REPL, or run -c or -f.
    Sql {
        #[command(flatten)]
        results: Results,
        #[command(flatten)]
        input: Input,
    },
    /// Run query files one after another as one script.
    Run {
        /// The files; - is standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        results: Results,
        #[command(flatten)]
        job: JobOptions,
    },
    /// Show the plans of query files; nothing runs.
    Explain {
        /// The files; - is standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Say what becomes of the state of this job if these files run under its name.
        #[arg(long, value_name = "JOB")]
        against: Option<String>,
        #[command(flatten)]
        results: Results,
    },
    /// Write a demo data set, always the same for the same seed.
    Generate {
        /// The data set.
        #[arg(value_enum)]
        dataset: generate::Dataset,
        /// Target directory.
        #[arg(value_name = "DIR")]
        target: PathBuf,
        /// Rows, in place of the data set's own number.
        #[arg(long)]
        rows: Option<u64>,
        /// Seed of the random numbers.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Format, in place of the data set's own.
        #[arg(long = "format", id = "dataset_format", value_enum, value_name = "FORMAT")]
        format: Option<generate::DatasetFormat>,
    },
    /// Generate a data set and run the query files for it.
    Demo {
        /// The demo.
        #[arg(value_enum)]
        demo: super::demo::Demo,
        /// Rows, in place of the data set's own number.
        #[arg(long)]
        rows: Option<u64>,
        #[command(flatten)]
        results: Results,
    },
    /// List, show, stop or drop jobs.
    Jobs(super::jobs::JobsOptions),
    /// List the checkpoints of a job, or show one.
    Checkpoints {
        #[command(flatten)]
        options: super::jobs::CheckpointsOptions,
        #[command(flatten)]
        results: Results,
    },
    /// Copy the catalog to a file, or a file's entries into the catalog.
    Catalog {
        #[command(subcommand)]
        action: CatalogAction,
    },
    /// Write the completions of a shell to standard output.
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// What to do with the catalog.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum CatalogAction {
    /// Write all databases, tables, views and partitions as JSON; - is standard output.
    Export {
        /// Target file.
        file: PathBuf,
    },
    /// Add the entries of such a file; what exists already stays as it is.
    Import {
        /// Source file.
        file: PathBuf,
    },
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// Text for people.
    Text,
    /// JSON lines.
    Json,
}

/// How statistics look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum StatsFormat {
    /// JSON lines.
    Json,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}
