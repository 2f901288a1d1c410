//! Every query of `tests/streaming/` and `queries/nexmark/`, and every pipeline of `queries/`, every way: as a batch
//! query, as a job from end to end at several parallelisms and batch sizes, stopped and restored at every epoch, and
//! killed, stopped and restored at random.
//!
//! Invariant: no file of these folders can opt out; each way gives the rows of the batch query. `HEADWATER_ONLY=part` runs
//! the files whose path contains the part, `HEADWATER_SEEDS=n` crashes each of them n times.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on may stop")]

mod asides;
mod balance;
mod connector;
mod data;
mod declared;
mod edges;
mod pipelines;
mod spill;
mod ways;

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use ways::{Lake, Results, Script};

/// Files run at the same time.
const WORKERS: usize = 2;

/// Files of a folder with queries, in order; those that declare tables for all come first in each script.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    files
}

fn assert_same(way: &str, expected: &Results, found: &Results) {
    for (table, rows) in expected {
        let held = &found[table];
        let missing: Vec<&String> = rows.iter().filter(|row| !held.contains(row)).take(5).collect();
        let extra: Vec<&String> = held.iter().filter(|row| !rows.contains(row)).take(5).collect();
        assert!(
            rows == held,
            "{way}: \"{table}\" has {} rows, in batch {}; missing {missing:#?}, extra {extra:#?}",
            held.len(),
            rows.len()
        );
    }
}

/// Runs one script every way; what went wrong, if anything did.
fn every_way(script: &Script) -> Result<(), String> {
    let name = &script.name;
    let one = |work: std::pin::Pin<Box<dyn Future<Output = Results> + '_>>| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(work)))
            .map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".to_owned()))
    };
    let expected = one(Box::pin(script.batch()))?;
    let empty: Vec<&String> = expected.iter().filter(|(_, rows)| rows.is_empty()).map(|(table, _)| table).collect();
    if !empty.is_empty() {
        return Err(format!("{name}: the batch query has no rows for {empty:?}"));
    }
    let check = |way: String, found: Results| {
        let same = std::panic::catch_unwind(|| assert_same(&way, &expected, &found));
        same.map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
    };
    for (parallelism, batch_rows, splits) in [(1, 10_000, 1), (2, 64, 3), (4, 7, 2)] {
        let way = format!("{name} at {parallelism}, batches of {batch_rows}, {splits} splits");
        check(way, one(Box::pin(script.straight(parallelism, batch_rows, splits)))?)?;
    }
    if one(Box::pin(script.damaged()))? == expected {
        return Err(format!("{name}: half of the rows give the same result, so this query proves nothing"));
    }
    check(format!("{name} stopped at every epoch"), one(Box::pin(script.stopped()))?)?;
    let seeds = std::env::var("HEADWATER_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(3);
    for seed in 0..seeds {
        check(format!("{name} crashed with seed {seed}"), one(Box::pin(script.crashed(seed, usize::MAX)))?)?;
    }
    check(format!("{name} without memory"), one(Box::pin(script.spilled()))?)?;
    let way = format!("{name} without memory, crashed");
    check(way, one(Box::pin(script.crashed(100, 1)))?)?;
    Ok(())
}

/// Runs scripts, or those with a file whose path contains `HEADWATER_ONLY`, every way.
fn every_script(scripts: &[Vec<PathBuf>], read: impl Fn(&[&Path]) -> Script + Sync) {
    let only = std::env::var("HEADWATER_ONLY").unwrap_or_default();
    let is_meant = |files: &&Vec<PathBuf>| files.iter().any(|file| file.to_string_lossy().contains(&only));
    let scripts: Vec<&Vec<PathBuf>> = scripts.iter().filter(is_meant).collect();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(files) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
                    if let Err(error) = every_way(&read(&files)) {
                        failed.lock().unwrap().push(error);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

/// Runs all files of a folder.
fn every_file(folder: &str) {
    let lake = Lake::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let (tables, queries): (Vec<_>, Vec<_>) =
        files(&folder).into_iter().partition(|file| file.file_stem().is_some_and(|stem| stem == "tables"));
    let scripts: Vec<Vec<PathBuf>> =
        queries.into_iter().map(|query| tables.iter().cloned().chain([query]).collect()).collect();
    every_script(&scripts, |files| Script::read(files, &lake));
}

#[test]
fn streaming_queries_equal_their_batch_results_every_way() {
    every_file("tests/streaming");
}

#[test]
fn nexmark_queries_equal_their_batch_results_every_way() {
    every_file("queries/nexmark");
}

#[test]
fn pipelines_equal_their_batch_results_every_way_over_each_form_of_their_connections() {
    let lake = Lake::new();
    every_script(&pipelines::all(), |files| Script::read(files, &lake).replaced());
}
