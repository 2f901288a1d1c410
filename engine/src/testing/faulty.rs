//! A store in front of another that fails, hesitates and loses replies, by a seed.
//!
//! Invariant: a call that fails either did nothing or did all of it; the caller cannot tell.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::{
    checkpoint::store::{CheckpointStore, Created},
    error::{Error, Result},
};

/// Fails a share of the calls.
#[derive(Debug)]
pub struct FaultyStore {
    store: Arc<dyn CheckpointStore>,
    random: Mutex<SmallRng>,
    /// Share of calls that fail, 0 to 1.
    failures: f64,
}

enum Fault {
    None,
    Before,
    After,
}

impl FaultyStore {
    /// A store that fails this share of calls.
    pub fn new(store: Arc<dyn CheckpointStore>, seed: u64, failures: f64) -> Self {
        Self { store, random: Mutex::new(SmallRng::seed_from_u64(seed)), failures }
    }

    async fn fault(&self) -> Fault {
        let (pauses, failed, late) = {
            let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
            let slow = if random.random_bool(0.03) { 200 } else { 6 };
            (random.random_range(0..slow), random.random_bool(self.failures), random.random_bool(0.5))
        };
        for _ in 0..pauses {
            tokio::task::yield_now().await;
        }
        match (failed, late) {
            (false, _) => Fault::None,
            (true, false) => Fault::Before,
            (true, true) => Fault::After,
        }
    }
}

fn lost() -> Error {
    Error::unavailable("the store did not answer")
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.store)
    }
}

#[async_trait]
impl CheckpointStore for FaultyStore {
    async fn create(&self, path: &str, bytes: Bytes) -> Result<Created> {
        match self.fault().await {
            Fault::None => self.store.create(path, bytes).await,
            Fault::Before => Err(lost()),
            Fault::After => self.store.create(path, bytes).await.and(Err(lost())),
        }
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        match self.fault().await {
            Fault::None => self.store.put(path, bytes).await,
            Fault::Before => Err(lost()),
            Fault::After => self.store.put(path, bytes).await.and(Err(lost())),
        }
    }

    async fn get(&self, path: &str) -> Result<Option<Bytes>> {
        match self.fault().await {
            Fault::None => self.store.get(path).await,
            Fault::Before | Fault::After => Err(lost()),
        }
    }

    async fn folders(&self) -> Result<Vec<String>> {
        self.store.folders().await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        match self.fault().await {
            Fault::None => self.store.list(prefix).await,
            Fault::Before | Fault::After => Err(lost()),
        }
    }

    async fn delete(&self, path: &str) -> Result<()> {
        match self.fault().await {
            Fault::None => self.store.delete(path).await,
            Fault::Before => Err(lost()),
            Fault::After => self.store.delete(path).await.and(Err(lost())),
        }
    }
}
