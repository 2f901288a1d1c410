//! Exactly-once delivery over a broker inside the process.
//!
//! Invariant: each test that could wait for a lock for ever does so on a thread of its own, and gives up on it.

use std::{sync::mpsc, time::Duration};

use arrow::{
    array::{Int64Array, RecordBatch},
    datatypes::{DataType, Field, Schema},
};
use headwater_engine::testing::job_context;
use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

use super::*;

fn job() -> JobContext {
    job_context("j")
}

fn table(servers: &str) -> TableSpec {
    let options = [
        ("connector", "kafka"),
        ("topic", "numbers"),
        ("format", "json"),
        ("properties.bootstrap.servers", servers),
        ("properties.sasl.password", "secret"),
        ("sink.delivery-guarantee", "exactly-once"),
    ];
    TableSpec::new("t", Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)])), options)
}

fn unit(table: &TableSpec) -> Committable {
    let rows = RecordBatch::try_new(Arc::clone(&table.schema), vec![Arc::new(Int64Array::from_iter(0..10))]).unwrap();
    let rows = futures::stream::iter([Ok(ChangeBatch::inserts(rows))]).boxed();
    Committable { unit: "epoch-1".into(), detail: String::new(), rows }
}

#[test]
fn an_epoch_whose_transaction_failed_is_delivered_by_the_next_one() {
    let broker = MockCluster::new(1).unwrap();
    broker.create_topic("numbers", 1, 1).unwrap();
    let taken_over = RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED;
    broker.request_errors(RDKafkaApiKey::AddOffsetsToTxn, &[taken_over]);
    let table = table(&broker.bootstrap_servers());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let delivered = tokio::runtime::Runtime::new().unwrap().block_on(async {
            let sink = KafkaSink::new(&table, Mode::Append).unwrap();
            sink.recover(&job(), &CommitFacts::default()).await.unwrap();
            let mut delivered = Vec::new();
            for _ in 0..3 {
                let commit = sink.commit(&job(), Epoch(1), vec![unit(&table)]).await;
                delivered.push(commit.map(|report| report.rows).map_err(|error| error.kind()));
            }
            delivered
        });
        tell.send(delivered).unwrap();
    });
    let delivered = told.recv_timeout(Duration::from_secs(60)).expect("the commit after a failed one never ends");
    assert_eq!(delivered, [Err(ErrorKind::Unavailable), Ok(10), Ok(0)]);
}

#[test]
fn a_destination_is_the_topic_and_its_brokers() {
    let of = |servers: &str| KafkaSink::new(&table(servers), Mode::Append).unwrap().destination();
    assert_eq!(of("b:9092, a:9092"), "kafka topic numbers at a:9092,b:9092");
    assert_eq!(of("a:9092,b:9092"), of("b:9092,a:9092"));
    let known = |servers: &str| KafkaSink::new(&table("b:9092,c:9092"), Mode::Append).unwrap().is_destination(servers);
    assert!(known(&of("a:9092,b:9092")) && known("kafka topic numbers") && !known(&of("a:9092")));
    assert!(!known("kafka topic others at b:9092"));
}
