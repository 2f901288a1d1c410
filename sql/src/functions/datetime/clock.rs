//! The clock: `now`, `current_date` and their kin.
//!
//! Invariant: within a query all calls show the same instant, that of its `StatementClock`. A stream has none: a call
//! reads the clock once per batch.

use std::{any::Any, sync::Arc};

use arrow::{
    array::{ArrayRef, StringArray},
    datatypes::{DataType, TimeUnit},
};
use chrono::{DateTime, Utc};
use datafusion::{
    common::config::{ConfigEntry, ConfigExtension, ExtensionOptions},
    error::DataFusionError,
    logical_expr::Volatility,
};
use headwater_engine::error::Result;

use super::{
    super::{
        Family,
        define::{Definition, scalar},
        kernel::whole,
        scalar::Call,
    },
    moments::ticks_array,
};

/// When a statement began, in the configuration that its functions see.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StatementClock(pub(crate) DateTime<Utc>);

impl ConfigExtension for StatementClock {
    const PREFIX: &'static str = "headwater_clock";
}

impl ExtensionOptions for StatementClock {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(*self)
    }

    fn set(&mut self, key: &str, _: &str) -> datafusion::error::Result<()> {
        Err(DataFusionError::Configuration(format!("the clock of a statement has no option \"{key}\"")))
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}

/// Ticks of a type at an instant, in UTC.
fn ticks(at: DateTime<Utc>, data_type: &DataType) -> i64 {
    let millis = at.timestamp_millis();
    match data_type {
        DataType::Date32 => millis.div_euclid(86_400_000),
        DataType::Time32(_) => millis.rem_euclid(86_400_000),
        _ => millis,
    }
}

fn clock(name: &'static str, summary: &'static str, signature: &'static str) -> Definition {
    scalar(Family::DateTime, name, summary)
        .on(
            signature,
            whole(|call: &Call<'_>| -> Result<ArrayRef> {
                let now = ticks(call.now.unwrap_or_else(Utc::now), call.result);
                ticks_array(vec![Some(now); call.rows], call.result)
            }),
        )
        .volatility(Volatility::Stable)
}

/// The functions.
pub(super) fn definitions() -> Vec<Definition> {
    vec![
        clock("now", "the instant the query began", "now() -> timestamp(3) with time zone")
            .aliases(&["current_timestamp"])
            .example("SELECT to_unixtime(now()) > 0", "true"),
        clock("current_date", "the day the query began", "current_date() -> date")
            .example("SELECT current_date = date(now())", "true"),
        clock("localtimestamp", "the wall clock when the query began", "localtimestamp() -> timestamp(3)")
            .example("SELECT date(localtimestamp()) = date(now())", "true"),
        clock(
            "proctime",
            "Flink's name of the clock, for the processing time of a table",
            "proctime() -> timestamp(3)",
        )
        .example("SELECT proctime() = localtimestamp()", "true"),
        scalar(Family::DateTime, "localtime", "the time of day when the query began")
            .on_typed(
                "localtime() -> time(p)",
                |_| Ok(DataType::Time32(TimeUnit::Millisecond)),
                whole(|call| {
                    let now = ticks(call.now.unwrap_or_else(Utc::now), call.result);
                    ticks_array(vec![Some(now); call.rows], call.result)
                }),
            )
            .volatility(Volatility::Stable)
            .example("SELECT hour(localtime()) = hour(now())", "true"),
        scalar(Family::DateTime, "current_timezone", "the session's time zone")
            .on(
                "current_timezone() -> varchar",
                whole(|call| Ok(Arc::new(StringArray::from(vec!["UTC"; call.rows])) as ArrayRef)),
            )
            .volatility(Volatility::Stable)
            .example("SELECT current_timezone()", "UTC"),
    ]
}
