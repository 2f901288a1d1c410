//! `headwater demo`: a data set and the query files for it, from nothing to an answer in one command.
//!
//! Invariant: a demo has a folder and a catalog of its own, made anew each time, and touches nothing else.

use std::fs;

use clap::ValueEnum;
use headwater_engine::error::Error;

use super::{
    exit::Failure,
    interrupt::Watched,
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
    /// Visits per day over gzip JSON and over Parquet, from 100,000 sessions.
    Telemetry,
    /// Social-media posts from CSV to a report, and engagements counted in windows.
    Engagement,
    /// Top products over folders as a crawler finds them.
    Sales,
    /// Crime records from JSON to Parquet by day.
    Crimes,
}

/// A data set, its format unless it is the usual one, and its folder.
type Data = (Dataset, Option<DatasetFormat>, &'static str);

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
            Self::Sales => &[(Dataset::Sales, None, "sales")],
            Self::Crimes => &[(Dataset::Crimes, Some(DatasetFormat::Ndjson), "crimes_raw")],
        }
    }

    fn files(self) -> &'static [File] {
        match self {
            Self::Telemetry => &[
                file!("telemetry/lake.sql"),
                file!("telemetry/load.sql"),
                file!("telemetry/june.sql", "events" = "events_json"),
                file!("telemetry/june.sql", "events" = "events_parquet"),
                file!("telemetry/deduplicate.sql"),
            ],
            Self::Engagement => &[
                file!("engagement/lake.sql"),
                file!("engagement/transform.sql"),
                file!("engagement/report.sql"),
                file!("engagement/counts_of_files.sql"),
                file!("engagement/busiest.sql"),
            ],
            Self::Sales => &[file!("sales/lake.sql"), file!("sales/top_products.sql")],
            Self::Crimes => &[file!("crimes/lake.sql"), file!("crimes/to_parquet.sql"), file!("crimes/first_ten.sql")],
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
    for file in demo.files() {
        let mut parameters = crate::parser::Parameters::from([("lake".to_owned(), lake.clone())]);
        parameters.extend(file.parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let shown: Vec<String> =
            file.parameters.iter().map(|(name, value)| format!(" --param {name}={value}")).collect();
        tell(&format!("\n-- {}{}", file.path, shown.concat()));
        let statements = crate::parser::parse(file.text, &parameters)?;
        let done = runner::run(&session, &statements, style, watched, runner::standard_output()).await?;
        tally = Tally { warned: tally.warned || done.warned, ..done };
    }
    tell(&format!("\nGo on from here: headwater --state {lake}"));
    Ok(tally)
}
