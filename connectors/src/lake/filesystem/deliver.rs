//! The commit of an epoch: closed units become files, complete partitions are declared.
//!
//! Invariant: everything here may be repeated: a file that is there is left alone, an upload that was begun is begun
//! again after the sink's recovery has aborted it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use headwater_engine::{
    connector::{Committable, JobContext, OutboxRows},
    error::{Error, Result},
    message::Epoch,
};

use super::{
    sink::Folder,
    units::Detail,
    writer::{Role, time_of},
};
use crate::lake::{
    commit::{
        place::Spot,
        record::{self, join},
    },
    write::{WriteFormat, arranged::Arranged, encode},
};

/// Encoded bytes collected before they are sent.
const SEND_BYTES: usize = 1 << 20;

/// Writes one file and makes it visible; returns its rows.
pub(super) async fn file(folder: Arc<Folder>, job: &JobContext, epoch: Epoch, unit: Committable) -> Result<u64> {
    let detail = Detail::parse(&unit.detail)?;
    let name = file_name(&folder, job, epoch, &unit.unit, &detail);
    let target = match &detail.prefix {
        Some(prefix) => join(&folder.layout.root, &format!("{prefix}{name}")),
        None => join(&folder.layout.folder(&detail.values), &name),
    };
    let own = own_folder(&folder, job);
    // An object store keeps what was staged beside its copy under the final name.
    let left = ["uploads", "staging"].map(|kind| join(&own, &format!("{kind}/{}", unit.unit)));
    if folder.place.size(&target).await?.is_some() {
        folder.place.delete(&left).await?;
        return Ok(0);
    }
    let spot = Spot {
        staging: join(&own, &format!("staging/{}", unit.unit)),
        upload: join(&own, &format!("uploads/{}", unit.unit)),
        target,
    };
    let arranged = Arranged::new(&folder.format, &folder.schema, folder.layout.columns(&detail.values))?;
    let rows = write_rows(&folder, &arranged, spot, unit.rows).await.map_err(tried_again)?;
    folder.place.delete(&left).await?;
    Ok(rows)
}

/// What was staged may be gone, by a deletion that an earlier try asked for and a store did late: it is staged again.
fn tried_again(error: Error) -> Error {
    if error.code().0 == "HIVE_FILE_NOT_FOUND" { Error::unavailable(error.to_string()) } else { error }
}

async fn write_rows(folder: &Folder, arranged: &Arranged, spot: Spot, mut rows: OutboxRows) -> Result<u64> {
    let mut encoder = encode::encoder(&folder.format, arranged.schema())?;
    let mut staged = folder.place.stage(spot).await?;
    let mut pending = BytesMut::new();
    let mut count = 0;
    while let Some(changes) = rows.try_next().await? {
        count += changes.rows.num_rows() as u64;
        encoder.write(&arranged.rows(&changes.rows)?)?;
        pending.extend_from_slice(&encoder.drain()?);
        if pending.len() >= SEND_BYTES {
            staged.write(pending.split().freeze()).await?;
        }
    }
    pending.extend_from_slice(&encoder.finish()?);
    if !pending.is_empty() {
        staged.write(pending.freeze()).await?;
    }
    let file = staged.finish().await?;
    folder.place.publish(&file).await?;
    folder.place.settle(&folder.layout.root, std::slice::from_ref(&file)).await?;
    Ok(count)
}

/// `part-<job>-<incarnation>-<generation>-<epoch>-<task>-<n>-<insert>`: the unit's name with the epoch in it, and the
/// life of the job's state, so that a job that begins anew never takes an older file for its own. Or Firehose's:
/// `<stream>-<version>-<arrival of the oldest row>-<uuid>`, the extension being that of the compression alone.
fn file_name(folder: &Folder, job: &JobContext, epoch: Epoch, unit: &str, detail: &Detail) -> String {
    if let Some(object) = &detail.object {
        let oldest = detail.oldest_ms.unwrap_or(detail.began_ms);
        let oldest = time_of(oldest, folder.time_zone).format("%Y-%m-%d-%H-%M-%S");
        let extension = match &folder.format {
            WriteFormat::Parquet(_) => ".parquet",
            WriteFormat::Json { codec, .. } | WriteFormat::Text { codec, .. } => codec.extension(),
        };
        return format!("{}-1-{oldest}-{object}{extension}", folder.stream);
    }
    let (generation, rest) = unit.split_once('-').unwrap_or((unit, "0"));
    let extension = if folder.role == Role::Errors { "json".to_owned() } else { folder.format.extension() };
    let incarnation = plain(&job.incarnation);
    format!("part-{}-{incarnation}-{generation}-{}-{rest}.{extension}", plain(&job.job), epoch.0)
}

/// A name as it may be part of a file's name.
pub(super) fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "._".contains(c) { c } else { '_' }).collect()
}

/// Where this job keeps what is not visible yet.
fn own_folder(folder: &Folder, job: &JobContext) -> String {
    join(&record::folder(&folder.layout.root), &format!("jobs/{}", job.incarnation))
}

/// Deletes and aborts what a commit that was cut short left, and what a probe did.
pub(super) async fn clean(folder: &Folder, job: &JobContext) -> Result<()> {
    let own = own_folder(folder, job);
    for entry in folder.place.list(&join(&own, "uploads")).await? {
        if let Some(bytes) = folder.place.read(&entry.path).await? {
            folder.place.abort_upload(&record::decode(&entry.path, &bytes)?).await?;
        }
    }
    let left = folder.place.list_below(&own).await?;
    let left: Vec<String> = left.into_iter().map(|entry| entry.path).collect();
    folder.place.delete(&left).await
}

/// Whether a file can be written: one is, and deleted again.
pub(super) async fn probe(folder: &Folder, job: &JobContext) -> Result<()> {
    let own = own_folder(folder, job);
    let path = join(&own, "probe");
    folder.place.renew(&path, Bytes::from_static(b"probe")).await?;
    folder.place.delete(&[path]).await?;
    let jobs = join(&record::folder(&folder.layout.root), "jobs");
    folder.place.delete_empty_folders(&folder.layout.root, &[own, jobs]).await
}
