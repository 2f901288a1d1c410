//! Sketches against what Trino answers, and against themselves merged.

use super::{hash, hll::Hll, qdigest::QDigest, set_digest::SetDigest, *};

fn hashes(count: i64) -> Vec<u64> {
    let values: ArrayRef = Arc::new((1..=count).collect::<arrow::array::Int64Array>());
    let mut all = Vec::new();
    hash::each(&values, hash::Kind::Murmur, |_, hash| all.push(hash)).unwrap();
    all
}

fn sketch_of(hashes: &[u64]) -> Hll {
    let mut made = Hll::new(12);
    hashes.iter().for_each(|hash| made.add(*hash));
    made
}

#[test]
fn bytes_are_trinos() {
    assert_eq!(hex::encode_upper(sketch_of(&hashes(3)).to_bytes()), "020C03008003440000583D5B802008DE");
    let mut ranks = QDigest::new(0.01).unwrap();
    [1, 2, 3].iter().for_each(|value| ranks.add(*value, 1.0));
    assert_eq!(
        hex::encode_upper(ranks.to_bytes()),
        "007B14AE47E17A843F00000000000000000000000000000000010000000000000003000000000000000500000000000000000000F03F0100000\
         00000008000000000000000F03F020000000000008000000000000000F03F0300000000000080030000000000000000020000000000008007000\
         00000000000000100000000000080"
            .replace(' ', "")
    );
    let mut set = SetDigest::default();
    let one_two = hashes(2);
    [one_two[0], one_two[1], one_two[1]].iter().for_each(|hash| set.add(*hash));
    assert_eq!(
        hex::encode_upper(set.to_bytes()),
        "010C000000020B020080034400802008DE0020000002000000A8C0766CA02008DE4AC405FBB703440002000100"
    );
}

#[test]
fn counts_are_near_in_every_range() {
    let all = hashes(200_000);
    for count in [1, 100, 511, 512, 3000, 12_000, 25_000, 200_000] {
        let found = sketch_of(&all[..count]).cardinality();
        let error = (found as f64 - count as f64).abs() / count as f64;
        assert!(error < 0.05, "{found} for {count}");
    }
}

#[test]
fn merged_halves_are_the_whole() {
    for count in [10, 600, 5000] {
        let all = hashes(count);
        let (left, right) = all.split_at(all.len() / 3);
        let mut merged = sketch_of(left);
        merged.merge(&sketch_of(right)).unwrap();
        assert_eq!(merged, sketch_of(&all));
        assert_eq!(Hll::from_bytes(&merged.to_bytes()).unwrap(), merged);
    }
}

#[test]
fn ranks_stay_within_the_error() {
    let mut ranks = QDigest::new(0.01).unwrap();
    (0..100_000).for_each(|value| ranks.add(value * 7 % 100_000, 1.0));
    for share in [0.0, 0.01, 0.25, 0.5, 0.9, 0.999] {
        let found = ranks.value_at(share).unwrap() as f64 / 100_000.0;
        assert!((found - share).abs() < 0.011, "{found} for {share}");
    }
    assert_eq!(QDigest::from_bytes(&ranks.to_bytes()).unwrap().value_at(0.5), ranks.value_at(0.5));
    assert!(ranks.size() < 1_000_000);
}

#[test]
fn broken_bytes_are_refused() {
    for bytes in [&[][..], &[2, 12, 9, 0], &[9, 12], &[3, 12, 0, 1]] {
        assert!(Hll::from_bytes(bytes).is_err());
        assert!(SetDigest::from_bytes(bytes).is_err());
        assert!(QDigest::from_bytes(bytes).is_err());
    }
}
