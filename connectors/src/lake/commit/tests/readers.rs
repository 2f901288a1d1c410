//! Every interleaving of a reader's four looks with the writer's operations sees the old or the new state.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use headwater_engine::{error::Result, time::SystemClock};
use object_store::{ObjectStore, memory::InMemory, path::Path};
use parking_lot::Mutex;

use super::{
    Catalog, ObjectPlace, Place, StatementKind, Uploads, new_content, old_content, site, write_old, write_statement,
};
use crate::lake::commit::{
    Records, Resolved,
    place::{Created, Entry, Spot, StagedWriter},
    record::{OpenUpload, StagedFile},
    resolve,
};

/// Keeps a copy of the store after every operation that changes it.
struct Filmed {
    place: ObjectPlace,
    store: Arc<InMemory>,
    frames: Arc<Mutex<Vec<InMemory>>>,
}

impl fmt::Debug for Filmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filmed")
    }
}

impl Filmed {
    fn shoot<T>(&self, result: T) -> T {
        self.frames.lock().push(self.store.fork());
        result
    }
}

#[async_trait]
impl Place for Filmed {
    async fn list(&self, folder: &str) -> Result<Vec<Entry>> {
        self.place.list(folder).await
    }
    async fn list_below(&self, folder: &str) -> Result<Vec<Entry>> {
        self.place.list_below(folder).await
    }
    async fn read(&self, path: &str) -> Result<Option<Bytes>> {
        self.place.read(path).await
    }
    async fn size(&self, path: &str) -> Result<Option<u64>> {
        self.place.size(path).await
    }
    async fn create(&self, path: &str, bytes: Bytes) -> Result<Created> {
        let result = self.place.create(path, bytes).await;
        self.shoot(result)
    }
    async fn renew(&self, path: &str, bytes: Bytes) -> Result<()> {
        let result = self.place.renew(path, bytes).await;
        self.shoot(result)
    }
    async fn stage(&self, spot: Spot) -> Result<Box<dyn StagedWriter>> {
        self.place.stage(spot).await
    }
    async fn publish(&self, file: &StagedFile) -> Result<()> {
        let result = self.place.publish(file).await;
        self.shoot(result)
    }
    async fn settle(&self, root: &str, published: &[StagedFile]) -> Result<()> {
        self.place.settle(root, published).await
    }
    async fn abort_upload(&self, upload: &OpenUpload) -> Result<()> {
        self.place.abort_upload(upload).await
    }
    async fn delete(&self, paths: &[String]) -> Result<()> {
        for path in paths {
            let result = self.place.delete(std::slice::from_ref(path)).await;
            self.shoot(result)?;
        }
        Ok(())
    }
    async fn delete_empty_folders(&self, root: &str, folders: &[String]) -> Result<()> {
        self.place.delete_empty_folders(root, folders).await
    }
}

/// What a reader can see of one frame: the records, and for each file of a folder its path and size.
struct Look {
    records: Records,
    first: Vec<(String, u64)>,
    others: Vec<(String, u64)>,
}

async fn look(frame: &InMemory) -> Look {
    use futures::TryStreamExt;
    let records = Records::read(frame, &Path::from("t"), "").await.unwrap();
    let all: Vec<_> = frame.list(Some(&Path::from("t"))).try_collect().await.unwrap();
    let data = all.into_iter().map(|object| (object.location.to_string(), object.size));
    let data = data.filter(|(path, _)| !path.contains("/_headwater/"));
    let (first, others) = data.partition(|(path, _)| path.starts_with("t/p=1/"));
    Look { records, first, others }
}

/// Folder and size of each file, sorted.
type Shape = Vec<(String, u64)>;

fn shape(files: impl Iterator<Item = (String, u64)>) -> Shape {
    let mut shape: Shape = files.map(|(path, size)| (super::folder_of(&path), size)).collect();
    shape.sort();
    shape
}

fn expected(content: super::Content) -> Shape {
    let mut shape: Shape = content.into_iter().map(|(folder, text)| (folder, text.len() as u64)).collect();
    shape.sort();
    shape
}

#[tokio::test]
async fn a_reader_sees_the_old_or_the_new_state_whenever_it_looks() {
    for kind in [StatementKind::Append, StatementKind::Exclusive] {
        let store = Arc::new(InMemory::new());
        let place = ObjectPlace::new(store.clone(), Some(Uploads(store.clone()))).with_part_bytes(super::PART);
        write_old(&place, "t").await;
        let frames = Arc::new(Mutex::new(vec![store.fork()]));
        let filmed = Filmed { place, store, frames: frames.clone() };
        write_statement(site(Arc::new(filmed), Arc::new(Catalog::default()), "t", Arc::new(SystemClock)), kind)
            .await
            .unwrap();
        let taken: Vec<InMemory> = std::mem::take(&mut *frames.lock());
        let mut looks = Vec::new();
        for frame in &taken {
            looks.push(look(frame).await);
        }
        let (old, new) = (expected(old_content()), expected(new_content(kind)));
        let mut again = 0;
        for a in 0..looks.len() {
            for b in a..looks.len() {
                for c in b..looks.len() {
                    for d in c..looks.len() {
                        let files: Vec<_> = looks[b].first.iter().chain(&looks[c].others).cloned().collect();
                        let resolved = resolve(files, &looks[a].records, &looks[d].records, |(path, _)| path);
                        let Resolved::Files(files) = resolved else {
                            again += 1;
                            continue;
                        };
                        let seen = shape(files.into_iter());
                        assert!(seen == old || seen == new, "{kind:?} at {a} {b} {c} {d}: {seen:?}");
                        if a == looks.len() - 1 {
                            assert_eq!(seen, new);
                        }
                    }
                }
            }
        }
        assert_eq!(again > 0, kind == StatementKind::Exclusive);
    }
}
