//! `headwater demo`: a data set and the query files for it, from nothing to an answer in one command.
//!
//! Invariant: a demo has a folder and a catalog of its own, made anew each time, and touches nothing else.

use std::fs;

use clap::ValueEnum;
use headwater_engine::error::Error;

use super::{
    exit::Failure,
    interrupt::Watched,
    job,
    runner::{self, Style, Tally},
    tell,
};
use crate::{
    generate::{self, Dataset, DatasetFormat},
    session::{Session, SessionConfig},
};

/// The demos, each a folder of `queries/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Demo {
    /// Visits per day over gzip JSON and over Parquet, from 100,000 sessions; the same events delivered from a stream.
    Telemetry,
    /// Social-media posts from CSV to Parquet, items and reports; engagements kept and counted in windows.
    Engagement,
    /// Top products over folders as a crawler finds them; changes of orders delivered, and the orders as they are.
    Sales,
    /// Crime records from lines on a stream to JSON, and to Parquet by day.
    Crimes,
}

/// A data set, its format unless it is the usual one, and its folder.
type Data = (Dataset, Option<DatasetFormat>, &'static str);

/// What a demo does after its data is there.
enum Step {
    /// The statements of a file, one after another.
    Statements(File),
    /// The INSERTs of a file as a job, up to the ends that are there; its other statements before.
    Job(&'static str, File),
}

/// A query file, built into the program.
struct File {
    path: &'static str,
    text: &'static str,
    parameters: &'static [(&'static str, &'static str)],
}

macro_rules! file {
    ($path:literal $(, $name:literal = $value:literal)*) => {
        File {
            path: concat!("queries/", $path),
            text: include_str!(concat!("../../../queries/", $path)),
            parameters: &[$(($name, $value)),*],
        }
    };
}

macro_rules! statements {
    ($($all:tt)*) => { Step::Statements(file!($($all)*)) };
}

macro_rules! job {
    ($name:literal, $path:literal) => {
        Step::Job($name, file!($path))
    };
}

impl Demo {
    fn name(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Engagement => "engagement",
            Self::Sales => "sales",
            Self::Crimes => "crimes",
        }
    }

    fn data(self) -> &'static [Data] {
        match self {
            Self::Telemetry => &[(Dataset::Telemetry, None, "raw")],
            Self::Engagement => &[(Dataset::Posts, None, "rawData/posts"), (Dataset::Engagements, None, "engagements")],
            Self::Sales => &[(Dataset::Sales, None, "sales"), (Dataset::Sales, Some(DatasetFormat::Stream), "changes")],
            Self::Crimes => &[(Dataset::Crimes, Some(DatasetFormat::Stream), "crimes_lines")],
        }
    }

    fn steps(self) -> &'static [Step] {
        match self {
            Self::Telemetry => &[
                statements!("telemetry/lake.sql"),
                statements!("telemetry/load.sql"),
                statements!("telemetry/june.sql", "events" = "events_json"),
                statements!("telemetry/june.sql", "events" = "events_parquet"),
                statements!("telemetry/deduplicate.sql"),
                statements!("telemetry/embedded.sql"),
                statements!("telemetry/tables.sql", "into" = "streamed/"),
                job!("send", "telemetry/send.sql"),
                job!("deliver", "telemetry/deliver.sql"),
                statements!("telemetry/delivered.sql"),
            ],
            Self::Engagement => &[
                statements!("engagement/lake.sql"),
                statements!("engagement/embedded.sql"),
                statements!("engagement/tables.sql"),
                job!("posts", "engagement/posts.sql"),
                statements!("engagement/report.sql"),
                statements!("engagement/report_days.sql"),
                job!("send", "engagement/send.sql"),
                job!("count", "engagement/count.sql"),
                statements!("engagement/busiest.sql"),
                statements!("engagement/report_stream.sql"),
            ],
            Self::Sales => &[
                statements!("sales/lake.sql"),
                statements!("sales/top_products.sql"),
                statements!("sales/embedded.sql"),
                statements!("sales/tables.sql"),
                job!("send", "sales/send.sql"),
                job!("deliver", "sales/deliver.sql"),
                statements!("sales/delivered.sql"),
                statements!("sales/orders_now.sql"),
            ],
            Self::Crimes => &[
                statements!("crimes/lake.sql"),
                statements!("crimes/embedded.sql"),
                statements!("crimes/tables.sql"),
                job!("send", "crimes/send.sql"),
                job!("decode", "crimes/decode.sql"),
                statements!("crimes/to_parquet.sql"),
                statements!("crimes/first_ten.sql"),
            ],
        }
    }
}

/// Generates the data set, then runs the files one after another.
pub(super) async fn run(
    demo: Demo,
    rows: Option<u64>,
    config: SessionConfig,
    style: &Style,
    watched: &Watched,
) -> Result<Tally, Failure> {
    let folder = config.local_state().join("demo").join(demo.name());
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| Error::from(error).context(folder.display()))?;
    }
    for (dataset, format, target) in demo.data() {
        let options =
            generate::Options { dataset: *dataset, rows, seed: 1, format: *format, target: folder.join(target) };
        let generated = tokio::task::spawn_blocking(move || super::generate_files(&options)).await;
        generated.map_err(|error| Error::internal(format!("the generator stopped: {error}")))??;
    }

    let lake = folder.to_string_lossy().into_owned();
    let session =
        Session::open(SessionConfig { settings: config.settings, ..SessionConfig::in_directory(&*lake) }).await?;
    let mut tally = Tally::default();
    for step in demo.steps() {
        let (file, job) = match step {
            Step::Statements(file) => (file, None),
            Step::Job(name, file) => (file, Some(*name)),
        };
        let mut parameters = crate::parser::Parameters::from([("lake".to_owned(), lake.clone())]);
        parameters.extend(file.parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let shown: Vec<String> =
            file.parameters.iter().map(|(name, value)| format!(" --param {name}={value}")).collect();
        tell(&format!("\n-- {}{}", file.path, shown.concat()));
        let all = crate::parser::parse(file.text, &parameters)?;
        let (of_job, statements): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|statement| job.is_some() && !job::inserts_of(statement).is_empty());
        let done = runner::run(&session, &statements, style, watched, runner::standard_output()).await?;
        if let Some(name) = job {
            let inserts: Vec<_> = of_job.iter().flat_map(job::inserts_of).cloned().collect();
            job::run_once(&session, &inserts, name).await?;
        }
        tally = Tally { warned: tally.warned || done.warned, ..done };
    }
    tell(&format!("\nGo on from here: headwater --state {lake}"));
    Ok(tally)
}
