//! The one memory budget of a process: who holds bytes says so, and over the limit the job slows down or spills.
//!
//! Invariant: the sum of all live [`MemoryLease`]s is what [`MemoryBudget::used`] returns; a lease gives back on drop.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes of state that one operator may always keep in memory, unless the limit is as small.
const KEPT_BYTES: usize = 256 << 10;

#[derive(Debug)]
struct Shared {
    limit: usize,
    used: AtomicUsize,
}

/// A limit in bytes shared by everything that buffers.
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Shared>);

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Shared { limit, used: AtomicUsize::new(0) }))
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

    /// A lease for a buffer that may fill up: `wanted` bytes, or half of what is free, but `least` in any case.
    pub fn buffer(&self, wanted: usize, least: usize) -> MemoryLease {
        let free = self.limit().saturating_sub(self.used());
        let mut lease = self.lease();
        lease.resize(wanted.min(free / 2).max(least));
        lease
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_take_what_they_want_then_half_of_what_is_free_then_the_least() {
        let budget = MemoryBudget::new(1000);
        let first = budget.buffer(400, 100);
        let second = budget.buffer(400, 100);
        let third = budget.buffer(400, 200);
        assert_eq!([first.bytes(), second.bytes(), third.bytes(), budget.used()], [400, 300, 200, 900]);
        drop(first);
        assert_eq!(budget.used(), 500);
    }
}
