//! The query files of `queries/`, run as a user runs them, over small generated data.
//!
//! Invariant: each file is named here, and its answer is compared with one computed from the generated files.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on may stop")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use arrow::array::{AsArray, RecordBatch};
use futures::TryStreamExt;
use headwater_sql::{
    generate::{Dataset, DatasetFormat, Options, generate},
    output::{Expanded, Format, Look, Rows},
    parser::{Parameters, StatementKind, parse},
    session::{Outcome, Session, SessionConfig},
};
use serde_json::Value;

/// A folder with a catalog and generated data.
struct Lake {
    folder: tempfile::TempDir,
    session: Session,
}

impl Lake {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state").to_string_lossy().into_owned();
        let session = Session::open(SessionConfig::in_directory(state)).await.unwrap();
        Self { folder, session }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn generate(&self, dataset: Dataset, format: Option<DatasetFormat>, rows: u64, target: &str) {
        generate(&Options { dataset, rows: Some(rows), seed: 3, format, target: self.path(target) }).unwrap();
    }

    /// Runs a file of `queries/` and gives the rows of its last result.
    async fn run(&self, file: &str, parameters: &[(&str, &str)]) -> Vec<Value> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../queries").join(file);
        let script = fs::read_to_string(path).unwrap();
        self.script(&script, parameters).await
    }

    async fn script(&self, script: &str, parameters: &[(&str, &str)]) -> Vec<Value> {
        let mut filled = Parameters::from([("lake".to_owned(), self.folder.path().to_string_lossy().into_owned())]);
        filled.extend(parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut last = Vec::new();
        for statement in parse(script, &filled).unwrap() {
            let outcome = self.session.execute(&statement).await;
            let outcome = outcome.unwrap_or_else(|error| panic!("{}\n{error:?}", statement.text));
            if let Outcome::Rows { stream, .. } = outcome {
                let look = Look { format: Format::Ndjson, width_max: None, expanded: Expanded::Off };
                let mut rows = Rows::begin(look, stream.schema(), Vec::new()).unwrap();
                let batches: Vec<_> = stream.try_collect().await.unwrap();
                batches.iter().for_each(|batch| rows.write(batch).unwrap());
                let text = String::from_utf8(rows.finish().unwrap()).unwrap();
                last = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            }
        }
        last
    }

    fn lines(&self, folder: &str) -> Vec<Value> {
        let mut found = Vec::new();
        let mut folders = vec![self.path(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if name.starts_with(['_', '.']) {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let text = fs::read_to_string(path).unwrap();
                    found.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
                }
            }
        }
        found
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key} in {value}")).to_owned()
}

#[tokio::test]
async fn telemetry_is_delivered_twice_and_counted_alike() {
    let lake = Lake::new().await;
    lake.generate(Dataset::Telemetry, None, 5_000, "raw");
    lake.run("telemetry/lake.sql", &[]).await;
    lake.run("telemetry/load.sql", &[]).await;
    let from_json = lake.run("telemetry/june.sql", &[]).await;
    let from_parquet = lake.run("telemetry/june.sql", &[("events", "events_parquet")]).await;
    assert_eq!(from_json, from_parquet);

    let mut sessions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in lake.lines("raw") {
        let day = text(&event, "tstamp")[..10].to_owned();
        if event["name"] == "anonymous_visited" && day.starts_with("2023-06") {
            let payload: Value = serde_json::from_str(&text(&event, "payload")).unwrap();
            sessions.entry(day).or_default().insert(text(&payload, "session_id"));
        }
    }
    let expected: Vec<(String, u64)> = sessions.into_iter().map(|(day, ids)| (day, ids.len() as u64)).collect();
    let found = from_json.iter().map(|row| (text(row, "day")[..10].to_owned(), row["_col1"].as_u64().unwrap()));
    assert_eq!(found.collect::<Vec<_>>(), expected);
    assert_eq!(expected.len(), 30, "every day of June has visits");
    assert!(lake.path("events_raw/json/name=anonymous_visited/d=2023-07-16").is_dir());

    let counts = lake.run("telemetry/deduplicate.sql", &[]).await;
    let distinct: BTreeSet<String> = lake.lines("raw").iter().map(|event| text(event, "payload_md5")).collect();
    assert_eq!((&counts[0]["sent"], &counts[0]["distinct_events"]), (&5_000.into(), &distinct.len().into()));
}

#[tokio::test]
async fn loading_telemetry_again_replaces_it() {
    let lake = Lake::new().await;
    lake.generate(Dataset::Telemetry, None, 500, "raw");
    lake.run("telemetry/lake.sql", &[]).await;
    lake.run("telemetry/load.sql", &[]).await;
    lake.run("telemetry/load.sql", &[]).await;
    for table in ["events_json", "events_parquet"] {
        let counted = lake.script(&format!("SELECT count(*) AS n FROM {table}"), &[]).await;
        assert_eq!(counted[0]["n"], 500, "{table}");
    }
}

#[tokio::test]
async fn posts_become_a_report() {
    let lake = Lake::new().await;
    lake.generate(Dataset::Posts, None, 1_000, "rawData/posts");
    lake.generate(Dataset::Posts, Some(DatasetFormat::Ndjson), 1_000, "check");
    lake.run("engagement/lake.sql", &[]).await;
    lake.run("engagement/transform.sql", &[]).await;
    let report = lake.run("engagement/report.sql", &[]).await;
    let posts: u64 = report.iter().map(|row| row["posts"].as_u64().unwrap()).sum();
    assert_eq!((posts, report.len()), (1_000, 16), "four platforms, four types");

    let processed = lake.script("SELECT * FROM posts_processed", &[]).await;
    let by_id: BTreeMap<String, &Value> = processed.iter().map(|row| (text(row, "post_id"), row)).collect();
    for post in lake.lines("check") {
        let row = by_id[&text(&post, "Post ID")];
        let number = |key: &str| post[key].as_u64().unwrap();
        let rate = (number("Likes") + number("Comments") + number("Shares")) as f64 / number("Reach") as f64;
        let found = row["engagement_rate"].as_f64();
        assert_eq!(found, (number("Reach") > 0).then_some(rate), "{post}");
        assert_eq!(text(row, "post_timestamp")[..19], text(&post, "Post Timestamp")[..19]);
    }
}

#[tokio::test]
async fn engagements_are_counted_by_post_and_half_minute() {
    let lake = Lake::new().await;
    lake.generate(Dataset::Engagements, None, 3_000, "engagements");
    for file in ["engagement/embedded.sql", "engagement/tables.sql", "engagement/send.sql", "engagement/count.sql"] {
        lake.run(file, &[]).await;
    }
    let busiest = lake.run("engagement/busiest.sql", &[]).await;
    let mut windows: BTreeMap<(String, String), [u64; 3]> = BTreeMap::new();
    for event in lake.lines("engagements") {
        let time = text(&event, "timestamp");
        let half = if &time[17..19] < "30" { "00" } else { "30" };
        let kind = ["like", "comment", "share"].iter().position(|kind| event["engagement_type"] == *kind).unwrap();
        let window = (text(&event, "post_id"), format!("{} {}:{half}.000000", &time[..10], &time[11..16]));
        windows.entry(window).or_default()[kind] += 1;
    }
    let mut expected: Vec<_> = windows.into_iter().collect();
    expected.sort_by_key(|((post, window), counts)| {
        (std::cmp::Reverse(counts.iter().sum::<u64>()), window.clone(), post.clone())
    });
    assert_eq!(busiest.len(), 10);
    for (row, ((post, window), counts)) in busiest.iter().zip(expected) {
        let found = ["likes", "comments", "shares"].map(|column| row[column].as_u64().unwrap());
        assert_eq!((text(row, "post_id"), text(row, "window_start"), found), (post, window, counts));
    }
    assert_eq!(lake.lines("rawData/stream").len(), 3_000);
}

#[tokio::test]
async fn the_top_products_are_those_of_the_lines() {
    let lake = Lake::new().await;
    lake.generate(Dataset::Sales, None, 2_000, "sales");
    lake.run("sales/lake.sql", &[]).await;
    let top = lake.run("sales/top_products.sql", &[("top", "3")]).await;
    let mut products: BTreeMap<String, (u64, f64)> = BTreeMap::new();
    for sale in lake.lines("sales") {
        let product = products.entry(text(&sale, "product_name")).or_default();
        product.0 += sale["quantity"].as_u64().unwrap();
        product.1 += sale["quantity"].as_f64().unwrap() * sale["price"].as_f64().unwrap();
    }
    let mut expected: Vec<_> = products.into_iter().collect();
    expected.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    assert_eq!(top.len(), 3);
    for (row, (product, (quantity, revenue))) in top.iter().zip(expected) {
        assert_eq!((text(row, "product_name"), row["quantity"].as_u64()), (product, Some(quantity)));
        assert!((row["revenue"].as_f64().unwrap() - revenue).abs() < 0.01);
    }
}

#[tokio::test]
async fn changes_of_orders_are_delivered_and_make_the_orders_as_they_are() {
    let lake = Lake::new().await;
    lake.generate(Dataset::Sales, Some(DatasetFormat::Stream), 2_000, "changes");
    for file in ["sales/embedded.sql", "sales/tables.sql", "sales/send.sql", "sales/deliver.sql"] {
        lake.run(file, &[]).await;
    }
    let (mut orders, mut delivered): (BTreeMap<String, (String, u64)>, u64) = (BTreeMap::new(), 0);
    for change in lake.lines("changes") {
        let order = text(&change["dynamodb"]["Keys"]["orderid"], "S");
        let image = &change["dynamodb"]["NewImage"];
        match change["eventName"].as_str().unwrap() {
            "REMOVE" => drop(orders.remove(&order)),
            _ => {
                let quantity = text(&image["quantity"], "N").parse().unwrap();
                orders.insert(order, (text(&image["product_name"], "S"), quantity));
                delivered += 1;
            }
        }
    }
    let mut products: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (product, quantity) in orders.into_values() {
        let entry = products.entry(product).or_default();
        *entry = (entry.0 + 1, entry.1 + quantity);
    }
    let now = lake.run("sales/orders_now.sql", &[]).await;
    let found = now
        .iter()
        .map(|row| (text(row, "product_name"), (row["orders"].as_u64().unwrap(), row["quantity"].as_u64().unwrap())));
    assert_eq!(found.collect::<BTreeMap<_, _>>(), products);
    lake.run("sales/lake.sql", &[]).await;
    let by_day = lake.run("sales/delivered.sql", &[]).await;
    assert_eq!(by_day.iter().map(|row| row["changes"].as_u64().unwrap()).sum::<u64>(), delivered);
    assert_eq!(lake.lines("sales").len() as u64, delivered);
    let folder = ["partition_0", "partition_1", "partition_2"].map(|column| text(&by_day[0], column)).join("/");
    assert!(lake.path("sales").join(&folder).is_dir(), "{folder}");
}

#[tokio::test]
async fn counted_engagements_join_the_posts_they_were_on() {
    let lake = Lake::new().await;
    lake.generate(Dataset::Posts, None, 300, "rawData/posts");
    lake.generate(Dataset::Engagements, None, 1_200, "engagements");
    lake.run("engagement/lake.sql", &[]).await;
    for file in ["embedded", "tables", "posts", "send", "count"] {
        lake.run(&format!("engagement/{file}.sql"), &[]).await;
    }
    let report = lake.run("engagement/report.sql", &[]).await;
    assert_eq!(report.iter().map(|row| row["posts"].as_u64().unwrap()).sum::<u64>(), 300, "the files are Parquet");
    let days = lake.run("engagement/report_days.sql", &[]).await;
    let of = |rows: &[Value], column: &str| rows.iter().map(|row| row[column].as_u64().unwrap()).sum::<u64>();
    assert_eq!((of(&days, "posts"), of(&days, "engagements")), (300, of(&report, "engagements")));
    let platform = text(&report[0], "platform");
    let some = lake.run("engagement/report_days.sql", &[("platform", &platform)]).await;
    assert!(of(&some, "posts") > 0 && of(&some, "posts") < 300, "{platform}");
    let joined = lake.run("engagement/report_stream.sql", &[]).await;
    let sum = |column: &str| joined.iter().map(|row| row[column].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum("likes") + sum("comments") + sum("shares"), 1_200, "every post that is engaged with is known");
    assert!(joined.iter().all(|row| row["engagement_rate"].as_f64().is_some()), "{joined:?}");
    let sorted = |folder: &str| {
        let mut lines: Vec<String> = lake.lines(folder).iter().map(Value::to_string).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted("rawData/stream"), sorted("engagements"), "every event as it was sent, its time too");
}

#[tokio::test]
async fn crimes_keep_their_schema_as_parquet() {
    let lake = Lake::new().await;
    lake.generate(Dataset::Crimes, Some(DatasetFormat::Ndjson), 400, "crimes_raw");
    lake.run("crimes/lake.sql", &[]).await;
    lake.run("crimes/to_parquet.sql", &[]).await;
    let first = lake.run("crimes/first_ten.sql", &[]).await;
    let lines = lake.lines("crimes_raw");
    assert_eq!(first.len(), 10);
    assert_eq!(first[0]["crime_time"], "2006/01/01 00:00:00");
    assert_eq!(first[0]["lat"], lines[0]["location"]["lat"]);
    assert!(lake.path("crimes/crime_year=2006/crime_month=01/crime_day=31").is_dir());
    let counted = lake.script("SELECT count(*) AS n, count(DISTINCT crime_day) AS days FROM crimes", &[]).await;
    assert_eq!((&counted[0]["n"], &counted[0]["days"]), (&400.into(), &31.into()));
}

#[tokio::test]
async fn a_crime_without_a_time_or_a_place_is_set_aside() {
    let lake = Lake::new().await;
    let good =
        "2006/01/01 00:00:00|3108 OCCIDENTAL DR|3|3C|1115|10851(A)VC|2404|38.55042047|-121.3914158|2020/02/15 14:27:19";
    let odd = [
        "1/1/06 0:00|3108 OCCIDENTAL DR|3|3C|1115|10851(A)VC|2404|38.55042047|-121.3914158",
        "2006/01/01 00:00:00|3108 OCCIDENTAL DR|3|3C|1115|10851(A)VC|2404|NaN|-121.3914158",
        "2006/01/01 00:00:00|short",
    ];
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../queries/crimes/decode.sql");
    let decode = fs::read_to_string(path).unwrap();
    let select = &decode[decode.find("SELECT").unwrap()..];
    let short = good.replace("2006/01/01 00:00:00|3108", "2006/1/1 0:00:00|3108");
    for line in [good, &short].into_iter().chain(odd) {
        let one = select.replace("FROM crime_lines)", &format!("FROM (VALUES '{line}') AS one (line))"));
        let statements = parse(one.trim_end().trim_end_matches(';'), &Parameters::new()).unwrap();
        let outcome = lake.session.execute(&statements[0]).await;
        let decoded = match outcome {
            Ok(Outcome::Rows { stream, .. }) => stream.try_collect::<Vec<_>>().await.ok(),
            _ => None,
        };
        let text = |rows: &RecordBatch, column: usize| rows.column(column).as_string::<i32>().value(0).to_owned();
        let times = decoded.iter().flatten().map(|rows| [0, 10, 11, 12].map(|column| text(rows, column)));
        let wanted =
            (line == good || line == short).then(|| ["2006/01/01 00:00:00", "2006", "01", "01"].map(String::from));
        assert_eq!(times.collect::<Vec<_>>(), Vec::from_iter(wanted), "{line}");
    }
}

#[tokio::test]
async fn lists_of_nested_app_events_become_a_flat_line_each() {
    let lake = Lake::new().await;
    let lists = [
        concat!(
            r#"[{"eventId": "e1", "eventName": "opened", "eventTime": "2026-01-02T03:04:05Z", "eventContext": {"#,
            r#""ip": "10.0.0.1", "app": {"name": "maps", "version": "1.2"}, "device": {"os": "ios", "locale": "de-DE"}}, "#,
            r#""eventPayload": {"screen": "home"}}, "#,
            r#"{"eventId": "e2", "eventContext": {"device": {"os": "android"}}, "eventPayload": {"durationMs": 250}}]"#
        ),
        r#"[{"eventId": "e3"}]"#,
        "no list",
    ];
    fs::create_dir_all(lake.path("lists")).unwrap();
    fs::write(lake.path("lists/sent.txt"), lists.join("\n")).unwrap();
    let file = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../queries").join(name);
        fs::read_to_string(path).unwrap()
    };
    let tables = [file("crimes/embedded.sql"), file("crimes/tables.sql")].concat();
    let send = "CREATE TABLE lists (list VARCHAR)
                WITH ('connector' = 'filesystem', 'path' = '${lake}/lists/', 'format' = 'raw');
                CREATE TABLE app_lists (list VARCHAR) WITH ('format' = 'raw') LIKE app_stream;
                INSERT INTO app_lists SELECT list FROM lists;";
    let parameters = [("lake", lake.folder.path().to_str().unwrap())];
    for (script, state) in [(send.to_owned(), "sending"), (file("crimes/app_events.sql"), "flattening")] {
        let script = format!("{tables}{script}");
        headwater_tests::scripts::run_once(&script, &parameters, &lake.path(state)).await.unwrap();
    }
    let mut flat = lake.lines("app_events");
    flat.sort_by_key(|event| text(event, "eventId"));
    let first = serde_json::json!({
        "eventId": "e1", "eventName": "opened", "eventTime": "2026-01-02T03:04:05Z", "eventContext.ip": "10.0.0.1",
        "eventContext.app.name": "maps", "eventContext.app.version": "1.2", "eventContext.device.os": "ios",
        "eventContext.device.locale": "de-DE", "eventPayload.screen": "home",
    });
    let known = |event: &Value| -> Value {
        event
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    assert_eq!((flat.len(), known(&flat[0])), (3, first));
    let second =
        serde_json::json!({"eventId": "e2", "eventContext.device.os": "android", "eventPayload.durationMs": 250});
    assert_eq!(known(&flat[1]), second);
    assert_eq!(lake.lines("app_events_aside/format-conversion-failed").len(), 1);
}

/// The tables that a file of `queries/` declares, with the number of their columns.
fn declared(file: &str) -> BTreeMap<String, usize> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../queries").join(file);
    let parameters = Parameters::from([("lake".to_owned(), "lake".to_owned())]);
    let statements = parse(&fs::read_to_string(path).unwrap(), &parameters).unwrap();
    let tables = statements.into_iter().filter_map(|statement| match statement.kind {
        StatementKind::CreateStreamTable(table) => Some(table),
        _ => None,
    });
    tables.map(|table| (table.name.parts.last().unwrap().value.clone(), table.columns.len())).collect()
}

#[test]
fn every_form_of_a_pipeline_gives_the_same_connections_and_nothing_else() {
    for (pipeline, forms, transformations) in [
        ("engagement", ["embedded", "http", "aws"], &["count", "posts"][..]),
        ("sales", ["embedded", "streams", "aws"], &["deliver"]),
        ("telemetry", ["embedded", "http", "aws"], &["deliver"]),
        ("crimes", ["embedded", "http", "aws"], &["decode", "app_events"]),
    ] {
        let [embedded, other, aws] = forms.map(|form| declared(&format!("{pipeline}/{form}.sql")));
        assert!(!aws.is_empty() && aws.values().all(|columns| *columns == 0), "{pipeline}: {aws:?}");
        assert_eq!((&embedded, &other), (&aws, &aws), "{pipeline}");
        let tables = declared(&format!("{pipeline}/tables.sql"));
        assert!(tables.keys().all(|table| !aws.contains_key(table)), "{pipeline}: {tables:?}");
        for transformation in transformations {
            let made = declared(&format!("{pipeline}/{transformation}.sql"));
            assert!(made.is_empty(), "{pipeline}/{transformation}.sql names no connection");
        }
    }
}
