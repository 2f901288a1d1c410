//! Which files a reader of ours sees.
//!
//! A reader lists `_headwater/`, then asks the catalog for partitions, then lists the data, then lists `_headwater/`
//! again, and lets [`resolve`] decide. It sees the table as it was at the first of these moments.
//!
//! Invariant: of each statement all files are seen and none that it replaced, or none and all that it replaces.

use std::collections::{HashMap, HashSet};

use futures::TryStreamExt;
use headwater_engine::error::Result;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};

use super::{
    record::{self, Decision, RecordKind},
    statement::{StatementId, StatementKind},
};
use crate::lake::stores::store_error;

/// Which records of a statement there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Begin.
    pub begun: bool,
    /// Decision.
    pub decided: bool,
    /// Done.
    pub done: bool,
}

/// What the records of a table's folder say at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// The statements.
    pub statements: HashMap<StatementId, Found>,
    /// Files that statements which are done have replaced and not yet deleted.
    pub replaced: HashSet<String>,
    /// Whether something is published that its own catalog has not registered yet.
    pub waits_for_catalog: bool,
}

/// What a reader does with its listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved<F> {
    /// These files are the table.
    Files(Vec<F>),
    /// Files were replaced meanwhile: list once more, with the newer records as the first ones.
    ListAgain,
}

impl Records {
    /// Adds a record by its path; other names are ignored.
    pub fn add(&mut self, path: &str) {
        let Some((id, kind)) = record::parse_path(path) else { return };
        if kind == RecordKind::Unregistered {
            self.waits_for_catalog = true;
            return;
        }
        let found = self.statements.entry(id).or_default();
        match kind {
            RecordKind::Begin => found.begun = true,
            RecordKind::Decision => found.decided = true,
            RecordKind::Done | RecordKind::Unregistered => found.done = true,
        }
    }

    /// Reads the records of the folder `root` of a store: one listing, and rarely a record. `shown` stands before paths
    /// in messages.
    pub async fn read(store: &dyn ObjectStore, root: &Path, shown: &str) -> Result<Self> {
        let failed = |path: &Path, error| store_error(&format!("{shown}{path}"), error);
        let folder = Path::parse(record::folder(root.as_ref())).map_err(object_store::Error::from)?;
        let mut records = Self::default();
        let listed = store.list_with_delimiter(Some(&folder)).await.map_err(|error| failed(root, error))?;
        for object in listed.objects {
            records.add(object.location.as_ref());
        }
        for id in records.still_deleting() {
            let path = record::path(root.as_ref(), id, RecordKind::Decision);
            let path = Path::parse(path).map_err(object_store::Error::from)?;
            match store.get(&path).await {
                Ok(found) => {
                    let bytes: Vec<bytes::Bytes> =
                        found.into_stream().try_collect().await.map_err(|error| failed(&path, error))?;
                    records.add_replaced(record::decode(path.as_ref(), &bytes.concat())?);
                }
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(&path, error)),
            }
        }
        Ok(records)
    }

    /// The records of several folders of a store, as one.
    pub async fn read_all<'a>(
        store: &dyn ObjectStore,
        roots: impl Iterator<Item = &'a Path>,
        shown: &str,
    ) -> Result<Self> {
        let mut all = Self::default();
        for root in roots {
            let Self { statements, replaced, waits_for_catalog } = Self::read(store, root, shown).await?;
            all.statements.extend(statements);
            all.replaced.extend(replaced);
            all.waits_for_catalog |= waits_for_catalog;
        }
        Ok(all)
    }

    /// Statements whose replaced files may still be there, so that their decisions must be read.
    pub fn still_deleting(&self) -> Vec<StatementId> {
        let is_one =
            |id: &StatementId, found: &Found| id.kind() == StatementKind::Exclusive && found.begun && found.done;
        self.statements.iter().filter(|(id, found)| is_one(id, found)).map(|(id, _)| *id).collect()
    }

    /// Adds what a decision replaced.
    pub fn add_replaced(&mut self, decision: Decision) {
        if let Decision::Commit(effect) = decision {
            self.replaced.extend(effect.replaces);
        }
    }

    /// Statements that began and are not done: their owner goes on, or somebody has to finish or undo them.
    pub fn unfinished(&self) -> Vec<StatementId> {
        self.statements.iter().filter(|(_, found)| found.begun && !found.done).map(|(id, _)| *id).collect()
    }

    /// Whether a statement's begin record is there: its owner goes on, or somebody has to finish, undo or clean up; or
    /// something has to be registered.
    pub fn is_any_open(&self) -> bool {
        self.waits_for_catalog || self.statements.values().any(|found| found.begun)
    }

    fn is_done(&self, id: StatementId) -> bool {
        self.statements.get(&id).is_some_and(|found| found.done)
    }

    fn hides(&self, id: StatementId) -> bool {
        self.statements.get(&id).is_some_and(|found| found.begun && !found.done)
    }

    fn knows(&self, id: StatementId) -> bool {
        self.statements.contains_key(&id)
    }
}

/// The files of a listing that a reader sees, given the records before and after it. `path` gives a file's path in the
/// store.
pub fn resolve<F>(files: Vec<F>, before: &Records, after: &Records, path: impl Fn(&F) -> &str) -> Resolved<F> {
    let replaced_meanwhile =
        |id: &StatementId| id.kind() == StatementKind::Exclusive && after.is_done(*id) && !before.is_done(*id);
    if after.statements.keys().any(replaced_meanwhile) {
        return Resolved::ListAgain;
    }
    let is_seen = |path: &str| {
        let hidden =
            StatementId::of_file(path).is_some_and(|id| before.hides(id) || (!before.knows(id) && after.knows(id)));
        !hidden && !before.replaced.contains(path)
    };
    Resolved::Files(files.into_iter().filter(|file| is_seen(path(file))).collect())
}
