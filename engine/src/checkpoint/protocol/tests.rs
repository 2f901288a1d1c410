//! The protocol of checkpoints, decision by decision.

use super::*;

#[test]
fn every_reply_to_a_create_has_one_continuation() {
    assert_eq!(after_create(CreateReply::New), CreateStep::Won);
    assert_eq!(after_create(CreateReply::Existed), CreateStep::ReadBack);
    assert_eq!(after_create(CreateReply::Unclear), CreateStep::ReadBack);
}

#[test]
fn every_read_back_has_one_continuation() {
    let us = Generation(5);
    for (found, expected) in [
        (ReadBack::Ours, ReadBackStep::Won),
        (ReadBack::Absent, ReadBackStep::CreateAgain),
        (ReadBack::Other(Generation(4)), ReadBackStep::NextNumber),
        (ReadBack::Other(Generation(5)), ReadBackStep::Fenced),
        (ReadBack::Other(Generation(6)), ReadBackStep::Fenced),
    ] {
        assert_eq!(after_read_back(found, us), expected, "{found:?}");
    }
}

#[test]
fn a_number_that_collection_has_freed_is_no_place_for_an_entry() {
    for (entry, listed, expected) in [
        (claim(3, None), [4, 5].as_slice(), ReadBackStep::Won),
        (claim(3, None), &[5], ReadBackStep::Won),
        (claim(3, None), &[5, 8], ReadBackStep::NextNumber),
        (manifest(2, 3), &[4, 5], ReadBackStep::Won),
        (manifest(2, 3), &[4, 5, 6], ReadBackStep::Won),
        (manifest(2, 3), &[5, 8], ReadBackStep::Fenced),
    ] {
        assert_eq!(after_won(5, &entry, listed), expected, "{entry:?} {listed:?}");
    }
}

#[test]
fn recovery_over_all_facts() {
    let epoch = |number: Option<u64>| number.map(Epoch);
    for (restore, newest, committed, expected) in [
        (None, None, false, RecoveryStep::Fresh),
        (None, None, true, RecoveryStep::Fresh),
        (Some(4), Some(4), false, RecoveryStep::CommitThenRestore(Epoch(4))),
        (Some(4), Some(4), true, RecoveryStep::Restore(Epoch(4))),
        (Some(3), Some(4), true, RecoveryStep::Restore(Epoch(3))),
        (Some(3), Some(4), false, RecoveryStep::Restore(Epoch(3))),
    ] {
        assert_eq!(
            recovery_step(epoch(restore), epoch(newest), committed),
            expected,
            "{restore:?} {newest:?} {committed}"
        );
    }
}

#[test]
fn going_back_repeats_only_when_something_was_delivered_exactly_once() {
    for back in [false, true] {
        for exactly_once in [false, true] {
            for allowed in [false, true] {
                let epoch = if back { Epoch(3) } else { Epoch(4) };
                let refused = back && exactly_once && !allowed;
                let expected = if refused { GoBackStep::WouldRepeat } else { GoBackStep::Allowed };
                assert_eq!(go_back_step(epoch, Epoch(4), exactly_once, allowed), expected);
            }
        }
    }
}

fn claim(generation: u64, restored_from: Option<u64>) -> LogEntry {
    LogEntry::Claim(Claim {
        format: 1,
        nonce: format!("c{generation}"),
        incarnation: "i".into(),
        generation: Generation(generation),
        host: "h".into(),
        pid: 1,
        at: crate::time::Instant(0),
        restored_from: restored_from.map(Epoch),
        script: String::new(),
    })
}

fn manifest(generation: u64, epoch: u64) -> LogEntry {
    LogEntry::Manifest(Box::new(Manifest {
        format: 1,
        nonce: format!("m{epoch}"),
        incarnation: "i".into(),
        generation: Generation(generation),
        epoch: Epoch(epoch),
        started: crate::time::Instant(0),
        at: crate::time::Instant(0),
        cut: crate::connector::Cut::Periodic,
        hash_version: 1,
        key_groups: 128,
        parallelism: 1,
        running_ms: 0,
        operators: Default::default(),
        sources: Default::default(),
        sinks: Default::default(),
        queued: Default::default(),
        traffic: Default::default(),
        segments: Default::default(),
    }))
}

fn log(entries: Vec<LogEntry>) -> LogView {
    LogView { entries: (1..).zip(entries).collect(), committed: vec![Epoch(1)], savepoints: Vec::new() }
}

#[test]
fn the_newest_manifest_is_restored_unless_a_claim_went_back() {
    let straight = log(vec![claim(1, None), manifest(1, 1), manifest(1, 2), claim(2, None)]);
    assert_eq!(straight.current().unwrap().epoch, Epoch(2));
    let back = log(vec![claim(1, None), manifest(1, 1), manifest(1, 2), claim(2, Some(1)), claim(3, None)]);
    assert_eq!(back.current().unwrap().epoch, Epoch(1));
    let on_again = log(vec![claim(1, None), manifest(1, 1), manifest(1, 2), claim(2, Some(1)), manifest(2, 3)]);
    assert_eq!(on_again.current().unwrap().epoch, Epoch(3));
    assert_eq!(on_again.last_epoch(), Epoch(3));
}

#[test]
fn a_larger_claim_fences() {
    let log = log(vec![claim(1, None), manifest(1, 1), claim(2, None)]);
    assert!(is_fenced(Generation(1), &log));
    assert!(!is_fenced(Generation(2), &log));
    assert_eq!(claim_step(&log), ClaimStep { number: 4, generation: Generation(3) });
    assert_eq!(claim_step(&LogView::default()), ClaimStep { number: 1, generation: Generation(1) });
    assert!(log.is_committed(Epoch(1)) && !log.is_committed(Epoch(2)));
}
