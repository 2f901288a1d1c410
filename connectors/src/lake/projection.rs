//! Athena's partition projection: the partitions of a table from its properties instead of the catalog.
//!
//! Invariant: pure; the values are those that the properties span at the time given, and nothing is listed here.

use arrow::datatypes::{DataType, Date32Type, TimeUnit};
use chrono::{DateTime, Days, Duration, Months, NaiveDate, NaiveDateTime, TimeZone, Utc};
use datafusion::{
    logical_expr::{BinaryExpr, Expr, Operator},
    scalar::ScalarValue,
};
use headwater_engine::{
    catalog::Table,
    error::{Error, Result},
};

use super::{
    layout::{self, Key, Value},
    listing,
    pruning::{FileFilter, Known},
};

/// Most values of one key.
const VALUES_MAX: usize = 1_000_000;
/// Partitions of a projection that one scan may list.
const PARTITIONS_MAX: usize = 100_000;
/// Folders left out by the filters that are remembered, to say how much is stored in them.
const LEFT_OUT_MAX: usize = 10_000;

/// Where the partitions of a table come from.
#[derive(Debug, Clone)]
pub struct Projection {
    keys: Vec<(Key, Kind)>,
    template: Option<String>,
}

#[derive(Debug, Clone)]
enum Kind {
    Values(Vec<Value>),
    Injected,
}

/// The partitions that a query needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned {
    /// A value for each key.
    pub partitions: Vec<Vec<Value>>,
    /// How many there are without the filters over keys that are not injected.
    pub total: u64,
    /// Values of the first keys that the filters leave out, whatever the others are; at most `LEFT_OUT_MAX`.
    pub left_out: Vec<Vec<Value>>,
}

impl Projection {
    /// The projection of a table at a time, if it has one that is enabled.
    pub fn of(table: &Table, keys: &[Key], now: DateTime<Utc>) -> Result<Option<Self>> {
        let property = |name: &str| {
            table.properties.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
        };
        if !property("projection.enabled").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let keys = keys.iter().map(|key| {
            let of_key = |name: &str| property(&format!("projection.{}.{name}", key.name));
            Ok((key.clone(), kind(key, &of_key, now)?))
        });
        let keys: Vec<_> = keys.collect::<Result<_>>()?;
        let template = property("storage.location.template").map(ToOwned::to_owned);
        let projection = Self { keys, template };
        projection.check_template()?;
        Ok(Some(projection))
    }

    /// Whether the folder of a partition is given by a template.
    pub fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// Whether a key has the values that a query names.
    pub fn has_injected(&self) -> bool {
        self.keys.iter().any(|(_, kind)| matches!(kind, Kind::Injected))
    }

    /// The values of each key; none of an injected one.
    pub fn values(&self) -> impl Iterator<Item = Option<&[Value]>> {
        self.keys.iter().map(|(_, kind)| match kind {
            Kind::Values(values) => Some(values.as_slice()),
            Kind::Injected => None,
        })
    }

    /// The partitions that these filters leave, a key at a time, each pruned before the next.
    pub fn partitions(&self, filter: &FileFilter) -> Result<Spanned> {
        let mut candidates: Vec<Vec<Value>> = vec![Vec::new()];
        let (mut total, mut left_out) = (1_u64, Vec::new());
        for (index, (key, kind)) in self.keys.iter().enumerate() {
            let values = match kind {
                Kind::Values(values) => values,
                Kind::Injected => &injected(key, filter.filters())?,
            };
            total = total.saturating_mul(values.len() as u64);
            let mut next = Vec::new();
            for candidate in candidates {
                let longer: Vec<Vec<Value>> =
                    values.iter().map(|value| candidate.iter().chain([value]).cloned().collect()).collect();
                let open = self.keys.len() - index - 1;
                let facts: Vec<_> = longer.iter().map(|values| known_so_far(values, open)).collect();
                let keep = filter.may_match(&facts)?;
                for (values, kept) in longer.into_iter().zip(keep) {
                    if kept {
                        next.push(values);
                    } else if left_out.len() < LEFT_OUT_MAX {
                        left_out.push(values);
                    }
                }
                if next.len() > PARTITIONS_MAX {
                    let text = format!("the projection spans more than {PARTITIONS_MAX} partitions here");
                    return Err(Error::user("EXCEEDED_LISTING_LIMIT", text).with_hint("filter on its partition keys"));
                }
            }
            candidates = next;
        }
        Ok(Spanned { partitions: candidates, total, left_out })
    }

    /// The folder of a partition: by the template, else by the layout below `location`.
    pub fn location(&self, location: &str, values: &[Value]) -> String {
        let named = |name: &str| self.keys.iter().position(|(key, _)| key.name.eq_ignore_ascii_case(name));
        let Some(template) = &self.template else {
            let folders = self
                .keys
                .iter()
                .zip(values)
                .map(|((key, _), value)| layout::folder_name(&key.name, value.raw.as_deref()));
            return format!("{}/{}", location.trim_end_matches('/'), folders.collect::<Vec<_>>().join("/"));
        };
        let mut path = String::new();
        for piece in pieces(template) {
            match piece {
                Piece::Text(text) => path.push_str(text),
                Piece::Key(name) => {
                    let value = named(name).and_then(|index| values[index].raw.as_deref());
                    path.push_str(value.unwrap_or(layout::NULL_FOLDER));
                }
            }
        }
        path
    }

    /// The folders of partitions that begin with these values of the first keys; those of a template are one for each
    /// partition, up to a limit, and none where a key's values are not known.
    pub fn folders(&self, location: &str, values: &[Value]) -> Vec<String> {
        if self.template.is_none() {
            return vec![self.location(location, values)];
        }
        let mut whole = vec![values.to_vec()];
        for (_, kind) in &self.keys[values.len().min(self.keys.len())..] {
            let Kind::Values(next) = kind else { return Vec::new() };
            let longer = whole
                .iter()
                .flat_map(|values| next.iter().map(|value| values.iter().chain([value]).cloned().collect::<Vec<_>>()));
            whole = longer.take(LEFT_OUT_MAX).collect();
        }
        whole.iter().map(|values| self.location(location, values)).collect()
    }

    /// A template names every key, and nothing else.
    fn check_template(&self) -> Result<()> {
        let Some(template) = &self.template else { return Ok(()) };
        let wrong = |text: String| {
            Err(Error::user("INVALID_TABLE_PROPERTY", text)
                .with_hint("name each partition key once as ${key} in 'storage.location.template'"))
        };
        let names = || {
            pieces(template).into_iter().filter_map(|piece| match piece {
                Piece::Key(name) => Some(name),
                Piece::Text(_) => None,
            })
        };
        if let Some((key, _)) =
            self.keys.iter().find(|(key, _)| !names().any(|name| key.name.eq_ignore_ascii_case(name)))
        {
            return wrong(format!("the template \"{template}\" does not name the partition key \"{}\"", key.name));
        }
        match names().find(|name| !self.keys.iter().any(|(key, _)| key.name.eq_ignore_ascii_case(name))) {
            Some(name) => wrong(format!("the template names \"{name}\", which is no partition key")),
            None => Ok(()),
        }
    }
}

enum Piece<'a> {
    Text(&'a str),
    Key(&'a str),
}

/// A template as the texts and `${names}` it is made of.
fn pieces(template: &str) -> Vec<Piece<'_>> {
    let (mut found, mut rest) = (Vec::new(), template);
    while let Some((before, name, after)) = rest
        .split_once("${")
        .and_then(|(before, after)| after.split_once('}').map(|(name, after)| (before, name, after)))
    {
        found.extend([Piece::Text(before), Piece::Key(name.trim())]);
        rest = after;
    }
    found.push(Piece::Text(rest));
    found
}

/// What is known of a candidate that has these values, and `open` keys without one.
fn known_so_far(values: &[Value], open: usize) -> Known {
    let given = values.iter().map(|value| Some(value.typed.clone()));
    listing::known(given.chain(std::iter::repeat_n(None, open)))
}

/// The values of an injected key: the literals that the filters compare it with.
fn injected(key: &Key, filters: &[Expr]) -> Result<Vec<Value>> {
    let Some(found) = filters.iter().find_map(|filter| literals(filter, &key.name)) else {
        let text = format!(
            "for the injected projected partition column \"{}\" the WHERE clause must give its values",
            key.name
        );
        return Err(Error::user("CONSTRAINT_VIOLATION", text).with_hint("compare it with = or IN and literals"));
    };
    Ok(found.iter().filter_map(|raw| Value::parse(Some(raw), &key.data_type)).collect())
}

fn wrong(key: &str, what: &str) -> Error {
    Error::user("INVALID_TABLE_PROPERTY", format!("the projection of \"{key}\" is wrong: {what}"))
        .with_hint("see projection.<key>.type, range, values, format, interval, interval.unit and digits")
}

/// The properties of one key.
struct Properties<'a, 'k> {
    key: &'k Key,
    property: &'k dyn Fn(&str) -> Option<&'a str>,
}

impl<'a> Properties<'a, '_> {
    fn needed(&self, name: &str) -> Result<&'a str> {
        let key = &self.key.name;
        (self.property)(name).ok_or_else(|| wrong(key, &format!("'projection.{key}.{name}' is not set")))
    }

    fn wrong(&self, name: &str, text: &str) -> Error {
        wrong(&self.key.name, &format!("'projection.{}.{name}' is \"{text}\"", self.key.name))
    }

    fn number<N: std::str::FromStr>(&self, name: &str, default: N) -> Result<N> {
        match (self.property)(name) {
            None => Ok(default),
            Some(text) => text.trim().parse().map_err(|_| self.wrong(name, text)),
        }
    }

    fn range(&self) -> Result<(&'a str, &'a str)> {
        let text = self.needed("range")?;
        let (low, high) = text.split_once(',').ok_or_else(|| self.wrong("range", text))?;
        Ok((low.trim(), high.trim()))
    }

    fn interval(&self) -> Result<u32> {
        match self.number("interval", 1)? {
            0 => Err(self.wrong("interval", "0")),
            interval => Ok(interval),
        }
    }

    /// Raw texts as values of the key.
    fn values(&self, raw: impl Iterator<Item = String>) -> Result<Vec<Value>> {
        let values = raw.take(VALUES_MAX + 1).map(|raw| {
            Value::parse(Some(&raw), &self.key.data_type).ok_or_else(|| {
                wrong(&self.key.name, &format!("\"{raw}\" is no {}, as the key is declared", self.key.data_type))
            })
        });
        self.bounded(values.collect::<Result<_>>()?)
    }

    fn bounded(&self, values: Vec<Value>) -> Result<Vec<Value>> {
        if values.len() > VALUES_MAX {
            return Err(wrong(&self.key.name, &format!("it has more than {VALUES_MAX} values")));
        }
        Ok(values)
    }

    fn integers(&self) -> Result<Vec<Value>> {
        let (low, high) = self.range()?;
        let number = |text: &str| text.parse::<i64>().map_err(|_| self.wrong("range", text));
        let digits: usize = self.number("digits", 0)?;
        let (low, high) = (number(low)?, number(high)?);
        if low > high {
            return Err(self.wrong("range", &format!("{low},{high}")));
        }
        let numbers = (low..=high).step_by(self.interval()? as usize);
        self.values(numbers.map(|value| format!("{value:0digits$}")))
    }

    fn dates(&self, now: DateTime<Utc>) -> Result<Vec<Value>> {
        let (low, high) = self.range()?;
        let pattern = self.needed("format")?;
        let format = strftime(pattern).ok_or_else(|| self.wrong("format", pattern))?;
        let unit = (self.property)("interval.unit").unwrap_or(finest(pattern)).trim().to_ascii_uppercase();
        let interval = i64::from(self.interval()?);
        // What the format does not show does not count, so that the last day of a range is in it at any time of day.
        let cut = |at: NaiveDateTime| instant(&at.format(&format).to_string(), &format, now);
        let bound = |text: &str| instant(text, &format, now).and_then(cut).ok_or_else(|| self.wrong("range", text));
        let (mut at, end) = (bound(low)?, bound(high)?);
        if at > end && !low.contains("NOW") && !high.contains("NOW") {
            return Err(self.wrong("range", &format!("{low},{high}")));
        }
        let mut values: Vec<Value> = Vec::new();
        while at <= end && values.len() <= VALUES_MAX {
            let raw = at.format(&format).to_string();
            if values.last().and_then(|last| last.raw.as_deref()) != Some(&raw) {
                values.push(dated(raw, at, self.key).ok_or_else(|| self.wrong("format", pattern))?);
            }
            at = shift(at, interval, &unit).ok_or_else(|| self.wrong("interval.unit", &unit))?;
        }
        self.bounded(values)
    }
}

/// A date as a value of a key: dates and times whatever the format, other types by their text.
fn dated(raw: String, at: NaiveDateTime, key: &Key) -> Option<Value> {
    let typed = match &key.data_type {
        DataType::Date32 => ScalarValue::Date32(Some(Date32Type::from_naive_date(at.date()))),
        DataType::Timestamp(TimeUnit::Millisecond, None) => {
            ScalarValue::TimestampMillisecond(Some(at.and_utc().timestamp_millis()), None)
        }
        other => return Value::parse(Some(&raw), other),
    };
    Some(Value { raw: Some(raw), typed })
}

fn kind<'a>(key: &Key, property: &dyn Fn(&str) -> Option<&'a str>, now: DateTime<Utc>) -> Result<Kind> {
    let properties = Properties { key, property };
    let kind = properties.needed("type")?;
    Ok(match kind.trim().to_ascii_lowercase().as_str() {
        "injected" => Kind::Injected,
        "enum" => Kind::Values(properties.values(properties.needed("values")?.split(',').map(ToOwned::to_owned))?),
        "integer" => Kind::Values(properties.integers()?),
        "date" => Kind::Values(properties.dates(now)?),
        _ => return Err(properties.wrong("type", kind)),
    })
}

/// The unit of a step where none is declared: the finest that the pattern shows.
fn finest(pattern: &str) -> &'static str {
    match pattern {
        _ if pattern.contains('s') => "SECONDS",
        _ if pattern.contains('m') => "MINUTES",
        _ if pattern.contains('H') => "HOURS",
        _ if pattern.contains('d') => "DAYS",
        _ if pattern.contains('M') => "MONTHS",
        _ => "YEARS",
    }
}

/// A pattern of Java's `DateTimeFormatter` as chrono's, or `None` if it holds a letter that is not known here.
pub(crate) fn strftime(pattern: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        if c == '\'' {
            let end = rest[1..].find('\'')? + 1;
            if end == 1 {
                out.push('\'');
            }
            out.push_str(&rest[1..end].replace('%', "%%"));
            rest = &rest[end + 1..];
            continue;
        }
        let length = rest.len() - rest.trim_start_matches(c).len();
        let run = &rest[..length];
        rest = &rest[length..];
        out.push_str(match run {
            "yyyy" | "uuuu" => "%Y",
            "yy" => "%y",
            "MM" => "%m",
            "dd" => "%d",
            "HH" => "%H",
            "mm" => "%M",
            "ss" => "%S",
            "DDD" => "%j",
            _ if !c.is_ascii_alphabetic() => run,
            _ => return None,
        });
    }
    Some(out)
}

/// A time as a range gives it: `NOW`, `NOW-3YEARS`, `NOW+1HOUR`, or a text in the format.
fn instant(text: &str, format: &str, now: DateTime<Utc>) -> Option<NaiveDateTime> {
    let upper = text.to_ascii_uppercase();
    let Some(offset) = upper.strip_prefix("NOW") else {
        let date = || NaiveDate::parse_from_str(text, format).ok();
        let month = || NaiveDate::parse_from_str(&format!("{text} 1"), &format!("{format} %d")).ok();
        let year = || NaiveDate::parse_from_str(&format!("{text} 1 1"), &format!("{format} %m %d")).ok();
        let hour = || NaiveDateTime::parse_from_str(&format!("{text} 0"), &format!("{format} %M")).ok();
        let whole = NaiveDateTime::parse_from_str(text, format).ok().or_else(hour);
        return whole.or_else(|| date().or_else(month).or_else(year)?.and_hms_opt(0, 0, 0));
    };
    let offset = offset.replace(char::is_whitespace, "");
    if offset.is_empty() {
        return Some(now.naive_utc());
    }
    let digits = offset[1..].find(|c: char| !c.is_ascii_digit())? + 1;
    let amount: i64 = offset[1..digits].parse().ok()?;
    let sign = match offset.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    shift(now.naive_utc(), sign * amount, &offset[digits..])
}

fn shift(at: NaiveDateTime, amount: i64, unit: &str) -> Option<NaiveDateTime> {
    let months = |count: i64| {
        let size = Months::new(u32::try_from(count.unsigned_abs()).ok()?);
        if count < 0 { at.checked_sub_months(size) } else { at.checked_add_months(size) }
    };
    let days = |count: i64| {
        let size = Days::new(count.unsigned_abs());
        if count < 0 { at.checked_sub_days(size) } else { at.checked_add_days(size) }
    };
    match unit.trim_end_matches('S') {
        "YEAR" => months(amount.checked_mul(12)?),
        "MONTH" => months(amount),
        "WEEK" => days(amount.checked_mul(7)?),
        "DAY" => days(amount),
        "HOUR" => at.checked_add_signed(Duration::try_hours(amount)?),
        "MINUTE" => at.checked_add_signed(Duration::try_minutes(amount)?),
        "SECOND" => at.checked_add_signed(Duration::try_seconds(amount)?),
        _ => None,
    }
}

/// The literals that a filter says a column is one of.
fn literals(filter: &Expr, column: &str) -> Option<Vec<String>> {
    let is_column = |expr: &Expr| matches!(expr, Expr::Column(found) if found.name.eq_ignore_ascii_case(column));
    let literal = |expr: &Expr| match expr {
        Expr::Literal(value, _) if !value.is_null() => Some(text(value)),
        _ => None,
    };
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if is_column(left) => {
            Some(vec![literal(right)?])
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if is_column(right) => {
            Some(vec![literal(left)?])
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            literals(left, column).or_else(|| literals(right, column))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let mut both = literals(left, column)?;
            both.extend(literals(right, column)?);
            both.sort();
            both.dedup();
            Some(both)
        }
        Expr::InList(list) if !list.negated && is_column(&list.expr) => list.list.iter().map(literal).collect(),
        _ => None,
    }
}

fn text(value: &ScalarValue) -> String {
    value.try_as_str().flatten().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// A time from milliseconds since 1970.
pub fn at_millis(millis: i64) -> DateTime<Utc> {
    Utc.timestamp_millis_opt(millis).single().unwrap_or(DateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(data_type: DataType, pairs: &[(&str, &str)]) -> Result<Vec<Value>> {
        let property = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let key = Key { name: "k".into(), data_type };
        match kind(&key, &property, at_millis(1_709_294_400_000))? {
            Kind::Values(values) => Ok(values),
            Kind::Injected => Ok(Vec::new()),
        }
    }

    fn raw(pairs: &[(&str, &str)]) -> Result<Vec<String>> {
        Ok(values(DataType::Utf8, pairs)?.into_iter().filter_map(|value| value.raw).collect())
    }

    #[test]
    fn values_have_the_type_of_their_key() -> Result<()> {
        let days = [("type", "date"), ("range", "20240229,NOW"), ("format", "yyyyMMdd")];
        let typed: Vec<_> = values(DataType::Date32, &days)?.into_iter().map(|value| value.typed).collect();
        assert_eq!(typed, [ScalarValue::Date32(Some(19_782)), ScalarValue::Date32(Some(19_783))]);
        assert!(values(DataType::Int32, &[("type", "enum"), ("values", "1,x")]).is_err());
        Ok(())
    }

    #[test]
    fn templates_name_each_key() -> Result<()> {
        let keys = ["a", "b"].map(|name| Key { name: name.into(), data_type: DataType::Utf8 });
        let of = |template: &str| {
            let kinds = keys.iter().map(|key| (key.clone(), Kind::Injected)).collect();
            let projection = Projection { keys: kinds, template: Some(template.into()) };
            projection.check_template().map(|()| projection)
        };
        let value = |raw: &str| Value { raw: Some(raw.into()), typed: ScalarValue::from(raw) };
        let path = of("s3://x/${B}/y/${a}/")?.location("s3://t", &[value("${b}"), value("2")]);
        assert_eq!(path, "s3://x/2/y/${b}/");
        assert!(of("s3://x/${a}/").is_err());
        assert!(of("s3://x/${a}/${b}/${c}/").is_err());
        Ok(())
    }

    #[test]
    fn integers_and_enums_span_their_values() -> Result<()> {
        assert_eq!(
            raw(&[("type", "integer"), ("range", "8,12"), ("digits", "3"), ("interval", "2")])?,
            ["008", "010", "012"]
        );
        assert_eq!(raw(&[("type", "enum"), ("values", "a, b")])?, ["a", " b"]);
        assert!(raw(&[("type", "integer"), ("range", "1,9999999")]).is_err());
        assert!(raw(&[("type", "integer")]).is_err());
        Ok(())
    }

    #[test]
    fn dates_span_to_now_by_their_unit() -> Result<()> {
        let days = [("type", "date"), ("range", "NOW-2DAYS,NOW"), ("format", "yyyy/MM/dd")];
        assert_eq!(raw(&days)?, ["2024/02/28", "2024/02/29", "2024/03/01"]);
        let months = [("type", "date"), ("range", "2023-12,2024-02"), ("format", "yyyy-MM")];
        assert_eq!(raw(&months)?, ["2023-12", "2024-01", "2024-02"]);
        let hours = [
            ("type", "date"),
            ("range", "NOW-1HOURS,NOW"),
            ("format", "yyyy-MM-dd-HH"),
            ("interval.unit", "HOURS"),
            ("interval", "1"),
        ];
        assert_eq!(raw(&hours)?.len(), 2);
        let until_midnight = [("type", "date"), ("range", "NOW-1DAYS,2024/03/02"), ("format", "yyyy/MM/dd")];
        assert_eq!(raw(&until_midnight)?, ["2024/02/29", "2024/03/01", "2024/03/02"]);
        let quoted = [("type", "date"), ("range", "y2024,y2025"), ("format", "'y'yyyy")];
        assert_eq!(raw(&quoted)?, ["y2024", "y2025"]);
        let not_quoted = [("type", "date"), ("range", "2024,2025"), ("format", "'y'yyyy")];
        assert!(raw(&not_quoted).is_err());
        Ok(())
    }

    #[test]
    fn injected_values_come_from_the_filters() {
        use datafusion::prelude::{col, lit};
        assert_eq!(literals(&col("k").eq(lit("a")).and(col("x").gt(lit(1))), "k"), Some(vec!["a".into()]));
        assert_eq!(literals(&col("k").in_list(vec![lit(1), lit(2)], false), "k"), Some(vec!["1".into(), "2".into()]));
        assert_eq!(literals(&col("k").gt(lit(1)), "k"), None);
    }
}
