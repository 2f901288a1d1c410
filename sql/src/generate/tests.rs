//! What every data set promises: the same bytes for the same seed, the right number of rows, the stated shares.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::Path,
};

use md5::{Digest, Md5};
use serde_json::Value;

use super::*;

fn options(dataset: Dataset, rows: u64, format: DatasetFormat, target: &Path) -> Options {
    Options { dataset, rows: Some(rows), seed: 7, format: Some(format), target: target.to_owned() }
}

fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

fn lines(dataset: Dataset, rows: u64, format: DatasetFormat) -> Vec<String> {
    let target = tempfile::tempdir().unwrap();
    generate(&options(dataset, rows, format, target.path())).unwrap();
    files(target.path())
        .into_values()
        .flat_map(|bytes| String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn every_format_of_every_data_set_is_fixed_by_its_seed() {
    use clap::ValueEnum;
    for dataset in Dataset::value_variants() {
        for format in dataset.formats() {
            let written = |seed| {
                let target = tempfile::tempdir().unwrap();
                let summary = generate(&Options { seed, ..options(*dataset, 500, *format, target.path()) }).unwrap();
                assert_eq!(summary.rows, 500, "{dataset} {format}");
                let files = files(target.path());
                assert_eq!(summary.files, files.len() as u64);
                assert_eq!(summary.bytes, files.values().map(|bytes| bytes.len() as u64).sum::<u64>());
                assert!(files.keys().all(|name| !name.contains("/.") && !name.starts_with('.')));
                files
            };
            assert_eq!(written(1), written(1), "{dataset} {format}");
            assert_ne!(written(1), written(2), "{dataset} {format}");
        }
    }
}

#[test]
fn a_format_a_data_set_does_not_have_is_refused_by_name() {
    let target = tempfile::tempdir().unwrap();
    let error = generate(&options(Dataset::Sales, 1, DatasetFormat::Csv, target.path())).unwrap_err();
    assert_eq!(error.to_string(), "data set sales has no format csv");
    assert_eq!(error.hint(), Some("its formats are ndjson, json.gz, stream"));
}

#[test]
fn telemetry_is_sorted_by_md5_with_one_percent_of_exact_duplicates() {
    let lines = lines(Dataset::Telemetry, 70_000, DatasetFormat::Ndjson);
    assert_eq!(lines.len(), 70_000);
    let mut last = String::new();
    let mut by_name: HashMap<String, u64> = HashMap::new();
    let mut distinct = HashSet::new();
    let mut md5s = HashSet::new();
    for line in &lines {
        let event: Value = serde_json::from_str(line).unwrap();
        let payload = event["payload"].as_str().unwrap();
        let md5 = event["payload_md5"].as_str().unwrap().to_owned();
        assert_eq!(md5, hex::encode(Md5::digest(payload)));
        assert!(md5 >= last, "{md5} after {last}");
        let payload: Value = serde_json::from_str(payload).unwrap();
        assert!(payload["session_id"].is_string());
        let tstamp = event["tstamp"].as_str().unwrap();
        assert!(("2023-05-15"..="2023-07-15 23:59:59.000000").contains(&tstamp), "{tstamp}");
        *by_name.entry(event["name"].as_str().unwrap().to_owned()).or_default() += 1;
        distinct.insert(line);
        md5s.insert(md5.clone());
        last = md5;
    }
    assert_eq!(distinct.len(), md5s.len(), "an MD5 belongs to one event");
    let duplicates = lines.len() - distinct.len();
    assert!((500..900).contains(&duplicates), "{duplicates}");
    let near = |name: &str, expected: u64| {
        let found = by_name[name];
        assert!(found.abs_diff(expected) * 20 < expected, "{name}: {found}, expected about {expected}");
    };
    near("anonymous_visited", 16_667);
    near("account_created", 6_667);
    near("measurement_recorded", 46_667);
}

#[test]
fn telemetry_lines_have_the_size_of_the_real_ones() {
    let lines = lines(Dataset::Telemetry, 20_000, DatasetFormat::Ndjson);
    let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
    let mean = bytes as f64 / 20_000.0;
    assert!((233.0..246.0).contains(&mean), "165 MB over 705,431 events are 234 to 245 bytes a line, not {mean}");
}

#[test]
fn compressed_telemetry_lies_in_hive_folders() {
    for format in [DatasetFormat::JsonGz, DatasetFormat::Parquet] {
        let target = tempfile::tempdir().unwrap();
        generate(&options(Dataset::Telemetry, 1_000, format, target.path())).unwrap();
        let names: Vec<String> = files(target.path()).into_keys().collect();
        let expected = ["account_created", "anonymous_visited", "measurement_recorded"]
            .map(|name| format!("name={name}/d=2023-07-16/events-00001.{format}"));
        assert_eq!(names, expected);
    }
}

#[test]
fn posts_have_the_stated_shares_and_share_their_ids_with_engagements() {
    let rows = lines(Dataset::Posts, 4_000, DatasetFormat::Ndjson);
    let rows: Vec<Value> = rows.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let filled = |key: &str| rows.iter().filter(|row| !row[key].is_null()).count();
    assert!((600..1_000).contains(&filled("Campaign ID")));
    assert!((1_800..2_200).contains(&filled("Sentiment")));
    assert!((280..520).contains(&filled("Influencer ID")));
    assert!(rows.iter().any(|row| row["Reach"] == 0), "a reach of zero is the case to mind");
    let ids: HashSet<&str> = rows.iter().map(|row| row["Post ID"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 4_000);
    for line in lines(Dataset::Engagements, 200, DatasetFormat::Ndjson) {
        let event: Value = serde_json::from_str(&line).unwrap();
        assert!(ids.contains(event["post_id"].as_str().unwrap()));
    }
}

#[test]
fn posts_are_four_files_with_a_header_each() {
    let target = tempfile::tempdir().unwrap();
    generate(&options(Dataset::Posts, 100, DatasetFormat::Csv, target.path())).unwrap();
    let files = files(target.path());
    assert_eq!(files.len(), 4);
    assert!(files.values().all(|bytes| bytes.starts_with(b"Platform,Post ID,Post Type,Post Content,")));
}

#[test]
fn sales_changes_apply_in_order() {
    let mut orders = HashSet::new();
    let mut seen: HashMap<String, u64> = HashMap::new();
    for line in lines(Dataset::Sales, 5_000, DatasetFormat::Stream) {
        let record: Value = serde_json::from_str(&line).unwrap();
        let change = &record["dynamodb"];
        let order = change["Keys"]["orderid"]["S"].as_str().unwrap().to_owned();
        let name = record["eventName"].as_str().unwrap();
        *seen.entry(name.to_owned()).or_default() += 1;
        match name {
            "INSERT" => assert!(orders.insert(order)),
            "MODIFY" => assert!(orders.contains(&order)),
            _ => assert!(orders.remove(&order)),
        }
        assert_eq!(change["NewImage"].is_null(), name == "REMOVE");
    }
    assert!(seen["INSERT"] > 3_000 && seen["MODIFY"] > 800 && seen["REMOVE"] > 400, "{seen:?}");
}

#[test]
fn flat_sales_lie_in_plain_date_folders() {
    let target = tempfile::tempdir().unwrap();
    generate(&options(Dataset::Sales, 300, DatasetFormat::Ndjson, target.path())).unwrap();
    let names: Vec<String> = files(target.path()).into_keys().collect();
    assert_eq!(
        names,
        ["2024/01/20/sales.json", "2024/01/21/sales.json", "2024/01/22/sales.json", "2024/01/23/sales.json"]
    );
}

#[test]
fn a_crime_is_the_same_in_every_format() {
    let csv = lines(Dataset::Crimes, 10, DatasetFormat::Csv);
    let text = lines(Dataset::Crimes, 10, DatasetFormat::Stream);
    let json = lines(Dataset::Crimes, 10, DatasetFormat::Ndjson);
    assert_eq!(csv[0], "cdatetime,address,district,beat,grid,crimedescr,ucr_ncic_code,latitude,longitude");
    assert!(csv[1].starts_with("1/1/06 0:00,"), "{}", csv[1]);
    assert!(text[0].starts_with("2006/01/01 00:00:00|"), "{}", text[0]);
    for i in 0..10 {
        let fields: Vec<&str> = text[i].split('|').collect();
        let row: Value = serde_json::from_str(&json[i]).unwrap();
        assert_eq!(row["crime_time"], fields[0]);
        assert_eq!(row["description"], fields[5]);
        assert_eq!(row["location"]["lat"].to_string(), fields[7]);
        assert_eq!(row["crime_day"].as_str().unwrap(), &fields[0][8..10]);
        assert!(csv[i + 1].ends_with(&fields[1..9].join(",")));
    }
}
