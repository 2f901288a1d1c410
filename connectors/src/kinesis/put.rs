//! Puts records in order per key: what a request may hold, and what is sent again after a partial failure.
//!
//! ```text
//! request  a1 b1 a2 c1 a3        reply  ok FAILED ok ok FAILED
//! again    b1 a3                 a failed record and every later one of its key, in their order
//! ```
//!
//! Invariant: a record is confirmed only after every earlier one of its key.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use headwater_engine::{
    error::{Error, Result},
    time::Clock,
};

use super::{
    api::{Entry, Failure, PutOutcome, StreamApi},
    client::error_of,
};
use crate::aws::Backoff;

/// Records of one request at most.
pub(super) const REQUEST_RECORDS: usize = 500;
/// Bytes of one request at most, keys too; a single larger record goes alone.
const REQUEST_BYTES: usize = 5 << 20;
/// Requests in a row that confirm nothing before writing fails.
const TRIES: u32 = 100;

impl Entry {
    /// What it counts against the limits.
    pub(super) fn bytes(&self) -> usize {
        self.data.len() + self.partition_key.len()
    }
}

/// Sends everything in `pending` and waits until it is confirmed.
pub(super) async fn put_all(
    api: &dyn StreamApi,
    clock: &Arc<dyn Clock>,
    stream: &str,
    pending: &mut VecDeque<Entry>,
) -> Result<()> {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    while !pending.is_empty() {
        let request: Vec<Entry> = take_request(pending);
        let (again, reason) = match api.put(&request).await {
            Ok(outcomes) => {
                let (again, code) = to_send_again(&request, &outcomes);
                (
                    again,
                    Error::unavailable(format!("stream \"{stream}\" refuses records: {}", code.unwrap_or_default())),
                )
            }
            Err(failure @ (Failure::Throttled | Failure::Unanswered(_))) => {
                (request.iter().collect(), error_of(failure, stream))
            }
            Err(failure) => return Err(error_of(failure, stream)),
        };
        if again.len() < request.len() {
            backoff.reset();
        }
        let again: Vec<Entry> = again.into_iter().cloned().collect();
        if again.is_empty() {
            continue;
        }
        if backoff.attempts() >= TRIES {
            return Err(reason);
        }
        again.into_iter().rev().for_each(|entry| pending.push_front(entry));
        backoff.wait(clock).await;
    }
    Ok(())
}

/// The next request's records.
fn take_request(pending: &mut VecDeque<Entry>) -> Vec<Entry> {
    let (mut request, mut bytes) = (Vec::new(), 0);
    while let Some(entry) = pending.front() {
        bytes += entry.bytes();
        if !request.is_empty() && (request.len() >= REQUEST_RECORDS || bytes > REQUEST_BYTES) {
            break;
        }
        request.extend(pending.pop_front());
    }
    request
}

/// What a reply leaves to be sent again, and the first reason.
fn to_send_again<'a>(request: &'a [Entry], outcomes: &[PutOutcome]) -> (Vec<&'a Entry>, Option<String>) {
    let mut failed_keys = HashSet::new();
    let (mut again, mut reason) = (Vec::new(), None);
    for (entry, outcome) in request.iter().zip(outcomes) {
        if let PutOutcome::Failed(code) = outcome {
            reason.get_or_insert_with(|| code.clone());
            failed_keys.insert(entry.partition_key.as_str());
        }
        if failed_keys.contains(entry.partition_key.as_str()) {
            again.push(entry);
        }
    }
    (again, reason)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entry(key: &str, data: &str) -> Entry {
        Entry { partition_key: key.to_owned(), data: Bytes::copy_from_slice(data.as_bytes()) }
    }

    #[test]
    fn a_failed_record_takes_the_later_ones_of_its_key_along() {
        let request = [entry("a", "1"), entry("b", "1"), entry("a", "2"), entry("b", "2"), entry("a", "3")];
        let failed = PutOutcome::Failed("ProvisionedThroughputExceededException".to_owned());
        let outcomes = [PutOutcome::Taken, failed, PutOutcome::Taken, PutOutcome::Taken, PutOutcome::Taken];
        let (again, reason) = to_send_again(&request, &outcomes);
        assert_eq!(again, [&request[1], &request[3]]);
        assert_eq!(reason.as_deref(), Some("ProvisionedThroughputExceededException"));
        assert!(to_send_again(&request, &vec![PutOutcome::Taken; 5]).0.is_empty());
    }

    #[test]
    fn a_request_keeps_both_limits_and_a_large_record_goes_alone() {
        let mut many: VecDeque<Entry> = (0..1001).map(|n| entry("k", &n.to_string())).collect();
        let sizes: Vec<usize> = std::iter::from_fn(|| Some(take_request(&mut many).len()).filter(|n| *n > 0)).collect();
        assert_eq!(sizes, [500, 500, 1]);
        let large = "x".repeat(3 << 20);
        let mut large: VecDeque<Entry> = [entry("k", &large), entry("k", &large), entry("k", &large.repeat(2))].into();
        assert_eq!(take_request(&mut large).len(), 1);
        assert_eq!(take_request(&mut large).len(), 1);
        assert_eq!(take_request(&mut large).len(), 1);
    }
}
