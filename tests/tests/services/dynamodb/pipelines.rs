//! The pipelines of `queries/` that read and write DynamoDB, as jobs over DynamoDB Local.
//!
//! Invariant: the files are run as they are; only endpoint and credentials are filled in.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use anyhow::{Context, Result};
use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, ScalarAttributeType, StreamSpecification, StreamViewType},
};
use headwater_engine::{
    checkpoint::store::LocalStore,
    runtime::job::{self, JobConfig},
};
use headwater_sql::{
    generate::{Dataset, Options, generate},
    lower::lower_inserts,
    parser::{Parameters, StatementKind, parse},
    session::{Session, SessionConfig},
};
use headwater_tests::{
    jobs::JobFolder,
    services::{DynamoDbLocal, KinesisLocal, Ministack},
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{client, create, items, local, text};

/// Files of `queries/`, with a local endpoint.
fn script(endpoint: &str, files: &[&str]) -> Result<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../queries");
    let texts = files.iter().map(|file| Ok(fs::read_to_string(folder.join(file))?)).collect::<Result<Vec<_>>>()?;
    Ok(with_endpoint(&texts.join("\n"), endpoint))
}

fn with_endpoint(script: &str, endpoint: &str) -> String {
    let connection = format!(
        "'aws.region' = 'us-east-1', 'aws.endpoint' = '{endpoint}',
        'aws.credentials.basic.accesskeyid' = 'local', 'aws.credentials.basic.secretkey' = 'local'"
    );
    script.replace("'aws.region' = '${region:-us-east-1}'", &connection)
}

/// Runs the INSERTs of a script as one job to the ends that are there now; everything else before.
async fn run_once(script: &str, folder: &Path) -> Result<()> {
    let parameters = Parameters::from([("lake".to_owned(), folder.to_string_lossy().into_owned())]);
    let state = folder.join("state");
    let session = Session::open(SessionConfig::in_directory(state.to_string_lossy().into_owned())).await?;
    let mut inserts = Vec::new();
    for statement in parse(script, &parameters)? {
        match &statement.kind {
            StatementKind::Insert(insert) => inserts.push(insert.clone()),
            _ => drop(session.execute(&statement).await?),
        }
    }
    let graph = lower_inserts(&session, &inserts, true).await?;
    let mut config = JobConfig::new("job", Arc::new(LocalStore::new(state.clone())), state.join("jobs"));
    config.once = true;
    job::run(Arc::new(graph), config, CancellationToken::new()).await?;
    Ok(())
}

/// The JSON lines under a folder.
fn lines(folder: &Path) -> Result<Vec<Value>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(['_', '.']));
            if is_hidden {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(path)?;
                found.extend(text.lines().map(serde_json::from_str).collect::<std::result::Result<Vec<_>, _>>()?);
            }
        }
    }
    Ok(found)
}

async fn order(client: &Client, id: &str, product: &str, quantity: u32) -> Result<()> {
    let request = client.put_item().table_name("OrderTable").item("orderid", AttributeValue::S(id.to_owned()));
    let request = request.item("product_name", AttributeValue::S(product.to_owned()));
    let request = request.item("quantity", AttributeValue::N(quantity.to_string()));
    request.item("price", AttributeValue::N("190.07".to_owned())).send().await?;
    Ok(())
}

pub(crate) async fn orders_now(client: &Client) -> Result<BTreeMap<String, String>> {
    let items = items(client, "OrderState").await?;
    items.iter().map(|item| Ok((text(item, "orderid")?.to_owned(), text(item, "quantity")?.to_owned()))).collect()
}

fn expected(orders: &[(&str, &str)]) -> BTreeMap<String, String> {
    orders.iter().map(|(id, quantity)| ((*id).to_owned(), (*quantity).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sales_changes_become_lines_and_the_orders_as_they_are() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "OrderTable", &[("orderid", ScalarAttributeType::S)]).await?;
    create(&client, "OrderState", &[("orderid", ScalarAttributeType::S)]).await?;
    let stream = StreamSpecification::builder().stream_enabled(true).stream_view_type(StreamViewType::NewAndOldImages);
    client.update_table().table_name("OrderTable").stream_specification(stream.build()?).send().await?;
    let folder = tempfile::tempdir()?;
    let script = script(&server.endpoint, &["sales/streams.sql", "sales/tables.sql", "sales/deliver.sql"])?;

    order(&client, "1", "Phone", 1).await?;
    order(&client, "2", "Charger", 5).await?;
    order(&client, "1", "Phone", 3).await?;
    let two = AttributeValue::S("2".to_owned());
    client.delete_item().table_name("OrderTable").key("orderid", two).send().await?;
    run_once(&script, folder.path()).await?;
    assert_eq!(orders_now(&client).await?, expected(&[("1", "3")]));

    // The job goes on where it was: nothing is delivered twice.
    order(&client, "3", "Tablet", 7).await?;
    run_once(&script, folder.path()).await?;
    assert_eq!(orders_now(&client).await?, expected(&[("1", "3"), ("3", "7")]));
    let mut delivered: Vec<String> = lines(&folder.path().join("sales"))?
        .iter()
        .map(|line| format!("{} {} {} {}", line["orderid"], line["product_name"], line["quantity"], line["price"]))
        .collect();
    delivered.sort();
    assert_eq!(
        delivered,
        [r#""1" "Phone" 1 190.07"#, r#""1" "Phone" 3 190.07"#, r#""2" "Charger" 5 190.07"#, r#""3" "Tablet" 7 190.07"#]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn posts_become_parquet_and_items_and_no_file_is_taken_twice() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "ProcessedData", &[("post_id", ScalarAttributeType::S)]).await?;
    let folder = tempfile::tempdir()?;
    let posts = |seed: u64, rows: u64, to: &str| {
        let target = folder.path().join(to);
        generate(&Options { dataset: Dataset::Posts, rows: Some(rows), seed, format: None, target })
    };
    let text_of_files =
        script(&server.endpoint, &["engagement/aws.sql", "engagement/tables.sql", "engagement/posts.sql"])?;
    posts(3, 100, "rawData/posts")?;
    for _ in 0..2 {
        run_once(&text_of_files, folder.path()).await?;
        let stored = items(&client, "ProcessedData").await?;
        assert_eq!(stored.len(), 100);
        assert!(stored.iter().all(|item| text(item, "likes").is_ok() && text(item, "post_timestamp").is_ok()));
        assert_eq!(parquet_rows(&folder.path().join("processedData/posts_processed"))?, 100, "each file once");
    }
    // Another file arrives: it alone is taken.
    posts(4, 25, "more")?;
    for entry in fs::read_dir(folder.path().join("more"))? {
        let from = entry?.path();
        let name = from.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        fs::rename(&from, folder.path().join("rawData/posts").join(format!("more-{name}")))?;
    }
    run_once(&text_of_files, folder.path()).await?;
    assert_eq!(items(&client, "ProcessedData").await?.len(), 125);
    assert_eq!(parquet_rows(&folder.path().join("processedData/posts_processed"))?, 125);
    Ok(())
}

/// Orders as an application leaves them: inserted, changed, deleted.
pub(crate) async fn change_orders(client: &Client, orders: std::ops::Range<u32>) -> Result<BTreeMap<String, String>> {
    let mut now = BTreeMap::new();
    for id in orders {
        let name = id.to_string();
        for quantity in 1..=1 + id % 3 {
            order(client, &name, "Phone", quantity).await?;
            now.insert(name.clone(), quantity.to_string());
        }
        if id % 5 == 0 {
            let key = AttributeValue::S(name.clone());
            client.delete_item().table_name("OrderTable").key("orderid", key).send().await?;
            now.remove(&name);
        }
    }
    Ok(now)
}

#[tokio::test(flavor = "multi_thread")]
async fn sales_changes_come_through_kinesis_in_any_order() -> Result<()> {
    let stack = Ministack::start()?;
    let (tables, streams) = (client(&stack.endpoint), crate::kinesis::client(&stack.endpoint));
    create(&tables, "OrderTable", &[("orderid", ScalarAttributeType::S)]).await?;
    create(&tables, "OrderState", &[("orderid", ScalarAttributeType::S)]).await?;
    crate::kinesis::create(&streams, "kinesis-sales-order", 3).await?;
    let described = streams.describe_stream_summary().stream_name("kinesis-sales-order").send().await?;
    let arn = described.stream_description_summary.context("a stream")?.stream_arn;
    tables.enable_kinesis_streaming_destination().table_name("OrderTable").stream_arn(arn).send().await?;
    let folder = tempfile::tempdir()?;
    let script = script(&stack.endpoint, &["sales/aws.sql", "sales/tables.sql", "sales/deliver.sql"])?;

    // The changes of one order are spread over the shards, in seconds that many share.
    let mut expected = change_orders(&tables, 0..40).await?;
    run_once(&script, folder.path()).await?;
    assert_eq!(orders_now(&tables).await?, expected);
    expected.extend(change_orders(&tables, 40..60).await?);
    run_once(&script, folder.path()).await?;
    assert_eq!(orders_now(&tables).await?, expected);
    let written = (0..60).map(|id| 1 + id % 3).sum::<usize>();
    assert_eq!(lines(&folder.path().join("sales"))?.len(), written, "every change but removals, once");
    Ok(())
}

/// The orders as they are, of change records that two shards carry.
const CARRIED: &str = "
    CREATE TABLE orders (orderid VARCHAR, quantity INT, PRIMARY KEY (orderid) NOT ENFORCED)
    WITH ('connector' = 'kinesis', 'stream' = 'carried', 'aws.region' = 'us-east-1', 'aws.endpoint' = 'KINESIS',
          'aws.credentials.basic.accesskeyid' = 'id', 'aws.credentials.basic.secretkey' = 'secret',
          'format' = 'dynamodb-cdc');
    CREATE TABLE state (orderid VARCHAR, quantity INT, PRIMARY KEY (orderid) NOT ENFORCED)
    WITH ('connector' = 'dynamodb', 'table-name' = 'OrderState', 'aws.region' = '${region:-us-east-1}');
    INSERT INTO state SELECT orderid, quantity FROM orders;";

/// Puts a change record into the first shard or the second.
async fn carry(
    streams: &aws_sdk_kinesis::Client,
    shard: usize,
    (order, sequence, quantity): (&str, &str, Option<u32>),
) -> Result<()> {
    let image = quantity.map(|n| serde_json::json!({"orderid": {"S": order}, "quantity": {"N": n.to_string()}}));
    let record = serde_json::json!({
        "eventID": format!("{order} {sequence}"), "eventName": if quantity.is_some() { "MODIFY" } else { "REMOVE" },
        "dynamodb": {"ApproximateCreationDateTime": 1_705_732_562, "Keys": {"orderid": {"S": order}},
                     "NewImage": image, "SequenceNumber": sequence},
    });
    let hash_key = [0, u128::MAX][shard].to_string();
    let request = streams.put_record().stream_name("carried").partition_key("any").explicit_hash_key(hash_key);
    request.data(aws_sdk_kinesis::primitives::Blob::new(record.to_string())).send().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_change_that_comes_after_a_restart_changes_nothing() -> Result<()> {
    // A server of its own: the table's name is that of other tests.
    let (kinesis, server) = (KinesisLocal::start()?, DynamoDbLocal::start()?);
    let (streams, tables) = (crate::kinesis::client(&kinesis.endpoint), client(&server.endpoint));
    create(&tables, "OrderState", &[("orderid", ScalarAttributeType::S)]).await?;
    crate::kinesis::create(&streams, "carried", 2).await?;
    let folder = tempfile::tempdir()?;
    let script = with_endpoint(CARRIED, &server.endpoint).replace("KINESIS", &kinesis.endpoint);

    for change in [("1", "200", Some(2)), ("2", "150", Some(9)), ("2", "300", None)] {
        carry(&streams, 0, change).await?;
    }
    run_once(&script, folder.path()).await?;
    assert_eq!(orders_now(&tables).await?, expected(&[("1", "2")]));
    for change in [("1", "100", Some(1)), ("2", "250", Some(8)), ("3", "10", Some(3))] {
        carry(&streams, 1, change).await?;
    }
    run_once(&script, folder.path()).await?;
    assert_eq!(orders_now(&tables).await?, expected(&[("1", "2"), ("3", "3")]), "a gone order stays gone");
    carry(&streams, 1, ("1", "1000", Some(5))).await?;
    run_once(&script, folder.path()).await?;
    assert_eq!(orders_now(&tables).await?, expected(&[("1", "5"), ("3", "3")]));
    Ok(())
}

/// A copy of a table: what is there, then its changes.
const COPY: &str = "
    CREATE TABLE changes (id VARCHAR, n BIGINT, PRIMARY KEY (id) NOT ENFORCED)
    WITH ('connector' = 'dynamodb-streams', 'table-name' = 'Copied', 'scan.startup.mode' = 'initial',
          'aws.region' = '${region:-us-east-1}');
    CREATE TABLE copy (id VARCHAR, n BIGINT, PRIMARY KEY (id) NOT ENFORCED)
    WITH ('connector' = 'dynamodb', 'table-name' = 'TheCopy', 'aws.region' = '${region:-us-east-1}');
    INSERT INTO copy SELECT id, n FROM changes;";

/// Puts, changes and deletes items of the table that is copied.
async fn write_copied(client: &Client, rounds: std::ops::Range<u32>) -> Result<()> {
    for round in rounds {
        let id = AttributeValue::S(format!("item {}", round * 7 % 60));
        if round % 4 == 3 {
            client.delete_item().table_name("Copied").key("id", id).send().await?;
        } else {
            let request = client.put_item().table_name("Copied").item("id", id);
            request.item("n", AttributeValue::N(round.to_string())).send().await?;
        }
    }
    Ok(())
}

async fn numbers(client: &Client, table: &str) -> Result<BTreeMap<String, String>> {
    let items = items(client, table).await?;
    items.iter().map(|item| Ok((text(item, "id")?.to_owned(), text(item, "n")?.to_owned()))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_copied_while_it_is_written() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "Copied", &[("id", ScalarAttributeType::S)]).await?;
    create(&client, "TheCopy", &[("id", ScalarAttributeType::S)]).await?;
    let stream = StreamSpecification::builder().stream_enabled(true).stream_view_type(StreamViewType::NewAndOldImages);
    client.update_table().table_name("Copied").stream_specification(stream.build()?).send().await?;
    write_copied(&client, 0..200).await?;
    let folder = tempfile::tempdir()?;
    let script = with_endpoint(COPY, &server.endpoint);
    let (copied, written) = tokio::join!(run_once(&script, folder.path()), write_copied(&client, 200..900));
    copied?;
    written?;
    run_once(&script, folder.path()).await?;
    let found = numbers(&client, "Copied").await?;
    assert!(found.len() > 30, "{found:?}");
    assert_eq!(numbers(&client, "TheCopy").await?, found);
    Ok(())
}

/// Counts by the key of a table that is declared without one.
const TOTALS: &str = "
    CREATE TABLE events (v VARCHAR, n BIGINT)
    WITH ('connector' = 'filesystem', 'path' = '${lake}/events', 'format' = 'json');
    CREATE TABLE totals (c BIGINT, orderid VARCHAR)
    WITH ('connector' = 'dynamodb', 'table-name' = 'TotalsOfOrders', 'aws.region' = '${region:-us-east-1}');
    INSERT INTO totals SELECT count(*), v FROM events GROUP BY v;";

#[tokio::test(flavor = "multi_thread")]
async fn changes_find_their_items_by_the_key_the_table_has_outside() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "TotalsOfOrders", &[("orderid", ScalarAttributeType::S)]).await?;
    let (folder, script) = (tempfile::tempdir()?, with_endpoint(TOTALS, &server.endpoint));
    fs::create_dir(folder.path().join("events"))?;
    for (file, rows) in [("1.json", [("a", 1), ("b", 2)]), ("2.json", [("a", 3), ("c", 4)])] {
        let line = |(v, n): (&str, i32)| format!("{{\"v\": \"{v}\", \"n\": {n}}}\n");
        fs::write(folder.path().join("events").join(file), rows.map(line).concat())?;
        run_once(&script, folder.path()).await?;
    }
    let items = items(&client, "TotalsOfOrders").await?;
    let counts = items.iter().map(|item| Ok((text(item, "orderid")?.to_owned(), text(item, "c")?.to_owned())));
    let counts = counts.collect::<Result<BTreeMap<_, _>>>()?;
    assert_eq!(counts, expected(&[("a", "2"), ("b", "1"), ("c", "1")]));

    let other = script.replace("count(*), v FROM events GROUP BY v", "n, max(v) FROM events GROUP BY n");
    let refused = run_once(&other, folder.path()).await.unwrap_err().to_string();
    assert!(refused.contains("has the key (c), but the PRIMARY KEY of \"totals\" is (orderid)"), "{refused}");
    Ok(())
}

/// Rows of the Parquet files of a folder.
fn parquet_rows(folder: &Path) -> Result<i64> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let mut rows = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "parquet") {
            rows += SerializedFileReader::new(fs::File::open(path)?)?.metadata().file_metadata().num_rows();
        }
    }
    Ok(rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_of_the_table_comes_before_that_of_the_environment() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "Endpoints", &[("id", ScalarAttributeType::S)]).await?;
    let script = format!(
        "CREATE TABLE t (id VARCHAR) WITH ('connector' = 'dynamodb', 'table-name' = 'Endpoints',
                                           'aws.region' = 'us-east-1', 'aws.endpoint' = '{}');
         INSERT INTO t SELECT 'a';",
        server.endpoint
    );
    let job = JobFolder::new(env!("CARGO_BIN_EXE_headwater-under-test"), "endpoint.sql", &script, "")?
        .with_variable("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1")
        .with_variable("AWS_ACCESS_KEY_ID", "local")
        .with_variable("AWS_SECRET_ACCESS_KEY", "local");
    job.start("endpoint.sql", &[])?.finish()?;
    assert_eq!(items(&client, "Endpoints").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn the_same_transformation_runs_over_kinesis() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let session = Session::open(SessionConfig::in_directory(folder.path().to_string_lossy())).await?;
    let parameters = Parameters::from([("lake".to_owned(), folder.path().to_string_lossy().into_owned())]);
    let mut inserts = Vec::new();
    for statement in
        parse(&script("http://127.0.0.1:1", &["sales/aws.sql", "sales/tables.sql", "sales/deliver.sql"])?, &parameters)?
    {
        match &statement.kind {
            StatementKind::Insert(insert) => inserts.push(insert.clone()),
            _ => drop(session.execute(&statement).await?),
        }
    }
    let graph = lower_inserts(&session, &inserts, false).await?;
    let names: Vec<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
    assert!(names.contains(&"source:order_changes") && names.contains(&"source:orders"), "{names:?}");
    Ok(())
}
