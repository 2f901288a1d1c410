//! The format of a table, from its `'format' = '..'` and that format's own options.
//!
//! Invariant: a format that is not known is refused by name, with the list of those that are.

use std::{fmt, sync::Arc};

use arrow::datatypes::{DataType, SchemaRef};
use headwater_engine::{
    connector::{ChangelogMode, TableSpec},
    error::Result,
    format::{Decoder, Encoder, Format},
};

use super::{
    avro::Avro,
    csv::Csv,
    debezium::{self, Debezium},
    dynamodb_cdc::DynamoDbCdc,
    json::{Json, JsonLines, JsonOptions, Malformed, RecordPath, TimestampStandard, TimestampUnit},
    raw,
};
use crate::{
    dynamodb::cdc::{CHANGE_ID, CHANGE_ORDER, ChangeMode},
    options::{Options, nearest},
};

/// A format with its options, cheap to clone.
#[derive(Debug, Clone)]
pub struct TableFormat {
    format: Arc<dyn Format>,
    changelog: ChangelogMode,
    order: Option<&'static str>,
    id: Option<&'static str>,
}

impl TableFormat {
    /// A format whose rows are all inserts.
    pub fn append(format: Arc<dyn Format>) -> Self {
        Self { format, changelog: ChangelogMode::Append, order: None, id: None }
    }

    /// A format that carries what rows do.
    pub fn changelog_of(format: Arc<dyn Format>, changelog: ChangelogMode) -> Self {
        Self { format, changelog, order: None, id: None }
    }

    /// The same, with a column by which the changes of one key are ordered, and one that names each where the changes
    /// themselves are the rows.
    #[must_use]
    pub fn ordered_by(self, order: &'static str, id: Option<&'static str>) -> Self {
        Self { order: Some(order), id, ..self }
    }

    /// The column that names a change that may come more than once.
    pub fn change_id(&self) -> Option<&'static str> {
        self.id
    }

    /// The column by which the changes of one key are ordered, where they may come in another order.
    pub fn change_order(&self) -> Option<&'static str> {
        self.order
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.format.name()
    }

    /// What rows of it do.
    pub fn changelog(&self) -> ChangelogMode {
        self.changelog
    }

    /// Whether some value of a column of this type makes its payload malformed.
    pub fn may_refuse(&self, data_type: &DataType) -> bool {
        self.format.may_refuse(data_type)
    }

    /// A decoder into the columns of `schema`, which are some of the declared ones.
    pub fn decoder(&self, schema: SchemaRef) -> Result<Box<dyn Decoder>> {
        self.format.decoder(schema)
    }

    /// An encoder of rows of `schema`.
    pub fn encoder(&self, schema: SchemaRef) -> Result<Box<dyn Encoder>> {
        self.format.encoder(schema)
    }
}

/// What a format is for: the value of a record, or its key.
#[derive(Debug, Clone)]
pub struct Part {
    /// All columns it holds, in declared order.
    pub columns: SchemaRef,
    /// Whether rows replace each other by a PRIMARY KEY.
    pub is_keyed: bool,
    /// Where a registry keeps its schemas, unless the options say so.
    pub subject: Option<String>,
}

impl Part {
    /// A part with these columns, without key and subject.
    pub fn new(columns: SchemaRef) -> Self {
        Self { columns, is_keyed: false, subject: None }
    }

    /// The whole payload of a table.
    pub fn of_table(table: &TableSpec) -> Self {
        Self { is_keyed: !table.primary_key.is_empty(), ..Self::new(table.physical_schema()) }
    }
}

/// A format's options, which may stand with a prefix before them (`value.json.x`) or without.
pub(super) struct Given<'a> {
    pub(super) options: &'a mut Options,
    pub(super) prefix: &'a str,
}

impl fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Given<'_> {
    fn either<T>(&mut self, key: &str, take: impl Fn(&mut Options, &str) -> Result<Option<T>>) -> Result<Option<T>> {
        let plain = take(self.options, key)?;
        if self.prefix.is_empty() {
            return Ok(plain);
        }
        Ok(take(self.options, &format!("{}{key}", self.prefix))?.or(plain))
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.either(key, |options, key| Ok(options.text(key))).ok().flatten()
    }

    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        self.either(key, Options::flag)
    }

    fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Result<Option<T>> {
        self.either(key, |options, key| options.choice(key, choices))
    }
}

/// Names a format can have.
const NAMES: [&str; 8] =
    ["json", "csv", "raw", "avro", "avro-confluent", "debezium-json", "debezium-avro-confluent", "dynamodb-cdc"];

/// Takes the format one of `keys` names, with its options; `None` when no key is given.
pub fn from_options(options: &mut Options, keys: &[&str], prefix: &str, part: &Part) -> Result<Option<TableFormat>> {
    let mut found = None;
    for key in keys {
        if let Some(name) = options.text(key) {
            found.get_or_insert(((*key).to_owned(), name));
        }
    }
    let Some((key, name)) = found else { return Ok(None) };
    let mut given = Given { options, prefix };
    let changes = if part.is_keyed { ChangelogMode::Upsert } else { ChangelogMode::Retract };
    let envelope = debezium::envelope(&part.columns);
    Ok(Some(match name.to_lowercase().as_str() {
        "json" => TableFormat::append(Arc::new(json(&mut given, "json")?)),
        "csv" => TableFormat::append(Arc::new(Csv::of(&mut given, part)?)),
        "raw" => TableFormat::append(Arc::new(raw::Raw)),
        "avro" => TableFormat::append(Arc::new(Avro::plain(&mut given, &part.columns)?)),
        "avro-confluent" => TableFormat::append(Arc::new(Avro::confluent(&mut given, "avro-confluent", part)?)),
        "debezium-json" => {
            let mut json = json(&mut given, "debezium-json")?;
            if given.flag("debezium-json.schema-include")?.unwrap_or(false) {
                json.reading.records = RecordPath::parse("$.payload")?;
            }
            TableFormat::changelog_of(Arc::new(Debezium::new("debezium-json", Arc::new(json), changes)), changes)
        }
        "debezium-avro-confluent" => {
            let part = Part { columns: envelope, ..part.clone() };
            let avro = Avro::confluent(&mut given, "debezium-avro-confluent", &part)?;
            let format = Debezium::new("debezium-avro-confluent", Arc::new(avro), changes);
            TableFormat::changelog_of(Arc::new(format), changes)
        }
        "dynamodb-cdc" => {
            let mode = given.choice("dynamodb-cdc.mode", &ChangeMode::NAMES)?.unwrap_or(ChangeMode::Changelog);
            let id = (mode == ChangeMode::Events).then_some(CHANGE_ID);
            TableFormat::changelog_of(Arc::new(DynamoDbCdc::new(mode)), mode.changelog()).ordered_by(CHANGE_ORDER, id)
        }
        _ => {
            let error = given.options.invalid(&key, &name, "a format");
            return Err(match nearest(&name, NAMES.into_iter()) {
                Some(known) => error.with_hint(format!("did you mean '{known}'?")),
                None => error.with_hint(format!("formats are {}", NAMES.join(", "))),
            });
        }
    }))
}

/// The options of JSON, which stand behind `name`.
fn json(given: &mut Given<'_>, name: &str) -> Result<Json> {
    let standards =
        [("auto", TimestampStandard::Auto), ("SQL", TimestampStandard::Sql), ("ISO-8601", TimestampStandard::Iso8601)];
    let units = [
        ("s", TimestampUnit::Seconds),
        ("ms", TimestampUnit::Milliseconds),
        ("us", TimestampUnit::Microseconds),
        ("ns", TimestampUnit::Nanoseconds),
    ];
    let mut reading = JsonOptions { malformed: Malformed::Skip, ..JsonOptions::default() };
    if let Some(standard) = given.choice(&format!("{name}.timestamp-format.standard"), &standards)? {
        reading.timestamps.standard = standard;
    }
    if let Some(unit) = given.choice(&format!("{name}.timestamp-unit"), &units)? {
        reading.timestamps.unit = unit;
    }
    check_flinks(given, name)?;
    let iso_timestamps = reading.timestamps.standard == TimestampStandard::Iso8601;
    let without_nulls = given.flag(&format!("{name}.encode.ignore-null-fields"))?.unwrap_or(false);
    Ok(Json { reading, writing: JsonLines { iso_timestamps, explicit_nulls: !without_nulls, ..JsonLines::default() } })
}

/// Checks the options of JSON that are Flink's and say nothing here, for a table whose format is read elsewhere.
pub fn check_json(options: &mut Options) -> Result<()> {
    check_flinks(&mut Given { options, prefix: "" }, "json")
}

/// Decimals are always written in full, a map has no NULL among its keys, and a field that is not there is NULL.
fn check_flinks(given: &mut Given<'_>, name: &str) -> Result<()> {
    if given.flag(&format!("{name}.fail-on-missing-field"))?.unwrap_or(false) {
        let key = format!("{name}.fail-on-missing-field");
        let error = given.options.invalid(&key, "true", "false, the only way there is");
        return Err(
            error.with_hint("a field that is not there is NULL; declare the column NOT NULL to reject such rows")
        );
    }
    given.flag(&format!("{name}.encode.decimal-as-plain-number"))?;
    given.choice(&format!("{name}.map-null-key.mode"), &[("FAIL", ()), ("DROP", ()), ("LITERAL", ())])?;
    given.text(&format!("{name}.map-null-key.literal"));
    Ok(())
}
