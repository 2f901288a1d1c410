//! What becomes of a statement once its fate is known, and of those whose owner died: facts in, actions out.
//!
//! Gathers the facts, asks [`super::protocol`], applies the actions. Nothing is decided here.
//! Invariant: every step may be repeated by anyone, at any time.

use headwater_engine::{
    error::{Error, Result},
    time::Instant,
};

use super::{
    owner::{self, Fate},
    place::{Created, Entry, Place},
    protocol::{self, Action, Facts, Step, Verdict},
    record::{self, Begin, Decision, Effect, OpenUpload, RecordKind, StagedFile},
    statement::StatementId,
    transaction::Site,
};

/// Finishes or undoes what dead statements left in a folder, and deletes records that are no longer needed.
/// Returns what could not be done, in words; the statements concerned stay hidden.
pub async fn recover(site: &Site) -> Result<Vec<String>> {
    let entries = site.place.list(&record::folder(&site.root)).await?;
    let mut problems = Vec::new();
    let mut ids: Vec<StatementId> =
        entries.iter().filter_map(|entry| record::parse_path(&entry.path)).map(|(id, _)| id).collect();
    ids.sort();
    ids.dedup();
    for id in ids {
        let of_it: Vec<&Entry> =
            entries.iter().filter(|entry| record::parse_path(&entry.path).is_some_and(|(of, _)| of == id)).collect();
        if let Err(error) = recover_one(site, id, &of_it).await {
            problems.push(format!("statement {id} of \"{}\": {error}", site.root));
        }
    }
    let is_note =
        |entry: &&Entry| record::parse_path(&entry.path).is_some_and(|(_, kind)| kind == RecordKind::Unregistered);
    for note in entries.iter().filter(is_note) {
        if let Err(error) = register_late(site, &note.path).await {
            problems.push(format!("registering what \"{}\" says: {error}", note.path));
        }
    }
    let now = site.clock.now().0;
    let is_old = |entry: &&Entry| {
        let name = entry.path.rsplit('/').next().unwrap_or_default();
        name.starts_with(super::place::TEMPORARY) && now - entry.modified_ms > super::LEASE_MS
    };
    let old: Vec<String> = entries.iter().filter(is_old).map(|entry| entry.path.clone()).collect();
    if !old.is_empty() {
        site.place.delete(&old).await?;
    }
    Ok(problems)
}

/// Steps of one statement until there is nothing more to do; each step is a state further, so few suffice.
const STEPS_MAX: usize = 8;

async fn recover_one(site: &Site, id: StatementId, entries: &[&Entry]) -> Result<()> {
    let (mut facts, mut effect) = gather(site, id, entries).await?;
    for _ in 0..STEPS_MAX {
        let step = protocol::next_step(facts);
        match step {
            Step::Leave => return Ok(()),
            Step::DecideAbort => {
                let path = record::path(&site.root, id, RecordKind::Decision);
                let reason = "its owner did not answer for longer than its lease, or has ended".to_owned();
                let found = create_or_read(&*site.place, &path, record::encode(&Decision::Abort { reason })?).await?;
                (facts.decision, effect) = verdict_of(record::decode(&path, &found)?);
            }
            Step::Finish => match finish_or_give_up(site, id, effect.as_ref()).await? {
                None => facts.done = true,
                Some(_) => return Ok(()),
            },
            Step::RollBack | Step::Clean => {
                apply_all(site, id, step, effect.as_ref()).await?;
                facts.begun = false;
                facts.age_ms = 0;
            }
            Step::Collect => return apply_all(site, id, step, None).await,
        }
    }
    Ok(())
}

/// Finishes a committed statement. A table that somebody else created meanwhile under the name of a `CREATE TABLE AS`
/// wins: nothing of the statement is published yet, so it is undone, and the reason returned.
pub(super) async fn finish_or_give_up(site: &Site, id: StatementId, effect: Option<&Effect>) -> Result<Option<Error>> {
    let creates = effect.is_some_and(|effect| effect.creates.is_some());
    match apply_all(site, id, Step::Finish, effect).await {
        Ok(()) => Ok(None),
        Err(error) if creates && matches!(error.code().0, "TABLE_ALREADY_EXISTS" | "ALREADY_EXISTS") => {
            apply_all(site, id, Step::RollBack, None).await?;
            Ok(Some(error))
        }
        Err(error) => Err(error),
    }
}

fn verdict_of(decision: Decision) -> (Option<Verdict>, Option<Effect>) {
    match decision {
        Decision::Commit(effect) => (Some(Verdict::Commit), Some(*effect)),
        Decision::Abort { .. } => (Some(Verdict::Abort), None),
    }
}

async fn gather(site: &Site, id: StatementId, entries: &[&Entry]) -> Result<(Facts, Option<Effect>)> {
    let now = site.clock.now();
    let find = |kind| {
        let path = record::path(&site.root, id, kind);
        entries.iter().find(|entry| entry.path == path)
    };
    let newest_ms = entries.iter().map(|entry| entry.modified_ms).max().unwrap_or(now.0);
    let mut facts = Facts {
        begun: find(RecordKind::Begin).is_some(),
        decision: None,
        done: find(RecordKind::Done).is_some(),
        owner: Fate::Dead,
        age_ms: now.0 - newest_ms,
    };
    let mut effect = None;
    if let Some(entry) = find(RecordKind::Begin) {
        match site.place.read(&entry.path).await? {
            Some(bytes) => {
                let begin: Begin = record::decode(&entry.path, &bytes)?;
                let gone = begin.owner.is_gone(&site.owner);
                facts.owner = owner::fate(gone, Instant(entry.modified_ms), now);
            }
            None => facts.begun = false,
        }
        let path = record::path(&site.root, id, RecordKind::Decision);
        if let Some(bytes) = site.place.read(&path).await? {
            (facts.decision, effect) = verdict_of(record::decode(&path, &bytes)?);
        }
    } else if find(RecordKind::Decision).is_some() {
        facts.decision = Some(if facts.done { Verdict::Commit } else { Verdict::Abort });
    }
    Ok((facts, effect))
}

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

pub(super) async fn apply(site: &Site, id: StatementId, action: Action<'_>, effect: Option<&Effect>) -> Result<()> {
    let Site { place, root, .. } = site;
    match action {
        Action::Register => match effect {
            Some(effect) => register(site, id, effect).await,
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

/// Registers with the catalog of the statement. Where another one is at hand, a note keeps it for that one: a table of
/// the same name there has nothing to do with it.
async fn register(site: &Site, id: StatementId, effect: &Effect) -> Result<()> {
    if !effect.registers() {
        return Ok(());
    }
    if effect.catalog.is_none() || effect.catalog == site.registrar.catalog().await? {
        return site.registrar.register(effect).await;
    }
    let note = record::path(&site.root, id, RecordKind::Unregistered);
    site.place.create(&note, record::encode(&effect.registration())?).await.map(drop)
}

/// Registers what a recovery with another catalog left; what is of yet another one stays.
async fn register_late(site: &Site, note: &str) -> Result<()> {
    let Some(bytes) = site.place.read(note).await? else { return Ok(()) };
    let effect: Effect = record::decode(note, &bytes)?;
    if effect.catalog != site.registrar.catalog().await? {
        return Ok(());
    }
    let registered = site.registrar.register(&effect).await;
    let is_taken = |error: &Error| matches!(error.code().0, "TABLE_ALREADY_EXISTS" | "ALREADY_EXISTS");
    if registered.as_ref().err().is_none_or(is_taken) {
        site.place.delete(&[note.to_owned()]).await?;
    }
    registered
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

/// Creates a record, or gives the one that is there; so an unclear reply is cleared up by its own content. What became
/// of the creation is what an error tells: a record that is there and cannot be read may be this one.
pub(super) async fn create_or_read(place: &dyn Place, path: &str, ours: bytes::Bytes) -> Result<bytes::Bytes> {
    let created = place.create(path, ours.clone()).await;
    if let Ok(Created::Now) = created {
        return Ok(ours);
    }
    match (place.read(path).await, created) {
        (Ok(Some(found)), _) => Ok(found),
        (_, Err(error)) => Err(error),
        (Ok(None), Ok(_)) => Err(Error::unavailable(format!("record \"{path}\" came and went"))),
        (Err(error), Ok(_)) => Err(Error::unavailable(format!("record \"{path}\" cannot be read: {error}"))),
    }
}
