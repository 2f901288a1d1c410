//! The one memory budget of a process: who holds bytes says so, and over the limit the job slows down or spills.
//!
//! Invariant: the sum of all live [`MemoryLease`]s is what [`MemoryBudget::used`] returns; a lease gives back on drop.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// Bytes of state that one operator may always keep in memory, unless the limit is as small.
const KEPT_BYTES: usize = 256 << 10;

/// The part of the limit that rows which wait for a checkpoint may take before one is due.
const UNPUBLISHED_PART: usize = 16;
/// Bytes of such rows for which no checkpoint is due.
const UNPUBLISHED_MIN: usize = 1 << 20;
/// How often that much such rows may take before no more are read.
const UNPUBLISHED_FULL: usize = 4;

#[derive(Debug)]
struct Shared {
    limit: usize,
    used: AtomicUsize,
    /// Bytes of rows that sinks hold until the next checkpoint.
    unpublished: AtomicUsize,
    checkpoint_due: Notify,
    published: Notify,
}

/// A limit in bytes shared by everything that buffers.
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Shared>);

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let (used, unpublished) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (checkpoint_due, published) = (Notify::new(), Notify::new());
        Self(Arc::new(Shared { limit, used, unpublished, checkpoint_due, published }))
    }

    /// The limit in bytes (`memory.limit`).
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Bytes held now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Whether more is held than allowed, so that state should spill.
    pub fn is_over(&self) -> bool {
        self.used() > self.0.limit
    }

    /// Bytes of state below which one operator does not spill, whatever others hold.
    pub fn spills_from(&self) -> usize {
        KEPT_BYTES.min(self.0.limit / 4)
    }

    /// A lease for a buffer that may fill up: `wanted` bytes, or half of what is free of half the limit, so that buffers
    /// leave room for state, but `least` in any case.
    pub fn buffer(&self, wanted: usize, least: usize) -> MemoryLease {
        let free = (self.limit() / 2).saturating_sub(self.used());
        let mut lease = self.lease();
        lease.resize(wanted.min(free / 2).max(least));
        lease
    }

    /// Whether sinks hold so many rows that they should leave with a checkpoint before its time.
    pub fn is_checkpoint_due(&self) -> bool {
        self.0.unpublished.load(Ordering::Relaxed) > self.unpublished_max()
    }

    fn unpublished_max(&self) -> usize {
        (self.0.limit / UNPUBLISHED_PART).max(UNPUBLISHED_MIN)
    }

    /// Waits until a checkpoint becomes due before its time; may wake up without reason. What stays due wakes nobody
    /// again: ask [`Self::is_checkpoint_due`] after each checkpoint.
    pub async fn checkpoint_due(&self) {
        self.0.checkpoint_due.notified().await;
    }

    /// Waits while sinks hold so many rows that no more should be read before a checkpoint takes them: one that waits
    /// for a system outside takes none for as long as that lasts. Cancel-safe.
    pub async fn room(&self) {
        let full = self.unpublished_max() * UNPUBLISHED_FULL;
        while self.0.unpublished.load(Ordering::Relaxed) > full {
            let mut published = std::pin::pin!(self.0.published.notified());
            // Who listens before looking again misses nothing.
            published.as_mut().enable();
            if self.0.unpublished.load(Ordering::Relaxed) > full {
                published.await;
            }
        }
    }

    /// A count of rows that are held until the next checkpoint.
    pub fn unpublished(&self) -> Unpublished {
        Unpublished { budget: self.clone(), bytes: 0 }
    }

    /// A lease of no bytes yet.
    pub fn lease(&self) -> MemoryLease {
        MemoryLease { budget: self.clone(), bytes: 0 }
    }
}

/// Bytes one holder has taken.
#[derive(Debug)]
pub struct MemoryLease {
    budget: MemoryBudget,
    bytes: usize,
}

impl MemoryLease {
    /// Says that the holder now has `bytes` in all.
    pub fn resize(&mut self, bytes: usize) {
        if bytes >= self.bytes {
            self.budget.0.used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.budget.0.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    /// Bytes held by this lease.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The budget it is a part of.
    pub fn budget(&self) -> &MemoryBudget {
        &self.budget
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        self.resize(0);
    }
}

/// Bytes of rows that one sink task holds until the next checkpoint. They are a part of what its writer has leased.
#[derive(Debug)]
pub struct Unpublished {
    budget: MemoryBudget,
    bytes: usize,
}

impl Unpublished {
    /// More rows are held.
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        let before = self.budget.0.unpublished.fetch_add(bytes, Ordering::Relaxed);
        let most = self.budget.unpublished_max();
        if before <= most && before + bytes > most {
            self.budget.0.checkpoint_due.notify_one();
        }
    }

    /// They have left.
    pub fn clear(&mut self) {
        self.budget.0.unpublished.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
        self.budget.0.published.notify_waiters();
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_checkpoint_is_due_while_sinks_hold_much() {
        let budget = MemoryBudget::new(64 << 20);
        let (mut first, mut second) = (budget.unpublished(), budget.unpublished());
        first.add(3 << 20);
        assert!(!budget.is_checkpoint_due());
        second.add((1 << 20) + 1);
        assert!(budget.is_checkpoint_due());
        budget.checkpoint_due().await;
        second.add(1);
        assert!(budget.checkpoint_due().now_or_never().is_none(), "who waits is woken once");
        assert!(budget.room().now_or_never().is_some(), "more may be read until the checkpoint takes them");
        second.add(13 << 20);
        let mut room = std::pin::pin!(budget.room());
        assert!(room.as_mut().now_or_never().is_none(), "too much is held");
        first.clear();
        drop(second);
        room.await;
        assert!(!budget.is_checkpoint_due());
        assert_eq!(budget.0.unpublished.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn buffers_take_what_they_want_then_half_of_what_is_free_then_the_least() {
        let budget = MemoryBudget::new(1000);
        let first = budget.buffer(400, 100);
        let second = budget.buffer(400, 100);
        let third = budget.buffer(400, 200);
        assert_eq!([first.bytes(), second.bytes(), third.bytes(), budget.used()], [250, 125, 200, 575]);
        drop(first);
        assert_eq!(budget.used(), 325);
    }
}
