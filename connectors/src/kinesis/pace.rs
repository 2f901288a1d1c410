//! How fast a shard may be asked: five calls a second and two megabytes a second, shared by all its readers.
//!
//! Invariant: the readers of a process together never use more than a shard allows; while one is caught up it leaves most
//! calls to others.

use std::{collections::HashMap, sync::Arc, time::Duration};

use headwater_engine::time::Instant;
use parking_lot::Mutex;

/// Between two calls while there is backlog.
const BUSY: Duration = Duration::from_millis(200);
/// Between two calls at the end of the shard.
const CAUGHT_UP: Duration = Duration::from_millis(400);
/// Bytes a shard gives in a second.
const BYTES_PER_SECOND: u64 = 2 << 20;
/// Shards that are remembered before those that may be asked at once are forgotten.
const SHARDS: usize = 10_000;

/// How long after a reply of so many bytes the next call may be made.
pub(super) fn wait_after(bytes: usize, is_caught_up: bool) -> Duration {
    let by_calls = if is_caught_up { CAUGHT_UP } else { BUSY };
    by_calls.max(cost(bytes))
}

fn cost(bytes: usize) -> Duration {
    Duration::from_micros(bytes as u64 * 1_000_000 / BYTES_PER_SECOND)
}

/// When each shard may be asked next, over all readers of a process: several tables may read one stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Quotas(Arc<Mutex<HashMap<String, i64>>>);

impl Quotas {
    /// Takes the next turn of a shard; how long to wait for it.
    pub(super) fn turn(&self, shard: &str, now: Instant) -> Duration {
        let mut free = self.0.lock();
        if free.len() >= SHARDS {
            free.retain(|_, at| *at > now.0);
        }
        let at = free.get(shard).copied().unwrap_or(now.0).max(now.0);
        free.insert(shard.to_owned(), at + BUSY.as_millis() as i64);
        Duration::from_millis((at - now.0) as u64)
    }

    /// Counts the bytes of a reply.
    pub(super) fn spent(&self, shard: &str, bytes: usize, now: Instant) {
        let until = now.0 + cost(bytes).as_millis() as i64;
        let mut free = self.0.lock();
        let at = free.entry(shard.to_owned()).or_insert(until);
        *at = until.max(*at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_reply_is_paid_for_in_time() {
        assert_eq!(wait_after(0, true), Duration::from_millis(400));
        assert_eq!(wait_after(10, false), Duration::from_millis(200));
        assert_eq!(wait_after(10 << 20, false), Duration::from_secs(5));
    }

    #[test]
    fn readers_of_one_shard_take_turns() {
        let quotas = Quotas::default();
        let turn = |shard: &str, now| quotas.clone().turn(shard, Instant(now)).as_millis();
        assert_eq!([turn("a", 0), turn("a", 0), turn("b", 0), turn("a", 100)], [0, 200, 0, 300]);
        assert_eq!(turn("a", 5_000), 0);
        quotas.spent("a", 10 << 20, Instant(5_000));
        assert_eq!([turn("a", 5_000), turn("a", 6_000)], [5_000, 4_200]);
    }
}
