//! Scripts and what they parse to.

use headwater_engine::error::Location;

use super::{
    ddl::{Ddl, Pattern, RowFormat, Show, StoredAs, TableChange},
    statement::{ExplainKind, OptionValue},
    *,
};
use crate::diagnostics::render;

fn all(text: &str) -> Vec<Statement> {
    parse(text, &Parameters::new()).unwrap_or_else(|error| panic!("{text}: {}", render(&error)))
}

fn one(text: &str) -> StatementKind {
    let mut statements = all(text);
    assert_eq!(statements.len(), 1, "{text}");
    statements.remove(0).kind
}

fn refused(text: &str) -> String {
    match parse(text, &Parameters::new()) {
        Ok(_) => panic!("{text} should be refused"),
        Err(error) => render(&error),
    }
}

fn ddl(text: &str) -> Ddl {
    match one(text) {
        StatementKind::Ddl(ddl) => *ddl,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_script_is_split_at_semicolons_outside_quotes_and_comments() {
    let statements = all("SELECT 1; -- a;b\n\n SELECT ';', \"x;y\" FROM t;;\nSELECT 2");
    assert_eq!(statements.len(), 3);
    assert_eq!(statements[1].at, Location { line: 3, column: 2 });
    assert_eq!(statements[1].text, "SELECT ';', \"x;y\" FROM t");
}

#[test]
fn a_text_is_complete_at_a_semicolon() {
    for (text, complete) in [
        ("SELECT 1;", true),
        ("SELECT 1", false),
        ("SELECT ';", false),
        ("", true),
        ("EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1;", false),
        ("EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; END;", true),
    ] {
        assert_eq!(is_complete(text), complete, "{text}");
    }
}

#[test]
fn positions_of_syntax_errors_are_those_of_the_script() {
    assert_eq!(
        refused("SELECT 1;\n\n  SELECT a FROM t WHERE;"),
        "error[SYNTAX_ERROR] 3:24: expected an expression, found the end of the statement"
    );
    assert!(refused("SELECT 1;\nSELECT a,\n  b c d FROM t").starts_with("error[SYNTAX_ERROR] 3:7: "));
    assert_eq!(refused("SELECT 'abc"), "error[SYNTAX_ERROR] 1:8: this string is never closed");
    assert_eq!(
        refused("SELEC 1"),
        "error[SYNTAX_ERROR] 1:1: expected a statement, found \"SELEC\"\nhint: did you mean \"SELECT\"?"
    );
}

#[test]
fn inserts_name_their_target_columns_and_query() {
    let StatementKind::Insert(insert) = one("INSERT INTO db.t (a, \"B\") SELECT 1, 2") else { panic!() };
    assert_eq!(insert.table.to_string(), "db.t");
    assert_eq!(insert.columns.iter().map(|c| c.value.as_str()).collect::<Vec<_>>(), ["a", "B"]);
    assert_eq!(insert.query_text, "SELECT 1, 2");
    let StatementKind::Insert(insert) = one("INSERT OVERWRITE t (SELECT 1)") else { panic!() };
    assert!(insert.overwrite && insert.columns.is_empty());
    let StatementKind::Insert(insert) = one("INSERT INTO t VALUES (1, 'a'), (2, 'b')") else { panic!() };
    assert!(insert.query_text.starts_with("VALUES"));
}

#[test]
fn ctas_and_unload_have_options() {
    let text = "CREATE TABLE IF NOT EXISTS db.n WITH (format = 'PARQUET', partitioned_by = ARRAY['y', 'm'], \
                bucket_count = 3, is_external = false) AS WITH x AS (SELECT 1 a) SELECT * FROM x WITH NO DATA";
    let StatementKind::CreateTableAs(ctas) = one(text) else { panic!() };
    assert!(ctas.if_not_exists && !ctas.with_data);
    assert_eq!(ctas.options[1].value, OptionValue::List(vec!["y".into(), "m".into()]));
    assert_eq!(ctas.options[2].value, OptionValue::Number("3".into()));
    assert_eq!(ctas.query_text, "WITH x AS (SELECT 1 a) SELECT * FROM x");
    let StatementKind::Unload(unload) =
        one("UNLOAD (SELECT (1) a FROM t) TO 's3://b/x/' WITH (format = 'JSON', compression = 'gzip')")
    else {
        panic!()
    };
    assert_eq!((unload.query_text.as_str(), unload.location.as_str()), ("SELECT (1) a FROM t", "s3://b/x/"));
    assert!(refused("UNLOAD (SELECT 1) TO 'x' WITH (format='a', FORMAT='b')").contains("given twice"));
}

#[test]
fn external_tables_have_every_clause() {
    let text = r#"
        CREATE EXTERNAL TABLE IF NOT EXISTS `db`.`t` (
            `UserId` string COMMENT 'who',
            Price decimal(10,2),
            tags array<struct<k:string,v:map<string,int>>>)
        COMMENT 'it''s'
        PARTITIONED BY (year int, `month` string COMMENT 'zero padded')
        ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'
        WITH SERDEPROPERTIES ('ignore.malformed.json' = 'true', "quoteChar" = "\"")
        STORED AS INPUTFORMAT 'in' OUTPUTFORMAT 'out'
        LOCATION 's3://b/t/'
        TBLPROPERTIES ('projection.enabled'='true', 'storage.location.template'='s3://b/t/${year}/')"#;
    let Ddl::CreateTable(table) = ddl(text) else { panic!() };
    assert!(table.if_not_exists);
    let columns: Vec<_> = table.columns.iter().map(|c| (c.name.as_str(), c.type_text.as_str())).collect();
    assert_eq!(
        columns,
        [("UserId", "string"), ("price", "decimal(10,2)"), ("tags", "array<struct<k:string,v:map<string,int>>>")]
    );
    assert_eq!(table.partition_keys[1].comment.as_deref(), Some("zero padded"));
    assert_eq!(table.serde_properties[1].1, "\"");
    assert!(matches!(&table.row_format, Some(RowFormat::Serde(class, _)) if class.ends_with("JsonSerDe")));
    assert!(matches!(&table.stored_as, Some(StoredAs::Classes { input, .. }) if input == "in"));
    assert_eq!(table.properties[1].1, "s3://b/t/${year}/");
}

#[test]
fn the_short_form_needs_no_columns() {
    let Ddl::CreateTable(table) =
        ddl("CREATE EXTERNAL TABLE t PARTITIONED BY (year, month int) STORED AS JSON LOCATION 'data/'")
    else {
        panic!()
    };
    assert!(table.columns.is_empty());
    assert_eq!(table.partition_keys[0].type_text, "");
    assert!(matches!(&table.stored_as, Some(StoredAs::Format(format, _)) if format == "JSON"));
}

#[test]
fn delimited_rows_use_hives_property_names() {
    let text = r"CREATE EXTERNAL TABLE t (a int) ROW FORMAT DELIMITED FIELDS TERMINATED BY '\t' ESCAPED BY '\\'
        COLLECTION ITEMS TERMINATED BY '\002' MAP KEYS TERMINATED BY ':' LINES TERMINATED BY '\n' NULL DEFINED AS 'NA'
        LOCATION 'x/'";
    let Ddl::CreateTable(table) = ddl(text) else { panic!() };
    let Some(RowFormat::Delimited(says)) = table.row_format else { panic!() };
    let says: Vec<_> = says.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(
        says,
        [
            ("field.delim", "\t"),
            ("escape.delim", "\\"),
            ("collection.delim", "\u{2}"),
            ("mapkey.delim", ":"),
            ("line.delim", "\n"),
            ("serialization.null.format", "NA")
        ]
    );
}

#[test]
fn partitions_are_added_and_dropped() {
    let Ddl::AlterTable { change: TableChange::AddPartitions { if_not_exists, partitions }, .. } = ddl(
        "ALTER TABLE t ADD IF NOT EXISTS PARTITION (y=2024, d = DATE '2024-01-01') LOCATION 's3://x/' PARTITION (y='2025', d=NULL)",
    ) else {
        panic!()
    };
    assert!(if_not_exists);
    assert_eq!(partitions[0].values[0].1.as_deref(), Some("2024"));
    assert_eq!(partitions[0].values[1].1.as_deref(), Some("2024-01-01"));
    assert_eq!(partitions[0].location.as_deref(), Some("s3://x/"));
    assert_eq!(partitions[1].values[1].1, None);
    assert!(matches!(
        ddl("ALTER TABLE t DROP IF EXISTS PARTITION (y=1), PARTITION (y=2)"),
        Ddl::AlterTable { change: TableChange::DropPartitions { if_exists: true, partitions }, .. } if partitions.len() == 2
    ));
}

#[test]
fn shows_take_in_from_and_patterns() {
    for (text, expected) in [
        ("SHOW TABLES", "Tables { database: None, pattern: None }"),
        ("SHOW SCHEMAS LIKE 'a%'", "Databases { pattern: Some(Like(\"a%\")) }"),
        ("SHOW FUNCTIONS", "Functions { pattern: None }"),
        ("SHOW CATALOGS", "Catalogs"),
    ] {
        let StatementKind::Show(show) = one(text) else { panic!() };
        assert_eq!(format!("{show:?}"), expected);
    }
    let StatementKind::Show(Show::Tables { database, pattern }) = one("SHOW TABLES IN db 'x.*'") else { panic!() };
    assert_eq!((database.unwrap().value.as_str(), pattern), ("db", Some(Pattern::Regex("x.*".into()))));
    let StatementKind::Show(Show::Columns(table)) = one("SHOW COLUMNS IN t FROM db") else { panic!() };
    assert_eq!(table.to_string(), "db.t");
    assert!(matches!(
        one("DESCRIBE FORMATTED db.t PARTITION (y=1)"),
        StatementKind::Show(Show::Describe { is_detailed: true, partition: Some(_), .. })
    ));
    assert!(matches!(one("DESC input"), StatementKind::Show(Show::Describe { .. })));
    assert!(matches!(one("DESCRIBE OUTPUT p"), StatementKind::Show(Show::DescribePrepared { is_output: true, .. })));
}

#[test]
fn prepared_statements() {
    let StatementKind::Prepare { name, text, at } = one("PREPARE p FROM\nSELECT * FROM t WHERE a = ?") else {
        panic!()
    };
    assert_eq!((name.value.as_str(), text.as_str()), ("p", "SELECT * FROM t WHERE a = ?"));
    assert_eq!(at, Location { line: 2, column: 1 });
    let StatementKind::Execute { arguments, .. } = one("EXECUTE p USING 'a,b', -5, f(1, 2)") else { panic!() };
    assert_eq!(arguments, ["'a,b'", "(-5)", "(f(1, 2))"]);
    assert!(matches!(one("DEALLOCATE PREPARE p"), StatementKind::Deallocate(_)));
}

#[test]
fn explain_takes_a_type() {
    let StatementKind::Explain(explain) = one("EXPLAIN (TYPE LOGICAL, FORMAT TEXT) SELECT 1") else { panic!() };
    assert_eq!(explain.kind, ExplainKind::Logical);
    let StatementKind::Explain(explain) = one("EXPLAIN ANALYZE VERBOSE (SELECT 1)") else { panic!() };
    assert!(explain.analyze && explain.verbose);
}

#[test]
fn settings_are_quoted_or_not() {
    for text in [
        "SET 'checkpoint.interval' = '10 s'",
        "SET checkpoint.interval = 10 s",
        "SET SESSION checkpoint.interval='10 s'",
    ] {
        let StatementKind::Set { key, value } = one(text) else { panic!() };
        assert_eq!((key.value.as_str(), value.as_str()), ("checkpoint.interval", "10 s"), "{text}");
    }
}

#[test]
fn statement_sets_hold_inserts() {
    for text in [
        "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; INSERT INTO b SELECT 2; END;",
        "BEGIN STATEMENT SET; INSERT INTO a SELECT 1; INSERT INTO b SELECT 2; END;",
    ] {
        let StatementKind::StatementSet(statements) = one(text) else { panic!() };
        assert_eq!(statements.len(), 2);
    }
    assert!(refused("EXECUTE STATEMENT SET BEGIN SELECT 1; END;").contains("INSERTs only"));
    assert!(refused("EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1;").contains("never closed"));
}

#[test]
fn emit_changes_follows() {
    let StatementKind::Query(query) = one("SELECT a FROM t EMIT CHANGES") else { panic!() };
    assert!(query.emit_changes);
}

#[test]
fn what_is_not_supported_is_refused_by_name_with_a_way_out() {
    for (text, name) in [
        ("MERGE INTO t USING s ON a = b", "MERGE is not supported"),
        ("DELETE FROM t", "DELETE is not supported"),
        ("TRUNCATE TABLE t", "TRUNCATE is not supported"),
        ("ALTER TABLE t RENAME TO u", "RENAME TO is not supported"),
        (
            "CREATE EXTERNAL TABLE t (a int) CLUSTERED BY (a) INTO 3 BUCKETS LOCATION 'x'",
            "CLUSTERED BY is not supported",
        ),
        (
            "CREATE TABLE t (a int) LOCATION 's3://x/' TBLPROPERTIES ('table_type'='ICEBERG')",
            "ICEBERG is not supported",
        ),
        ("DESCRIBE DATABASE d", "DESCRIBE DATABASE is not supported"),
        ("CREATE MATERIALIZED VIEW v AS SELECT 1", "CREATE MATERIALIZED VIEW is not supported"),
    ] {
        let error = refused(text);
        assert!(error.contains(name) && error.contains("\nhint: "), "{error}");
    }
}

#[test]
fn a_statement_of_many_tokens_is_read_in_linear_time() {
    let rows: Vec<_> = (0..100_000).map(|row| format!("({row}, 'x')")).collect();
    let started = std::time::Instant::now();
    assert_eq!(all(&format!("SELECT * FROM (VALUES {}) t", rows.join(","))).len(), 1);
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(parts in proptest::collection::vec(proptest::sample::select(FRAGMENTS), 0..14)) {
        let text = parts.join(" ");
        let _ = is_complete(&text);
        let parameters = Parameters::from([("p".to_owned(), "it's; \\".to_owned())]);
        if let Err(error) = parse(&text, &parameters) {
            proptest::prop_assert!(error.location().is_some(), "{text}: {}", render(&error));
        }
    }
}

const FRAGMENTS: &[&str] = &[
    "CREATE",
    "EXTERNAL",
    "TABLE",
    "DATABASE",
    "VIEW",
    "AS",
    "SELECT",
    "1",
    "FROM",
    "t",
    "(",
    ")",
    ",",
    ";",
    "'a\\'",
    "'b",
    "\"c\"",
    "`d`",
    "${p}",
    "'${p}'",
    "${q:-x}",
    "$${",
    "${env:X}",
    "--",
    "/*",
    "*/",
    "\n",
    "ALTER",
    "ADD",
    "PARTITION",
    "=",
    "'é'",
    "é",
    "WITH",
    "TBLPROPERTIES",
    "array<int",
    ">",
    "struct<a:int>",
    "INSERT",
    "INTO",
    "VALUES",
    "SHOW",
    "EXECUTE",
    "STATEMENT",
    "SET",
    "BEGIN",
    "END",
    "USING",
    "?",
    "DESCRIBE",
    "MSCK",
    "REPAIR",
    "EXPLAIN",
    "ANALYZE",
    "UNLOAD",
    "TO",
    "[",
    "]",
    "-5",
    ".5",
    "1e",
    "0x",
    "PREPARE",
    "LOCATION",
    "STORED",
    "WATERMARK",
    "FOR",
    "decimal(1,",
    "EMIT",
    "CHANGES",
    "USE",
    ".",
];
