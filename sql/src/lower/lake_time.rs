//! The event time of a table of the catalog, which its properties name: `'watermark.column'` and `'watermark.delay'`.
//!
//! Invariant: a property that says something of the event time is refused where there is no event time.

use std::{sync::Arc, time::Duration};

use arrow::datatypes::{DataType, Field, IntervalMonthDayNano, Schema};
use datafusion::{
    common::{Column, ScalarValue},
    logical_expr::Expr,
};
use headwater_connectors::{lake::provider::HIDDEN_MARK, options::Options};
use headwater_engine::{
    catalog::Table,
    error::{Error, Result},
};

use super::table::{EventTime, TimeOptions};
use crate::{diagnostics::did_you_mean, session::Session};

/// The property that names the event time column.
const COLUMN: &str = "watermark.column";
/// The property that says how far the watermark is behind the rows.
const DELAY: &str = "watermark.delay";
/// Properties that need an event time.
const OF_TIME: [&str; 5] = [
    DELAY,
    "scan.watermark.idle-timeout",
    "scan.watermark.max-ahead",
    "scan.watermark.alignment.max-drift",
    "watermark.allowed-lateness",
];

/// The event time of a table with these columns, and how late its rows may be.
pub(crate) fn lake_time(session: &Session, table: &Table, schema: &Schema) -> Result<(Option<EventTime>, Duration)> {
    let mut options = Options::new(table.name.to_string(), &table.properties);
    let Some(wanted) = options.text(COLUMN) else {
        return match OF_TIME.iter().find(|key| table.properties.contains_key(**key)) {
            None => Ok((None, Duration::ZERO)),
            Some(key) => Err(Error::user("INVALID_TABLE_PROPERTY", format!("'{key}' needs an event time"))
                .with_hint(format!("name it: '{COLUMN}' = 'a column of type timestamp'"))),
        };
    };
    let shown = |field: &(usize, &Arc<Field>)| !field.1.metadata().contains_key(HIDDEN_MARK);
    let fields = schema.fields().iter().enumerate().filter(shown);
    let Some((column, field)) = fields.clone().find(|(_, field)| field.name().eq_ignore_ascii_case(&wanted)) else {
        let error = Error::user("COLUMN_NOT_FOUND", format!("'{COLUMN}': column \"{wanted}\" not found"));
        return Err(did_you_mean(error, &wanted, fields.map(|(_, field)| field.name().as_str())));
    };
    if !matches!(field.data_type(), DataType::Timestamp(_, _)) {
        let found = crate::types::trino_type_name(field.data_type());
        let message = format!("'{COLUMN}': \"{wanted}\" is {found}, not a timestamp");
        return Err(Error::user("TYPE_MISMATCH", message).with_hint(
            "declare the column as timestamp; 'json.timestamp-unit' and 'json.timestamp-format.standard' say how it is written",
        ));
    }
    let delay = options.duration(DELAY)?.unwrap_or_default();
    let own = TimeOptions::take(session, &mut options)?;
    let mut watermark = Expr::Column(Column::new_unqualified(field.name()));
    if !delay.is_zero() {
        let nanoseconds = i64::try_from(delay.as_nanos()).unwrap_or(i64::MAX);
        let interval = IntervalMonthDayNano::new(0, 0, nanoseconds);
        watermark = watermark - Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), None);
    }
    Ok((Some(own.of(column, Some(watermark))), own.allowed_lateness))
}
