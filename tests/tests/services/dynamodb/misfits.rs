//! Items that do not fit the declared columns, left out: by queries, jobs and lookups alike, whichever columns they use.
//!
//! Invariant: how many rows a table has does not depend on the columns that are asked for.

use std::{fs, sync::Arc};

use anyhow::{Context, Result};
use arrow::datatypes::{DataType, Field, Schema};
use aws_sdk_dynamodb::types::{AttributeValue, ScalarAttributeType};
use datafusion::prelude::{SessionConfig, SessionContext};
use headwater_connectors::{dynamodb::DynamoDb, lake::stats::ScanStats};
use headwater_engine::{connector::Connector, graph::Malformed};
use headwater_tests::scripts::{self, run_once};

use super::{client, create, local, spec};

/// A table of forty items with numbers, in every other of which the number is a text.
async fn fill(client: &aws_sdk_dynamodb::Client, table: &str) -> Result<()> {
    create(client, table, &[("id", ScalarAttributeType::S)]).await?;
    for n in 0..40 {
        let number = if n % 2 == 0 { AttributeValue::N(n.to_string()) } else { AttributeValue::S("x".to_owned()) };
        let request = client.put_item().table_name(table).item("id", AttributeValue::S(format!("id{n}")));
        request.item("n", number).send().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_judges_items_by_all_columns_and_a_limit_counts_rows() -> Result<()> {
    let server = local()?;
    fill(&client(&server.endpoint), "misfits").await?;
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let schema = Schema::new(vec![field("id", DataType::Utf8), field("n", DataType::Int64)]);
    let table = spec(&server.endpoint, "misfits", Arc::new(schema), &[("scan.segments", "1")]);
    let provider = DynamoDb.query_table(&table, Malformed::Reject)?.context("DynamoDB answers queries")?;
    let ask = async |sql: &str| -> Result<(usize, String, u64)> {
        let stats = Arc::new(ScanStats::default());
        let context = SessionContext::new_with_config(SessionConfig::new().with_extension(Arc::clone(&stats)));
        context.register_table("misfits", Arc::clone(&provider))?;
        let rows = context.sql(sql).await?.collect().await?;
        let shown = arrow::util::pretty::pretty_format_batches(&rows)?.to_string();
        Ok((rows.iter().map(|rows| rows.num_rows()).sum(), shown, ScanStats::get(&stats.rows_rejected)))
    };
    for sql in
        ["SELECT count(*) AS c FROM misfits", "SELECT count(id) AS c FROM misfits", "SELECT count(n) AS c FROM misfits"]
    {
        let (_, shown, rejected) = ask(sql).await?;
        assert!(shown.contains("| 20 |"), "{sql}: {shown}");
        assert_eq!(rejected, 20, "{sql}");
    }
    for sql in ["SELECT * FROM misfits LIMIT 12", "SELECT id FROM misfits LIMIT 12"] {
        assert_eq!(ask(sql).await?.0, 12, "{sql}");
    }
    assert_eq!(ask("SELECT id FROM misfits WHERE id = 'id1'").await?.0, 0);
    Ok(())
}

const TABLES: &str = "
    CREATE TABLE numbers (id VARCHAR, n BIGINT)
    WITH ('connector' = 'dynamodb', 'table-name' = '${table}', 'aws.endpoint' = '${endpoint}', 'aws.region' = 'us-east-1',
          'aws.credentials.basic.accesskeyid' = 'local', 'aws.credentials.basic.secretkey' = 'local',
          'malformed' = 'skip');
    CREATE TABLE ids (id VARCHAR) WITH ('connector' = 'filesystem', 'path' = '${folder}/ids', 'format' = 'json');
    CREATE TABLE sums (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '${folder}/sums', 'format' = 'json');
    CREATE TABLE wanted (id VARCHAR) WITH ('connector' = 'filesystem', 'path' = '${folder}/wanted', 'format' = 'json');
";

#[tokio::test(flavor = "multi_thread")]
async fn what_an_insert_gets_does_not_depend_on_the_other_inserts_of_its_job() -> Result<()> {
    let server = local()?;
    fill(&client(&server.endpoint), "MisfitsOfJobs").await?;
    let other = "INSERT INTO sums SELECT n FROM numbers;";
    for inserts in [
        "INSERT INTO ids SELECT id FROM numbers;".to_owned(),
        format!("INSERT INTO ids SELECT id FROM numbers;{other}"),
    ] {
        let folder = tempfile::tempdir()?;
        let place = folder.path().to_string_lossy().into_owned();
        let parameters = [("folder", place.as_str()), ("endpoint", &server.endpoint), ("table", "MisfitsOfJobs")];
        run_once(&format!("{TABLES}{inserts}"), &parameters, &folder.path().join("state")).await?;
        assert_eq!(scripts::lines(&folder.path().join("ids"))?.len(), 20, "{inserts}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_finds_no_item_that_a_query_leaves_out() -> Result<()> {
    let server = local()?;
    fill(&client(&server.endpoint), "MisfitsOfJoins").await?;
    let folder = tempfile::tempdir()?;
    fs::create_dir_all(folder.path().join("wanted"))?;
    fs::write(folder.path().join("wanted/1.json"), "{\"id\":\"id1\"}\n{\"id\":\"id2\"}\n")?;
    let insert = "INSERT INTO ids SELECT w.id FROM wanted w JOIN numbers t ON w.id = t.id;";
    let place = folder.path().to_string_lossy().into_owned();
    let parameters = [("folder", place.as_str()), ("endpoint", &server.endpoint), ("table", "MisfitsOfJoins")];
    run_once(&format!("{TABLES}{insert}"), &parameters, &folder.path().join("state")).await?;
    assert_eq!(scripts::lines(&folder.path().join("ids"))?, [r#"{"id":"id2"}"#]);
    Ok(())
}

/// An item of the same time in other words would not be found: the job says so instead.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_as_partition_key_is_looked_up_in_a_table_that_is_read_whole() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "TimedKeys", &[("id", ScalarAttributeType::S)]).await?;
    let item =
        client.put_item().table_name("TimedKeys").item("id", AttributeValue::S("2026-01-02 03:04:05".to_owned()));
    item.item("n", AttributeValue::N("7".to_owned())).send().await?;
    let folder = tempfile::tempdir()?;
    fs::create_dir_all(folder.path().join("wanted"))?;
    fs::write(folder.path().join("wanted/1.json"), "{\"id\":\"2026-01-02 03:04:05\"}\n")?;
    let place = folder.path().to_string_lossy().into_owned();
    let parameters = [("folder", place.as_str()), ("endpoint", &server.endpoint), ("table", "TimedKeys")];
    let run = async |cache: &str, key: &str, name: &str| {
        let tables = TABLES.replacen("id VARCHAR, n BIGINT", &format!("id TIMESTAMP(3), n BIGINT{key}"), 1);
        let tables = tables.replacen("'malformed' = 'skip'", &format!("'malformed' = 'skip'{cache}"), 1);
        let insert = "INSERT INTO sums SELECT t.n FROM wanted w JOIN numbers t ON CAST(w.id AS TIMESTAMP(3)) = t.id;";
        run_once(&format!("{tables}{insert}"), &parameters, &folder.path().join(name)).await
    };
    for (key, name) in [("", "found"), (", PRIMARY KEY (id) NOT ENFORCED", "declared")] {
        let refused = run("", key, name).await.err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(refused.contains("more than one key of the DynamoDB table is read as one value"), "{refused}");
    }
    run(", 'lookup.cache' = 'FULL'", "", "full").await?;
    assert_eq!(scripts::lines(&folder.path().join("sums"))?, [r#"{"n":7}"#]);
    Ok(())
}
