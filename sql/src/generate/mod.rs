//! The demo data sets of `headwater generate`: product telemetry, social-media posts and engagements, sales, crimes.
//!
//! Invariant: the same data set, rows, seed and format give the same bytes on every machine, whatever else runs.
//!
//! ```text
//!  telemetry | posts | sales | crimes | engagements   an iterator of records, each with its folder
//!        \--> files: one format, rolled, every file complete when it gets its name
//! ```

use std::path::PathBuf;

use headwater_engine::error::{Error, Result};

mod crimes;
mod engagements;
mod files;
mod posts;
mod random;
mod record;
mod sales;
mod telemetry;
#[cfg(test)]
mod tests;

use files::{Files, Roll, Shape};

/// Which data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dataset {
    /// Product telemetry: user sessions as events with a JSON payload (711,530 rows of 100,000 sessions).
    Telemetry,
    /// Social-media posts with 18 columns (100,000 rows).
    Posts,
    /// Changes of an order table (10,000 rows).
    Sales,
    /// Crime records of one city and month (7,584 rows).
    Crimes,
    /// Likes, comments and shares of the posts, one a second (3,600 rows).
    Engagements,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DatasetFormat {
    /// A JSON object a line.
    Ndjson,
    /// Gzip-compressed JSON lines; telemetry in Hive folders `name=/d=`.
    #[value(name = "json.gz")]
    JsonGz,
    /// Parquet with gzip inside; telemetry in Hive folders `name=/d=`.
    Parquet,
    /// CSV with a header.
    Csv,
    /// The records as their producer puts them on a stream, one a line.
    Stream,
}

/// What to generate, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data set.
    pub dataset: Dataset,
    /// Rows; the data set's own number if absent.
    pub rows: Option<u64>,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Format; the data set's own if absent.
    pub format: Option<DatasetFormat>,
    /// Target directory.
    pub target: PathBuf,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rows.
    pub rows: u64,
    /// Files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// How a line or row is encoded in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Ndjson,
    JsonGzip,
    Parquet,
    Csv,
}

/// Bytes of text after which a compressed file is closed: about what Firehose puts into one object of the telemetry.
const COMPRESSED_FILE_BYTES: usize = 8 << 20;

/// Writes a data set.
///
/// # Errors
/// If the data set has no such format, or the target cannot be written.
pub fn generate(options: &Options) -> Result<Summary> {
    let Options { dataset, rows, seed, format, target } = options;
    let format = format.unwrap_or(dataset.default_format());
    if !dataset.formats().contains(&format) {
        let known: Vec<&str> = dataset.formats().iter().map(|format| format.name()).collect();
        return Err(Error::user("INVALID_PARAMETER_USAGE", format!("data set {dataset} has no format {format}"))
            .with_hint(format!("its formats are {}", known.join(", "))));
    }
    let mut files = Files::create(target, dataset.shape(format, *rows))?;
    match dataset {
        Dataset::Telemetry => telemetry::each(*rows, *seed, format, &mut |record| files.write(record))?,
        Dataset::Posts => {
            (0..rows.unwrap_or(posts::ROWS)).try_for_each(|i| files.write(posts::record(*seed, i)))?;
        }
        Dataset::Sales => {
            sales::records(rows.unwrap_or(sales::ROWS), *seed, format).try_for_each(|r| files.write(r))?
        }
        Dataset::Crimes => {
            let rows = rows.unwrap_or(crimes::ROWS);
            (0..rows).try_for_each(|i| files.write(crimes::record(*seed, i, rows, format)))?;
        }
        Dataset::Engagements => {
            let rows = rows.unwrap_or(engagements::ROWS);
            (0..rows).try_for_each(|i| files.write(engagements::record(*seed, i)))?;
        }
    }
    files.finish()
}

impl Dataset {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Posts => "posts",
            Self::Sales => "sales",
            Self::Crimes => "crimes",
            Self::Engagements => "engagements",
        }
    }

    /// The formats it has; the first is the default.
    pub fn formats(self) -> &'static [DatasetFormat] {
        use DatasetFormat::{Csv, JsonGz, Ndjson, Parquet, Stream};
        match self {
            Self::Telemetry => &[Ndjson, JsonGz, Parquet, Csv],
            Self::Posts => &[Csv, Ndjson, JsonGz, Parquet],
            Self::Sales => &[Ndjson, JsonGz, Stream],
            Self::Crimes => &[Csv, Ndjson, JsonGz, Stream],
            Self::Engagements => &[Ndjson, JsonGz, Csv, Stream],
        }
    }

    fn default_format(self) -> DatasetFormat {
        self.formats()[0]
    }

    fn shape(self, format: DatasetFormat, rows: Option<u64>) -> Shape {
        let (stem, columns) = match self {
            Self::Telemetry if format == DatasetFormat::Parquet => ("events", telemetry::PARQUET_COLUMNS),
            Self::Telemetry => ("events", telemetry::COLUMNS),
            Self::Posts => ("posts", posts::COLUMNS),
            Self::Sales => ("sales", sales::COLUMNS),
            Self::Crimes if format == DatasetFormat::Csv => ("crimes", crimes::CSV_COLUMNS),
            Self::Crimes => ("crimes", crimes::JSON_COLUMNS),
            Self::Engagements => ("engagements", engagements::COLUMNS),
        };
        let encoding = match format {
            DatasetFormat::Ndjson | DatasetFormat::Stream => Encoding::Ndjson,
            DatasetFormat::JsonGz => Encoding::JsonGzip,
            DatasetFormat::Parquet => Encoding::Parquet,
            DatasetFormat::Csv => Encoding::Csv,
        };
        let roll = match (self, encoding) {
            (Self::Posts, _) => Roll::Rows(rows.unwrap_or(posts::ROWS).div_ceil(posts::FILES).max(1)),
            (_, Encoding::JsonGzip | Encoding::Parquet) => Roll::Bytes(COMPRESSED_FILE_BYTES),
            (_, Encoding::Ndjson | Encoding::Csv) => Roll::Never,
        };
        Shape { stem, columns, encoding, roll }
    }
}

impl DatasetFormat {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::JsonGz => "json.gz",
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Stream => "stream",
        }
    }
}

impl Encoding {
    fn extension(self) -> &'static str {
        match self {
            Self::Ndjson => "json",
            Self::JsonGzip => "json.gz",
            Self::Parquet => "parquet",
            Self::Csv => "csv",
        }
    }
}

impl std::fmt::Display for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::fmt::Display for DatasetFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
