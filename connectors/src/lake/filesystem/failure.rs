//! Error objects as Firehose writes them: one JSON line for each record that was not delivered.
//!
//! | error type | errorCode | cause |
//! |---|---|---|
//! | `format-conversion-failed` | `DataFormatConversion.ParseError`, `.MalformedData` | not to be read as the table's columns |
//! | `format-conversion-failed` | `DataFormatConversion.MalformedData` | not to be written in the table's format |
//! | `metadata-extraction-failed` | `DynamicPartitioning.MetadataExtractionFailed` | a partition key that cannot be had |
//! | `metadata-extraction-failed` | `DynamicPartitioning.ActivePartitionLimitExceeded` | one partition too many |
//! | `partitioning-failed` | `DynamicPartitioning.PartitioningFailed` | a key the query of the INSERT leaves NULL or empty |
//! | `processing-failed` | `Expression.Failed` | an expression of the query |
//!
//! Invariant: a line holds the record's bytes as they came, or the row as JSON where a query has no records.

use base64::{Engine, engine::general_purpose::STANDARD};
use headwater_engine::{
    catalog::TableName,
    error::{Error, Result},
};
use serde::Serialize;

/// `!{firehose:error-output-type}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum ErrorType {
    FormatConversion,
    MetadataExtraction,
    Partitioning,
    Processing,
}

impl ErrorType {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FormatConversion => "format-conversion-failed",
            Self::MetadataExtraction => "metadata-extraction-failed",
            Self::Partitioning => "partitioning-failed",
            Self::Processing => "processing-failed",
        }
    }
}

/// Why a record was not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: ErrorType,
    code: &'static str,
    message: String,
}

/// A record that was not delivered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Undelivered<'a> {
    pub(super) raw: &'a [u8],
    pub(super) arrival_ms: i64,
    /// Its place in its split, if it is known.
    pub(super) sequence: Option<&'a str>,
}

impl Failure {
    /// A partition key that cannot be had.
    pub(super) fn no_key(message: impl Into<String>) -> Self {
        let code = "DynamicPartitioning.MetadataExtractionFailed";
        Self { kind: ErrorType::MetadataExtraction, code, message: message.into() }
    }

    /// A partition key that the query of the INSERT did not give.
    pub(super) fn not_partitioned(message: impl Into<String>) -> Self {
        let code = "DynamicPartitioning.PartitioningFailed";
        Self { kind: ErrorType::Partitioning, code, message: message.into() }
    }

    /// One partition too many.
    pub(super) fn too_many(open_max: usize) -> Self {
        Self {
            kind: ErrorType::MetadataExtraction,
            code: "DynamicPartitioning.ActivePartitionLimitExceeded",
            message: format!("more than {open_max} partitions are open"),
        }
    }

    /// A row that the format of the files cannot have.
    pub(super) fn unwritable(message: impl Into<String>) -> Self {
        let code = "DataFormatConversion.MalformedData";
        Self { kind: ErrorType::FormatConversion, code, message: message.into() }
    }

    /// What the reason of a rejected row comes to.
    pub(super) fn of_reason(reason: &str) -> Self {
        let (kind, code) = if reason.starts_with("expression:") {
            (ErrorType::Processing, "Expression.Failed")
        } else if is_of_its_values(reason) {
            (ErrorType::FormatConversion, "DataFormatConversion.MalformedData")
        } else {
            (ErrorType::FormatConversion, "DataFormatConversion.ParseError")
        };
        Self { kind, code, message: reason.to_owned() }
    }

    /// The reason as `"t$rejected"` gives it.
    pub(super) fn reason(&self) -> String {
        let short = self.code.rsplit('.').next().unwrap_or(self.code);
        format!("{}: {short}: {}", self.kind.name(), self.message)
    }

    /// The line of an error object.
    pub(super) fn line(&self, record: Undelivered<'_>, now_ms: i64, table: &TableName) -> Result<String> {
        let raw_data = STANDARD.encode(record.raw);
        let (code, message) = (self.code, self.message.as_str());
        let text = if self.kind == ErrorType::FormatConversion {
            serde_json::to_string(&ConversionLine {
                attempts_made: 1,
                arrival_timestamp: record.arrival_ms,
                last_error_code: code,
                last_error_message: message,
                attempt_ending_timestamp: now_ms,
                raw_data,
                sequence_number: record.sequence,
                sub_sequence_number: None,
                data_catalog_table: CatalogTable {
                    catalog_id: None,
                    database_name: &table.database,
                    table_name: &table.table,
                    region: None,
                    version_id: "LATEST",
                    catalog_arn: None,
                },
            })
        } else {
            serde_json::to_string(&PlainLine {
                attempts_made: 1,
                arrival_timestamp: record.arrival_ms,
                error_code: code,
                error_message: message,
                attempt_ending_timestamp: now_ms,
                raw_data,
            })
        };
        text.map_err(|error| Error::internal(format!("an error object: {error}")))
    }
}

/// Whether the text could be read, but not as the table's columns.
fn is_of_its_values(reason: &str) -> bool {
    let beginnings = ["column \"", "event time ", "empty", "expected a JSON object"];
    beginnings.iter().any(|beginning| reason.starts_with(beginning))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PlainLine<'a> {
    attempts_made: u32,
    arrival_timestamp: i64,
    error_code: &'a str,
    error_message: &'a str,
    attempt_ending_timestamp: i64,
    raw_data: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConversionLine<'a> {
    attempts_made: u32,
    arrival_timestamp: i64,
    last_error_code: &'a str,
    last_error_message: &'a str,
    attempt_ending_timestamp: i64,
    raw_data: String,
    sequence_number: Option<&'a str>,
    sub_sequence_number: Option<u64>,
    data_catalog_table: CatalogTable<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CatalogTable<'a> {
    catalog_id: Option<&'a str>,
    database_name: &'a str,
    table_name: &'a str,
    region: Option<&'a str>,
    version_id: &'a str,
    catalog_arn: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(failure: &Failure) -> serde_json::Value {
        let record = Undelivered { raw: b"{\"a\":", arrival_ms: 1, sequence: Some("7") };
        serde_json::from_str(&failure.line(record, 2, &TableName::new("lake", "t")).unwrap()).unwrap()
    }

    #[test]
    fn each_failure_has_the_shape_of_its_type() {
        let expected = serde_json::json!({
            "attemptsMade": 1, "arrivalTimestamp": 1, "attemptEndingTimestamp": 2, "rawData": "eyJhIjo=",
            "lastErrorCode": "DataFormatConversion.ParseError", "lastErrorMessage": "the document ends early",
            "sequenceNumber": "7", "subSequenceNumber": null,
            "dataCatalogTable": {"catalogId": null, "databaseName": "lake", "tableName": "t", "region": null,
                                 "versionId": "LATEST", "catalogArn": null},
        });
        assert_eq!(line(&Failure::of_reason("the document ends early")), expected);
        let plain = line(&Failure::of_reason("expression: division by zero"));
        assert_eq!(
            (&plain["errorCode"], &plain["errorMessage"]),
            (&"Expression.Failed".into(), &"expression: division by zero".into())
        );
        assert!(plain.get("lastErrorCode").is_none() && plain.get("dataCatalogTable").is_none());
    }

    #[test]
    fn reasons_are_told_apart() {
        let code = |reason| Failure::of_reason(reason).code;
        assert_eq!(code("column \"n\": \"oops\" is no number"), "DataFormatConversion.MalformedData");
        assert_eq!(code("empty"), "DataFormatConversion.MalformedData");
        assert_eq!(code("not UTF-8"), "DataFormatConversion.ParseError");
        assert_eq!(Failure::too_many(2).kind.name(), "metadata-extraction-failed");
        assert!(Failure::too_many(2).reason().contains("ActivePartitionLimitExceeded"));
        assert_eq!(Failure::not_partitioned("x").kind.name(), "partitioning-failed");
    }
}
