//! What a table answered, for as long as it may be kept.
//!
//! Invariant: no more rows than the bound; what was not used for longest goes first.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use arrow::array::RecordBatch;

use crate::{
    connector::{LookupCache, PartialCache},
    memory::MemoryLease,
    operators::keys::Key,
    time::Instant,
};

/// The rows of one key.
pub(super) type Found = Arc<RecordBatch>;

#[derive(Debug)]
pub(super) struct Cache {
    bounds: Option<PartialCache>,
    entries: HashMap<Key, Entry>,
    /// Keys by when they were last used.
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    rows: usize,
    lease: MemoryLease,
}

#[derive(Debug)]
struct Entry {
    found: Found,
    bytes: usize,
    use_number: u64,
    read_at: Instant,
    used_at: Instant,
}

impl Cache {
    pub(super) fn new(kept: LookupCache, lease: MemoryLease) -> Self {
        let bounds = match kept {
            LookupCache::Partial(bounds) => Some(bounds),
            LookupCache::None | LookupCache::Full(_) => None,
        };
        Self { bounds, entries: HashMap::new(), by_use: BTreeMap::new(), uses: 0, rows: 0, lease }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.lease.bytes()
    }

    /// What is known of a key, unless it is too old.
    pub(super) fn get(&mut self, key: &Key, now: Instant) -> Option<Found> {
        let bounds = self.bounds?;
        let entry = self.entries.get_mut(key)?;
        let is_over = |since: Instant, limit: Option<Duration>| limit.is_some_and(|limit| now.since(since) >= limit);
        if is_over(entry.read_at, bounds.expire_after_write) || is_over(entry.used_at, bounds.expire_after_access) {
            self.remove(&key.clone());
            return None;
        }
        self.uses += 1;
        let owned = self.by_use.remove(&entry.use_number)?;
        (entry.use_number, entry.used_at) = (self.uses, now);
        self.by_use.insert(self.uses, owned);
        Some(Arc::clone(&entry.found))
    }

    /// Keeps the rows of a key, and forgets what is over the bound.
    pub(super) fn put(&mut self, key: Key, found: &Found, now: Instant) {
        let Some(bounds) = self.bounds else { return };
        if found.num_rows() == 0 && !bounds.keeps_missing {
            return;
        }
        self.remove(&key);
        self.uses += 1;
        let bytes = found.get_array_memory_size() + 2 * key.len();
        self.rows += weight(found);
        self.lease.resize(self.lease.bytes() + bytes);
        self.by_use.insert(self.uses, key.clone());
        let found = Arc::clone(found);
        self.entries.insert(key, Entry { found, bytes, use_number: self.uses, read_at: now, used_at: now });
        while self.rows > bounds.rows_max {
            let Some((_, oldest)) = self.by_use.first_key_value() else { break };
            self.remove(&oldest.clone());
        }
    }

    fn remove(&mut self, key: &Key) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.by_use.remove(&entry.use_number);
        self.rows -= weight(&entry.found);
        self.lease.resize(self.lease.bytes().saturating_sub(entry.bytes));
    }
}

/// A key without rows takes the place of one.
fn weight(found: &Found) -> usize {
    found.num_rows().max(1)
}
