//! AT TIME ZONE of timestamps and times of day.
//!
//! Invariant: the instant stays; only what it is shown as changes.

use std::sync::Arc;

use datafusion::{
    common::ScalarValue,
    logical_expr::{Expr, ScalarUDF},
};
use headwater_engine::error::{Error, Result};

use super::{Binder, Value};
use crate::{
    kernels::{
        self, Op,
        zoned::{self, Notation},
    },
    types::{Type, as_instants, unit},
};

/// Whether a function takes a value of any type at a position, and so one with a zone of its own as it is.
fn takes_any(udf: &Arc<ScalarUDF>, args: &[Value], at: usize) -> bool {
    let given: Vec<_> = args.iter().map(|arg| arg.data_type.to_arrow()).collect();
    let wanted = udf.coerce_types(&given);
    wanted.is_ok_and(|wanted| wanted.get(at).is_some_and(|of| zoned::unit_of(of).is_some()))
}

/// What a cast makes of a type, with the zones that the values have.
pub(crate) fn kept(from: &Type, to: &Type, session: &str) -> Type {
    let kept = |from: &Type, to: &Type| kept(from, to, session);
    match (from, to) {
        (Type::ZonedEach(_), Type::TimestampTz(p, _)) => Type::ZonedEach(*p),
        (Type::TimestampTz(_, zone), Type::TimestampTz(p, _)) => Type::TimestampTz(*p, zone.clone()),
        // A text tells the zone; at the top of a cast the binder looks into texts that are written out.
        (Type::Varchar(_), Type::TimestampTz(p, _)) => Type::ZonedEach(*p),
        (_, Type::TimestampTz(p, _)) => Type::TimestampTz(*p, session.into()),
        (Type::Array(from), Type::Array(to)) => Type::array(kept(from, to)),
        (Type::Map(key, value), Type::Map(to_key, to_value)) => Type::map(kept(key, to_key), kept(value, to_value)),
        (Type::Row(from), Type::Row(to)) if from.len() == to.len() => {
            let fields = from.iter().zip(to);
            Type::Row(fields.map(|((_, from), (name, to))| (name.clone(), kept(from, to))).collect())
        }
        _ => to.clone(),
    }
}

impl Binder<'_> {
    /// What a value is compared and sorted by.
    pub(crate) fn instants_of(&self, value: Value) -> Result<Value> {
        let of = as_instants(value.data_type.clone());
        self.convert(value, &of)
    }

    /// `value AT TIME ZONE zone`
    pub(crate) fn at_time_zone(&self, value: Value, zone: Value) -> Result<Value> {
        let value = match value.data_type.clone() {
            Type::TimestampTz(..) => value,
            Type::ZonedEach(p) => self.convert(value, &Type::TimestampTz(p, "UTC".into()))?,
            Type::Time(_) | Type::TimeTz(_) => return self.time_at_zone(value, &zone),
            Type::Timestamp(p) => self.cast(value, &Type::TimestampTz(p, self.environment.zone.into()), false)?,
            other => return Err(Error::user("TYPE_MISMATCH", format!("AT TIME ZONE needs a timestamp, not {other}"))),
        };
        let Type::TimestampTz(p, _) = value.data_type else { return Ok(value) };
        let name: Arc<str> = match &zone.expr {
            Expr::Literal(ScalarValue::Utf8(Some(name)), _) => match crate::kernels::time::Zone::canonical(name) {
                Ok(name) => name.into(),
                // Only a row with a timestamp asks for the zone.
                Err(_) => return self.in_zones(value, zone, false),
            },
            Expr::Literal(ScalarValue::DurationMillisecond(Some(millis)), _) => {
                let minutes = millis / 60_000;
                let sign = if minutes < 0 { '-' } else { '+' };
                format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60).as_str().into()
            }
            Expr::Literal(..) => return self.function_value("at_timezone", vec![value, zone]),
            _ => return self.in_zones(value, zone, false),
        };
        let shown = Type::TimestampTz(p, name);
        let op = Op::AtTimeZone(value.data_type.clone());
        Ok(Value::new(kernels::call(op, vec![value.expr], shown.clone()), shown))
    }

    /// Timestamps in the zones that a column names: instants, or what clocks there show.
    pub(crate) fn in_zones(&self, value: Value, zone: Value, local: bool) -> Result<Value> {
        let (Type::Timestamp(p) | Type::TimestampTz(p, _)) = value.data_type else {
            return Err(Error::user("TYPE_MISMATCH", format!("expected a timestamp, found {}", value.data_type)));
        };
        let zone = self.coerce(zone, &Type::VARCHAR)?;
        let to = Type::ZonedEach(p);
        Ok(Value::new(kernels::call(Op::WithZones(local), vec![value.expr, zone.expr], to.clone()), to))
    }

    /// Timestamps each beside its zone.
    pub(crate) fn with_own_zones(&self, value: Value, p: u8) -> Result<Value> {
        let to = Type::ZonedEach(p);
        let utc = Type::TimestampTz(p, "UTC".into());
        let zone = match &value.data_type {
            Type::ZonedEach(_) => kernels::call(Op::Field(1), vec![value.expr.clone()], Type::VARCHAR),
            Type::TimestampTz(_, zone) => super::literals::text_value(zone).expr,
            _ => super::literals::text_value(self.environment.zone).expr,
        };
        let instant = self.convert(value, &utc)?;
        Ok(Value::new(kernels::call(Op::WithZones(false), vec![instant.expr, zone], to.clone()), to))
    }

    /// Instants read from texts, each in the zone its text names.
    pub(crate) fn in_written_zones(&self, instants: Value, texts: Vec<Value>, notation: Notation) -> Result<Value> {
        let args = texts.into_iter().map(|text| text.expr).collect();
        let zones = Value::new(kernels::call(Op::ZoneOfText(notation), args, Type::VARCHAR), Type::VARCHAR);
        self.in_zones(instants, zones, false)
    }

    /// Calls on values that each have a zone, and functions whose result has the zone that a column names.
    pub(crate) fn of_zones_told_by_rows(&self, udf: &Arc<ScalarUDF>, args: &[Value]) -> Result<Option<Value>> {
        if let Some(at) = args.iter().position(|arg| matches!(arg.data_type, Type::ZonedEach(_))) {
            if takes_any(udf, args, at) {
                return Ok(None);
            }
            return match (udf.name(), args) {
                ("at_timezone", [value, zone]) => self.at_time_zone(value.clone(), zone.clone()),
                _ => self.per_zone(udf, args.to_vec(), at),
            }
            .map(Some);
        }
        let told = |index: usize| {
            args.get(index)
                .is_some_and(|arg| matches!(arg.data_type, Type::Varchar(_)) && !matches!(arg.expr, Expr::Literal(..)))
        };
        let notation = match (udf.name(), args) {
            ("at_timezone", [value, zone]) if told(1) && matches!(value.data_type, Type::TimestampTz(..)) => {
                return self.in_zones(value.clone(), zone.clone(), false).map(Some);
            }
            ("with_timezone", [value, zone]) if told(1) && matches!(value.data_type, Type::Timestamp(_)) => {
                return self.in_zones(value.clone(), zone.clone(), true).map(Some);
            }
            ("from_iso8601_timestamp" | "from_iso8601_timestamp_nanos", [_]) if told(0) => Notation::Iso,
            ("parse_datetime", [_, format]) if told(0) && matches!(format.data_type, Type::Varchar(_)) => {
                Notation::Letters
            }
            _ => return Ok(None),
        };
        let instants = self.plain_udf_value(udf, args.to_vec())?;
        self.in_written_zones(instants, args.to_vec(), notation).map(Some)
    }

    /// A call whose argument at a position holds values with zones of their own, computed zone by zone.
    pub(crate) fn per_zone(&self, udf: &Arc<ScalarUDF>, mut args: Vec<Value>, at: usize) -> Result<Value> {
        let refused = || {
            Error::not_supported(format!("{} of timestamps in several time zones is not supported", udf.name()))
                .with_hint("write x AT TIME ZONE 'UTC'")
        };
        let mut own = None;
        for (index, arg) in args.iter_mut().enumerate() {
            let Type::ZonedEach(p) = arg.data_type else { continue };
            let plain = self.convert(arg.clone(), &Type::TimestampTz(p, "UTC".into()))?;
            let value = std::mem::replace(arg, plain);
            if index == at {
                own = Some(value);
            }
        }
        let own = own.ok_or_else(refused)?;
        let given: Vec<Type> = args.iter().map(|arg| arg.data_type.clone()).collect();
        let wanted = udf.coerce_types(&super::calls::arrow_types(&given))?;
        let bound = self.udf_value(udf, args)?;
        let Expr::ScalarFunction(call) = bound.expr else { return Err(refused()) };
        let own = match (wanted.get(at).map(Type::from_arrow), &own.data_type) {
            (Some(Type::TimestampTz(q, _)), Type::ZonedEach(p)) if unit(q) != unit(*p) => {
                self.with_own_zones(own, q)?
            }
            (Some(Type::TimestampTz(..)), _) => own,
            _ => return Err(refused()),
        };
        let mut exprs = call.args;
        match exprs.get_mut(at) {
            Some(expr) => *expr = own.expr,
            None => return Err(refused()),
        }
        let result = match bound.data_type {
            Type::TimestampTz(p, _) => Type::ZonedEach(p),
            other => other,
        };
        Ok(Value::new(kernels::call(Op::PerZone(call.func, at), exprs, result.clone()), result))
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
