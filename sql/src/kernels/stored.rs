//! Values on their way into columns `varchar(n)`, `char(n)` and `NOT NULL` of tables.
//!
//! Invariant: only blanks at the end are cut off; a text that is longer without them is refused, and so is a NULL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use headwater_engine::{
    connector::TextLength,
    error::{Error, Result},
};

/// The length that a column `varchar(n)` or `char(n)` is declared with.
pub(crate) fn declared(column: &str, type_text: &str) -> Option<TextLength> {
    let (kind, most) = type_text.trim().strip_suffix(')')?.split_once('(')?;
    let is_padded = match kind.trim().to_ascii_lowercase().as_str() {
        "char" => true,
        "varchar" => false,
        _ => return None,
    };
    Some(TextLength { column: column.to_owned(), most: most.trim().parse().ok()?, is_padded, is_key: false })
}

/// The texts as the column holds them.
pub(super) fn evaluate(texts: &ArrayRef, length: &TextLength) -> Result<ArrayRef> {
    let texts = strings(texts)?;
    let stored = texts.iter().map(|text| text.map(|text| length.fitted(text)).transpose());
    Ok(Arc::new(stored.collect::<Result<StringArray>>()?))
}

/// The texts as the column holds them; those that are too long as they are.
pub(super) fn cut(texts: &ArrayRef, length: &TextLength) -> Result<ArrayRef> {
    let cut = strings(texts)?.iter().map(|text| text.map(|text| length.fitted(text).unwrap_or(text)));
    Ok(Arc::new(cut.collect::<StringArray>()))
}

fn strings(texts: &ArrayRef) -> Result<&StringArray> {
    texts.as_string_opt().ok_or_else(|| Error::internal("a column with a length holds text"))
}

/// The values, if none is NULL.
pub(super) fn present(values: &ArrayRef, column: &str) -> Result<ArrayRef> {
    if values.logical_null_count() > 0 {
        return Err(Error::data("INVALID_ROW", format!("the sink refuses a row: column \"{column}\" is NULL"))
            .with_hint("leave such rows out with WHERE, or give them a value with coalesce"));
    }
    Ok(Arc::clone(values))
}
