//! The `WITH` options of `CREATE TABLE AS` and `UNLOAD`, under Athena's names.
//!
//! Invariant: an unknown option is an error that names the nearest known one; what is known and not supported is
//! refused by name.

use headwater_connectors::lake::write::format::{ParquetOptions, delimiter};
use headwater_engine::{
    catalog::{FileFormat, Properties, Storage},
    error::{Error, Result},
};

use crate::{
    diagnostics::did_you_mean,
    parser::statement::{OptionValue, WithOption},
};

/// What the options say about the files to write.
#[derive(Debug, Clone)]
pub(super) struct FileOptions {
    /// Format and delimiters.
    pub(super) storage: Storage,
    /// Compression, as table properties.
    pub(super) properties: Properties,
    /// Where the files go.
    pub(super) location: Option<String>,
    /// Names of the partition keys.
    pub(super) partitioned_by: Vec<String>,
}

/// Options that are known and refused, with the way out.
const REFUSED: &[(&str, &str)] = &[
    ("bucketed_by", "leave it out; partition instead"),
    ("bucket_count", "leave it out; partition instead"),
    ("partitioning", "it belongs to Iceberg tables; use partitioned_by"),
    ("orc_compression", "write PARQUET with parquet_compression"),
    ("vacuum_max_snapshot_age_seconds", "it belongs to Iceberg tables"),
    ("vacuum_min_snapshots_to_keep", "it belongs to Iceberg tables"),
    ("optimize_rewrite_data_file_threshold", "it belongs to Iceberg tables"),
    ("optimize_rewrite_delete_file_threshold", "it belongs to Iceberg tables"),
];

/// Options of `CREATE TABLE AS`.
const TABLE_OPTIONS: &[&str] = &[
    "format",
    "external_location",
    "location",
    "is_external",
    "table_type",
    "write_compression",
    "parquet_compression",
    "compression_level",
    "field_delimiter",
    "partitioned_by",
];
/// Options of `UNLOAD`.
const UNLOAD_OPTIONS: &[&str] = &["format", "compression", "compression_level", "field_delimiter", "partitioned_by"];

/// Options of `CREATE TABLE AS .. WITH (..)`.
pub(super) fn of_table(options: &[WithOption]) -> Result<FileOptions> {
    let read = Read::new(options, TABLE_OPTIONS)?;
    if let Some((option, text)) = read.text("table_type")?
        && !text.eq_ignore_ascii_case("HIVE")
    {
        return Err(Error::not_supported(format!("table_type {} is not supported", text.to_uppercase()))
            .with_hint("leave it out, or use HIVE")
            .at(option.name.at));
    }
    let (external, plain) = (read.text("external_location")?, read.text("location")?);
    if let (Some(_), Some((option, _))) = (&external, &plain) {
        let message = "external_location and location are the same option; give one of them";
        return Err(Error::user("INVALID_TABLE_PROPERTY", message).at(option.name.at));
    }
    let location = external.or(plain).map(|(_, text)| text);
    Ok(FileOptions { location, ..read.files(&["write_compression", "parquet_compression"])? })
}

/// Options of `UNLOAD .. WITH (..)`.
pub(super) fn of_unload(options: &[WithOption]) -> Result<FileOptions> {
    Read::new(options, UNLOAD_OPTIONS)?.files(&["compression"])
}

struct Read<'a>(&'a [WithOption]);

impl<'a> Read<'a> {
    fn new(options: &'a [WithOption], known: &[&str]) -> Result<Self> {
        for (index, option) in options.iter().enumerate() {
            let name = option.name.value.to_lowercase();
            if let Some((_, hint)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
                let error = Error::not_supported(format!("option \"{name}\" is not supported"));
                return Err(error.with_hint(*hint).at(option.name.at));
            }
            if !known.contains(&name.as_str()) {
                let error = Error::user("INVALID_TABLE_PROPERTY", format!("option \"{name}\" is not known"));
                let error = error.with_hint(format!("use {}", known.join(", "))).at(option.name.at);
                return Err(did_you_mean(error, &name, known.iter().copied()));
            }
            if options[..index].iter().any(|other| other.name.value.eq_ignore_ascii_case(&name)) {
                let error = Error::user("INVALID_TABLE_PROPERTY", format!("option \"{name}\" is given twice"));
                return Err(error.at(option.name.at));
            }
        }
        Ok(Self(options))
    }

    fn find(&self, name: &str) -> Option<&'a WithOption> {
        self.0.iter().find(|option| option.name.value.eq_ignore_ascii_case(name))
    }

    fn text(&self, name: &str) -> Result<Option<(&'a WithOption, String)>> {
        let Some(option) = self.find(name) else { return Ok(None) };
        match &option.value {
            OptionValue::Text(text) | OptionValue::Number(text) => Ok(Some((option, text.clone()))),
            OptionValue::Boolean(_) | OptionValue::List(_) => {
                let message = format!("option \"{name}\" takes a text in quotes");
                Err(Error::user("INVALID_TABLE_PROPERTY", message).at(option.name.at))
            }
        }
    }

    fn files(&self, compressions: &[&str]) -> Result<FileOptions> {
        let format = match self.text("format")? {
            None => FileFormat::Parquet,
            Some((option, name)) => file_format(&name).map_err(|error| error.at(option.name.at))?,
        };
        let mut properties = Properties::new();
        for name in compressions {
            if let Some((option, codec)) = self.text(name)? {
                if !properties.is_empty() {
                    let message = format!("{} are the same option; give one of them", compressions.join(" and "));
                    return Err(Error::user("INVALID_TABLE_PROPERTY", message).at(option.name.at));
                }
                check_codec(format, name, &codec).map_err(|error| error.at(option.name.at))?;
                let key = if format == FileFormat::Parquet { "parquet.compression" } else { "write.compression" };
                properties.insert(key.to_owned(), codec.to_uppercase());
            }
        }
        if let Some((option, level)) = self.text("compression_level")? {
            if format != FileFormat::Parquet {
                let error = Error::not_supported("compression_level is for PARQUET");
                return Err(error
                    .with_hint("leave it out; text is compressed at its codec's usual level")
                    .at(option.name.at));
            }
            check_level(&properties, &level).map_err(|error| error.at(option.name.at))?;
            properties.insert("compression_level".to_owned(), level);
        }
        let mut storage = storage_of(format);
        if let Some((option, text)) = self.text("field_delimiter")? {
            if format != FileFormat::Text && format != FileFormat::Csv {
                let error = Error::user("INVALID_TABLE_PROPERTY", "field_delimiter is for TEXTFILE and CSV");
                return Err(error.at(option.name.at));
            }
            delimiter(&text).map_err(|error| error.at(option.name.at))?;
            storage.serde_properties.insert("field.delim".to_owned(), text);
        }
        let partitioned_by = match self.find("partitioned_by") {
            None => Vec::new(),
            Some(WithOption { value: OptionValue::List(keys), .. }) => {
                keys.iter().map(|key| key.to_lowercase()).collect()
            }
            Some(option) => {
                let error = Error::user("INVALID_TABLE_PROPERTY", "partitioned_by takes ARRAY['a', 'b']");
                return Err(error.at(option.name.at));
            }
        };
        Ok(FileOptions { storage, properties, location: None, partitioned_by })
    }
}

fn check_level(properties: &Properties, level: &str) -> Result<()> {
    let number = level
        .parse()
        .map_err(|_| Error::user("INVALID_TABLE_PROPERTY", format!("\"{level}\" is not a compression level")))?;
    let codec = properties.get("parquet.compression").map_or("gzip", String::as_str);
    ParquetOptions::parse(codec, Some(number)).map(drop)
}

fn check_codec(format: FileFormat, option: &str, codec: &str) -> Result<()> {
    if format == FileFormat::Parquet {
        return ParquetOptions::parse(codec, None).map(drop);
    }
    if option == "parquet_compression" {
        return Err(Error::user("INVALID_TABLE_PROPERTY", "parquet_compression is for PARQUET")
            .with_hint("use write_compression"));
    }
    headwater_connectors::lake::write::compress::Codec::parse(codec).map(drop)
}

fn file_format(name: &str) -> Result<FileFormat> {
    let upper = name.to_uppercase();
    Ok(match upper.as_str() {
        "PARQUET" => FileFormat::Parquet,
        "JSON" => FileFormat::Json,
        "TEXTFILE" => FileFormat::Text,
        "CSV" => FileFormat::Csv,
        "ORC" | "AVRO" | "ION" | "RCFILE" | "SEQUENCEFILE" => {
            return Err(Error::not_supported(format!("format {upper} is not supported"))
                .with_hint("use PARQUET, JSON, TEXTFILE or CSV"));
        }
        _ => {
            let error = Error::user("INVALID_TABLE_PROPERTY", format!("format \"{name}\" is not known"));
            return Err(did_you_mean(error, &upper, ["PARQUET", "JSON", "TEXTFILE", "CSV"]));
        }
    })
}

fn storage_of(format: FileFormat) -> Storage {
    let serde = match format {
        FileFormat::Json => Some("org.openx.data.jsonserde.JsonSerDe".to_owned()),
        FileFormat::Text => Some("org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe".to_owned()),
        FileFormat::Csv | FileFormat::Parquet | FileFormat::Raw => None,
    };
    Storage { format, serde, serde_properties: Properties::new(), input_format: None, output_format: None }
}
