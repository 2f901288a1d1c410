//! Which types coerce into which without being asked, and the smallest type two of them share.
//!
//! Invariant: text and numbers never mix; only whole numbers and decimals may lose digits, and only into floating point.

use super::Type;

/// Whether a value of `from` is taken where `to` is wanted.
pub fn coerces(from: &Type, to: &Type) -> bool {
    use Type as T;
    if from == to {
        return true;
    }
    match (from, to) {
        (T::Unknown, _) => true,
        (T::Varchar(_), T::Varchar(None)) => true,
        (T::Varchar(Some(a)), T::Varchar(Some(b))) => a <= b,
        (T::Varchar(_), T::Char(_)) => true,
        (T::Char(a), T::Char(b)) => a <= b,
        (T::Char(_), T::Varchar(_)) => true,
        (T::Real, T::Double) => true,
        (T::Decimal(p, s), T::Decimal(q, t)) => t >= s && *q as i8 - t >= *p as i8 - s,
        (T::Decimal(..), T::Real | T::Double) => true,
        (T::Date, T::Timestamp(_) | T::TimestampTz(..) | T::ZonedEach(_)) => true,
        (T::Timestamp(a) | T::TimestampTz(a, _) | T::ZonedEach(a), T::ZonedEach(b)) => a <= b,
        (T::Time(a), T::Time(b)) | (T::Timestamp(a), T::Timestamp(b) | T::TimestampTz(b, _)) => a <= b,
        (T::TimestampTz(a, _) | T::ZonedEach(a), T::TimestampTz(b, _)) => a <= b,
        (T::Time(a) | T::TimeTz(a), T::TimeTz(b)) => a <= b,
        (T::Array(a), T::Array(b)) => coerces(a, b),
        (T::Map(ka, va), T::Map(kb, vb)) => coerces(ka, kb) && coerces(va, vb),
        (T::Row(a), T::Row(b)) => a.len() == b.len() && a.iter().zip(b).all(|((_, a), (_, b))| coerces(a, b)),
        _ => integer_coerces(from, to),
    }
}

fn integer_coerces(from: &Type, to: &Type) -> bool {
    let Some((width, whole)) = integer(from) else { return false };
    match to {
        Type::Decimal(p, s) => *p as i8 - s >= whole,
        Type::Real | Type::Double => true,
        _ => integer(to).is_some_and(|(wider, _)| wider > width),
    }
}

fn integer(of: &Type) -> Option<(u8, i8)> {
    match of {
        Type::Tinyint => Some((1, 3)),
        Type::Smallint => Some((2, 5)),
        Type::Integer => Some((4, 10)),
        Type::Bigint => Some((8, 19)),
        _ => None,
    }
}

/// The decimal that holds every value of a whole-number type, or the decimal itself.
pub fn decimal_of(of: &Type) -> Option<(u8, i8)> {
    match of {
        Type::Decimal(p, s) => Some((*p, *s)),
        _ => integer(of).map(|(_, digits)| (digits as u8, 0)),
    }
}

/// The smallest type both coerce into.
pub fn common(a: &Type, b: &Type) -> Option<Type> {
    use Type as T;
    if a == b {
        return Some(a.clone());
    }
    match (a, b) {
        (T::Unknown, other) | (other, T::Unknown) => Some(other.clone()),
        (T::Varchar(Some(x)), T::Varchar(Some(y))) => Some(T::Varchar(Some(*x.max(y)))),
        (T::Varchar(_), T::Varchar(_)) => Some(T::VARCHAR),
        (T::Char(x), T::Char(y)) => Some(T::Char(*x.max(y))),
        (T::Char(x), T::Varchar(y)) | (T::Varchar(y), T::Char(x)) => {
            Some(T::Char((*x).max(y.unwrap_or(65_536).min(65_536))))
        }
        (T::Timestamp(x), T::Timestamp(y)) => Some(T::Timestamp(*x.max(y))),
        (T::TimestampTz(x, zone), T::TimestampTz(y, other)) => {
            let p = *x.max(y);
            Some(if zone == other { T::TimestampTz(p, zone.clone()) } else { T::ZonedEach(p) })
        }
        (T::TimestampTz(p, zone), T::Date) | (T::Date, T::TimestampTz(p, zone)) if zone.as_ref() != "UTC" => {
            Some(T::ZonedEach(*p))
        }
        (T::TimestampTz(x, zone), T::Timestamp(y)) | (T::Timestamp(y), T::TimestampTz(x, zone)) => {
            // What has no zone is of the session's, which is UTC.
            let p = *x.max(y);
            Some(if zone.as_ref() == "UTC" { T::TimestampTz(p, zone.clone()) } else { T::ZonedEach(p) })
        }
        (T::ZonedEach(x), T::Timestamp(y) | T::TimestampTz(y, _) | T::ZonedEach(y))
        | (T::Timestamp(y) | T::TimestampTz(y, _), T::ZonedEach(x)) => Some(T::ZonedEach(*x.max(y))),
        (T::Time(x), T::Time(y)) => Some(T::Time(*x.max(y))),
        (T::TimeTz(x), T::TimeTz(y) | T::Time(y)) | (T::Time(y), T::TimeTz(x)) => Some(T::TimeTz(*x.max(y))),
        (T::Array(x), T::Array(y)) => Some(T::array(common(x, y)?)),
        (T::Map(ka, va), T::Map(kb, vb)) => Some(T::map(common(ka, kb)?, common(va, vb)?)),
        (T::Row(x), T::Row(y)) if x.len() == y.len() => {
            let fields = x.iter().zip(y).map(|((na, a), (nb, b))| {
                let same = match (na, nb) {
                    (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
                    _ => false,
                };
                Some((na.clone().filter(|_| same), common(a, b)?))
            });
            Some(T::Row(fields.collect::<Option<_>>()?))
        }
        _ if coerces(a, b) => Some(b.clone()),
        _ if coerces(b, a) => Some(a.clone()),
        _ => common_decimal(a, b),
    }
}

fn common_decimal(a: &Type, b: &Type) -> Option<Type> {
    let ((p, s), (q, t)) = (decimal_of(a)?, decimal_of(b)?);
    let scale = s.max(t);
    let whole = (p as i8 - s).max(q as i8 - t);
    Some(Type::Decimal((whole + scale).min(38) as u8, scale))
}
