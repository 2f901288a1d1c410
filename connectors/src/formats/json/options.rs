//! How JSON is to be read: the dialect of a SerDe or of our short form, and what a table's properties change in it.
//!
//! Invariant: every combination of options is a defined reading; nothing here depends on data.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use headwater_engine::error::{Error, Result};

/// Whose habits a reader follows where JSON meets a column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Our short form and streams: strict JSON, values that fit exactly.
    #[default]
    Headwater,
    /// `org.openx.data.jsonserde.JsonSerDe`: loose syntax, a wrong scalar is NULL.
    OpenX,
    /// `org.apache.hive.hcatalog.data.JsonSerDe`: strict JSON, strict types.
    Hive,
}

impl Dialect {
    /// The dialect of a SerDe by its class, ours if none is named.
    pub fn of_serde(class: &str) -> Self {
        match class.to_ascii_lowercase() {
            class if class.contains("openx") => Self::OpenX,
            class if class.contains("hcatalog") || class.contains("hive.serde2.jsonserde") => Self::Hive,
            _ => Self::Headwater,
        }
    }
}

/// What becomes of a row that cannot be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Malformed {
    /// Reported as rejected; the caller ends the statement with the first of them.
    #[default]
    Fail,
    /// A row of NULLs in its place, as OpenX's `ignore.malformed.json` has it.
    Null,
    /// Reported as rejected; the caller goes on.
    Skip,
}

/// What becomes of a single value that does not fit its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coercion {
    /// The row is malformed.
    Strict,
    /// The value is NULL and counted.
    Lenient,
}

/// Which texts are timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampStandard {
    /// Both text forms, and numbers in the declared unit.
    #[default]
    Auto,
    /// `yyyy-mm-dd hh:mm:ss[.f]` only.
    Sql,
    /// `yyyy-mm-ddThh:mm:ss[.f][Z|+hh:mm]` only.
    Iso8601,
}

/// Unit of a timestamp given as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampUnit {
    /// Seconds; a fraction is kept.
    Seconds,
    /// Milliseconds.
    #[default]
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// Nanoseconds.
    Nanoseconds,
}

impl TimestampUnit {
    /// Digits after the point of a second.
    pub(super) fn digits(self) -> u32 {
        match self {
            Self::Seconds => 0,
            Self::Milliseconds => 3,
            Self::Microseconds => 6,
            Self::Nanoseconds => 9,
        }
    }
}

/// How timestamps are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimestampReading {
    /// Text forms accepted.
    pub standard: TimestampStandard,
    /// Unit of numbers.
    pub unit: TimestampUnit,
    /// Java patterns of a SerDe's `timestamp.formats`, tried before the standard forms; `millis` is a number.
    pub patterns: Vec<String>,
}

/// One step of a path to the records of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathStep {
    /// A key of an object.
    Key(String),
    /// Every element of an array.
    Every,
    /// One element of an array, counted from 0.
    Index(usize),
}

/// Where the records of a document are; empty for the document itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordPath(pub Vec<PathStep>);

/// All of a table's choices about reading JSON.
#[derive(Debug, Clone)]
pub struct JsonOptions {
    /// Whose habits are followed.
    pub dialect: Dialect,
    /// Keys match column names without regard to case.
    pub case_insensitive: bool,
    /// Column name to JSON key, where they differ.
    pub mapping: BTreeMap<String, String>,
    /// A dot in a key matches an underscore in a column's name.
    pub dots_to_underscores: bool,
    /// How timestamps are read.
    pub timestamps: TimestampReading,
    /// Where the records of a document are.
    pub records: RecordPath,
    /// What becomes of a row that cannot be parsed.
    pub malformed: Malformed,
    /// What becomes of a value that does not fit.
    pub coercion: Coercion,
    /// Longest row, in bytes.
    pub row_bytes_max: usize,
    /// Most rows of one batch.
    pub batch_rows_max: usize,
}

/// Longest row unless said otherwise, as in Athena.
const ROW_BYTES_MAX: usize = 32 << 20;
/// Most rows of one batch unless said otherwise.
const BATCH_ROWS_MAX: usize = 8192;

impl Default for JsonOptions {
    fn default() -> Self {
        Self::new(Dialect::Headwater)
    }
}

impl JsonOptions {
    /// The defaults of a dialect.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            case_insensitive: true,
            mapping: BTreeMap::new(),
            dots_to_underscores: false,
            timestamps: TimestampReading::default(),
            records: RecordPath::default(),
            malformed: Malformed::default(),
            coercion: match dialect {
                Dialect::OpenX => Coercion::Lenient,
                Dialect::Headwater | Dialect::Hive => Coercion::Strict,
            },
            row_bytes_max: ROW_BYTES_MAX,
            batch_rows_max: BATCH_ROWS_MAX,
        }
    }

    /// The options of a table declared with a SerDe, from its properties; ones that do not concern reading are left.
    pub fn from_serde(dialect: Dialect, properties: &BTreeMap<String, String>) -> Result<Self> {
        let mut options = Self::new(dialect);
        for (key, value) in properties {
            let lower = key.to_ascii_lowercase();
            match lower.as_str() {
                "case.insensitive" => options.case_insensitive = boolean(key, value)?,
                "dots.in.keys" | "convert.dots.in.json.keys.to.underscores" => {
                    options.dots_to_underscores = boolean(key, value)?;
                }
                "ignore.malformed.json" if boolean(key, value)? => options.malformed = Malformed::Null,
                "timestamp.formats" => {
                    options.timestamps.patterns = value.split(',').map(|pattern| pattern.trim().to_owned()).collect();
                }
                _ => {
                    if let Some(column) = lower.strip_prefix("mapping.") {
                        options.mapping.insert(column.to_owned(), value.clone());
                    }
                }
            }
        }
        Ok(options)
    }

    /// Whether some value of a column of this type makes its row malformed.
    pub(crate) fn may_refuse(&self, data_type: &DataType) -> bool {
        match (self.dialect, data_type) {
            (Dialect::Hive, _) => true,
            (_, DataType::Utf8 | DataType::LargeUtf8) | (Dialect::OpenX, DataType::Boolean) => false,
            (Dialect::OpenX, _) | (_, DataType::List(_) | DataType::Map(..) | DataType::Struct(_)) => true,
            (Dialect::Headwater, _) => self.is_strict(),
        }
    }

    /// Whether a value that does not fit makes its row malformed.
    pub(super) fn is_strict(&self) -> bool {
        self.coercion == Coercion::Strict
    }
}

fn boolean(key: &str, value: &str) -> Result<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::user("INVALID_TABLE_PROPERTY", format!("property \"{key}\" is \"{value}\", not a boolean"))
            .with_hint("use 'true' or 'false'")),
    }
}

impl RecordPath {
    /// Parses `$`, `$[*]`, `$.a.b[*]`, `$['a'][0]`.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::user("INVALID_TABLE_PROPERTY", format!("\"{text}\" is not a path to records"))
                .with_hint("use $, .name, ['name'], [*] and [index], for example $.columns[*]")
        };
        let mut rest = text.trim().strip_prefix('$').ok_or_else(wrong)?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = path_step(rest).ok_or_else(wrong)?;
            steps.push(step);
            rest = after;
        }
        Ok(Self(steps))
    }
}

fn path_step(text: &str) -> Option<(PathStep, &str)> {
    if let Some(named) = text.strip_prefix('.') {
        let end = named.find(['.', '[']).unwrap_or(named.len());
        let step = match &named[..end] {
            "" => return None,
            "*" => PathStep::Every,
            name => PathStep::Key(name.to_owned()),
        };
        return Some((step, &named[end..]));
    }
    let (bracketed, after) = text.strip_prefix('[')?.split_once(']')?;
    let quoted = |quote| bracketed.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    let step = match bracketed {
        "*" => PathStep::Every,
        _ => match quoted('\'').or_else(|| quoted('"')) {
            Some(name) => PathStep::Key(name.to_owned()),
            None => PathStep::Index(bracketed.parse().ok()?),
        },
    };
    Some((step, after))
}
