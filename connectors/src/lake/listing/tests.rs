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

fn known_partitions(folders: &[(&str, u64)], known: &KnownFolders, place: &Place) {
    let mut listing = Listing::default();
    for (folder, files) in folders {
        let path = Path::parse(format!("t/{folder}")).unwrap();
        listing.partitions.push(ListedPartition { values: Vec::new(), place: place.at(path), columns: None });
        listing.stored.push(Stored { files: *files, ..Stored::default() });
    }
    known.remember(&listing);
}

#[tokio::test]
async fn a_flat_listing_cut_in_parts_finds_what_one_by_one_does() {
    let names: Vec<String> = (0..60)
        .flat_map(|p| (0..100).map(move |n| format!("t/p={p}/{n}.json")))
        .chain(
            ["t/p=0-/_x/a", "t/p=1/sub/b", "t/p=1/_hidden/c", "t/stray", "t/other/d", "t/p=~/e", "t/q=1/f"]
                .map(Into::into),
        )
        .collect();
    let place = place(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (keys, known) = (keys(&[("p", DataType::Utf8)]), KnownFolders::default());
    let all = filter(&keys, &[]);
    let slow = discover(&place, &keys, &all).await.unwrap();
    assert!(matches!(flat::plan(&place, &keys, &all, &known), Ok(None)), "nothing is known yet");
    known.remember(&slow);
    let plan = flat::plan(&place, &keys, &all, &known).unwrap().unwrap();
    assert_eq!((plan.below.as_ref(), plan.cuts.len()), ("t", 6));
    assert!(plan.cuts.is_sorted());
    let near = flattened(&place, &keys, &all, &known).await.unwrap();
    let fast = discover(&near, &keys, &all).await.unwrap();
    assert_eq!(paths(&fast), paths(&slow));
    let counts = |listing: &Listing| (listing.partitions_total, listing.ignored, listing.files.len());
    assert_eq!(counts(&fast), counts(&slow));
    // What is new, gone or changed is seen, wherever it is in the order of names.
    for path in ["t/p=!/first", "t/p=30/new", "t/p=zz/last"] {
        place.store.put(&Path::parse(path).unwrap(), PutPayload::from_static(b"{}")).await.unwrap();
    }
    place.store.delete(&Path::from("t/p=31/0.json")).await.unwrap();
    let near = flattened(&place, &keys, &all, &known).await.unwrap();
    let again = discover(&near, &keys, &all).await.unwrap();
    assert_eq!(again.files.len(), slow.files.len() + 2);
    assert_eq!(paths(&again), paths(&discover(&place, &keys, &all).await.unwrap()));
}

#[tokio::test]
async fn a_flat_listing_is_of_the_folder_that_is_wanted_and_only_if_it_is_cheaper() {
    let (place, keys) = (place(&[]).await, keys(&[("y", DataType::Int32), ("m", DataType::Int32)]));
    let known = KnownFolders::default();
    let many: Vec<String> = (2020..2024).flat_map(|y| (1..=12).map(move |m| format!("y={y}/m={m:02}"))).collect();
    known_partitions(&many.iter().map(|folder| (folder.as_str(), 50)).collect::<Vec<_>>(), &known, &place);
    let plan = |filters: &[Expr]| flat::plan(&place, &keys, &filter(&keys, filters), &known).unwrap();
    assert_eq!(plan(&[]).unwrap().below.as_ref(), "t");
    assert_eq!(plan(&[col("y").eq(lit(2022))]).unwrap().below.as_ref(), "t/y=2022");
    assert_eq!(plan(&[col("y").eq(lit(2022)), col("m").eq(lit(3))]), None, "one folder is one request");
    assert_eq!(plan(&[col("y").eq(lit(1999))]), None);
    let full = KnownFolders::default();
    known_partitions(&many.iter().map(|folder| (folder.as_str(), 900)).collect::<Vec<_>>(), &full, &place);
    assert_eq!(flat::plan(&place, &keys, &filter(&keys, &[]), &full).unwrap(), None, "folders are full");
}

#[tokio::test]
async fn strays_are_counted_beside_registered_partitions_wherever_those_are() {
    let place = place(&["t/y=2024/m=01/a", "t/y=2024/m=02/b", "t/2024/03/c", "t/other/d", "t/stray", "t/_x/e"]).await;
    let keys = keys(&[("y", DataType::Int32), ("m", DataType::Utf8)]);
    let at =
        |path: &str| ListedPartition { values: Vec::new(), place: place.at(Path::parse(path).unwrap()), columns: None };
    let (all, mut strays) = (filter(&keys, &[]), Listing::default());
    let registered = [at("t/y=2024/m=01"), at("t/2024/03")];
    assert_eq!(unregistered(&place, &keys, &registered, &all, &mut strays).await.unwrap(), 1, "m=02");
    assert_eq!((strays.ignored, strays.first_ignored.as_deref()), (2, Some("s3://b/t/stray")));
}

#[test]
fn folders_with_like_names_do_not_hide_one_another() {
    let registered: BTreeSet<Path> = ["t/x-1/p=1", "t/x/p=1"].into_iter().map(Path::from).collect();
    for (folder, holds) in [("t/x", true), ("t/x-1", true), ("t/x-", false), ("t/y", false), ("t", true)] {
        assert_eq!(holds_any(&registered, &Path::from(folder)), holds, "{folder}");
    }
}

/// A folder that cannot be looked through does not fail a query that leaves it out.
#[cfg(unix)]
#[tokio::test]
async fn what_cannot_be_listed_matters_only_to_those_who_read_it() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    for (partition, name) in [("p=1", b"a".as_slice()), ("p=2", b"\xff\xfe".as_slice())] {
        let partition = folder.path().join("t").join(partition);
        std::fs::create_dir_all(&partition).unwrap();
        std::fs::write(partition.join(std::ffi::OsStr::from_bytes(name)), "{}").unwrap();
    }
    let store: Arc<dyn ObjectStore> =
        Arc::new(object_store::local::LocalFileSystem::new_with_prefix(folder.path()).unwrap());
    let place =
        Place { store, path: Path::from("t"), root: "file:///".into(), listing: ListingCost::Free, uploads: None };
    let keys = keys(&[("p", DataType::Int32)]);
    assert!(discover(&place, &keys, &filter(&keys, &[])).await.is_err());
    let listing = discover(&place, &keys, &filter(&keys, &[col("p").eq(lit(1))])).await.unwrap();
    assert_eq!((paths(&listing), listing.excluded.len()), (vec!["t/p=1/a"], 1));
    assert_eq!(of_excluded(&listing.excluded, &KnownFolders::default()).await, Stored::default());
}
