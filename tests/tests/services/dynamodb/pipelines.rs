//! The pipelines of `queries/` that read and write DynamoDB, as jobs over DynamoDB Local.
//!
//! Invariant: the files are run as they are; only endpoint and credentials are filled in.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use anyhow::Result;
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
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{client, create, items, local, text};

/// Files of `queries/`, with a local endpoint.
fn script(endpoint: &str, files: &[&str]) -> Result<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../queries");
    let texts = files.iter().map(|file| Ok(fs::read_to_string(folder.join(file))?)).collect::<Result<Vec<_>>>()?;
    let connection = format!(
        "'aws.region' = 'us-east-1', 'aws.endpoint' = '{endpoint}',
        'aws.credentials.basic.accesskeyid' = 'local', 'aws.credentials.basic.secretkey' = 'local'"
    );
    Ok(texts.join("\n").replace("'aws.region' = '${region:-us-east-1}'", &connection))
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

async fn orders_now(client: &Client) -> Result<BTreeMap<String, String>> {
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
    let script = script(&server.endpoint, &["sales/streams.sql", "sales/deliver.sql"])?;

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
    let mut delivered: Vec<String> = lines(&folder.path().join("sales_delivered"))?
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
async fn processed_posts_become_items_however_often_they_are_stored() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "ProcessedData", &[("post_id", ScalarAttributeType::S)]).await?;
    let folder = tempfile::tempdir()?;
    let target = folder.path().join("rawData/posts");
    generate(&Options { dataset: Dataset::Posts, rows: Some(100), seed: 3, format: None, target })?;
    let session = Session::open(SessionConfig::in_directory(folder.path().join("state").to_string_lossy())).await?;
    let parameters = Parameters::from([("lake".to_owned(), folder.path().to_string_lossy().into_owned())]);
    for statement in parse(&script("", &["engagement/lake.sql", "engagement/transform.sql"])?, &parameters)? {
        drop(session.execute(&statement).await?);
    }
    let items_file = script(&server.endpoint, &["engagement/items.sql"])?;
    for _ in 0..2 {
        run_once(&items_file, folder.path()).await?;
        let stored = items(&client, "ProcessedData").await?;
        assert_eq!(stored.len(), 100);
        assert!(stored.iter().all(|item| text(item, "likes").is_ok() && text(item, "post_timestamp").is_ok()));
    }
    Ok(())
}

#[tokio::test]
async fn the_same_transformation_runs_over_kinesis() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let session = Session::open(SessionConfig::in_directory(folder.path().to_string_lossy())).await?;
    let parameters = Parameters::from([("lake".to_owned(), folder.path().to_string_lossy().into_owned())]);
    let mut inserts = Vec::new();
    for statement in parse(&script("http://127.0.0.1:1", &["sales/aws.sql", "sales/deliver.sql"])?, &parameters)? {
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
