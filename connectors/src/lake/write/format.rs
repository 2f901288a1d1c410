//! What files of a table are like when they are written: its storage clause and properties, as a typed choice.
//!
//! Invariant: a combination that cannot be written is refused here, before anything is staged.

use std::collections::BTreeMap;

use headwater_engine::{
    catalog::{FileFormat, Properties, Storage},
    error::{Error, Result},
};

use super::compress::Codec;
use crate::formats::json::{BinaryText, Dialect};

/// How rows become bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteFormat {
    /// Parquet.
    Parquet(ParquetOptions),
    /// A JSON object a line.
    Json {
        /// Compression of the whole file.
        codec: Codec,
        /// How values are spelled.
        options: JsonOptions,
    },
    /// Delimited lines.
    Text {
        /// Compression of the whole file.
        codec: Codec,
        /// Delimiters and quotes.
        options: TextOptions,
    },
}

/// Compression within a Parquet file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParquetOptions {
    /// The codec of its pages.
    pub codec: ParquetCodec,
    /// Its level, where it has one.
    pub level: Option<i32>,
}

/// Codecs of Parquet pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParquetCodec {
    /// None.
    None,
    /// Snappy.
    Snappy,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// LZ4, raw blocks.
    Lz4,
}

impl Default for ParquetOptions {
    fn default() -> Self {
        Self { codec: ParquetCodec::Gzip, level: None }
    }
}

impl ParquetOptions {
    /// The options of a codec's name.
    pub fn parse(name: &str, level: Option<i32>) -> Result<Self> {
        let codec = match name.to_lowercase().as_str() {
            "none" | "uncompressed" => ParquetCodec::None,
            "snappy" => ParquetCodec::Snappy,
            "gzip" => ParquetCodec::Gzip,
            "zstd" => ParquetCodec::Zstd,
            "lz4" => ParquetCodec::Lz4,
            _ => {
                return Err(Error::not_supported(format!("compression \"{name}\" is not supported in Parquet files"))
                    .with_hint("use one of none, snappy, gzip, zstd, lz4"));
            }
        };
        let levels = match codec {
            ParquetCodec::Gzip => 0..=9,
            ParquetCodec::Zstd => 1..=22,
            ParquetCodec::None | ParquetCodec::Snappy | ParquetCodec::Lz4 => i32::MIN..=i32::MAX,
        };
        if let Some(level) = level.filter(|level| !levels.contains(level)) {
            let message = format!("compression level {level} is not one of {name}'s");
            return Err(Error::user("INVALID_TABLE_PROPERTY", message).with_hint(format!(
                "it takes {} to {}",
                levels.start(),
                levels.end()
            )));
        }
        Ok(Self { codec, level })
    }
}

/// How JSON values are spelled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JsonOptions {
    /// `2026-01-02T03:04:05.678Z` instead of `2026-01-02 03:04:05.678`.
    pub iso_timestamps: bool,
    /// Write `null` instead of leaving a field out.
    pub explicit_nulls: bool,
    /// How bytes are written.
    pub binary: BinaryText,
    /// The keys of columns that are not called like them (`mapping.<column>`), by the columns' names in lower case.
    pub mapping: BTreeMap<String, String>,
    /// What stands after each object.
    pub delimiter: Delimiter,
}

/// What stands after each row of a file by lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Delimiter {
    /// A line end.
    #[default]
    LineEnd,
    /// Other bytes, or none.
    Bytes(Vec<u8>),
}

impl Delimiter {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::LineEnd => b"\n",
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// The property that says what stands after each row: text (`\n`, `\r` and `\t` as two characters each), or `none`.
pub const DELIMITER: &str = "sink.delimiter";

/// The property that says what NULL is written as in CSV; without it a text that is NULL is read back as an empty one.
pub const NULL_LITERAL: &str = "csv.null-literal";

/// Delimiters, quotes and the header of delimited text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextOptions {
    /// Between fields.
    pub field_delimiter: u8,
    /// Between items of arrays, maps and rows.
    pub item_delimiter: u8,
    /// Between a map's key and value.
    pub key_delimiter: u8,
    /// Before a delimiter within a value.
    pub escape: Option<u8>,
    /// What NULL is written as.
    pub null: String,
    /// How many lines that name the columns begin a file: as many as its readers leave out.
    pub header_lines: usize,
    /// What reads it.
    pub style: TextStyle,
    /// What stands after each line.
    pub delimiter: Delimiter,
}

/// Who reads the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextStyle {
    /// LazySimpleSerDe: no quotes.
    Delimited,
    /// CSV as everybody writes it; the escape may be the quote itself.
    Csv {
        /// Around values that need it.
        quote: u8,
        /// Before a quote within quotes.
        escape: u8,
    },
    /// OpenCSVSerde: a line is a record whatever is quoted, and only texts can be missing.
    OpenCsv {
        /// Around values that need it.
        quote: u8,
        /// Before a quote within quotes.
        escape: u8,
    },
    /// One column, its bytes as a line.
    Raw,
}

impl TextStyle {
    /// The quote and the escape, where there are quotes.
    pub fn quotes(self) -> Option<(u8, u8)> {
        match self {
            Self::Csv { quote, escape } | Self::OpenCsv { quote, escape } => Some((quote, escape)),
            Self::Delimited | Self::Raw => None,
        }
    }
}

/// What is asked for after each row.
fn row_delimiter(properties: &Properties) -> Result<Delimiter> {
    let Some(text) = first(properties, &[DELIMITER]) else { return Ok(Delimiter::LineEnd) };
    let plain = if text.eq_ignore_ascii_case("none") { "" } else { text };
    let plain = plain.replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t");
    Ok(if plain == "\n" { Delimiter::LineEnd } else { Delimiter::Bytes(plain.into_bytes()) })
}

/// Only rows that say themselves where they end, or that nobody takes apart, can do without line ends.
fn refuse_delimiter(properties: &Properties, format: &str) -> Result<()> {
    if row_delimiter(properties)? == Delimiter::LineEnd {
        return Ok(());
    }
    let message = format!("'{DELIMITER}' is for JSON and raw files, not for {format}");
    Err(Error::user("INVALID_TABLE_PROPERTY", message).with_hint("leave the option out"))
}

impl TextOptions {
    /// LazySimpleSerDe's defaults.
    pub fn delimited() -> Self {
        Self {
            field_delimiter: 1,
            item_delimiter: 2,
            key_delimiter: 3,
            escape: None,
            null: "\\N".into(),
            header_lines: 0,
            style: TextStyle::Delimited,
            delimiter: Delimiter::LineEnd,
        }
    }

    /// CSV with doubled quotes.
    pub fn csv() -> Self {
        let style = TextStyle::Csv { quote: b'"', escape: b'"' };
        Self { field_delimiter: b',', null: String::new(), style, ..Self::delimited() }
    }

    /// The delimiter of nested values at a level from 1; Hive's from the third level on are control characters.
    pub fn nested_delimiter(&self, level: u8) -> u8 {
        match level {
            0 | 1 => self.item_delimiter,
            2 => self.key_delimiter,
            deeper => deeper + 1,
        }
    }
}

impl WriteFormat {
    /// The format of a table's files.
    pub fn of(storage: &Storage, properties: &Properties) -> Result<Self> {
        Ok(match storage.format {
            FileFormat::Parquet => {
                refuse_delimiter(properties, "Parquet")?;
                Self::Parquet(parquet_options(properties)?)
            }
            FileFormat::Json => {
                let options = json_options(storage, properties)?;
                Self::Json { codec: text_codec(properties)?, options }
            }
            FileFormat::Text => {
                refuse_delimiter(properties, "delimited text")?;
                Self::Text { codec: text_codec(properties)?, options: delimited_options(storage, properties)? }
            }
            FileFormat::Csv => {
                refuse_delimiter(properties, "CSV")?;
                Self::Text { codec: text_codec(properties)?, options: csv_options(storage, properties)? }
            }
            FileFormat::Raw => {
                let (null, style, delimiter) = (String::new(), TextStyle::Raw, row_delimiter(properties)?);
                let options = TextOptions { null, style, delimiter, ..TextOptions::delimited() };
                Self::Text { codec: text_codec(properties)?, options }
            }
        })
    }

    /// How its files are compressed as a whole.
    pub fn codec(&self) -> Codec {
        match self {
            Self::Parquet(_) => Codec::None,
            Self::Json { codec, .. } | Self::Text { codec, .. } => *codec,
        }
    }

    /// Whether a line end stands after each row.
    pub fn ends_lines(&self) -> bool {
        match self {
            Self::Parquet(_) => false,
            Self::Json { options, .. } => options.delimiter.bytes() == b"\n",
            Self::Text { options, .. } => options.delimiter.bytes() == b"\n",
        }
    }

    /// The same for records of a stream, which are written as they are: there may be line ends within them.
    pub(crate) fn of_records(mut self) -> Self {
        if let Self::Text { options, .. } = &mut self {
            options.delimiter = Delimiter::Bytes(options.delimiter.bytes().to_vec());
        }
        self
    }

    /// Extension of its files.
    pub fn extension(&self) -> String {
        match self {
            Self::Parquet(_) => "parquet".into(),
            Self::Json { codec, .. } => format!("json{}", codec.extension()),
            Self::Text { codec, options } => {
                let base = if options.style.quotes().is_some() { "csv" } else { "txt" };
                format!("{base}{}", codec.extension())
            }
        }
    }
}

/// Table properties that name a compression, the one that decides first.
const COMPRESSION_KEYS: [&str; 4] = ["write.compression", "write_compression", "compression", "compressiontype"];

fn first<'a>(properties: &'a Properties, keys: &[&str]) -> Option<&'a str> {
    let find = |key: &&str| properties.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
    keys.iter().find_map(find).map(|(_, value)| value.as_str())
}

fn parquet_options(properties: &Properties) -> Result<ParquetOptions> {
    let own = first(properties, &["parquet.compression", "parquet_compression"]);
    let level = match first(properties, &["compression_level", "compression.level"]) {
        Some(text) => Some(text.parse().map_err(|_| {
            Error::user("INVALID_TABLE_PROPERTY", format!("compression level \"{text}\" is not a number"))
        })?),
        None => None,
    };
    match own.or_else(|| first(properties, &COMPRESSION_KEYS)) {
        Some(name) => ParquetOptions::parse(name, level),
        None => ParquetOptions::parse("gzip", level),
    }
}

/// Athena compresses text with gzip unless told otherwise; its snappy is that of Hadoop, Firehose's that of snappy-java.
fn text_codec(properties: &Properties) -> Result<Codec> {
    let codec = first(properties, &COMPRESSION_KEYS).map_or(Ok(Codec::Gzip), Codec::parse)?;
    let is_athenas = first(properties, &COMPRESSION_KEYS[..2]).is_some();
    Ok(if is_athenas && codec == Codec::Snappy { Codec::HadoopSnappy } else { codec })
}

fn json_options(storage: &Storage, properties: &Properties) -> Result<JsonOptions> {
    let serde = &storage.serde_properties;
    let binary = match Dialect::of_serde(storage.serde.as_deref().unwrap_or_default()) {
        Dialect::Hive => BinaryText::Plain,
        Dialect::OpenX | Dialect::Headwater => BinaryText::Base64,
    };
    let of_either = |keys: &[&str]| first(properties, keys).or_else(|| first(serde, keys)).map(str::to_owned);
    let standard = of_either(&["json.timestamp-format.standard"]);
    let iso_timestamps = match standard.as_deref().map(str::to_lowercase).as_deref() {
        None | Some("sql" | "auto") => false,
        Some("iso-8601") => true,
        Some(other) => {
            let message = format!("'json.timestamp-format.standard' is \"{other}\"");
            return Err(Error::user("INVALID_TABLE_PROPERTY", message).with_hint("use 'SQL' or 'ISO-8601'"));
        }
    };
    let ignored = of_either(&["json.encode.ignore-null-fields"]);
    let explicit_nulls = ignored.is_some_and(|text| text.eq_ignore_ascii_case("false"));
    if of_either(&["json.path"]).is_some() {
        return Err(Error::not_supported("writing to a table whose records are below a 'json.path'")
            .with_hint("write to a table without it, over another folder"));
    }
    let mapped = |(key, value): (&String, &String)| {
        Some((key.to_lowercase().strip_prefix("mapping.")?.to_owned(), value.clone()))
    };
    let mapping = serde.iter().filter_map(mapped).collect();
    Ok(JsonOptions { iso_timestamps, explicit_nulls, binary, mapping, delimiter: row_delimiter(properties)? })
}

fn header_lines(properties: &Properties) -> Result<usize> {
    const LINES_MAX: usize = 1000;
    let named = first(properties, &["csv.header"]).is_some_and(|text| text.eq_ignore_ascii_case("true"));
    let skipped = match first(properties, &["skip.header.line.count"]) {
        None => 0,
        Some(text) => text.trim().parse().ok().filter(|count| *count <= LINES_MAX).ok_or_else(|| {
            Error::user("INVALID_TABLE_PROPERTY", format!("'skip.header.line.count' is \"{text}\""))
                .with_hint(format!("files with up to {LINES_MAX} such lines are written"))
        })?,
    };
    Ok(skipped + usize::from(named))
}

fn delimited_options(storage: &Storage, properties: &Properties) -> Result<TextOptions> {
    let serde = &storage.serde_properties;
    let mut options = TextOptions { header_lines: header_lines(properties)?, ..TextOptions::delimited() };
    if let Some(text) = first(serde, &["field.delim", "serialization.format"]) {
        options.field_delimiter = delimiter(text)?;
    }
    if let Some(text) = first(serde, &["collection.delim", "colelction.delim"]) {
        options.item_delimiter = delimiter(text)?;
    }
    if let Some(text) = first(serde, &["mapkey.delim"]) {
        options.key_delimiter = delimiter(text)?;
    }
    if let Some(text) = first(serde, &["escape.delim"]) {
        options.escape = Some(delimiter(text)?);
    }
    if let Some(text) = first(serde, &["serialization.null.format"]) {
        options.null = text.to_owned();
    }
    Ok(options)
}

fn csv_options(storage: &Storage, properties: &Properties) -> Result<TextOptions> {
    let serde = &storage.serde_properties;
    let mut options = TextOptions { header_lines: header_lines(properties)?, ..TextOptions::csv() };
    let either = |keys: &[&str]| first(serde, keys).or_else(|| first(properties, keys));
    if let Some(text) = either(&["separatorchar", "field.delim", "csv.field-delimiter", "delimiter"]) {
        options.field_delimiter = delimiter(text)?;
    }
    if let (Some(text), None) = (either(&[NULL_LITERAL]), &storage.serde) {
        options.null = text.to_owned();
    }
    let is_open_csv = storage.serde.as_deref().is_some_and(|class| class.ends_with("OpenCSVSerde"));
    let quote = either(&["quotechar", "csv.quote-character"]).map_or(Ok(b'"'), delimiter)?;
    let escape = match either(&["escapechar", "csv.escape-character"]) {
        Some(text) => delimiter(text)?,
        None if is_open_csv => b'\\',
        None => quote,
    };
    options.style = match storage.serde {
        // OpenCSVSerde takes the quote as its own escape for the backslash.
        Some(_) if escape == quote => TextStyle::OpenCsv { quote, escape: b'\\' },
        Some(_) => TextStyle::OpenCsv { quote, escape },
        None => TextStyle::Csv { quote, escape },
    };
    Ok(options)
}

/// One byte, as properties spell it: itself, `\t`, `\001`, or its number as Hive's `serialization.format` has it.
pub fn delimiter(text: &str) -> Result<u8> {
    let octal = |digits: &str| u8::from_str_radix(digits, 8).ok();
    let byte = match text {
        "\\t" => Some(b'\t'),
        "\\n" => Some(b'\n'),
        "\\\\" => Some(b'\\'),
        _ if text.len() == 1 && text.as_bytes()[0].is_ascii_digit() => Some(text.as_bytes()[0] - b'0'),
        _ if text.len() == 1 => Some(text.as_bytes()[0]),
        _ if text.starts_with("\\u00") => u8::from_str_radix(&text[4..], 16).ok(),
        _ if text.starts_with('\\') => octal(&text[1..]),
        _ => text.parse().ok(),
    };
    byte.filter(u8::is_ascii).ok_or_else(|| {
        Error::user("INVALID_TABLE_PROPERTY", format!("delimiter \"{}\" is not one byte", text.escape_default()))
            .with_hint("use one character, '\\t', or an octal code such as '\\001'")
    })
}
