//! What the session is, and `fail`.
//!
//! Invariant: what differs between sessions is read from the session's settings, never from the process.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, StringArray};
use arrow::datatypes::{DataType, Field};
use datafusion::logical_expr::Volatility;
use headwater_engine::error::{Error, Result};

use super::{
    Family, Function,
    column::Str,
    define::{Definition, build, scalar},
    kernel::whole,
    scalar::Call,
};

/// The user of a session, of which there is one.
const USER: &str = "headwater";
/// The version of Trino that the dialect is.
const VERSION: &str = "476";

fn text(
    name: &'static str,
    summary: &'static str,
    signature: &'static str,
    value: impl Fn(&Call<'_>) -> String + Send + Sync + 'static,
) -> Definition {
    let kernel = whole(move |call: &Call<'_>| -> Result<ArrayRef> {
        Ok(Arc::new(StringArray::from(vec![value(call); call.rows])))
    });
    scalar(Family::Conditional, name, summary).on(signature, kernel).volatility(Volatility::Stable)
}

fn fail(call: &Call<'_>) -> Result<ArrayRef> {
    let messages = call.column::<Str>(0)?;
    match (0..call.rows).next() {
        Some(row) => Err(Error::user("GENERIC_USER_ERROR", messages.value(row).unwrap_or_default())),
        None => Ok(arrow::array::new_empty_array(call.result)),
    }
}

/// The family's functions.
pub fn functions() -> Result<Vec<Function>> {
    build(vec![
        text("current_user", "the user of the session", "current_user() -> varchar", |_| USER.to_owned())
            .example("SELECT current_user", USER),
        text(
            "current_catalog",
            "the catalog that names without one belong to",
            "current_catalog() -> varchar",
            |call| call.config.catalog.default_catalog.clone(),
        )
        .example("SELECT current_catalog", "awsdatacatalog"),
        text(
            "current_schema",
            "the database that names without one belong to",
            "current_schema() -> varchar",
            |call| call.config.catalog.default_schema.clone(),
        )
        .example("SELECT current_schema", "default"),
        text("current_path", "where functions are looked up; always empty", "current_path() -> varchar", |_| {
            String::new()
        })
        .example("SELECT current_path", ""),
        text("version", "the version of Trino that the dialect is", "version() -> varchar", |_| VERSION.to_owned())
            .example("SELECT version()", VERSION),
        scalar(Family::Conditional, "current_groups", "the groups of the user; always empty")
            .on(
                "current_groups() -> array(varchar)",
                whole(|call| {
                    let item = Arc::new(Field::new("item", DataType::Utf8, true));
                    let offsets = arrow::buffer::OffsetBuffer::new_zeroed(call.rows);
                    let none = Arc::new(StringArray::from(Vec::<&str>::new()));
                    Ok(Arc::new(ListArray::try_new(item, offsets, none, None)?) as ArrayRef)
                }),
            )
            .volatility(Volatility::Stable)
            .example("SELECT cardinality(current_groups())", "0"),
        scalar(Family::Conditional, "fail", "fails with a message")
            .on("fail(varchar) -> unknown", whole(fail))
            .volatility(Volatility::Volatile)
            .example("SELECT if(1 > 2, fail('never'), 'fine')", "fine"),
    ])
}
