//! What `ROW FORMAT` and `STORED AS` say about the bytes of a table.
//!
//! Invariant: a class or format that cannot be read is refused by name here, before anything is registered.

use headwater_engine::{
    catalog::{FileFormat, Properties, Storage},
    error::{Error, Location, Result},
};

use crate::parser::ddl::{CreateTable, RowFormat, StoredAs};

/// SerDe classes, and what they read.
const SERDES: &[(&str, FileFormat)] = &[
    ("org.openx.data.jsonserde.JsonSerDe", FileFormat::Json),
    ("org.apache.hive.hcatalog.data.JsonSerDe", FileFormat::Json),
    ("org.apache.hadoop.hive.serde2.JsonSerDe", FileFormat::Json),
    ("org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe", FileFormat::Text),
    ("org.apache.hadoop.hive.serde2.OpenCSVSerde", FileFormat::Csv),
    ("org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe", FileFormat::Parquet),
];

/// Input format classes, and whether they read Parquet.
const INPUT_FORMATS: &[(&str, bool)] = &[
    ("org.apache.hadoop.mapred.TextInputFormat", false),
    ("org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat", true),
];

/// What cannot be read, as part of a class name or as a word after `STORED AS`.
const UNSUPPORTED: &[&str] =
    &["ICEBERG", "ORC", "AVRO", "RCFILE", "RCBINARY", "RCTEXT", "SEQUENCEFILE", "ION", "REGEX", "GROK", "CLOUDTRAIL"];

/// The storage of a table as its DDL says it.
pub(super) fn storage(table: &CreateTable) -> Result<Storage> {
    let mut serde_properties: Properties = table.serde_properties.iter().cloned().collect();
    let mut serde = None;
    let of_row_format = match &table.row_format {
        Some(RowFormat::Serde(class, at)) => {
            let (class, format) = serde_format(class, *at)?;
            serde = Some(class);
            Some(format)
        }
        Some(RowFormat::Delimited(says)) => {
            serde_properties.extend(says.iter().cloned());
            Some(FileFormat::Text)
        }
        None => None,
    };
    let (mut input_format, mut output_format) = (None, None);
    let of_stored_as = match &table.stored_as {
        Some(StoredAs::Format(word, at)) => format_named(word, *at)?,
        Some(StoredAs::Classes { input, output, at }) => {
            let is_parquet = input_class(input, *at)?;
            (input_format, output_format) = (Some(input.clone()), Some(output.clone()));
            is_parquet.then_some(FileFormat::Parquet)
        }
        None => None,
    };
    let format = agree(table, of_row_format, of_stored_as)?;
    Ok(Storage { format, serde, serde_properties, input_format, output_format })
}

/// Whether a table's `STORED AS` is a word of ours, not Athena's: such tables list their folders on every query.
pub(super) fn is_short_form(table: &CreateTable) -> bool {
    let is_ours = |word: &str| ["JSON", "CSV", "RAW"].contains(&word);
    table.columns.is_empty()
        || matches!(&table.stored_as, Some(StoredAs::Format(word, _)) if is_ours(word)) && table.row_format.is_none()
}

/// The word that says this format after `STORED AS`, where no SerDe does.
pub(super) fn format_word(format: FileFormat) -> &'static str {
    match format {
        FileFormat::Json => "JSON",
        FileFormat::Text => "TEXTFILE",
        FileFormat::Csv => "CSV",
        FileFormat::Parquet => "PARQUET",
        FileFormat::Raw => "RAW",
    }
}

fn agree(
    table: &CreateTable,
    of_row_format: Option<FileFormat>,
    of_stored_as: Option<FileFormat>,
) -> Result<FileFormat> {
    let is_delimited = matches!(table.row_format, Some(RowFormat::Delimited(_)));
    match (of_row_format, of_stored_as) {
        (None, None) => Ok(FileFormat::Text),
        (Some(format), None) | (None, Some(format)) => Ok(format),
        (Some(row), Some(stored)) if row == stored => Ok(row),
        (Some(_), Some(FileFormat::Csv)) if is_delimited => Ok(FileFormat::Csv),
        (Some(row), Some(FileFormat::Text)) if row != FileFormat::Parquet => Ok(row),
        (Some(row), Some(stored)) => {
            let (row, stored) = (format_word(row), format_word(stored));
            let message = format!("the row format is for {row}, but the files are stored as {stored}");
            Err(Error::user("INVALID_TABLE_PROPERTY", message).with_hint("leave one of them out").at(table.location_at))
        }
    }
}

fn serde_format(class: &str, at: Location) -> Result<(String, FileFormat)> {
    if let Some((class, format)) = SERDES.iter().find(|(known, _)| known.eq_ignore_ascii_case(class)) {
        return Ok(((*class).to_owned(), *format));
    }
    let known: Vec<_> = SERDES.iter().map(|(known, _)| *known).collect();
    let error = Error::not_supported(format!("SerDe \"{class}\" is not supported")).at(at);
    let short = |class: &str| class.rsplit('.').next().unwrap_or_default().to_lowercase();
    let same = known.iter().find(|known| short(known) == short(class));
    Err(match same {
        Some(same) => error.with_hint(format!("did you mean \"{same}\"?")),
        None => error.with_hint(format!("use one of {}", known.join(", "))),
    })
}

/// The format of a word; `None` where the word only says that the files are text.
fn format_named(word: &str, at: Location) -> Result<Option<FileFormat>> {
    Ok(Some(match word {
        "TEXTFILE" => FileFormat::Text,
        "PARQUET" => FileFormat::Parquet,
        "JSON" | "JSONFILE" => FileFormat::Json,
        "CSV" => FileFormat::Csv,
        "RAW" => FileFormat::Raw,
        _ if UNSUPPORTED.contains(&word) => return Err(unsupported(word, at)),
        _ => {
            let error = Error::user("INVALID_TABLE_PROPERTY", format!("file format \"{word}\" is not known")).at(at);
            return Err(crate::diagnostics::did_you_mean(error, word, ["TEXTFILE", "PARQUET", "JSON", "CSV", "RAW"]));
        }
    }))
}

fn unsupported(word: &str, at: Location) -> Error {
    Error::not_supported(format!("STORED AS {word} is not supported"))
        .with_hint("use PARQUET, TEXTFILE, JSON or CSV; convert existing files once with the engine that wrote them")
        .at(at)
}

fn input_class(class: &str, at: Location) -> Result<bool> {
    if let Some((_, is_parquet)) = INPUT_FORMATS.iter().find(|(known, _)| known.eq_ignore_ascii_case(class)) {
        return Ok(*is_parquet);
    }
    let known: Vec<_> = INPUT_FORMATS.iter().map(|(known, _)| *known).collect();
    Err(Error::not_supported(format!("input format \"{class}\" is not supported"))
        .with_hint(format!("use one of {}", known.join(", ")))
        .at(at))
}
