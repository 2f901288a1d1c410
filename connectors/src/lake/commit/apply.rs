//! The effects of a step on the store and the catalog.
//!
//! Invariant: each effect may be repeated, and cut short after any of them the step can begin again.

use headwater_engine::error::{Error, Result};

use super::{
    place::{Created, Place},
    protocol::{self, Action, Step},
    record::{self, Effect, OpenUpload, RecordKind, StagedFile},
    statement::StatementId,
    transaction::Site,
};

/// Publications that run at once.
const PUBLISH_CONCURRENCY: usize = 16;

pub(super) async fn apply_all(site: &Site, id: StatementId, step: Step, effect: Option<&Effect>) -> Result<()> {
    let files: &[StagedFile] = effect.map_or(&[], |effect| &effect.files);
    let mut publish = Vec::new();
    for action in protocol::actions(step, files) {
        if let Action::Publish(file) = action {
            publish.push(file);
            continue;
        }
        if !publish.is_empty() {
            publish_all(site, &std::mem::take(&mut publish)).await?;
            site.place.settle(&site.root, files).await?;
        }
        apply(site, id, action, effect).await?;
    }
    Ok(())
}

async fn publish_all(site: &Site, files: &[&StagedFile]) -> Result<()> {
    use futures::{StreamExt, TryStreamExt};
    let files: Vec<StagedFile> = files.iter().map(|file| (*file).clone()).collect();
    let publications = futures::stream::iter(files).map(|file| {
        let place = site.place.clone();
        async move { place.publish(&file).await }
    });
    publications.buffer_unordered(PUBLISH_CONCURRENCY).try_collect().await
}

async fn apply(site: &Site, id: StatementId, action: Action<'_>, effect: Option<&Effect>) -> Result<()> {
    let Site { place, root, .. } = site;
    match action {
        Action::Register => match effect {
            Some(effect) => site.registrar.register(effect).await,
            None => Ok(()),
        },
        Action::Publish(file) => place.publish(file).await,
        Action::MarkDone => {
            let path = record::path(root, id, RecordKind::Done);
            place.create(&path, record::encode(&site.clock.now().0)?).await.map(drop)
        }
        Action::DeleteReplaced => match effect {
            Some(effect) => place.delete(&effect.replaces).await,
            None => Ok(()),
        },
        Action::AbortUploads => abort_uploads(site, id).await,
        Action::DeleteStaged => {
            let folder = record::staging(root, id);
            let staged: Vec<String> = place.list(&folder).await?.into_iter().map(|entry| entry.path).collect();
            place.delete(&staged).await?;
            let parents = [folder, record::join(&record::folder(root), "staging")];
            place.delete_empty_folders(&record::folder(root), &parents).await
        }
        Action::Delete(kind) => {
            place.delete(&[record::path(root, id, kind)]).await?;
            place.delete_empty_folders(root, &[]).await
        }
    }
}

async fn abort_uploads(site: &Site, id: StatementId) -> Result<()> {
    for entry in site.place.list(&record::uploads(&site.root, id)).await? {
        if let Some(bytes) = site.place.read(&entry.path).await? {
            let upload: OpenUpload = record::decode(&entry.path, &bytes)?;
            site.place.abort_upload(&upload).await?;
        }
        site.place.delete(&[entry.path]).await?;
    }
    Ok(())
}

/// Creates a record, or gives the one that is there; so an unclear reply is cleared up by its own content.
pub(super) async fn create_or_read(place: &dyn Place, path: &str, ours: bytes::Bytes) -> Result<bytes::Bytes> {
    let created = place.create(path, ours.clone()).await;
    if let Ok(Created::Now) = created {
        return Ok(ours);
    }
    match (place.read(path).await?, created) {
        (Some(found), _) => Ok(found),
        (None, Err(error)) => Err(error),
        (None, Ok(_)) => Err(Error::unavailable(format!("record \"{path}\" came and went"))),
    }
}
