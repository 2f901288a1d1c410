//! The clock: `now`, `current_date` and their kin.
//!
//! Invariant: within a query all calls show the same instant, that of its `StatementClock`. A job has none: there all
//! calls show the instant of the batch they are evaluated on, and no planner may compute them.

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
use headwater_engine::{error::Result, time::batch_instant};

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

/// What the clock says in a type, for all rows of a call.
fn read(call: &Call<'_>) -> Result<ArrayRef> {
    let of_batch = || batch_instant().and_then(|now| DateTime::from_timestamp_millis(now.0));
    let now = call.now.or_else(of_batch).unwrap_or_else(Utc::now);
    ticks_array(vec![Some(ticks(now, call.result)); call.rows], call.result)
}

fn clock(name: &'static str, summary: &'static str, signature: &'static str) -> Definition {
    scalar(Family::DateTime, name, summary).on(signature, whole(read)).of_the_clock()
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
            .on_typed("localtime() -> time(p)", |_| Ok(DataType::Time32(TimeUnit::Millisecond)), whole(read))
            .of_the_clock()
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
