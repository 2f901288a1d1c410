//! `'format' = 'csv'` over a stream: a payload is one record with the declared columns in their order.
//!
//! Invariant: rows are read and written by the rules of the lake's own CSV, so that both give the same values.

use std::sync::Arc;

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use headwater_engine::{
    error::Result,
    format::{Decoder, Encoder, Format, Payloads},
};

use super::table_format::{Given, Part};
use crate::lake::{
    read::delimited::CsvDecoder,
    write::{
        encode::TextRows,
        format::{TextOptions, TextStyle, delimiter},
    },
};

/// The format, with the columns a record has.
#[derive(Debug, Clone)]
pub struct Csv {
    declared: SchemaRef,
    options: TextOptions,
}

impl Csv {
    /// The format of a part of a table, under Flink's options.
    pub(super) fn of(given: &mut Given<'_>, part: &Part) -> Result<Self> {
        let mut options = TextOptions::csv();
        if let Some(text) = given.text("csv.field-delimiter") {
            options.field_delimiter = delimiter(&text)?;
        }
        let quote = given.text("csv.quote-character").map_or(Ok(b'"'), |text| delimiter(&text))?;
        let escape = given.text("csv.escape-character").map(|text| delimiter(&text)).transpose()?;
        options.style = TextStyle::Csv { quote, escape: escape.unwrap_or(quote) };
        if given.flag("csv.disable-quote-character")?.unwrap_or(false) {
            options.style = TextStyle::Delimited;
            options.escape = escape;
        }
        options.null = given.text("csv.null-literal").unwrap_or_default();
        Ok(Self { declared: Arc::clone(&part.columns), options })
    }
}

impl Format for Csv {
    fn name(&self) -> &'static str {
        "csv"
    }

    fn decoder(&self, schema: SchemaRef) -> Result<Box<dyn Decoder>> {
        Ok(Box::new(CsvDecoder::try_new(schema, &self.declared, self.options.clone())?))
    }

    fn encoder(&self, schema: SchemaRef) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(CsvEncoder(TextRows::records(self.options.clone(), &schema)?)))
    }
}

#[derive(Debug)]
struct CsvEncoder(TextRows);

impl Encoder for CsvEncoder {
    fn encode(&mut self, rows: &RecordBatch) -> Result<Payloads> {
        self.0.payloads(rows)
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{AsArray, Int64Array, StringArray},
        datatypes::{DataType, Field, Int64Type, Schema},
    };

    use super::*;
    use crate::options::Options;

    fn payloads(parts: &[&str]) -> Payloads {
        let ends = parts.iter().scan(0, |end, part| {
            *end += part.len();
            Some(*end)
        });
        Payloads { ends: ends.collect(), buffer: parts.concat().into_bytes().into() }
    }

    fn csv(pairs: &[(&str, &str)]) -> (Csv, SchemaRef) {
        let columns: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("name", DataType::Utf8, true),
        ]));
        let map = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut options = Options::new("t", &map);
        let part = Part::new(Arc::clone(&columns));
        let format = Csv::of(&mut Given { options: &mut options, prefix: "" }, &part).unwrap();
        options.finish().unwrap();
        (format, columns)
    }

    #[test]
    fn records_round_trip_with_quotes_and_line_ends() {
        let (format, columns) = csv(&[("csv.field-delimiter", ";")]);
        let ids = Int64Array::from(vec![Some(1), None]);
        let names = StringArray::from(vec![Some("a;\"b\"\nc"), Some("")]);
        let rows = RecordBatch::try_new(Arc::clone(&columns), vec![Arc::new(ids), Arc::new(names)]).unwrap();
        let written = format.encoder(Arc::clone(&columns)).unwrap().encode(&rows).unwrap();
        assert_eq!(written.payload(0), b"1;\"a;\"\"b\"\"\nc\"");
        assert_eq!(written.payload(1), b";\"\"");
        let read = format.decoder(columns).unwrap().decode(&written).unwrap();
        assert_eq!(read.rows.rows, rows);
    }

    #[test]
    fn some_columns_are_read_by_their_place_and_the_rest_is_judged_no_further() {
        let (format, columns) = csv(&[("csv.null-literal", "n/a")]);
        let wanted = Arc::new(columns.project(&[1]).unwrap());
        let input = payloads(&["x,first", "2", "3,n/a", "", "4,\"open", "5,last\r\n"]);
        let read = format.decoder(wanted).unwrap().decode(&input).unwrap();
        let names: Vec<Option<&str>> = read.rows.rows.column(0).as_string::<i32>().iter().collect();
        assert_eq!(names, [Some("first"), None, Some("last")]);
        assert_eq!(read.payload_of_row, Some(vec![0, 2, 5]));
        let reasons: Vec<&str> = read.rejected.iter().map(|row| row.reason.as_str()).collect();
        assert_eq!(reasons, ["1 fields where 2 are expected", "empty", "a quote is not closed"]);
    }

    #[test]
    fn a_value_of_another_type_rejects_its_record() {
        let (format, columns) = csv(&[]);
        let read = format.decoder(columns).unwrap().decode(&payloads(&["1,a", "x,b", ",c"])).unwrap();
        let ids: Vec<Option<i64>> = read.rows.rows.column(0).as_primitive::<Int64Type>().iter().collect();
        assert_eq!(ids, [Some(1), None]);
        assert_eq!(read.rejected[0].reason, "column \"id\": \"x\" is no bigint");
    }
}
