//! Records of the Kinesis Producer Library: several in one, as protobuf between a magic number and a checksum.
//!
//! ```text
//! F3 89 9A C2 | AggregatedRecord | MD5 of it (16 bytes)
//! AggregatedRecord { 1: partition keys, 2: explicit hash keys, 3: Record { 1: key index, 2: hash index?, 3: data } }
//! ```
//!
//! The layout is that of aggregation-format.md in the library's repository.
//!
//! Invariant: what is not exactly of this form is one plain record; nothing is dropped because it looks odd.

use std::ops::Range;

use md5::{Digest, Md5};

const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
const CHECKSUM_BYTES: usize = 16;

/// One of the records in an aggregate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SubRecord {
    pub(super) partition_key: String,
    /// Where its shard is decided: the explicit hash key, else the MD5 of the partition key.
    pub(super) hash_key: u128,
    /// Its data within the aggregate's bytes.
    pub(super) data: Range<usize>,
}

/// The records of an aggregate; `None` for a plain record.
pub(super) fn sub_records(data: &[u8]) -> Option<Vec<SubRecord>> {
    if data.len() < MAGIC.len() + CHECKSUM_BYTES || !data.starts_with(&MAGIC) {
        return None;
    }
    let body = MAGIC.len()..data.len() - CHECKSUM_BYTES;
    if Md5::digest(&data[body.clone()])[..] != data[body.end..] {
        return None;
    }
    let (mut keys, mut hashes, mut records) = (Vec::new(), Vec::new(), Vec::new());
    let mut fields = Fields { data, at: body.start, end: body.end };
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Bytes(range)) => keys.push(std::str::from_utf8(&data[range]).ok()?.to_owned()),
            (2, Value::Bytes(range)) => hashes.push(std::str::from_utf8(&data[range]).ok()?.parse::<u128>().ok()?),
            (3, Value::Bytes(range)) => records.push(range),
            _ => {}
        }
    }
    records.into_iter().map(|range| sub_record(data, range, &keys, &hashes)).collect()
}

fn sub_record(data: &[u8], range: Range<usize>, keys: &[String], hashes: &[u128]) -> Option<SubRecord> {
    let (mut key, mut hash, mut bytes) = (None, None, None);
    let mut fields = Fields { data, at: range.start, end: range.end };
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Number(index)) => key = Some(keys.get(usize::try_from(index).ok()?)?),
            (2, Value::Number(index)) => hash = Some(*hashes.get(usize::try_from(index).ok()?)?),
            (3, Value::Bytes(range)) => bytes = Some(range),
            _ => {}
        }
    }
    let partition_key = key?.clone();
    let hash_key = hash.unwrap_or_else(|| hash_of(&partition_key));
    Some(SubRecord { partition_key, hash_key, data: bytes? })
}

/// The hash key Kinesis gives a partition key.
pub(super) fn hash_of(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

enum Value {
    Number(u64),
    Bytes(Range<usize>),
    Skipped,
}

/// Fields of one protobuf message.
struct Fields<'a> {
    data: &'a [u8],
    at: usize,
    end: usize,
}

impl Fields<'_> {
    /// The next field; the outer `None` says that the bytes are no message.
    #[expect(clippy::option_option, reason = "no field left and no message are two things")]
    fn next(&mut self) -> Option<Option<(u64, Value)>> {
        if self.at == self.end {
            return Some(None);
        }
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            1 => self.skip(8)?,
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                let start = self.at;
                self.skip(length)?;
                Value::Bytes(start..self.at)
            }
            5 => self.skip(4)?,
            _ => return None,
        };
        Some(Some((tag >> 3, value)))
    }

    fn skip(&mut self, length: usize) -> Option<Value> {
        let at = self.at.checked_add(length)?;
        if at > self.end {
            return None;
        }
        self.at = at;
        Some(Value::Skipped)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.data[..self.end].get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An aggregate of (partition key, explicit hash key, data), each key in the tables once.
    pub(crate) fn aggregate(records: &[(&str, Option<u128>, &[u8])]) -> Vec<u8> {
        fn bytes(number: u8, value: &[u8], out: &mut Vec<u8>) {
            out.push(number << 3 | 2);
            let mut length = value.len();
            while length >= 0x80 {
                out.push(length as u8 | 0x80);
                length >>= 7;
            }
            out.push(length as u8);
            out.extend_from_slice(value);
        }
        let mut body = Vec::new();
        records.iter().for_each(|(key, ..)| bytes(1, key.as_bytes(), &mut body));
        let hashes: Vec<u128> = records.iter().filter_map(|(_, hash, _)| *hash).collect();
        hashes.iter().for_each(|hash| bytes(2, hash.to_string().as_bytes(), &mut body));
        for (index, (_, hash, data)) in records.iter().enumerate() {
            let mut record = vec![1 << 3, index as u8];
            if let Some(hash) = hash {
                record.extend([2 << 3, hashes.iter().position(|known| known == hash).unwrap() as u8]);
            }
            bytes(3, data, &mut record);
            bytes(3, &record, &mut body);
        }
        [&MAGIC[..], &body, &Md5::digest(&body)[..]].concat()
    }

    #[test]
    fn three_records_in_one_keep_their_keys_and_order() {
        let data = aggregate(&[("a", None, b"one"), ("b", Some(7), b""), ("a", None, &[0xff; 300])]);
        let found = sub_records(&data).unwrap();
        let read: Vec<_> = found.iter().map(|sub| (sub.partition_key.as_str(), &data[sub.data.clone()])).collect();
        assert_eq!(read, [("a", &b"one"[..]), ("b", b""), ("a", &[0xff; 300])]);
        assert_eq!(found[1].hash_key, 7);
        assert_eq!(found[0].hash_key, 0x0cc1_75b9_c0f1_b6a8_31c3_99e2_6977_2661, "MD5 of \"a\"");
    }

    #[test]
    fn a_bad_checksum_or_a_cut_makes_it_a_plain_record() {
        let good = aggregate(&[("a", None, b"one")]);
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        assert_eq!(sub_records(&bad), None);
        for end in 0..good.len() {
            assert_eq!(sub_records(&good[..end]), None);
        }
        assert_eq!(sub_records(b"{\"a\": 1}"), None);
    }

    #[test]
    fn a_right_checksum_over_nonsense_is_a_plain_record() {
        for body in [
            &b"\x0a\xff"[..],
            b"\x1a\x02\x08\x05",
            b"\x1a\x04\x08\x00\x1a\x00",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            let data = [&MAGIC[..], body, &Md5::digest(body)[..]].concat();
            assert_eq!(sub_records(&data), None, "{body:?}");
        }
    }
}
