//! Texts joined by a separator.
//!
//! Invariant: the values of a text add up to no more than the limit.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringBuilder};
use headwater_engine::error::{Error, Result};

use super::{Overflow, need};

/// Longest text that `listagg` makes.
const JOINED_BYTES_MAX: usize = 1_048_576;

pub(super) fn join(lists: &ListArray, args: &[ArrayRef], overflow: Overflow) -> Result<ArrayRef> {
    let separators = need(args.get(1))?.as_string::<i32>();
    let mut out = StringBuilder::new();
    for row in 0..lists.len() {
        if lists.is_null(row) {
            out.append_null();
            continue;
        }
        let values = lists.value(row);
        let separator = if separators.is_null(row) { "" } else { separators.value(row) };
        let parts: Vec<&str> = values.as_string::<i32>().iter().flatten().collect();
        let mut bytes = 0;
        let fits = parts.iter().enumerate().position(|(at, part)| {
            bytes += part.len() + if at == 0 { 0 } else { separator.len() };
            bytes > JOINED_BYTES_MAX
        });
        let Some(kept) = fits else {
            out.append_value(parts.join(separator));
            continue;
        };
        let Overflow::Truncate { count } = overflow else {
            return Err(Error::user(
                "EXCEEDED_FUNCTION_MEMORY_LIMIT",
                format!("concatenated string is longer than the maximum output length {JOINED_BYTES_MAX}"),
            ));
        };
        let mut text = parts[..kept].join(separator);
        if kept > 0 {
            text.push_str(separator);
        }
        let fillers = need(args.get(2))?.as_string::<i32>();
        text.push_str(if fillers.is_null(row) { "" } else { fillers.value(row) });
        if count {
            text.push_str(&format!("({})", parts.len() - kept));
        }
        out.append_value(text);
    }
    Ok(Arc::new(out.finish()))
}
