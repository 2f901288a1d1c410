//! Listings of stores that hold what lakes hold.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::prelude::{Expr, SessionContext, col, lit};
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, memory::InMemory};

use super::*;
use crate::lake::{
    counting::{LISTED_OBJECT_BYTES, ListingCost},
    stats::ScanStats,
};

async fn place(paths: &[&str]) -> Place {
    let store = InMemory::new();
    for path in paths {
        store.put(&Path::parse(path).unwrap(), PutPayload::from_static(b"{}")).await.unwrap();
    }
    let store: Arc<dyn ObjectStore> = Arc::new(store);
    Place { store, path: Path::from("t"), root: "s3://b/".into(), listing: ListingCost::PerObject, uploads: None }
}

fn keys(types: &[(&str, DataType)]) -> Vec<Key> {
    types.iter().map(|(name, data_type)| Key { name: (*name).into(), data_type: data_type.clone() }).collect()
}

fn filter(keys: &[Key], filters: &[Expr]) -> FileFilter {
    let mut constants: Vec<_> =
        keys.iter().map(|key| Arc::new(Field::new(&key.name, key.data_type.clone(), true))).collect();
    constants.push(Arc::new(Field::new("$path", DataType::Utf8, false)));
    constants.push(Arc::new(Field::new("$file_size", DataType::Int64, false)));
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    constants.push(Arc::new(Field::new("$file_modified_time", time, false)));
    let schema = Arc::new(Schema::new(constants.clone()));
    FileFilter::new(&SessionContext::new().state(), filters, &schema, constants).unwrap()
}

fn paths(listing: &Listing) -> Vec<&str> {
    listing.files.iter().map(|file| file.path.as_ref()).collect()
}

#[tokio::test]
async fn padded_months_match_numbers_and_text() {
    let place = place(&["t/year=2024/month=01/a", "t/year=2024/month=02/b", "t/year=2023/month=01/c"]).await;
    let numbers = keys(&[("year", DataType::Int32), ("month", DataType::Int32)]);
    let wanted = filter(&numbers, &[col("year").eq(lit(2024)), col("month").eq(lit(1))]);
    let listing = discover(&place, &numbers, &wanted).await.unwrap();
    assert_eq!(paths(&listing), ["t/year=2024/month=01/a"]);
    let texts = keys(&[("year", DataType::Utf8), ("month", DataType::Utf8)]);
    let wanted = filter(&texts, &[col("month").eq(lit("01"))]);
    assert_eq!(discover(&place, &texts, &wanted).await.unwrap().files.len(), 2);
    let wanted = filter(&texts, &[col("month").eq(lit("1"))]);
    assert_eq!(discover(&place, &texts, &wanted).await.unwrap().files.len(), 0);
}

#[tokio::test]
async fn a_pruned_folder_is_never_listed() {
    let paths: Vec<_> =
        (0..50).map(|day| format!("t/year=2023/d={day}/x")).chain(["t/year=2024/d=1/a".into()]).collect();
    let place = place(&paths.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let stats = Arc::new(ScanStats::default());
    let keys = keys(&[("year", DataType::Int32), ("d", DataType::Int32)]);
    let wanted = filter(&keys, &[col("year").eq(lit(2024))]);
    let listing = discover(&place.counted(&stats), &keys, &wanted).await.unwrap();
    assert_eq!(listing.files.len(), 1);
    let entries = 2 + 1 + 1;
    let keys_len = "t/year=2023".len() + "t/year=2024".len() + "t/year=2024/d=1".len() + "t/year=2024/d=1/a".len();
    assert_eq!(ScanStats::get(&stats.bytes_scanned), entries * LISTED_OBJECT_BYTES + keys_len as u64);
}

#[tokio::test]
async fn what_does_not_follow_the_layout_is_counted_and_named() {
    let place = place(&[
        "t/p=1/a",
        "t/p=1/sub/b",
        "t/p=1/_tmp/c",
        "t/p=1/.hidden",
        "t/stray.json",
        "t/other/d",
        "t/p=x/e",
        "t/_headwater/f",
        "t/P=2/g",
        "t/p=__HIVE_DEFAULT_PARTITION__/h",
    ])
    .await;
    let keys = keys(&[("p", DataType::Int64)]);
    let listing = discover(&place, &keys, &filter(&keys, &[])).await.unwrap();
    let mut found = paths(&listing);
    found.sort_unstable();
    assert_eq!(found, ["t/P=2/g", "t/p=1/a", "t/p=1/sub/b", "t/p=__HIVE_DEFAULT_PARTITION__/h"]);
    assert_eq!((listing.ignored, listing.partitions_total), (3, 3));
    assert_eq!(listing.first_ignored.as_deref(), Some("s3://b/t/stray.json"));
    let nulls = filter(&keys, &[col("p").is_null()]);
    assert_eq!(paths(&discover(&place, &keys, &nulls).await.unwrap()), ["t/p=__HIVE_DEFAULT_PARTITION__/h"]);
}

#[tokio::test]
async fn hidden_columns_filter_files() {
    let place = place(&["t/a", "t/b"]).await;
    let wanted = filter(&[], &[col("\"$path\"").eq(lit("s3://b/t/b"))]);
    assert_eq!(paths(&discover(&place, &[], &wanted).await.unwrap()), ["t/b"]);
}

#[tokio::test]
async fn new_files_are_always_seen() {
    let place = place(&["t/a"]).await;
    let all = filter(&[], &[]);
    assert_eq!(discover(&place, &[], &all).await.unwrap().files.len(), 1);
    place.store.put(&Path::from("t/b"), PutPayload::from_static(b"{}")).await.unwrap();
    assert_eq!(discover(&place, &[], &all).await.unwrap().files.len(), 2);
}

#[tokio::test]
async fn keys_are_inferred_from_folders() {
    let place = place(&["t/Year=2024/month=01/d=2024-01-01/x=008/a", "t/_x=1/b"]).await;
    let found = infer_keys(&place).await.unwrap();
    let expected =
        [("year", DataType::Int64), ("month", DataType::Int64), ("d", DataType::Date32), ("x", DataType::Utf8)];
    assert_eq!(found, keys(&expected));
}

#[tokio::test]
async fn folders_for_repair_keep_their_raw_values() {
    let place = place(&["t/A=1%3A2/b=x/f", "t/a=__HIVE_DEFAULT_PARTITION__/b=/g"]).await;
    let keys = keys(&[("a", DataType::Utf8), ("b", DataType::Utf8)]);
    let mut found: Vec<_> = find_partitions(&place, &keys)
        .await
        .unwrap()
        .into_iter()
        .map(|(raw, place)| (raw, place.to_string()))
        .collect();
    found.sort();
    assert_eq!(found[0], (vec![None, None], "s3://b/t/a=__HIVE_DEFAULT_PARTITION__/b=".to_owned()));
    assert_eq!(found[1], (vec![Some("1:2".into()), Some("x".into())], "s3://b/t/A=1%3A2/b=x".to_owned()));
}
