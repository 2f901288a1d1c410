//! JSON files: the decoder of `formats`, fed by the scan.
//!
//! Invariant: a record begins after a cut only where that is certain whatever the document's shape.

use bytes::Bytes;
use headwater_engine::error::Result;

use super::{FileRows, RowReader};
use crate::formats::json::JsonReader;

impl RowReader for JsonReader {
    fn starts_at(&mut self, offset: u64, line: u64) {
        Self::starts_at(self, offset, line);
    }

    fn keep_starts(&mut self) {
        Self::keep_starts(self);
    }

    fn feed(&mut self, bytes: Bytes) {
        Self::feed(self, bytes);
    }

    fn finish_input(&mut self) {
        Self::finish_input(self);
    }

    fn next_rows(&mut self) -> Result<Option<FileRows>> {
        Self::next_rows(self)
    }
}

/// Where a record surely starts after a cut: at a line that is an object, right after another line that is one. Inside
/// an array or a pretty-printed object that cannot be: there is a comma, a key or a bracket between two objects.
pub(crate) fn record_start(window: &[u8]) -> Option<usize> {
    let mut before_is_object = false;
    let mut start = memchr::memchr(b'\n', window)? + 1;
    while let Some(length) = memchr::memchr(b'\n', &window[start..]) {
        let is_object = is_object(&window[start..start + length]);
        if is_object && before_is_object {
            return Some(start);
        }
        before_is_object = is_object;
        start += length + 1;
    }
    None
}

/// Whether the rows of a file that begins like this may be lines: neither pretty-printed nor run together nor an array.
pub(crate) fn may_be_lines(start: &[u8]) -> bool {
    let start = start.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(start);
    let Some(length) = memchr::memchr(b'\n', start) else {
        let mut values = serde_json::Deserializer::from_slice(start).into_iter::<serde::de::IgnoredAny>();
        let is_first_whole = values.next().is_some_and(|value| value.is_ok());
        // Longer than what is seen of it.
        return !is_first_whole || start[values.byte_offset()..].trim_ascii().is_empty();
    };
    is_object(&start[..length]) || record_start(start).is_some()
}

fn is_object(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.first() == Some(&b'{') && serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_starts_after_a_line_that_is_an_object() {
        assert_eq!(record_start(b"tail}\n{\"a\":1}\n{\"a\":2}\n"), Some(14));
        assert_eq!(record_start(b"\n{\"a\":1}\r\n{\"a\":2}\r\n{}\n"), Some(10));
    }

    #[test]
    fn files_are_cut_only_where_rows_may_be_lines() {
        for text in ["{\"a\":1}\n", "\u{feff}{\"a\":1}\r\n{", "broken\n{}\n{}\n", "{\"a\":\"long", "{\"a\":1}"] {
            assert!(may_be_lines(text.as_bytes()), "{text}");
        }
        for text in ["{\n \"a\":1\n}\n", "[\n{},\n{}\n]", "{\"a\":1}{\"a\":2}{", "[{\"a\":1},\n{\"a\":2}]\n"] {
            assert!(!may_be_lines(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn no_record_is_taken_for_sure_inside_arrays_or_pretty_print() {
        for text in [
            "x\n{\"a\":1},\n{\"a\":2},\n",
            "x\n  {\"a\":\n  {}\n}\n{\n\"a\":1\n}\n",
            "x\n{\"a\":[\n{\"b\":1},\n{\"b\":2}\n]}\n",
            "x\n{\"a\":1}\n",
            "no line",
        ] {
            assert_eq!(record_start(text.as_bytes()), None, "{text}");
        }
    }
}
