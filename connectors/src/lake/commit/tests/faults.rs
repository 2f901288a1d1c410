//! A place that dies at an operation, runs out of space after so many bytes, or cannot be written at all.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use headwater_engine::error::{Error, ErrorKind, Result};

use crate::lake::commit::{
    place::{Created, Entry, Place, Spot, StagedWriter},
    record::{OpenUpload, StagedFile},
    transaction::Registrar,
};

/// Whether the operation at which the process dies still has its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    Before,
    After,
}

/// Operations left until death, and bytes left until the disk is full.
#[derive(Debug)]
pub(super) struct Budget {
    operations: AtomicI64,
    bytes: AtomicI64,
    death: Death,
}

impl Budget {
    pub(super) fn dies_after(operations: i64, death: Death) -> Arc<Self> {
        Arc::new(Self { operations: operations.into(), bytes: i64::MAX.into(), death })
    }

    pub(super) fn full_after(bytes: i64) -> Arc<Self> {
        Arc::new(Self { operations: i64::MAX.into(), bytes: bytes.into(), death: Death::Before })
    }

    pub(super) fn is_dead(&self) -> bool {
        self.operations.load(SeqCst) < 0
    }

    pub(super) fn was_full(&self) -> bool {
        self.bytes.load(SeqCst) < 0
    }

    /// Takes one operation; `true` if this is the last one and its effect still happens.
    fn start(&self) -> Result<bool> {
        match self.operations.fetch_sub(1, SeqCst) {
            left if left > 0 => Ok(false),
            0 if self.death == Death::After => Ok(true),
            _ => Err(Error::unavailable("the process is dead")),
        }
    }

    async fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let is_last = self.start()?;
        let result = work.await;
        if is_last { Err(Error::unavailable("the process is dead")) } else { result }
    }

    fn take_bytes(&self, bytes: usize) -> Result<()> {
        let wanted = i64::try_from(bytes).unwrap();
        if self.bytes.fetch_sub(wanted, SeqCst) < wanted {
            self.bytes.store(-1, SeqCst);
            return Err(Error::new(ErrorKind::Limit, "NO_SPACE", "no space left on device"));
        }
        Ok(())
    }
}

pub(super) struct Faulty {
    pub(super) place: Arc<dyn Place>,
    pub(super) budget: Arc<Budget>,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl Place for Faulty {
    async fn list(&self, folder: &str) -> Result<Vec<Entry>> {
        self.budget.run(self.place.list(folder)).await
    }

    async fn list_below(&self, folder: &str) -> Result<Vec<Entry>> {
        self.budget.run(self.place.list_below(folder)).await
    }

    async fn read(&self, path: &str) -> Result<Option<Bytes>> {
        self.budget.run(self.place.read(path)).await
    }

    async fn size(&self, path: &str) -> Result<Option<u64>> {
        self.budget.run(self.place.size(path)).await
    }

    async fn create(&self, path: &str, bytes: Bytes) -> Result<Created> {
        self.budget.take_bytes(bytes.len())?;
        self.budget.run(self.place.create(path, bytes)).await
    }

    async fn renew(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.budget.take_bytes(bytes.len())?;
        self.budget.run(self.place.renew(path, bytes)).await
    }

    async fn stage(&self, spot: Spot) -> Result<Box<dyn StagedWriter>> {
        let writer = self.budget.run(self.place.stage(spot)).await?;
        Ok(Box::new(FaultyWriter { writer, budget: self.budget.clone() }))
    }

    async fn publish(&self, file: &StagedFile) -> Result<()> {
        self.budget.run(self.place.publish(file)).await
    }

    async fn settle(&self, root: &str, published: &[StagedFile]) -> Result<()> {
        self.budget.run(self.place.settle(root, published)).await
    }

    async fn abort_upload(&self, upload: &OpenUpload) -> Result<()> {
        self.budget.run(self.place.abort_upload(upload)).await
    }

    async fn delete(&self, paths: &[String]) -> Result<()> {
        // One at a time: a crash may leave some deleted and some not.
        for path in paths {
            self.budget.run(self.place.delete(std::slice::from_ref(path))).await?;
        }
        Ok(())
    }

    async fn delete_empty_folders(&self, root: &str, folders: &[String]) -> Result<()> {
        self.budget.run(self.place.delete_empty_folders(root, folders)).await
    }
}

#[derive(Debug)]
struct FaultyWriter {
    writer: Box<dyn StagedWriter>,
    budget: Arc<Budget>,
}

#[async_trait]
impl StagedWriter for FaultyWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.budget.take_bytes(bytes.len())?;
        let (writer, budget) = (&mut self.writer, &self.budget);
        budget.run(writer.write(bytes)).await
    }

    async fn finish(self: Box<Self>) -> Result<StagedFile> {
        let Self { writer, budget } = *self;
        budget.run(writer.finish()).await
    }
}

/// A catalog that dies with its process.
#[derive(Debug)]
pub(super) struct FaultyCatalog {
    pub(super) catalog: Arc<dyn Registrar>,
    pub(super) budget: Arc<Budget>,
}

#[async_trait]
impl Registrar for FaultyCatalog {
    async fn register(&self, effect: &crate::lake::commit::Effect) -> Result<()> {
        self.budget.run(self.catalog.register(effect)).await
    }

    async fn catalog(&self) -> Result<Option<String>> {
        self.catalog.catalog().await
    }

    async fn expect_table(&self) -> Result<()> {
        self.catalog.expect_table().await
    }
}
