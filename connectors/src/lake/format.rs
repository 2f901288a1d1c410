//! How a table's files are read: its storage clause and properties, as a typed choice.
//!
//! Invariant: a combination that cannot be read is refused when the table is opened, before any file is.

use std::fmt;

use arrow::datatypes::{DataType, FieldRef};
use headwater_engine::{
    catalog::{Column, FileFormat, Table},
    error::{Error, Result},
};
use object_store::path::Path;

use crate::formats::json::{Coercion, Dialect, JsonOptions, JsonReader, RecordPath, TimestampStandard, TimestampUnit};

use super::{
    compression::{Compression, MAGIC_LENGTH},
    provider,
    read::{
        RowReader,
        delimited::{self, DelimitedOptions, DelimitedReader},
        json,
    },
    scan::LakeScan,
};

/// What becomes of a row that cannot be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Malformed {
    /// The statement fails and names it.
    #[default]
    Fail,
    /// It is a row of NULLs.
    Null,
    /// It is counted and left out.
    Skip,
}

impl Malformed {
    /// The policy of a table.
    pub fn of(table: &Table) -> Result<Self> {
        let ignores = table.storage.serde_properties.iter().any(|(key, value)| {
            key.eq_ignore_ascii_case("ignore.malformed.json") && value.trim().eq_ignore_ascii_case("true")
        });
        match table.properties.get("malformed").map(|value| value.to_ascii_lowercase()).as_deref() {
            None if ignores => Ok(Self::Null),
            None | Some("fail") => Ok(Self::Fail),
            Some("null") => Ok(Self::Null),
            Some("skip" | "reject") => Ok(Self::Skip),
            Some(other) => Err(Error::user("INVALID_TABLE_PROPERTY", format!("'malformed' is \"{other}\""))
                .with_hint("use 'fail', 'null' or 'skip'")),
        }
    }
}

/// How bytes become rows.
#[derive(Debug, Clone)]
pub enum ReadFormat {
    /// JSON.
    Json(Box<JsonOptions>),
    /// Delimited text, CSV or raw lines.
    Delimited(Box<DelimitedOptions>),
    /// Parquet.
    Parquet,
}

impl fmt::Display for ReadFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json(_) => "json",
            Self::Delimited(_) => "text",
            Self::Parquet => "parquet",
        })
    }
}

impl ReadFormat {
    /// The format of a table whose malformed rows have this fate.
    pub fn of(table: &Table, malformed: Malformed) -> Result<Self> {
        Ok(match table.storage.format {
            FileFormat::Json => Self::Json(Box::new(json_options(table, malformed)?)),
            FileFormat::Parquet => Self::Parquet,
            FileFormat::Text | FileFormat::Csv | FileFormat::Raw => {
                Self::Delimited(Box::new(DelimitedOptions::of(table, malformed)?))
            }
        })
    }

    /// Refuses columns that files of this format, and keys that names of folders, do not hold: times of day are only
    /// in Parquet files that others write.
    pub fn check_columns(&self, of_files: &[FieldRef], keys: &[FieldRef]) -> Result<()> {
        let of_files = of_files.iter().filter(|_| !matches!(self, Self::Parquet));
        let Some(field) = of_files.chain(keys).find(|field| has_time(field.data_type())) else { return Ok(()) };
        let message = format!("column \"{}\" cannot be of type time: only columns of Parquet files can", field.name());
        Err(Error::not_supported(message).with_hint("declare it as string, and CAST it AS time in queries"))
    }

    /// Whether parts of a file can be read on their own.
    pub fn may_split(&self, path: &Path) -> bool {
        match self {
            Self::Parquet => true,
            Self::Delimited(options) => options.is_by_line() && Compression::by_name(path.as_ref()).is_none(),
            Self::Json(_) => Compression::by_name(path.as_ref()).is_none(),
        }
    }

    /// Whether the start of a file says how a part is read that begins at a byte: by the names there, or, where a header
    /// may reach so far, by how much of it is left.
    pub fn needs_header(&self, start: u64, header_bytes_max: u64) -> bool {
        let Self::Delimited(options) = self else { return false };
        start > 0 && (options.is_named() || options.skip > 0 && start < header_bytes_max)
    }

    /// Whether a record of a file with this name is a line of its bytes.
    pub fn is_by_line(&self, path: &Path) -> bool {
        match self {
            Self::Parquet => false,
            Self::Delimited(_) | Self::Json(_) => Compression::by_name(path.as_ref()).is_none(),
        }
    }

    /// Whether some value of a column of this type makes its row malformed.
    pub fn may_refuse(&self, data_type: &DataType) -> bool {
        match self {
            Self::Json(options) => options.may_refuse(data_type),
            Self::Delimited(options) => options.may_refuse(),
            Self::Parquet => false,
        }
    }

    /// A reader of one file, or of a part of one that does not begin with its first byte.
    pub fn reader(&self, scan: &LakeScan, columns: Option<&[Column]>, is_start: bool) -> Result<Box<dyn RowReader>> {
        match self {
            Self::Json(options) => {
                let reader = JsonReader::try_new(scan.file_schema.clone(), options)?;
                Ok(Box::new(reader.of_table(&scan.table_columns)))
            }
            Self::Delimited(options) => {
                let own = columns.map(provider::fields).transpose()?;
                let declared = own.as_deref().unwrap_or_else(|| scan.table_columns.fields());
                Ok(Box::new(DelimitedReader::new(scan.file_schema.clone(), declared, options, is_start)))
            }
            Self::Parquet => Err(Error::internal("Parquet is not read as text")),
        }
    }

    /// Bytes of a file's start by which parts of it are known to be of use; beyond those that say how it is compressed.
    pub fn start_bytes(&self) -> u64 {
        match self {
            Self::Json(_) => 16 << 10,
            Self::Delimited(_) | Self::Parquet => MAGIC_LENGTH,
        }
    }

    /// Whether records may start after cuts, as the first bytes of a file have it.
    pub fn may_cut(&self, start: &[u8]) -> bool {
        match self {
            Self::Json(options) => options.records.0.is_empty() && json::may_be_lines(start),
            Self::Delimited(_) | Self::Parquet => true,
        }
    }

    /// Position in `window` where a record surely starts; the first byte of `window` is the one before the cut.
    pub fn record_start(&self, window: &[u8]) -> Option<usize> {
        match self {
            Self::Json(options) if options.records.0.is_empty() => json::record_start(window),
            Self::Delimited(_) => delimited::line_start(window),
            Self::Json(_) | Self::Parquet => None,
        }
    }
}

fn has_time(data_type: &DataType) -> bool {
    match data_type {
        DataType::Time32(_) | DataType::Time64(_) => true,
        DataType::List(item) | DataType::Map(item, _) => has_time(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_time(field.data_type())),
        _ => false,
    }
}

/// What a table's SerDe and properties say about reading JSON.
fn json_options(table: &Table, malformed: Malformed) -> Result<JsonOptions> {
    let serde = table.storage.serde.as_deref().unwrap_or_default();
    let dialect = Dialect::of_serde(serde);
    let mut options = JsonOptions::from_serde(dialect, &table.storage.serde_properties)?;
    let property = |key: &str| table.properties.get(key).map(|value| value.trim().to_ascii_lowercase());
    let wrong = |key: &str, value: &str, known: &str| {
        Error::user("INVALID_TABLE_PROPERTY", format!("'{key}' is \"{value}\"")).with_hint(format!("use {known}"))
    };
    // The decoder says what it refuses; the policy of the table is applied to that, in one place.
    options.malformed = match malformed {
        Malformed::Null => crate::formats::json::Malformed::Null,
        Malformed::Fail | Malformed::Skip => crate::formats::json::Malformed::Skip,
    };
    options.coercion = match property("coercion").as_deref() {
        None => options.coercion,
        Some("strict") => Coercion::Strict,
        Some("lenient" | "null") => Coercion::Lenient,
        Some(other) => return Err(wrong("coercion", other, "'strict' or 'lenient'")),
    };
    options.timestamps.standard = match property("json.timestamp-format.standard").as_deref() {
        None | Some("auto") => TimestampStandard::Auto,
        Some("sql") => TimestampStandard::Sql,
        Some("iso-8601") => TimestampStandard::Iso8601,
        Some(other) => return Err(wrong("json.timestamp-format.standard", other, "'auto', 'SQL' or 'ISO-8601'")),
    };
    options.timestamps.unit = match property("json.timestamp-unit").as_deref() {
        None | Some("ms") => TimestampUnit::Milliseconds,
        Some("s") => TimestampUnit::Seconds,
        Some("us") => TimestampUnit::Microseconds,
        Some("ns") => TimestampUnit::Nanoseconds,
        Some(other) => return Err(wrong("json.timestamp-unit", other, "'s', 'ms', 'us' or 'ns'")),
    };
    if let Some(path) = table.properties.get("json.path") {
        options.records = RecordPath::parse(path)?;
    }
    Ok(options)
}
