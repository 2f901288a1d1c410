//! Records of a text file as they stand in it, found by their first byte.
//!
//! Invariant: what is returned begins where it was asked for and ends with its record.

use bytes::Bytes;
use headwater_engine::error::Result;
use serde::de::IgnoredAny;

use super::fetch;
use crate::lake::{
    compression::{Compression, MAGIC_LENGTH},
    format::ReadFormat,
    listing::LakeFile,
    stores::Place,
};

/// Bytes that are fetched at a time; records near each other share them.
const WINDOW_BYTES: u64 = 1 << 20;
/// Most bytes of one record.
const RECORD_BYTES_MAX: u64 = 16 << 20;

/// The records of a file that begin at these bytes, ascending; `None` where bytes of the file are no text of it.
pub(crate) async fn at(
    (place, file): (&Place, &LakeFile),
    format: &ReadFormat,
    starts: &[u64],
) -> Result<Option<Vec<Bytes>>> {
    if matches!(format, ReadFormat::Parquet) {
        return Ok(None);
    }
    let fetched = async |from: u64, length: u64| {
        let range = from.min(file.size)..(from + length).min(file.size);
        fetch::range(place, &file.path, range, Vec::new()).await
    };
    if Compression::of(file.path.as_ref(), &fetched(0, MAGIC_LENGTH).await?).is_some() {
        return Ok(None);
    }
    let (mut window, mut from) = (Bytes::new(), 0);
    let mut records = Vec::with_capacity(starts.len());
    for &start in starts {
        let mut length = WINDOW_BYTES;
        let record = loop {
            let rest = start.checked_sub(from).and_then(|skipped| usize::try_from(skipped).ok());
            let rest = rest.filter(|skipped| *skipped < window.len()).map(|skipped| window.slice(skipped..));
            let is_last = from + window.len() as u64 >= file.size;
            let has_all = from == start && window.len() as u64 >= RECORD_BYTES_MAX;
            match rest.map(|rest| (end_of(format, &rest, is_last || has_all), rest)) {
                Some((Some(end), rest)) => break rest.slice_ref(rest[..end].trim_ascii()),
                _ if start >= file.size => break Bytes::new(),
                _ => {}
            }
            if from == start && !window.is_empty() {
                length = RECORD_BYTES_MAX;
            }
            (window, from) = (fetched(start, length).await?, start);
        };
        records.push(record);
    }
    Ok(Some(records))
}

/// Where the first record ends; `None` if that is not among these bytes, which may be all there are.
fn end_of(format: &ReadFormat, bytes: &[u8], is_all: bool) -> Option<usize> {
    if let ReadFormat::Json(_) = format {
        let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => return Some(values.byte_offset()),
            Some(Err(error)) if error.is_eof() && !is_all => return None,
            Some(Err(_)) | None => {}
        }
    }
    let mut quotes = 0;
    let is_end = |byte: &u8| {
        quotes += usize::from(*byte == b'"');
        *byte == b'\n' && (quotes % 2 == 0 || format.is_line())
    };
    bytes.iter().position(is_end).or(is_all.then_some(bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::json::JsonOptions;

    #[test]
    fn a_json_record_ends_with_its_object() {
        let json = ReadFormat::Json(Box::<JsonOptions>::default());
        assert_eq!(end_of(&json, b"{\"a\":\n1}{\"a\":2}\n", false), Some(8));
        assert_eq!(end_of(&json, b"{\"a\":1", false), None);
        assert_eq!(end_of(&json, b"{\"a\":1", true), Some(6));
        assert_eq!(end_of(&json, b"{a:1}\n{}", false), Some(5));
    }
}
