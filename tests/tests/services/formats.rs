//! Formats of records over a real broker: written by one statement, read by another, and changes folded by a job.

use std::time::Duration;

use anyhow::{Result, ensure};
use headwater_tests::{
    jobs::JobFolder,
    services::{Kafka, Registry, Sent, Topics},
};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_headwater-under-test");

/// A folder whose statements see the broker's tables; `body` is what stands in the parentheses of each WITH.
fn declared(kafka: &Kafka, topic: &str, columns: &str, options: &str) -> String {
    format!(
        "CREATE TABLE {topic} ({columns}) WITH ('topic' = '{topic}', 'scan.startup.mode' = 'earliest-offset',
         'properties.bootstrap.servers' = '{}', {options});\n",
        kafka.brokers
    )
}

/// Runs statements that end; the lines of the last result without its header.
fn ended(job: &JobFolder, statements: &str) -> Result<Vec<String>> {
    let file = job.path().join("statements.sql");
    std::fs::write(&file, statements)?;
    let output = job.ended(&["--format", "csv", "-f", "statements.sql"])?;
    ensure!(output.status.success(), "{statements}\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.lines().skip(1).map(str::to_owned).collect())
}

fn folder() -> Result<JobFolder> {
    JobFolder::new(BINARY, "empty.sql", "", "'checkpoint.interval' = '300 ms'\n")
}

const COLUMNS: &str = "id BIGINT NOT NULL, name VARCHAR, price DECIMAL(10, 2), at TIMESTAMP(3), tags ARRAY<VARCHAR>,
    place ROW<x DOUBLE, y DOUBLE>";
const FLAT: &str = "id BIGINT NOT NULL, name VARCHAR, price DECIMAL(10, 2), at TIMESTAMP(3)";

/// Every format of rows gives back what was written with it.
#[tokio::test(flavor = "multi_thread")]
async fn rows_round_trip_in_every_format() -> Result<()> {
    let kafka = Kafka::start()?;
    let (topics, registry, job) = (Topics::of(&kafka.brokers), Registry::start().await?, folder()?);
    let confluent = format!(
        "'format' = 'avro-confluent', 'avro-confluent.url' = '{}',
         'avro-confluent.basic-auth.credentials-source' = 'USER_INFO', 'avro-confluent.basic-auth.user-info' = '{}'",
        registry.url,
        registry.user_info()
    );
    let nested = "SELECT id, name, price, at, tags[1], place.y FROM";
    for (topic, columns, options, is_nested) in [
        ("as_json", COLUMNS, "'format' = 'json'", true),
        ("as_avro", COLUMNS, "'format' = 'avro'", true),
        ("as_confluent", COLUMNS, confluent.as_str(), true),
        ("as_csv", FLAT, "'format' = 'csv', 'csv.field-delimiter' = ';'", false),
    ] {
        topics.create(topic, 2, &[]).await?;
        let table = declared(&kafka, topic, columns, &format!("'connector' = 'kafka', {options}"));
        let more = if is_nested { ", ARRAY['a', NULL], ROW(1.5, -2)" } else { "" };
        let nothing = if is_nested { ", NULL, NULL" } else { "" };
        let insert = format!(
            "INSERT INTO {topic} VALUES (1, 'one; \"two\"', 12.50, TIMESTAMP '2026-01-02 03:04:05.678'{more}),
             (-2, CAST(NULL AS VARCHAR), NULL, NULL{nothing});\n"
        );
        let select = if is_nested { nested } else { "SELECT * FROM" };
        let found = ended(&job, &format!("{table}{insert}{select} {topic} ORDER BY id DESC;"))?;
        let tail = if is_nested { ",a,-2.0" } else { "" };
        let first = format!("1,\"one; \"\"two\"\"\",12.50,2026-01-02 03:04:05.678{tail}");
        ensure!(found[0] == first, "{topic}: {found:?}");
        // An empty field of CSV is '' where text is expected.
        let second = if topic == "as_csv" { found[1].replace("\"\"", "") } else { found[1].clone() };
        ensure!(second.starts_with("-2,,,"), "{topic}: {found:?}");
    }
    let schemas = registry.schemas("as_confluent-value")?;
    ensure!(schemas.len() == 1 && schemas[0]["fields"][0]["type"] == json!("long"), "{schemas:?}");
    ensure!(schemas[0]["fields"][1]["type"] == json!(["null", "string"]), "{schemas:?}");
    let values = topics.read("as_confluent", 2)?;
    ensure!(
        values.iter().all(|sent| sent.value.as_ref().is_some_and(|value| value[..5] == [0, 0, 0, 0, 1])),
        "{values:?}"
    );
    Ok(())
}

/// Values of two schemas of one subject, an unknown one and garbage; then the wrong password.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_gives_each_value_its_own_schema() -> Result<()> {
    let kafka = Kafka::start()?;
    let (topics, registry, job) = (Topics::of(&kafka.brokers), Registry::start().await?, folder()?);
    topics.create("users", 1, &[]).await?;
    let field = |name: &str, of: Value| json!({"name": name, "type": of});
    let first =
        json!({"type": "record", "name": "u", "fields": [field("id", json!("int")), field("name", json!("string"))]});
    let second = json!({"type": "record", "name": "u", "fields": [
        field("extra", json!({"type": "map", "values": "long"})), field("id", json!("long")), field("age", json!(["null", "int"]))]});
    let numbers = [registry.register("users-value", &first)?, registry.register("users-value", &second)?];
    let framed = |number: i32, bytes: &[u8]| Sent::value([&[0], &number.to_be_bytes()[..], bytes].concat());
    topics.send(
        "users",
        &[
            framed(numbers[0], &[2, 4, b'a', b'b']),
            framed(numbers[1], &[2, 2, b'k', 8, 0, 4, 2, 60]),
            framed(99, &[2]),
            Sent::value("{}"),
        ],
        None,
    )?;
    let options = |password: &str| {
        format!(
            "'connector' = 'kafka', 'format' = 'avro-confluent', 'avro-confluent.url' = '{}', 'malformed' = 'reject',
             'avro-confluent.basic-auth.user-info' = 'reader:{password}'",
            registry.url
        )
    };
    let table = |password: &str| declared(&kafka, "users", "id BIGINT, name VARCHAR, age INT", &options(password));
    let found = ended(&job, &format!("{}SELECT * FROM users ORDER BY id;", table("registry-word")))?;
    ensure!(found == ["1,ab,", "2,,30"], "{found:?}");
    let rejected = "SELECT reason, \"offset\" FROM \"users$rejected\" ORDER BY \"offset\";";
    let found = ended(&job, &format!("{}{rejected}", table("registry-word")))?;
    let framing = "\"the first byte is 123, not the 0 of Confluent's framing\",3";
    ensure!(found == ["schema 99 is not in the registry,2", framing], "{found:?}");

    std::fs::write(job.path().join("wrong.sql"), format!("{}SELECT * FROM users;", table("wrong-word")))?;
    let refused = job.ended(&["-f", "wrong.sql"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1) && said.contains("refuses the credentials"), "{said}");
    ensure!(said.contains("'avro-confluent.basic-auth.user-info'") && !said.contains("wrong-word"), "{said}");
    Ok(())
}

/// Keys as columns: in the value too, out of it, with a prefix, in a format of their own, and not there at all.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_columns_in_every_way() -> Result<()> {
    let kafka = Kafka::start()?;
    let (topics, job) = (Topics::of(&kafka.brokers), folder()?);
    for topic in ["both", "apart", "prefixed", "raw_key"] {
        topics.create(topic, 1, &[]).await?;
    }
    let columns = "id BIGINT, name VARCHAR, h MAP<VARCHAR, VARBINARY> METADATA FROM 'headers'";
    let prefixed = "k_id BIGINT, id VARCHAR, h MAP<VARCHAR, VARBINARY> METADATA FROM 'headers'";
    let with = "'connector' = 'kafka', 'value.format' = 'json', 'key.fields' = ";
    let tables = [
        ("both", columns, format!("{with}'id', 'key.format' = 'csv'")),
        ("apart", columns, format!("{with}'id', 'key.format' = 'json', 'value.fields-include' = 'EXCEPT_KEY'")),
        (
            "prefixed",
            prefixed,
            format!(
                "{with}'k_id', 'key.format' = 'json', 'key.fields-prefix' = 'k_', 'value.fields-include' = 'EXCEPT_KEY'"
            ),
        ),
        ("raw_key", columns, format!("{with}'name', 'key.format' = 'raw', 'value.fields-include' = 'EXCEPT_KEY'")),
    ];
    let all = tables.map(|(topic, columns, options)| declared(&kafka, topic, columns, &options)).concat();
    for topic in ["both", "apart", "prefixed", "raw_key"] {
        ended(&job, &format!("{all}INSERT INTO {topic} VALUES (7, 'seven', MAP(ARRAY['trace'], ARRAY[X'0102']));"))?;
        let found = ended(&job, &format!("{all}SELECT * FROM {topic};"))?;
        ensure!(found.len() == 1 && found[0].starts_with("7,seven,"), "{topic}: {found:?}");
        let found = ended(&job, &format!("{all}SELECT to_hex(h['trace']) FROM {topic};"))?;
        ensure!(found == ["0102"], "{topic}: {found:?}");
    }
    let raw = |topic: &str| -> Result<(String, String)> {
        let sent = topics.read(topic, 1)?.swap_remove(0);
        ensure!(sent.headers == [("trace".to_owned(), vec![1, 2])], "{sent:?}");
        let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap_or_default());
        Ok((text(sent.key)?, text(sent.value)?))
    };
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    ensure!(raw("both")? == pair("7", "{\"id\":7,\"name\":\"seven\"}"), "{:?}", raw("both")?);
    ensure!(raw("apart")? == pair("{\"id\":7}", "{\"name\":\"seven\"}"), "{:?}", raw("apart")?);
    ensure!(raw("prefixed")? == pair("{\"id\":7}", "{\"id\":\"seven\"}"), "{:?}", raw("prefixed")?);
    ensure!(raw("raw_key")? == pair("seven", "{\"id\":7}"), "{:?}", raw("raw_key")?);

    // A record without key has NULL in its columns; one whose key cannot be read is rejected, once.
    topics.send("apart", &[Sent::value("{\"name\":\"no key\"}"), Sent::keyed("{", "{\"name\":\"bad key\"}")], None)?;
    let lenient = all.replace("'connector'", "'malformed' = 'reject', 'connector'");
    let found = ended(&job, &format!("{lenient}SELECT id, name FROM apart ORDER BY name;"))?;
    ensure!(found == [",no key", "7,seven"], "{found:?}");
    let found =
        ended(&job, &format!("{lenient}SELECT \"offset\" FROM \"apart$rejected\" WHERE reason LIKE 'key: %';"))?;
    ensure!(found.len() == 1, "{found:?}");
    Ok(())
}

fn change(before: &Value, after: &Value, op: &str) -> String {
    json!({"before": before, "after": after, "op": op, "source": {"connector": "postgresql"}, "ts_ms": 1}).to_string()
}

/// A table's changes with updates, moves, deletes and the records after them that have no value.
fn changes() -> Vec<Sent> {
    let row = |id: i64, city: &str, amount: i64| json!({"id": id, "city": city, "amount": amount});
    let mut sent = Vec::new();
    let mut put = |id: i64, before: Value, after: Value, op: &str| {
        sent.push(Sent::keyed(&format!("{{\"id\":{id}}}"), change(&before, &after, op)));
        if op == "d" {
            sent.push(Sent { value: None, ..Sent::keyed(&format!("{{\"id\":{id}}}"), "") });
        }
    };
    for id in 0..60 {
        let (first, second) = (row(id, "Oslo", id), row(id, "Rome", id * 2));
        put(id, Value::Null, first.clone(), if id % 2 == 0 { "r" } else { "c" });
        if id % 3 == 0 {
            put(id, first.clone(), second.clone(), "u");
        }
        if id % 4 == 0 {
            put(id, if id % 3 == 0 { second } else { first }, Value::Null, "d");
        }
    }
    sent
}

/// What is left of [`changes`] by city: how many, and the sum of their amounts.
fn left() -> Vec<String> {
    let rows = (0..60_i64).filter(|id| id % 4 != 0);
    let (rome, oslo): (Vec<i64>, Vec<i64>) = rows.partition(|id| id % 3 == 0);
    vec![
        format!("Oslo,{},{}", oslo.len(), oslo.iter().sum::<i64>()),
        format!("Rome,{},{}", rome.len(), rome.iter().map(|id| id * 2).sum::<i64>()),
    ]
}

/// Debezium's changes with deletes, with and without a key, through a job that is killed, into a keyed topic.
#[tokio::test(flavor = "multi_thread")]
async fn changes_of_a_database_are_folded_by_a_job() -> Result<()> {
    let kafka = Kafka::start()?;
    let topics = Topics::of(&kafka.brokers);
    topics.create("orders", 3, &[]).await?;
    let all = changes();
    let (first, rest) = all.split_at(all.len() / 2);
    topics.send("orders", first, None)?;
    for (name, key) in [("keyed", ", PRIMARY KEY (id) NOT ENFORCED"), ("keyless", "")] {
        topics.create(name, 2, &[]).await?;
        let columns = format!("id BIGINT, city VARCHAR, amount BIGINT{key}");
        let orders = declared(&kafka, "orders", &columns, "'connector' = 'kafka', 'format' = 'debezium-json'");
        let columns = "city VARCHAR, n BIGINT, total BIGINT, PRIMARY KEY (city) NOT ENFORCED";
        let formats = "'connector' = 'upsert-kafka', 'key.format' = 'json', 'value.format' = 'json'";
        let totals = declared(&kafka, name, columns, formats);
        let insert = format!("INSERT INTO {name} SELECT city, count(*), sum(amount) FROM orders GROUP BY city;");
        let script = format!("{orders}{totals}{insert}");
        let job = JobFolder::new(BINARY, "totals.sql", &script, "'checkpoint.interval' = '200 ms'\n")?;
        let running = job.start("totals.sql", &["--parallelism", "2"])?;
        if name == "keyed" {
            std::thread::park_timeout(Duration::from_millis(1500));
            topics.send("orders", rest, None)?;
        }
        let read = all.len().to_string();
        if key.is_empty() {
            running.kill()?;
        } else {
            job.wait_for("SELECT sum(lag) FROM headwater.splits", |lines| lines == ["0"])?;
            running.kill()?;
        }
        let log = job.start("totals.sql", &["--once", "--parallelism", "3"])?.finish()?;
        let found = ended(&job, &format!("{totals}SELECT * FROM {name} ORDER BY city;"))?;
        ensure!(found == left(), "{name}: {found:?} after {read} records\n{log}");
        if !key.is_empty() {
            let found = ended(
                &job,
                &format!("{orders}SELECT city, count(*), sum(amount) FROM orders GROUP BY city ORDER BY city;"),
            )?;
            ensure!(found == left(), "in batch: {found:?}");
        }
    }
    Ok(())
}

/// A number as Avro writes it.
fn long(number: i64) -> Vec<u8> {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    let mut bytes = Vec::new();
    while rest > 0x7f {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [long(text.len() as i64), text.as_bytes().to_vec()].concat()
}

/// The schema a Debezium connector registers, shortened: `after` names the record that `before` declares.
fn envelope_schema() -> Value {
    let field = |name: &str, of: Value| json!({"name": name, "type": of});
    let row = json!({"type": "record", "name": "Value", "fields":
        [field("id", json!("long")), field("city", json!(["null", "string"])), field("amount", json!("long"))]});
    let source = json!({"type": "record", "name": "Source", "namespace": "io.debezium", "fields":
        [field("connector", json!("string"))]});
    json!({"type": "record", "name": "Envelope", "namespace": "db.orders", "fields":
        [field("before", json!(["null", row])), field("after", json!(["null", "Value"])), field("source", source),
         field("op", json!("string")), field("ts_ms", json!(["null", "long"]))]})
}

/// One of [`changes`] in Avro, in Confluent's framing.
fn in_avro(sent: &Sent, schema: i32) -> Result<Sent> {
    let Some(value) = &sent.value else { return Ok(sent.clone()) };
    let change: Value = serde_json::from_slice(value)?;
    let side = |row: &Value| match row.is_null() {
        true => long(0),
        false => [
            long(1),
            long(row["id"].as_i64().unwrap_or_default()),
            long(1),
            text(row["city"].as_str().unwrap_or_default()),
            long(row["amount"].as_i64().unwrap_or_default()),
        ]
        .concat(),
    };
    let body = [
        side(&change["before"]),
        side(&change["after"]),
        text("postgresql"),
        text(change["op"].as_str().unwrap_or_default()),
        long(0),
    ];
    Ok(Sent { value: Some([vec![0], schema.to_be_bytes().to_vec(), body.concat()].concat()), ..sent.clone() })
}

/// The same changes in Avro, as a database's connector writes them through a registry, and written and read back by us.
#[tokio::test(flavor = "multi_thread")]
async fn changes_in_avro_are_folded_and_written() -> Result<()> {
    let kafka = Kafka::start()?;
    let (topics, registry, job) = (Topics::of(&kafka.brokers), Registry::start().await?, folder()?);
    topics.create("orders", 3, &[]).await?;
    let schema = registry.register("orders-value", &envelope_schema())?;
    let all = changes().iter().map(|sent| in_avro(sent, schema)).collect::<Result<Vec<_>>>()?;
    topics.send("orders", &all, None)?;
    let format = format!(
        "'connector' = 'kafka', 'format' = 'debezium-avro-confluent', 'debezium-avro-confluent.url' = '{}',
         'debezium-avro-confluent.basic-auth.credentials-source' = 'USER_INFO',
         'debezium-avro-confluent.basic-auth.user-info' = '{}'",
        registry.url,
        registry.user_info()
    );
    for (topic, key) in [("keyed", ", PRIMARY KEY (id) NOT ENFORCED"), ("keyless", "")] {
        topics.create(topic, 1, &[]).await?;
        let orders = declared(&kafka, "orders", &format!("id BIGINT, city VARCHAR, amount BIGINT{key}"), &format);
        if topic == "keyed" {
            let fold = "SELECT city, count(*), sum(amount) FROM orders GROUP BY city ORDER BY city;";
            let found = ended(&job, &format!("{orders}{fold}"))?;
            ensure!(found == left(), "in batch: {found:?}");
        }
        let columns = "city VARCHAR, n BIGINT, total BIGINT, PRIMARY KEY (city) NOT ENFORCED";
        let totals = declared(&kafka, topic, columns, &format);
        let insert = format!("INSERT INTO {topic} SELECT city, count(*), sum(amount) FROM orders GROUP BY city;");
        let writing = JobFolder::new(BINARY, "totals.sql", &format!("{orders}{totals}{insert}"), "")?;
        writing.start("totals.sql", &["--once", "--parallelism", "2"])?.finish()?;
        let found = ended(&job, &format!("{totals}SELECT * FROM {topic} ORDER BY city;"))?;
        ensure!(found == left(), "written to {topic}: {found:?}");
        let schemas = registry.schemas(&format!("{topic}-value"))?;
        ensure!(schemas.len() == 1 && schemas[0]["fields"][0]["name"] == "before", "{schemas:?}");
    }
    Ok(())
}

/// Records without value: a delete of their key in a keyed topic, read and written; a rejected record of one without keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_value_deletes_its_key() -> Result<()> {
    let kafka = Kafka::start()?;
    let (topics, job) = (Topics::of(&kafka.brokers), folder()?);
    topics.create("prices", 2, &[]).await?;
    topics.create("cheap", 1, &[]).await?;
    let key = |item: i64| format!("{{\"item\":{item}}}");
    let set = |item: i64, price: i64| Sent::keyed(&key(item), format!("{{\"price\":{price}}}"));
    let gone = |item: i64| Sent { value: None, ..Sent::keyed(&key(item), "") };
    topics.send("prices", &[set(1, 10), set(2, 20), set(3, 30), gone(2), gone(9), set(3, 31)], None)?;
    let keyed = |topic: &str| {
        format!(
            "CREATE TABLE {topic} (item BIGINT, price BIGINT, PRIMARY KEY (item) NOT ENFORCED) WITH (
             'connector' = 'upsert-kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{}',
             'key.format' = 'json', 'value.format' = 'json', 'value.fields-include' = 'EXCEPT_KEY');\n",
            kafka.brokers
        )
    };
    let tables = keyed("prices") + &keyed("cheap");
    let found = ended(&job, &format!("{tables}SELECT * FROM prices ORDER BY item;"))?;
    ensure!(found == ["1,10", "3,31"], "{found:?}");
    let script = format!("{tables}INSERT INTO cheap SELECT item, price FROM prices WHERE price < 25;");
    let copying = JobFolder::new(BINARY, "cheap.sql", &script, "")?;
    copying.start("cheap.sql", &["--once"])?.finish()?;
    topics.send("prices", &[gone(1), set(4, 5)], None)?;
    copying.start("cheap.sql", &["--once"])?.finish()?;
    let found = ended(&job, &format!("{tables}SELECT * FROM cheap ORDER BY item;"))?;
    ensure!(found == ["4,5"], "{found:?}");
    let deletes = topics.read("cheap", 1)?.into_iter().filter(|sent| sent.value.is_none());
    let deletes: Vec<String> =
        deletes.map(|sent| String::from_utf8_lossy(&sent.key.unwrap_or_default()).into_owned()).collect();
    ensure!(deletes.contains(&key(1)), "{deletes:?}");

    let columns = "price BIGINT, off BIGINT METADATA FROM 'offset' VIRTUAL";
    let lenient = "'connector' = 'kafka', 'format' = 'json', 'malformed' = 'reject'";
    let plain = declared(&kafka, "cheap", columns, lenient);
    let found = ended(&job, &format!("{plain}SELECT price FROM cheap ORDER BY price;"))?;
    ensure!(found == ["5", "10"], "{found:?}");
    let found = ended(&job, &format!("{plain}SELECT DISTINCT reason FROM \"cheap$rejected\";"))?;
    ensure!(found == ["empty"], "{found:?}");
    Ok(())
}

/// An updating query into `debezium-json`: what goes and what comes, each a record.
#[tokio::test(flavor = "multi_thread")]
async fn an_updating_query_writes_changes() -> Result<()> {
    let kafka = Kafka::start()?;
    let topics = Topics::of(&kafka.brokers);
    topics.create("clicks", 1, &[]).await?;
    topics.create("changes", 1, &[]).await?;
    let clicks: Vec<Sent> = ["a", "b", "a"].iter().map(|page| Sent::value(json!({"page": page}).to_string())).collect();
    topics.send("clicks", &clicks, None)?;
    let source = declared(&kafka, "clicks", "page VARCHAR", "'connector' = 'kafka', 'format' = 'json'");
    let sink =
        declared(&kafka, "changes", "page VARCHAR, n BIGINT", "'connector' = 'kafka', 'format' = 'debezium-json'");
    let script = format!("{source}{sink}INSERT INTO changes SELECT page, count(*) FROM clicks GROUP BY page;");
    let job = JobFolder::new(BINARY, "changes.sql", &script, "")?;
    job.start("changes.sql", &["--once", "--parallelism", "1"])?.finish()?;
    topics.send("clicks", &clicks[..1], None)?;
    job.start("changes.sql", &["--once", "--parallelism", "1"])?.finish()?;
    let mut counts = std::collections::BTreeMap::<String, i64>::new();
    let mut gone = 0;
    for sent in topics.read("changes", 1)? {
        let change: Value = serde_json::from_slice(sent.value.as_deref().unwrap_or_default())?;
        let side = if change["op"] == "c" { &change["after"] } else { &change["before"] };
        let page = side["page"].as_str().unwrap_or_default().to_owned();
        if change["op"] == "c" {
            counts.insert(page, side["n"].as_i64().unwrap_or_default());
        } else {
            gone += 1;
            ensure!(counts.remove(&page) == side["n"].as_i64(), "{change}");
        }
    }
    ensure!(counts == [("a".to_owned(), 3), ("b".to_owned(), 1)].into(), "{counts:?}");
    ensure!(gone > 0, "nothing went");
    Ok(())
}
