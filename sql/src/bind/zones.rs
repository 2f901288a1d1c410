//! AT TIME ZONE of timestamps and times of day.
//!
//! Invariant: the instant stays; only what it is shown as changes.

use datafusion::{common::ScalarValue, logical_expr::Expr};
use headwater_engine::error::{Error, Result};

use super::{Binder, Value};
use crate::{
    kernels::{self, Op},
    types::Type,
};

impl Binder<'_> {
    /// `value AT TIME ZONE zone`
    pub(crate) fn at_time_zone(&self, value: Value, zone: Value) -> Result<Value> {
        let value = match value.data_type.clone() {
            Type::TimestampTz(..) => value,
            Type::Time(_) | Type::TimeTz(_) => return self.time_at_zone(value, &zone),
            Type::Timestamp(p) => self.cast(value, &Type::TimestampTz(p, self.environment.zone.into()), false)?,
            other => return Err(Error::user("TYPE_MISMATCH", format!("AT TIME ZONE needs a timestamp, not {other}"))),
        };
        let Type::TimestampTz(p, _) = value.data_type else { return Ok(value) };
        let name: std::sync::Arc<str> = match &zone.expr {
            Expr::Literal(ScalarValue::Utf8(Some(name)), _) => crate::kernels::time::Zone::canonical(name)?.into(),
            Expr::Literal(ScalarValue::DurationMillisecond(Some(millis)), _) => {
                let minutes = millis / 60_000;
                let sign = if minutes < 0 { '-' } else { '+' };
                format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60).as_str().into()
            }
            _ => return self.function_value("at_timezone", vec![value, zone]),
        };
        let shown = Type::TimestampTz(p, name);
        let op = Op::AtTimeZone(value.data_type.clone());
        Ok(Value::new(kernels::call(op, vec![value.expr], shown.clone()), shown))
    }

    /// A time of day at the offset that a zone has now.
    fn time_at_zone(&self, value: Value, zone: &Value) -> Result<Value> {
        let (Type::Time(p) | Type::TimeTz(p)) = value.data_type else { return Ok(value) };
        let minutes = match &zone.expr {
            Expr::Literal(ScalarValue::Utf8(Some(name)), _) => {
                let now = chrono::Utc::now().timestamp_nanos_opt().unwrap_or_default();
                i64::from(crate::kernels::time::zone_of(name)?.offset_seconds(i128::from(now))) / 60
            }
            Expr::Literal(ScalarValue::DurationMillisecond(Some(millis)), _) => millis / 60_000,
            _ => return Err(Error::not_supported("AT TIME ZONE of a time needs a literal zone")),
        };
        let shown = Type::TimeTz(p);
        let value = self.convert_to_zone(value, &shown)?;
        Ok(Value::new(kernels::call(Op::TimeTzShift(minutes), vec![value.expr], shown.clone()), shown))
    }

    fn convert_to_zone(&self, value: Value, shown: &Type) -> Result<Value> {
        if value.data_type == *shown { Ok(value) } else { self.cast(value, shown, false) }
    }
}
