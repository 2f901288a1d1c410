//! The memory of request bodies: a share of it for each request, as large as what has come so far.
//!
//! Invariant: all requests of a listener together hold no more bytes of bodies than its tables have given it. What a table
//! takes back while requests have it goes as they end, before anybody else gets it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes a body may have at most.
pub(super) const MAX_BODY: usize = 128 << 20;
/// Bytes that are taken at once.
const UNIT: usize = 1 << 10;

/// What all requests share.
#[derive(Debug, Clone)]
pub(super) struct Bodies(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    free: Arc<Semaphore>,
    /// Units that a table has taken back and requests still have; held whenever units come or go for good.
    owed: Mutex<usize>,
}

/// A request's share, for as long as it lasts.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Pool>,
    permit: OwnedSemaphorePermit,
}

impl Default for Bodies {
    fn default() -> Self {
        Self(Arc::new(Pool { free: Arc::new(Semaphore::new(0)), owed: Mutex::default() }))
    }
}

impl Bodies {
    /// So many bytes more.
    pub(super) fn add(&self, bytes: usize) {
        let mut owed = self.0.owed.lock();
        let paid = (bytes / UNIT).min(*owed);
        *owed -= paid;
        self.0.free.add_permits(bytes / UNIT - paid);
    }

    /// So many bytes less: of those that no request has, and the rest as requests end.
    pub(super) fn remove(&self, bytes: usize) {
        let mut owed = self.0.owed.lock();
        *owed += bytes / UNIT - self.0.free.forget_permits(bytes / UNIT);
    }

    /// A share of so many bytes; `None` when there is no room.
    pub(super) fn share(&self, bytes: usize) -> Option<Share> {
        let permit = Arc::clone(&self.0.free).try_acquire_many_owned(units(bytes)).ok()?;
        Some(Share { of: Arc::clone(&self.0), permit })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut owed = self.of.owed.lock();
        let paid = self.permit.num_permits().min(*owed);
        if let Some(permit) = self.permit.split(paid) {
            permit.forget();
            *owed -= paid;
        }
        // Before the lock goes: nobody sees units both owed and free.
        let rest = self.permit.num_permits();
        drop(self.permit.split(rest));
    }
}

impl Share {
    /// Whether there is room for so many bytes in all; then they are taken.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let more = units(bytes).saturating_sub(self.permit.num_permits() as u32);
        if more == 0 {
            return true;
        }
        let Ok(permit) = Arc::clone(&self.of.free).try_acquire_many_owned(more) else { return false };
        self.permit.merge(permit);
        true
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes / UNIT + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_with_what_comes_until_all_have_none_left() {
        let bodies = Bodies::default();
        assert!(bodies.share(8).is_none(), "no table has given anything yet");
        bodies.add(256 << 20);
        let mut shares: Vec<Share> = (0..100).map(|_| bodies.share(8).unwrap()).collect();
        assert!(shares.iter_mut().all(|share| share.grow(2 << 20)), "100 requests of 2 MB have room");
        assert!(!shares[0].grow(100 << 20) && bodies.share(100 << 20).is_none());
        shares.truncate(1);
        assert!(shares[0].grow(MAX_BODY) && bodies.share(MAX_BODY / 2).is_some());
    }

    #[test]
    fn units_are_never_free_while_they_are_owed() {
        for _ in 0..20_000 {
            let bodies = Bodies::default();
            bodies.add(UNIT);
            let share = bodies.share(0).unwrap();
            let start = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    start.wait();
                    drop(share);
                });
                start.wait();
                bodies.remove(UNIT);
            });
            assert!(bodies.share(0).is_none(), "the only table has taken its unit back");
        }
    }

    #[test]
    fn what_a_table_takes_back_goes_as_requests_end() {
        let bodies = Bodies::default();
        (0..2).for_each(|_| bodies.add(10 * UNIT));
        let (large, small) = (bodies.share(13 * UNIT).unwrap(), bodies.share(UNIT).unwrap());
        bodies.remove(10 * UNIT);
        assert!(bodies.share(0).is_none(), "four units were free, six are owed");
        drop(small);
        assert!(bodies.share(0).is_none(), "two of them are paid");
        drop(large);
        let whole = bodies.share(9 * UNIT).unwrap();
        assert!(bodies.share(0).is_none(), "one table is left, with ten units");
        bodies.remove(10 * UNIT);
        bodies.add(10 * UNIT);
        assert!(bodies.share(0).is_none(), "a new table's units are those that requests have");
        drop(whole);
        assert!(bodies.share(9 * UNIT).is_some());
    }
}
