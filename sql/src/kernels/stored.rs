//! Texts on their way into columns `varchar(n)` and `char(n)` of tables.
//!
//! Invariant: only blanks at the end are cut off; a text that is longer without them is refused.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use headwater_engine::error::{Error, Result};

/// What a column can hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Length {
    /// Name of the column.
    pub column: String,
    /// Characters, at most.
    pub most: u32,
    /// Whether blanks at the end are none of a value's, as in `char(n)`.
    pub is_padded: bool,
}

/// The texts as the column holds them.
pub(super) fn evaluate(texts: &ArrayRef, length: &Length) -> Result<ArrayRef> {
    let texts: &StringArray =
        texts.as_string_opt().ok_or_else(|| Error::internal("a column with a length holds text"))?;
    let stored = texts.iter().map(|text| text.map(|text| fitted(text, length)).transpose());
    Ok(Arc::new(stored.collect::<Result<StringArray>>()?))
}

fn fitted<'a>(text: &'a str, length: &Length) -> Result<&'a str> {
    let text = if length.is_padded { text.trim_end_matches(' ') } else { text };
    let Some((end, _)) = text.char_indices().nth(length.most as usize) else { return Ok(text) };
    if text[end..].bytes().all(|byte| byte == b' ') {
        return Ok(&text[..end]);
    }
    let kind = if length.is_padded { "char" } else { "varchar" };
    let (start, column, most) = (text.chars().take(50).collect::<String>(), &length.column, length.most);
    let message = format!("the value {start:?} is longer than column \"{column}\", which is {kind}({most})");
    Err(Error::user("INVALID_CAST_ARGUMENT", message)
        .with_hint(format!("cut it off with CAST(.. AS {kind}({most})), or declare the column longer")))
}
