//! How fast a shard may be asked: five calls a second and two megabytes a second, shared by all its readers. Pure.
//!
//! Invariant: one reader never uses more than the shard allows; while it is caught up it leaves most calls to others.

use std::time::Duration;

/// Between two calls while there is backlog.
const BUSY: Duration = Duration::from_millis(200);
/// Between two calls at the end of the shard.
const CAUGHT_UP: Duration = Duration::from_millis(400);
/// Bytes a shard gives in a second.
const BYTES_PER_SECOND: u64 = 2 << 20;

/// How long after a reply of so many bytes the next call may be made.
pub(super) fn wait_after(bytes: usize, is_caught_up: bool) -> Duration {
    let by_calls = if is_caught_up { CAUGHT_UP } else { BUSY };
    by_calls.max(Duration::from_micros(bytes as u64 * 1_000_000 / BYTES_PER_SECOND))
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
}
