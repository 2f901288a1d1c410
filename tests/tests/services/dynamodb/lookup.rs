//! A table looked up by a job: by its whole key and by its partition key, with and without a cache, while it throttles.
//!
//! Invariant: what a job finds is what the items are; how often it asks is what the cache says.

use std::{fs, path::Path};

use anyhow::Result;
use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, ScalarAttributeType},
};
use headwater_tests::{
    scripts::{self, run_once},
    services::{Proxy, Verdict},
};

use super::{client, create, local};

/// Clicks in a folder join users and their visits by key.
const JOINED: &str = "
    CREATE TABLE clicks (id INT, user_id VARCHAR, visit INT)
    WITH ('connector' = 'filesystem', 'path' = '${folder}/clicks', 'format' = 'json');
    CREATE TABLE users (user_id VARCHAR, name VARCHAR, age INT)
    WITH ('connector' = 'dynamodb', 'table-name' = 'LookupUsers', 'aws.endpoint' = '${endpoint}', 'aws.region' = 'us-east-1',
          'aws.credentials.basic.accesskeyid' = 'local', 'aws.credentials.basic.secretkey' = 'local' ${cache});
    CREATE TABLE visits (user_id VARCHAR, visit INT, page VARCHAR)
    WITH ('connector' = 'dynamodb', 'table-name' = 'LookupVisits', 'aws.endpoint' = '${endpoint}', 'aws.region' = 'us-east-1',
          'aws.credentials.basic.accesskeyid' = 'local', 'aws.credentials.basic.secretkey' = 'local');
    CREATE TABLE found (id INT, name VARCHAR, page VARCHAR)
    WITH ('connector' = 'filesystem', 'path' = '${folder}/found', 'format' = 'json');
";

async fn fill(client: &Client) -> Result<()> {
    create(client, "LookupUsers", &[("user_id", ScalarAttributeType::S)]).await?;
    create(client, "LookupVisits", &[("user_id", ScalarAttributeType::S), ("visit", ScalarAttributeType::N)]).await?;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let number = |number: i32| AttributeValue::N(number.to_string());
    for user in 0..150 {
        let request = client.put_item().table_name("LookupUsers").item("user_id", text(&format!("u{user}")));
        request.item("name", text(&format!("name {user}"))).item("age", number(user)).send().await?;
    }
    for visit in 1..=3 {
        let request = client.put_item().table_name("LookupVisits").item("user_id", text("u1"));
        request.item("visit", number(visit)).item("page", text(&format!("page {visit}"))).send().await?;
    }
    Ok(())
}

/// Clicks of the users 0 to 199, each twice; 50 of them are unknown.
fn clicks(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.join("clicks"))?;
    for file in 0..2 {
        let line = |user: usize| format!("{{\"id\":{},\"user_id\":\"u{user}\",\"visit\":2}}\n", file * 1000 + user);
        fs::write(folder.join(format!("clicks/{file}.json")), (0..200).map(line).collect::<String>())?;
    }
    Ok(())
}

fn found(folder: &Path) -> Result<Vec<String>> {
    let mut lines = scripts::lines(&folder.join("found"))?;
    lines.sort();
    Ok(lines)
}

async fn joined(folder: &Path, endpoint: &str, cache: &str, insert: &str, name: &str) -> Result<Vec<String>> {
    let place = folder.to_string_lossy().into_owned();
    let _none_yet = fs::remove_dir_all(folder.join("found"));
    let script = format!("{}{insert}", JOINED.replace("${cache}", cache));
    run_once(&script, &[("folder", &place), ("endpoint", endpoint)], &folder.join(name)).await?;
    found(folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_find_their_items_by_key_and_ask_once_while_half_of_all_calls_are_throttled() -> Result<()> {
    let server = local()?;
    fill(&client(&server.endpoint)).await?;
    let folder = tempfile::tempdir()?;
    clicks(folder.path())?;
    let throttled = |operation: &str, nth: u64| match operation {
        "BatchGetItem" | "Query" if nth.is_multiple_of(2) => Verdict::Throttle,
        _ => Verdict::Pass,
    };
    let left = "INSERT INTO found SELECT c.id, u.name, NULL FROM clicks c LEFT JOIN users u ON c.user_id = u.user_id;";
    let mut asked = Vec::new();
    for (cache, name) in [("", "none"), (", 'lookup.cache' = 'PARTIAL'", "partial")] {
        let proxy = Proxy::start(&server.endpoint, throttled).await?;
        let found = joined(folder.path(), &proxy.endpoint, cache, left, name).await?;
        assert_eq!(found.len(), 400, "rows without a match stay");
        assert_eq!(found.iter().filter(|line| line.contains("\"name\":\"name ")).count(), 300);
        assert!(found.contains(&r#"{"id":1149,"name":"name 149"}"#.to_owned()), "{}", found[0]);
        asked.push(proxy.requests("BatchGetItem"));
    }
    assert!(
        asked[0] >= 4 && asked[1] <= asked[0],
        "two requests of 100 keys a batch, and again when throttled: {asked:?}"
    );
    let proxy = Proxy::start(&server.endpoint, throttled).await?;
    let by_partition = "INSERT INTO found SELECT c.id, 'x', v.page FROM clicks c JOIN visits v ON c.user_id = v.user_id
        WHERE v.page <> 'page 1';";
    let lines = joined(folder.path(), &proxy.endpoint, "", by_partition, "partition").await?;
    assert_eq!(lines.len(), 4, "two visits of u1, twice: {lines:?}");
    assert_eq!((proxy.requests("BatchGetItem"), proxy.requests("Scan")), (0, 0));
    let by_both = "INSERT INTO found SELECT c.id, p.which, p.page FROM clicks c
        JOIN (SELECT user_id AS who, visit AS which_visit, page, concat('visit of ', user_id) AS which FROM visits) p
        ON c.user_id = p.who AND c.visit = p.which_visit WHERE c.id < 1000;";
    let lines = joined(folder.path(), &proxy.endpoint, "", by_both, "both").await?;
    assert_eq!(lines, [r#"{"id":1,"name":"visit of u1","page":"page 2"}"#]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_read_whole_only_where_it_says_so() -> Result<()> {
    let server = local()?;
    let client = client(&server.endpoint);
    create(&client, "LookupAges", &[("user_id", ScalarAttributeType::S)]).await?;
    for age in 0..20 {
        let request = client.put_item().table_name("LookupAges");
        let request = request.item("user_id", AttributeValue::S(format!("someone {age}")));
        request.item("age", AttributeValue::N(age.to_string())).send().await?;
    }
    let folder = tempfile::tempdir()?;
    clicks(folder.path())?;
    let script = |cache: &str| {
        let insert = "INSERT INTO found SELECT c.id, u.user_id, NULL FROM clicks c JOIN users u ON c.id = u.age;";
        let declared = JOINED.replace("LookupUsers", "LookupAges").replace("name VARCHAR, age INT", "age INT");
        format!("{}{insert}", declared.replacen("${cache}", cache, 1))
    };
    let place = folder.path().to_string_lossy().into_owned();
    let parameters = [("folder", place.as_str()), ("endpoint", &server.endpoint)];
    let refused = run_once(&script(""), &parameters, &folder.path().join("refused")).await.unwrap_err();
    assert!(refused.to_string().contains("another column than its key"), "{refused}");
    run_once(&script(", 'lookup.cache' = 'FULL'"), &parameters, &folder.path().join("full")).await?;
    assert_eq!(found(folder.path())?.len(), 20);
    Ok(())
}
