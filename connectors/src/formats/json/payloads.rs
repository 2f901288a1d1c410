//! JSON payloads of a stream: the same rows as from a file, each payload framed by itself.
//!
//! Invariant: a payload may hold several objects, and each becomes a row; an empty payload is rejected.

use std::ops::Range;

use arrow::datatypes::SchemaRef;
use headwater_engine::{
    error::{Error, ErrorKind, Result},
    format::{Decoded, Decoder, Payloads, RejectedRow},
    message::ChangeBatch,
};

use super::{
    frame::{Found, Frame},
    options::{JsonOptions, Malformed},
    rows::{Refusal, Rows},
};

/// Most bytes of one batch of payloads, so that offsets of text columns stay within 31 bits.
const BATCH_BYTES_MAX: usize = 256 << 20;

/// Decodes batches of JSON payloads into rows of one schema.
#[derive(Debug)]
pub struct JsonDecoder {
    rows: Rows,
    frame: Frame,
    malformed: Malformed,
    /// The bytes of each row of the last batch, where some row is not all of its payload.
    parts: Option<Vec<Range<usize>>>,
}

impl JsonDecoder {
    /// A decoder of the columns of `schema`.
    pub fn try_new(schema: SchemaRef, options: &JsonOptions) -> Result<Self> {
        Ok(Self {
            rows: Rows::new(schema, options)?,
            frame: Frame::new(options.records.clone()),
            malformed: options.malformed,
            parts: None,
        })
    }

    /// Decodes payload `index`, which stands at `start..end`; returns nothing, rejections go to `rejected`.
    fn payload(&mut self, buffer: &[u8], (index, start, end): (usize, usize, usize), batch: &mut Batch) {
        let payload = &buffer[..end];
        let (mut at, mut found_any) = (start, false);
        let before = (batch.parts.len(), batch.rejected.len());
        self.frame.reset();
        loop {
            let (from, refused) = match self.frame.find(payload, at, true) {
                Found::Row(from) => match self.rows.add(payload, from, batch.is_utf8) {
                    Ok(row_end) => {
                        batch.row(index, self.rows.len(), from..row_end);
                        if row_end == end {
                            return batch.end_payload(before, payload, start);
                        }
                        self.frame.row_read(&payload[from..row_end]);
                        (at, found_any) = (row_end, true);
                        continue;
                    }
                    Err(Refusal::Incomplete) => (from, (None, "the row ends early".to_owned())),
                    Err(Refusal::Malformed { end, reason }) => (from, (end, reason)),
                },
                Found::Malformed { start, reason } => (start, (None, reason.to_owned())),
                Found::NeedMore(_) | Found::End => break,
            };
            let (row_end, reason) = refused;
            self.frame.row_refused();
            at = row_end.or_else(|| self.frame.after_malformed(payload, from, true)).unwrap_or(end);
            // Alone in its payload it is the record as it came, with the line end that was sent.
            let is_alone = !found_any && buffer[at..end].iter().all(u8::is_ascii_whitespace);
            let (from, to) = if is_alone { (start, end) } else { (from, at) };
            found_any = true;
            self.refuse(RejectedRow { payload: index, start: from, end: to, reason }, batch);
        }
        if !found_any {
            self.refuse(RejectedRow { payload: index, start, end, reason: "empty".to_owned() }, batch);
        }
        batch.end_payload(before, payload, start);
    }

    fn refuse(&mut self, row: RejectedRow, batch: &mut Batch) {
        if self.malformed == Malformed::Null {
            self.rows.add_nulls();
            batch.row(row.payload, self.rows.len(), row.start..row.end);
        } else {
            batch.rejected.push(row);
        }
    }
}

/// What is noted while a batch is decoded.
struct Batch {
    is_utf8: bool,
    rejected: Vec<RejectedRow>,
    /// Payload of each row, from the first row on that is not its payload's number.
    payload_of_row: Option<Vec<u32>>,
    /// Bytes of each row.
    parts: Vec<Range<usize>>,
    /// Whether some row is not all of its payload.
    is_parted: bool,
}

impl Batch {
    #[inline]
    fn row(&mut self, payload: usize, rows: usize, part: Range<usize>) {
        self.parts.push(part);
        match &mut self.payload_of_row {
            Some(list) => list.push(payload as u32),
            None if payload == rows - 1 => {}
            None => {
                let mut list: Vec<u32> = (0..rows as u32 - 1).collect();
                list.push(payload as u32);
                self.payload_of_row = Some(list);
            }
        }
    }
}

impl Batch {
    /// A row that is alone in its payload is all of it, with the line end that was sent.
    fn end_payload(&mut self, (rows, rejected): (usize, usize), payload: &[u8], start: usize) {
        let is_one = self.parts.len() == rows + 1 && self.rejected.len() == rejected;
        let is_blank = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_whitespace);
        match self.parts.last_mut() {
            Some(part) if is_one && is_blank(&payload[start..part.start]) && is_blank(&payload[part.end..]) => {
                *part = start..payload.len();
            }
            _ => self.is_parted |= self.parts.len() > rows,
        }
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, payloads: &Payloads) -> Result<Decoded> {
        if payloads.buffer.len() > BATCH_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::Limit,
                "EXCEEDED_MEMORY_LIMIT",
                format!("a batch of payloads has {} bytes, the limit is {BATCH_BYTES_MAX}", payloads.buffer.len()),
            ));
        }
        let is_utf8 = simdutf8::basic::from_utf8(&payloads.buffer).is_ok();
        let (rejected, parts) = (Vec::new(), Vec::with_capacity(payloads.len()));
        let mut batch = Batch { is_utf8, rejected, payload_of_row: None, parts, is_parted: false };
        let mut start = 0;
        for (index, &end) in payloads.ends.iter().enumerate() {
            self.payload(&payloads.buffer, (index, start, end), &mut batch);
            start = end;
        }
        let (rows, values_nulled) = self.rows.finish()?;
        self.parts = batch.is_parted.then_some(batch.parts);
        Ok(Decoded {
            rows: ChangeBatch::inserts(rows),
            payload_of_row: batch.payload_of_row,
            rejected: batch.rejected,
            values_nulled,
        })
    }
    fn parts(&self) -> Option<&[Range<usize>]> {
        self.parts.as_deref()
    }
}
