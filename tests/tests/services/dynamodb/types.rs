//! Every type as an attribute and back, as a process: what a column becomes, what NULL becomes, and what is refused.
//!
//! Invariant: a row is an item that reads back as it was, or a row of `"items$rejected"` that says why.

use std::{collections::HashMap, fs};

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::{
    primitives::Blob,
    types::{AttributeValue, ScalarAttributeType},
};
use headwater_tests::jobs::JobFolder;

use super::{Item, client, create, get, local};

const BINARY: &str = env!("CARGO_BIN_EXE_headwater-under-test");

const TABLES: &str = "
    CREATE TABLE items (
        id VARCHAR, whole INT, big BIGINT, money DECIMAL(10, 2), ratio DOUBLE, flag BOOLEAN, bytes VARBINARY,
        at TIMESTAMP(3), day DATE, list ARRAY<BIGINT>, map MAP<VARCHAR, BIGINT>, part ROW<x INT, y VARCHAR>,
        tags ARRAY<VARCHAR>, numbers ARRAY<BIGINT>, doc VARCHAR, PRIMARY KEY (id) NOT ENFORCED
    ) WITH ('connector' = 'dynamodb', 'table-name' = 'TypedItems', 'aws.region' = 'us-east-1',
            'sink.attribute-types' = 'tags:SS,numbers:NS');
    CREATE TABLE with_nulls (id VARCHAR, whole INT, tags ARRAY<VARCHAR>) WITH (
        'connector' = 'dynamodb', 'table-name' = 'TypedNulls', 'aws.region' = 'us-east-1', 'sink.ignore-nulls' = 'false');
";

const LOAD: &str = "
    CREATE TABLE lines (
        id VARCHAR, whole INT, big BIGINT, money DECIMAL(10, 2), ratio DOUBLE, flag BOOLEAN,
        at TIMESTAMP(3), day DATE, list ARRAY<BIGINT>, map MAP<VARCHAR, BIGINT>, part ROW<x INT, y VARCHAR>,
        tags ARRAY<VARCHAR>, numbers ARRAY<BIGINT>, doc VARCHAR
    ) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'json', 'source.monitor-interval' = '1 s');
    INSERT INTO items SELECT id, whole, big, money, ratio, flag, CASE WHEN id = 'a' THEN to_utf8(id) END,
        at, day, list, map, part, tags, numbers, doc FROM lines;
    INSERT INTO with_nulls SELECT id, whole, tags FROM lines WHERE length(id) = 1;
";

const A: &str = r#"{"id":"a","whole":7,"big":9007199254740993,"money":"12.50","ratio":0.5,"flag":true,
    "at":"2025-03-10 08:00:30.250","day":"2025-03-10","list":[1,2],"map":{"k":5},"part":{"x":1,"y":"z"},
    "tags":["p","q","p"],"numbers":[1,2],"doc":"d"}"#;

/// What the service holds of `A`.
fn expected() -> Item {
    let (s, n) = (|text: &str| AttributeValue::S(text.to_owned()), |text: &str| AttributeValue::N(text.to_owned()));
    let part = HashMap::from([("x".to_owned(), n("1")), ("y".to_owned(), s("z"))]);
    let all = [
        ("id", s("a")),
        ("whole", n("7")),
        ("big", n("9007199254740993")),
        ("money", n("12.5")),
        ("ratio", n("0.5")),
        ("flag", AttributeValue::Bool(true)),
        ("bytes", AttributeValue::B(Blob::new("a"))),
        ("at", s("2025-03-10T08:00:30.250Z")),
        ("day", s("2025-03-10")),
        ("list", AttributeValue::L(vec![n("1"), n("2")])),
        ("map", AttributeValue::M(HashMap::from([("k".to_owned(), n("5"))]))),
        ("part", AttributeValue::M(part)),
        ("tags", AttributeValue::Ss(vec!["p".to_owned(), "q".to_owned()])),
        ("numbers", AttributeValue::Ns(vec!["1".to_owned(), "2".to_owned()])),
        ("doc", s("d")),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// An item whose sets are in order, as the service does not keep it.
fn in_order(mut item: Item) -> Item {
    for value in item.values_mut() {
        if let AttributeValue::Ss(texts) | AttributeValue::Ns(texts) = value {
            texts.sort();
        }
    }
    item
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_becomes_its_attribute_and_reads_back() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "TypedItems", &[("id", ScalarAttributeType::S)]).await?;
    create(&client, "TypedNulls", &[("id", ScalarAttributeType::S)]).await?;
    let job = JobFolder::new(BINARY, "load.sql", &format!("{TABLES}{LOAD}"), "")?
        .with_variable("AWS_ENDPOINT_URL_DYNAMODB", &server.endpoint)
        .with_variable("AWS_ACCESS_KEY_ID", "local")
        .with_variable("AWS_SECRET_ACCESS_KEY", "local");
    fs::create_dir_all(job.path().join("in"))?;
    let large = format!(r#"{{"id":"large","doc":"{}"}}"#, "x".repeat(410_000));
    let lines = [A.replace('\n', " "), r#"{"id":"b"}"#.to_owned(), large, r#"{"id":"","whole":1}"#.to_owned()];
    fs::write(job.path().join("in/lines.json"), lines.join("\n"))?;
    job.start("load.sql", &["--once"])?.finish()?;

    assert_eq!(in_order(get(&client, "TypedItems", "a").await?), expected());
    let b = get(&client, "TypedItems", "b").await?;
    assert_eq!(b.len(), 1, "NULL is no attribute: {b:?}");
    let null = get(&client, "TypedNulls", "b").await?;
    assert_eq!((null.len(), null.get("whole")), (3, Some(&AttributeValue::Null(true))), "{null:?}");

    let reasons = job.query("SELECT reason FROM \"items$rejected\" ORDER BY reason")?;
    ensure!(reasons.len() == 2, "{reasons:?}");
    ensure!(reasons.iter().any(|reason| reason.contains("key \"\"id\"\" is empty")), "{reasons:?}");
    ensure!(reasons.iter().any(|reason| reason.contains("DynamoDB takes 409600 (id = \"\"large\"\")")), "{reasons:?}");

    // Read back by key, as rows.
    let select = "SELECT whole, big, money, ratio, flag, from_utf8(bytes), at, day, list[2], map['k'], part.y,
        array_sort(tags), numbers, doc FROM items WHERE id = 'a';";
    fs::write(job.path().join("read.sql"), format!("{TABLES}{select}"))?;
    let read = job.ended(&["--format", "csv", "-f", "read.sql"])?;
    let text = String::from_utf8(read.stdout)?;
    let row = text.lines().nth(1).with_context(|| format!("{text}{}", String::from_utf8_lossy(&read.stderr)))?;
    assert!(row.starts_with("7,9007199254740993,12.50,0.5,true,a,2025-03-10 08:00:30.250,2025-03-10,2,5,z,"), "{row}");
    Ok(())
}
