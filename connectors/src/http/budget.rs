//! The memory of request bodies: a share of it for each request, as large as what has come so far.
//!
//! Invariant: all requests of a listener together hold no more bytes of bodies than its tables have given it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes a body may have at most.
pub(super) const MAX_BODY: usize = 128 << 20;
/// Bytes that are taken at once.
const UNIT: usize = 1 << 10;

/// What all requests share.
#[derive(Debug, Clone)]
pub(super) struct Bodies(Arc<Semaphore>);

/// A request's share, for as long as it lasts.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Semaphore>,
    permit: OwnedSemaphorePermit,
}

impl Default for Bodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
}

impl Bodies {
    /// So many bytes more.
    pub(super) fn add(&self, bytes: usize) {
        self.0.add_permits(bytes / UNIT);
    }

    /// So many bytes less, of those that no request has.
    pub(super) fn remove(&self, bytes: usize) {
        self.0.forget_permits(bytes / UNIT);
    }

    /// A share of so many bytes; `None` when there is no room.
    pub(super) fn share(&self, bytes: usize) -> Option<Share> {
        let permit = Arc::clone(&self.0).try_acquire_many_owned(units(bytes)).ok()?;
        Some(Share { of: Arc::clone(&self.0), permit })
    }
}

impl Share {
    /// Whether there is room for so many bytes in all; then they are taken.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let more = units(bytes).saturating_sub(self.permit.num_permits() as u32);
        if more == 0 {
            return true;
        }
        let Ok(permit) = Arc::clone(&self.of).try_acquire_many_owned(more) else { return false };
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
}
