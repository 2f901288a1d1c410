//! Columns of delimited text from a sample of its records.
//!
//! Invariant: a type that is found reads every sampled value of its column, by the same code that reads the table; an
//! empty field says nothing about its column.

use std::collections::HashSet;

use arrow::{
    array::{Array, StringArray},
    datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, Schema, TimeUnit},
};

use super::{
    DelimitedOptions, Habits,
    split::{Fields, Scan, Splitter},
    trim_end, values, without_mark,
};
use crate::{formats::json::EXACT_MAX, lake::write::format::TextOptions};

/// Delimiters that are tried where none is declared; of equally good ones the first.
const DELIMITERS: [u8; 4] = [b',', b'\t', b';', b'|'];
/// Records looked at of each file.
const RECORDS_MAX: usize = 10_000;

/// What delimited files look like.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Delimited {
    /// The columns, names in lower case.
    pub(crate) columns: Schema,
    /// The first record names them.
    pub(crate) header: bool,
    /// Between fields.
    pub(crate) delimiter: u8,
}

/// The first bytes of a file.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) bytes: Vec<u8>,
    /// They are the whole file.
    pub(crate) is_whole: bool,
}

/// What the starts of some files show; `None` where there is no record.
pub(crate) fn infer(starts: &[Start], options: &DelimitedOptions) -> Option<Delimited> {
    let delimiter = match options.has_delimiter {
        true => options.text.field_delimiter,
        false => likely_delimiter(starts, options),
    };
    let mut files: Vec<Vec<Vec<String>>> = starts.iter().map(|start| records(start, options, delimiter)).collect();
    files.retain(|records| !records.is_empty());
    let width = files.first()?[0].len();
    let header = match options.skip {
        0 if options.says_header => options.is_named,
        0 => files.iter().any(|records| has_header(records)),
        // What is skipped is no record; its last line names the columns if it has as many fields.
        _ => false,
    };
    let names = match (header, options.skip) {
        (true, _) => named(&files[0][0]),
        (false, 1..) => skipped_names(starts, options, delimiter).filter(|names| names.len() == width)?,
        (false, 0) => (0..width).map(|index| format!("col{index}")).collect(),
    };
    let data: Vec<&[String]> = files
        .iter()
        .flat_map(|records| records.iter().skip(usize::from(header)))
        .filter(|record| record.len() == width)
        .map(Vec::as_slice)
        .collect();
    let fields = names.iter().enumerate().map(|(index, name)| {
        let data_type = match options.habits {
            Habits::OpenCsv => DataType::Utf8,
            Habits::Csv | Habits::Lazy | Habits::Raw => type_of(data.iter().map(|record| record[index].as_str())),
        };
        Field::new(name, data_type, true)
    });
    Some(Delimited { columns: Schema::new(fields.collect::<Vec<_>>()), header, delimiter })
}

fn records(start: &Start, options: &DelimitedOptions, delimiter: u8) -> Vec<Vec<String>> {
    let text = TextOptions { field_delimiter: delimiter, ..options.text.clone() };
    let splitter = Splitter::new(&text, options.habits);
    let (mut found, mut at) = (Vec::new(), 0);
    while found.len() < RECORDS_MAX + options.skip && at < start.bytes.len() {
        let Some(length) = splitter.record(&start.bytes[at..], &mut Scan::default(), start.is_whole) else { break };
        let record = without_mark(trim_end(&start.bytes[at..at + length]), at as u64);
        at += length;
        if record.is_empty() && found.len() >= options.skip {
            continue;
        }
        let mut fields = Fields::default();
        splitter.fields(record, &mut fields);
        found.push(fields.texts().map(|field| String::from_utf8_lossy(field).trim().to_owned()).collect());
    }
    found.drain(..options.skip.min(found.len()));
    found
}

/// The delimiter by which most records have the same number of fields, more than one.
fn likely_delimiter(starts: &[Start], options: &DelimitedOptions) -> u8 {
    let agreeing = |delimiter: u8| {
        let all: Vec<_> = starts.iter().flat_map(|start| records(start, options, delimiter)).collect();
        let width = all.first().map_or(0, Vec::len);
        if width < 2 { 0 } else { all.iter().filter(|record| record.len() == width).count() }
    };
    let mut best = (0, DELIMITERS[0]);
    for delimiter in DELIMITERS {
        let count = agreeing(delimiter);
        if count > best.0 {
            best = (count, delimiter);
        }
    }
    best.1
}

fn named(record: &[String]) -> Vec<String> {
    record.iter().map(|name| name.to_lowercase()).collect()
}

fn skipped_names(starts: &[Start], options: &DelimitedOptions, delimiter: u8) -> Option<Vec<String>> {
    let unskipped = DelimitedOptions { skip: 0, ..options.clone() };
    let first = records(starts.first()?, &unskipped, delimiter);
    first.get(options.skip - 1).map(|record| named(record))
}

/// Whether the first record names the columns: its fields are distinct texts, and what follows differs from it, by type
/// or, where all is text, by not repeating any of them.
fn has_header(records: &[Vec<String>]) -> bool {
    let [first, rest @ ..] = records else { return false };
    let is_name = |text: &String| !text.is_empty() && type_of([text.as_str()]) == DataType::Utf8;
    let distinct: HashSet<String> = first.iter().map(|name| name.to_lowercase()).collect();
    if rest.is_empty() || distinct.len() < first.len() || !first.iter().all(is_name) {
        return false;
    }
    let rest: Vec<&Vec<String>> = rest.iter().filter(|record| record.len() == first.len()).collect();
    let typed = |index: usize| type_of(rest.iter().map(|record| record[index].as_str())) != DataType::Utf8;
    if (0..first.len()).any(typed) {
        return true;
    }
    let is_word = |text: &String| {
        text.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ' | '.'))
    };
    let repeats = |index: usize| rest.iter().any(|record| record[index] == first[index]);
    first.iter().all(is_word) && !(0..first.len()).any(repeats)
}

/// A type, and what a text must look like to be tried as one.
type Candidate = (DataType, fn(&str) -> bool);

/// The least type that reads all values.
fn type_of<'a>(texts: impl IntoIterator<Item = &'a str>) -> DataType {
    let texts: Vec<&str> = texts.into_iter().filter(|text| !text.is_empty()).collect();
    if texts.is_empty() {
        return DataType::Utf8;
    }
    let candidates: [Candidate; 6] = [
        (DataType::Boolean, |text| text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false")),
        (DataType::Int64, is_whole),
        (DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0), is_whole),
        (DataType::Float64, |text| is_number(text) && is_double(text)),
        (DataType::Date32, |text| text.len() == 10 && text.as_bytes()[4] == b'-'),
        (DataType::Timestamp(TimeUnit::Millisecond, None), |text| text.len() >= 10 && text.as_bytes()[4] == b'-'),
    ];
    let all = StringArray::from(texts.clone());
    let reads = |data_type: &DataType| {
        values::scalar(&all, data_type, Habits::Csv).is_ok_and(|values| values.null_count() == 0)
    };
    let fits =
        candidates.into_iter().find(|(data_type, looks)| texts.iter().all(|text| looks(text)) && reads(data_type));
    fits.map_or(DataType::Utf8, |(data_type, _)| data_type)
}

/// Digits that are a number and not a code: `007` is text.
fn is_whole(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'))
}

/// A number that DOUBLE holds, a whole one to the last digit.
fn is_double(text: &str) -> bool {
    let is_exact = |text: &str| text.parse::<i64>().is_ok_and(|value| value.unsigned_abs() <= EXACT_MAX);
    text.parse::<f64>().is_ok_and(f64::is_finite) && (!is_whole(text) || is_exact(text))
}

fn is_number(text: &str) -> bool {
    let number = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_code = number.len() > 1 && number.starts_with('0') && number.as_bytes()[1].is_ascii_digit();
    number.starts_with(|c: char| c.is_ascii_digit() || c == '.') && !is_code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::format::Malformed;

    fn options() -> DelimitedOptions {
        DelimitedOptions {
            text: TextOptions::csv(),
            habits: Habits::Csv,
            skip: 0,
            is_named: false,
            fields_min: None,
            has_delimiter: false,
            says_header: false,
            malformed: Malformed::Fail,
        }
    }

    fn found(text: &str) -> (bool, u8, Vec<String>) {
        let start = Start { bytes: text.as_bytes().to_vec(), is_whole: true };
        let found = infer(&[start], &options()).unwrap();
        let columns = found.columns.fields().iter().map(|field| format!("{}:{}", field.name(), field.data_type()));
        (found.header, found.delimiter, columns.collect())
    }

    #[test]
    fn headers_delimiters_and_types_are_found() {
        let (header, delimiter, columns) = found(
            "Id;Full Name;born;at;x;ok;zip\n1;\"Ann; B\";2000-01-31;2024-01-01 10:00:00;1.5;true;007\n2;;;;2;;1\n",
        );
        assert_eq!((header, delimiter), (true, b';'));
        assert_eq!(
            columns,
            ["id:Int64", "full name:Utf8", "born:Date32", "at:Timestamp(ms)", "x:Float64", "ok:Boolean", "zip:Utf8"]
        );
    }

    #[test]
    fn no_digit_of_a_whole_number_is_lost() {
        let (.., columns) = found("a,b,c,d\n12345678901234567890,9007199254740993,1e400,1\n-1,0.5,1,-1.5\n");
        assert_eq!(columns, ["a:Decimal128(38, 0)", "b:Utf8", "c:Utf8", "d:Float64"]);
    }

    #[test]
    fn without_a_header_columns_are_numbered() {
        assert_eq!(found("1\ta\n2\tb\n"), (false, b'\t', vec!["col0:Int64".into(), "col1:Utf8".into()]));
        assert!(!found("a,b\na,c\n").0, "a value that comes again is no name");
        assert!(found("city,country\nParis,France\nRome,Italy\n").0);
        assert!(!found("only,one\n").0);
    }
}
