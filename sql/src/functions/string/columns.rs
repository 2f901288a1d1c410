//! Texts worked on a whole column at a time: the bytes of a batch are searched and cut as one text.
//!
//! Invariant: each gives what the function of one text gives row by row; nothing found crosses the end of a row.

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray},
    datatypes::DataType,
};
use headwater_engine::error::Result;
use memchr::memmem::Finder;

use super::super::{
    column::{I64, text_array},
    scalar::{Call, Kernel},
};

/// A constant text among the arguments.
pub(crate) fn constant_text<'a>(call: &'a Call<'_>, index: usize) -> Option<&'a str> {
    let argument = call.arguments.get(index).filter(|argument| argument.constant)?;
    let texts = argument.array.as_string_opt::<i32>()?;
    (texts.len() == 1 && texts.is_valid(0)).then(|| texts.value(0))
}

/// A constant whole number among the arguments.
pub(crate) fn constant_number(call: &Call<'_>, index: usize) -> Option<i64> {
    call.arguments.get(index).filter(|argument| argument.constant)?;
    call.column::<I64>(index).ok()?.value(0)
}

/// The texts of a column, not of a constant.
pub(crate) fn texts<'a>(call: &'a Call<'_>) -> Option<&'a StringArray> {
    let argument = call.arguments.first().filter(|argument| !argument.constant)?;
    (*call.result == DataType::Utf8).then(|| argument.array.as_string_opt::<i32>()).flatten()
}

/// `replace(texts, from [, to])`: at once where both are constant, else by a kernel for each row.
pub fn replace(call: &Call<'_>, each: &Kernel) -> Result<ArrayRef> {
    let to = if call.arguments.len() > 2 { constant_text(call, 2) } else { Some("") };
    match (texts(call), constant_text(call, 1).filter(|from| !from.is_empty()), to) {
        (Some(texts), Some(from), Some(to)) => replaced(texts, from, to),
        _ => each(call),
    }
}

/// What is written of the rows of a column, and where each of them ends.
struct Rewritten<'a> {
    bytes: &'a [u8],
    offsets: &'a [i32],
    out: Vec<u8>,
    ends: Vec<usize>,
    /// Up to here the bytes are written.
    copied: usize,
}

impl<'a> Rewritten<'a> {
    fn new(texts: &'a StringArray) -> Self {
        let (bytes, offsets) = (texts.value_data(), texts.value_offsets());
        let (first, last) = (start(offsets), offsets.last().map_or(0, |end| *end as usize));
        let mut ends = Vec::with_capacity(offsets.len());
        ends.push(0);
        Self { bytes, offsets, out: Vec::with_capacity((last - first) * 9 / 8), ends, copied: first }
    }

    /// Where the row ends that a byte is in; rows before it are ended.
    fn row_end(&mut self, at: usize) -> usize {
        loop {
            let end = self.offsets.get(self.ends.len()).map_or(usize::MAX, |end| *end as usize);
            if end > at {
                return end;
            }
            // What is pending of the row is copied with what follows it.
            self.ends.push(self.out.len() + (end - self.copied));
        }
    }

    fn put(&mut self, at: usize, length: usize, to: &str) {
        self.out.extend_from_slice(self.bytes.get(self.copied..at).unwrap_or_default());
        self.out.extend_from_slice(to.as_bytes());
        self.copied = at + length;
    }

    fn finish(mut self, texts: &StringArray) -> Result<ArrayRef> {
        let last = self.offsets.last().map_or(0, |end| *end as usize);
        while let Some(end) = self.offsets.get(self.ends.len()) {
            self.ends.push(self.out.len() + (*end as usize - self.copied));
        }
        self.put(last, 0, "");
        text_array(self.out, &self.ends, texts.nulls().cloned())
    }
}

fn start(offsets: &[i32]) -> usize {
    offsets.first().map_or(0, |first| *first as usize)
}

fn replaced(texts: &StringArray, from: &str, to: &str) -> Result<ArrayRef> {
    let mut rows = Rewritten::new(texts);
    let (bytes, first) = (rows.bytes, rows.copied);
    let last = rows.offsets.last().map_or(0, |end| *end as usize);
    let within = bytes.get(first..last).unwrap_or_default();
    if let [byte] = from.as_bytes() {
        for at in memchr::memchr_iter(*byte, within) {
            rows.row_end(first + at);
            rows.put(first + at, 1, to);
        }
    } else {
        let finder = Finder::new(from.as_bytes());
        let mut next = 0;
        while let Some(found) = within.get(next..).and_then(|rest| finder.find(rest)) {
            let at = next + found;
            let end = rows.row_end(first + at) - first;
            next = at + from.len();
            if next <= end {
                rows.put(first + at, from.len(), to);
            } else {
                next = end;
            }
        }
    }
    rows.finish(texts)
}

/// Which bytes of a text of a length are cut out, from a position on.
type Range = fn(usize, i64, Option<i64>) -> Option<(usize, usize)>;

/// `substr(texts, start [, length])`: at once where all is ASCII and the numbers are constant.
pub fn substr(call: &Call<'_>, range: Range, each: &Kernel) -> Result<ArrayRef> {
    let length = if call.arguments.len() > 2 { constant_number(call, 2).map(Some) } else { Some(None) };
    let (Some(texts), Some(from), Some(length)) = (texts(call), constant_number(call, 1), length) else {
        return each(call);
    };
    let (bytes, offsets) = (texts.value_data(), texts.value_offsets());
    let last = offsets.last().map_or(0, |end| *end as usize);
    if !bytes.get(start(offsets)..last).unwrap_or_default().is_ascii() {
        return each(call);
    }
    let mut out = Vec::with_capacity(length.map_or(last, |length| length.clamp(0, 64) as usize * call.rows).min(last));
    let mut ends = Vec::with_capacity(offsets.len());
    ends.push(0);
    for row in offsets.windows(2) {
        let [begin, end] = [row[0] as usize, row[1] as usize];
        if let Some((a, b)) = range(end - begin, from, length) {
            out.extend_from_slice(bytes.get(begin + a..begin + b).unwrap_or_default());
        }
        ends.push(out.len());
    }
    text_array(out, &ends, texts.nulls().cloned())
}

/// Marks the rows that hold a text.
pub fn holding(texts: &StringArray, part: &Finder<'_>) -> arrow::buffer::BooleanBuffer {
    let (bytes, offsets) = (texts.value_data(), texts.value_offsets());
    let mut found = arrow::array::BooleanBufferBuilder::new(texts.len());
    let mut at = start(offsets);
    let last = offsets.last().map_or(0, |end| *end as usize);
    while let Some(next) = bytes.get(at..last).and_then(|rest| part.find(rest)) {
        let begin = at + next;
        // The row is the one that ends after where the text begins.
        let mut row = found.len();
        while offsets.get(row + 1).is_some_and(|end| *end as usize <= begin) {
            row += 1;
        }
        found.append_n(row - found.len(), false);
        let end = offsets.get(row + 1).map_or(last, |end| *end as usize);
        found.append(begin + part.needle().len() <= end);
        at = end;
    }
    found.append_n(texts.len() - found.len(), false);
    found.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column() -> StringArray {
        let texts = vec![Some("abab"), None, Some(""), Some("ba"), Some("a"), Some("bab"), Some("éabé")];
        StringArray::from(texts).slice(1, 6)
    }

    #[test]
    fn replacing_a_column_at_once_is_replacing_each_of_its_texts() {
        for (from, to) in [("a", "xy"), ("ab", ""), ("ba", "--"), ("bb", "!"), ("é", "e"), ("bab", "b")] {
            let expected: StringArray = column().iter().map(|text| text.map(|text| text.replace(from, to))).collect();
            let found = replaced(&column(), from, to).unwrap();
            assert_eq!(found.as_string::<i32>(), &expected, "{from} by {to}");
        }
    }

    #[test]
    fn a_text_that_crosses_two_rows_is_in_neither() {
        for part in ["a", "ab", "ba", "bab", "é", "aab", "zz"] {
            let found = holding(&column(), &Finder::new(part.as_bytes()));
            let expected: Vec<bool> =
                column().iter().map(|text| text.is_some_and(|text| text.contains(part))).collect();
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{part}");
        }
    }
}
