//! DynamoDB's tables and streams against DynamoDB Local, with a throttling proxy in front where that matters.

mod lookup;
mod misfits;
pub(crate) mod pipelines;
pub(crate) mod reading;
mod sink;
mod types;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context, Result};
use arrow::{array::RecordBatch, datatypes::SchemaRef};
use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Config, Credentials, Region},
    types::{AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType},
};
use futures::StreamExt;
use headwater_connectors::dynamodb::DynamoDb;
use headwater_engine::{
    connector::{Committable, Connector, Fence, JobContext, Sink, TableSpec, Unfenced},
    message::{ChangeBatch, Generation},
    testing::job_context,
};
use headwater_tests::services::DynamoDbLocal;

pub(crate) type Item = std::collections::HashMap<String, AttributeValue>;

pub(crate) fn job() -> JobContext {
    job_with("inc1", 1, Arc::new(Unfenced))
}

pub(crate) fn job_with(incarnation: &str, generation: u64, fence: Arc<dyn Fence>) -> JobContext {
    let generation = Generation(generation);
    JobContext { incarnation: incarnation.to_owned(), generation, fence, ..job_context("orders") }
}

pub(crate) fn client(endpoint: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("local", "local", None, None, "test"));
    Client::from_conf(config.build())
}

/// Creates a table with keys of these types; the first is the partition key.
pub(crate) async fn create(client: &Client, name: &str, keys: &[(&str, ScalarAttributeType)]) -> Result<()> {
    let mut request = client.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    for (index, (key, kind)) in keys.iter().enumerate() {
        let role = if index == 0 { KeyType::Hash } else { KeyType::Range };
        request = request
            .key_schema(KeySchemaElement::builder().attribute_name(*key).key_type(role).build()?)
            .attribute_definitions(
                AttributeDefinition::builder().attribute_name(*key).attribute_type(kind.clone()).build()?,
            );
    }
    request.send().await?;
    Ok(())
}

/// All items of a table.
pub(crate) async fn items(client: &Client, table: &str) -> Result<Vec<Item>> {
    let pages = client.scan().table_name(table).consistent_read(true).into_paginator().items().send();
    Ok(pages.collect::<std::result::Result<Vec<_>, _>>().await?)
}

/// A table of the run.
pub(crate) fn spec(endpoint: &str, table: &str, schema: SchemaRef, extra: &[(&str, &str)]) -> TableSpec {
    let options = [
        ("table-name", table),
        ("aws.endpoint", endpoint),
        ("aws.region", "us-east-1"),
        ("aws.credentials.basic.accesskeyid", "local"),
        ("aws.credentials.basic.secretkey", "local"),
    ];
    TableSpec::new(table, schema, options.into_iter().chain(extra.iter().copied()))
}

pub(crate) fn sink(spec: &TableSpec) -> Result<Arc<dyn Sink>> {
    Ok(DynamoDb.sink(spec)?)
}

/// A unit as a writer hands it over.
pub(crate) fn unit(changes: Vec<ChangeBatch>, item_versions: bool) -> Committable {
    Committable {
        unit: "u".to_owned(),
        detail: format!("{{\"item_versions\":{item_versions}}}"),
        rows: futures::stream::iter(changes.into_iter().map(Ok)).boxed(),
    }
}

pub(crate) fn inserts(rows: RecordBatch) -> ChangeBatch {
    ChangeBatch::inserts(rows)
}

/// The text of a string or number attribute.
pub(crate) fn text<'a>(item: &'a Item, name: &str) -> Result<&'a str> {
    match item.get(name) {
        Some(AttributeValue::S(text) | AttributeValue::N(text)) => Ok(text),
        other => Err(anyhow::anyhow!("attribute {name} is {other:?}")),
    }
}

pub(crate) async fn get(client: &Client, table: &str, id: &str) -> Result<Item> {
    let answer = client.get_item().table_name(table).key("id", AttributeValue::S(id.to_owned()));
    answer.consistent_read(true).send().await?.item.context("the item is there")
}

/// The server that the tests that run now share; each has tables of its own.
pub(crate) fn local() -> Result<Arc<DynamoDbLocal>> {
    static RUNNING: Mutex<Weak<DynamoDbLocal>> = Mutex::new(Weak::new());
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = running.upgrade() {
        return Ok(server);
    }
    let server = Arc::new(DynamoDbLocal::start()?);
    *running = Arc::downgrade(&server);
    Ok(server)
}
