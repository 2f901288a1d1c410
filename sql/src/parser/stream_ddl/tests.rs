//! Flink's DDL and what it parses to.

use arrow::datatypes::TimeUnit;

use super::*;
use crate::{
    diagnostics::render,
    parser::{Parameters, StatementKind, parse},
};

fn table(text: &str) -> CreateStreamTable {
    let mut statements = parse(text, &Parameters::new()).unwrap_or_else(|error| panic!("{}", render(&error)));
    match statements.remove(0).kind {
        StatementKind::CreateStreamTable(table) => *table,
        other => panic!("{other:?}"),
    }
}

fn refused(text: &str) -> String {
    render(&parse(text, &Parameters::new()).unwrap_err())
}

#[test]
fn a_kafka_table_with_everything() {
    let table = table(
        "CREATE TEMPORARY TABLE IF NOT EXISTS bids (
            auction BIGINT NOT NULL COMMENT 'which',
            price DECIMAL(10, 2),
            extra ROW<NewImage STRING, `n` INT>,
            event_time TIMESTAMP(3) METADATA FROM 'timestamp' VIRTUAL,
            `partition` INT METADATA,
            total AS price * 2,
            ts AS to_timestamp(extra.n, 3),
            WATERMARK FOR ts AS ts - INTERVAL '5' SECOND,
            CONSTRAINT pk PRIMARY KEY (auction) NOT ENFORCED
        ) COMMENT 'all bids' PARTITIONED BY (auction)
        WITH ('connector' = 'kafka', 'properties.sasl.jaas.config' = '${env:JAAS}')",
    );
    assert!(table.if_not_exists);
    assert_eq!(table.columns.len(), 7);
    assert!(matches!(
        &table.columns[0].kind,
        StreamColumnKind::Physical { data_type: DataType::Int64, is_nullable: false, .. }
    ));
    assert_eq!(table.columns[0].comment.as_deref(), Some("which"));
    let StreamColumnKind::Metadata { data_type, key, is_virtual } = &table.columns[3].kind else { panic!() };
    assert_eq!(*data_type, DataType::Timestamp(TimeUnit::Millisecond, None));
    assert_eq!((key.as_deref(), *is_virtual), (Some("timestamp"), true));
    assert!(matches!(&table.columns[4].kind, StreamColumnKind::Metadata { key: None, is_virtual: false, .. }));
    assert!(matches!(&table.columns[5].kind, StreamColumnKind::Computed { text, .. } if text == "price * 2"));
    assert!(
        matches!(&table.columns[6].kind, StreamColumnKind::Computed { text, .. } if text == "to_timestamp(extra.n, 3)")
    );
    let watermark = table.watermark.as_ref().unwrap();
    assert_eq!((watermark.column.value.as_str(), watermark.text.as_str()), ("ts", "ts - INTERVAL '5' SECOND"));
    assert_eq!(table.primary_key[0].value, "auction");
    assert_eq!(table.partitioned_by[0].value, "auction");
    assert_eq!(table.option("properties.sasl.jaas.config"), Some("${env:JAAS}"));
}

#[test]
fn a_key_may_stand_with_its_column() {
    let table = table("CREATE TABLE t (id STRING PRIMARY KEY NOT ENFORCED, n BIGINT) WITH ('connector' = 'dynamodb')");
    assert_eq!(table.primary_key[0].value, "id");
}

#[test]
fn reserved_words_are_names_in_quotes() {
    let table = table(
        "CREATE TABLE t (`timestamp` TIMESTAMP(3), \"offset\" BIGINT, raw VARBINARY, split STRING, keys STRING, location STRING,
         WATERMARK FOR `timestamp` AS `timestamp`) WITH ('connector' = 'memory')",
    );
    let names: Vec<_> = table.columns.iter().map(|column| column.name.value.as_str()).collect();
    assert_eq!(names, ["timestamp", "offset", "raw", "split", "keys", "location"]);
}

#[test]
fn mistakes_have_their_place() {
    for (text, message) in [
        ("CREATE TABLE t (a INT)", "error[SYNTAX_ERROR] 1:23: expected WITH, found the end of the statement"),
        (
            "CREATE TABLE t (a INT, A INT) WITH ('connector'='x')",
            "error[DUPLICATE_COLUMN_NAME] 1:24: column \"A\" is named twice",
        ),
        (
            "CREATE TABLE t (ts TIMESTAMP(3), WATERMARK FOR tz AS ts) WITH ('connector'='x')",
            "error[COLUMN_NOT_FOUND] 1:48: column \"tz\" is not declared\nhint: did you mean \"ts\"?",
        ),
        (
            "CREATE TABLE t (id INT, PRIMARY KEY (id)) WITH ('connector'='x')",
            "error[SYNTAX_ERROR] 1:41: expected NOT ENFORCED, found the end of the statement\nhint: Headwater does not check",
        ),
        (
            "CREATE TABLE t (a INT) WITH ('connector'='x', 'connector'='y')",
            "error[DUPLICATE_PROPERTY] 1:47: option \"connector\" is given twice",
        ),
        ("CREATE TABLE t (a INT, b AS a +) WITH ('connector'='x')", "error[SYNTAX_ERROR] 1:32: expected an expression"),
    ] {
        let error = refused(text);
        assert!(error.starts_with(message), "{error}");
    }
}
