//! How a table's delimited files are read, from its SerDe and properties.
//!
//! Invariant: what would be passed over in silence is refused when the table is opened.

use headwater_engine::{
    catalog::Table,
    error::{Error, Result},
};

use super::split::{Splitter, trim_end};
use crate::lake::{
    format::Malformed,
    write::format::{TextOptions, TextStyle, WriteFormat},
};

/// How many lines at a file's end are no records.
const FOOTER_KEY: &str = "skip.footer.line.count";
/// How many fields the files have that were there before `ADD COLUMNS`.
const FIELDS_MIN_KEY: &str = "csv.fields-min";

/// Whose habits are followed where text meets a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lake::read) enum Habits {
    /// LazySimpleSerDe: what does not fit is NULL, missing fields are NULL, more are ignored.
    Lazy,
    /// OpenCSVSerde: missing fields are NULL; what does not fit is malformed; dates are days, timestamps milliseconds.
    OpenCsv,
    /// Ours: as many fields as columns, and each fits.
    Csv,
    /// One column that holds the line.
    Raw,
}

/// How a table's delimited files are read.
#[derive(Debug, Clone)]
pub struct DelimitedOptions {
    pub(super) text: TextOptions,
    pub(super) habits: Habits,
    /// Lines before the first record.
    pub(crate) skip: usize,
    /// The first line names the columns.
    pub(super) is_named: bool,
    /// Fields that files from before the last columns were added have.
    pub(super) fields_min: Option<usize>,
    /// The table says whether the first line names the columns.
    pub(super) says_header: bool,
    /// The table says what is between fields.
    pub(super) has_delimiter: bool,
    pub(super) malformed: Malformed,
}

impl DelimitedOptions {
    /// The options of a table whose malformed rows have this fate.
    pub fn of(table: &Table, malformed: Malformed) -> Result<Self> {
        let WriteFormat::Text { options: text, .. } = WriteFormat::of(&table.storage, &table.properties)? else {
            return Err(Error::internal("a table of delimited text has its options"));
        };
        let property =
            |key: &str| table.properties.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, v)| v.trim());
        let number = |key: &str| {
            let wrong = |text: &str| {
                Error::user("INVALID_TABLE_PROPERTY", format!("'{key}' is \"{text}\"")).with_hint("use a number")
            };
            property(key).map(|text| text.parse::<usize>().map_err(|_| wrong(text))).transpose()
        };
        let skip = number("skip.header.line.count")?.unwrap_or(0);
        refuse_unread(table, number(FOOTER_KEY)?)?;
        let habits = match text.style {
            TextStyle::Delimited => Habits::Lazy,
            TextStyle::Raw => Habits::Raw,
            TextStyle::OpenCsv { .. } => Habits::OpenCsv,
            TextStyle::Csv { .. } => Habits::Csv,
        };
        let (says_header, is_named) = match property("csv.header").map(str::to_ascii_lowercase).as_deref() {
            None => (false, false),
            Some("true") => (true, true),
            Some("false") => (true, false),
            Some(other) => {
                return Err(Error::user("INVALID_TABLE_PROPERTY", format!("'csv.header' is \"{other}\""))
                    .with_hint("use 'true' or 'false'"));
            }
        };
        let declared = ["separatorchar", "field.delim", "csv.field-delimiter", "delimiter", "serialization.format"];
        let serde = &table.storage.serde_properties;
        let has_delimiter = table
            .properties
            .keys()
            .chain(serde.keys())
            .any(|key| declared.iter().any(|declared| key.eq_ignore_ascii_case(declared)));
        let fields_min = number(FIELDS_MIN_KEY)?;
        Ok(Self { text, habits, skip, is_named, fields_min, says_header, has_delimiter, malformed })
    }

    /// Whether some value makes its row malformed.
    pub(crate) fn may_refuse(&self) -> bool {
        matches!(self.habits, Habits::Csv | Habits::OpenCsv)
    }

    /// Whether the first line of a file says what its fields are.
    pub(crate) fn is_named(&self) -> bool {
        self.is_named
    }

    /// Whether columns can be found in the files.
    pub(crate) fn is_inferable(&self) -> bool {
        match self.habits {
            Habits::Csv | Habits::OpenCsv => true,
            Habits::Lazy => self.has_delimiter,
            Habits::Raw => false,
        }
    }

    /// The first record of `bytes` without its line's end; `None` if it is not all there.
    pub(crate) fn record<'a>(&self, bytes: &'a [u8], is_all: bool) -> Option<&'a [u8]> {
        let (length, _) = Splitter::new(&self.text, self.habits).first(bytes, is_all)?;
        Some(trim_end(&bytes[..length]))
    }

    /// Whether a line's end is always a record's end.
    pub(crate) fn is_by_line(&self) -> bool {
        matches!(self.habits, Habits::Lazy | Habits::Raw)
    }
}

/// Refuses what would be passed over: lines that end otherwise, and lines to leave out at the end.
fn refuse_unread(table: &Table, footer: Option<usize>) -> Result<()> {
    let line_end = table.storage.serde_properties.iter().find(|(key, _)| key.eq_ignore_ascii_case("line.delim"));
    if let Some((_, end)) = line_end.filter(|(_, end)| !["\n", "\\n", "10", "\\012"].contains(&end.as_str())) {
        return Err(Error::not_supported(format!("LINES TERMINATED BY '{}'", end.escape_default()))
            .with_hint("a line ends with \\n or \\r\\n; leave the clause out"));
    }
    if footer.is_some_and(|lines| lines > 0) {
        return Err(Error::not_supported(format!("property '{FOOTER_KEY}'"))
            .with_hint("remove the last lines from the files, or filter them out by their values"));
    }
    Ok(())
}
