//! The writer: each row to its partition or prefix, or to the error objects.
//!
//! Invariant: a row is in one unit, of its file or of an error object; what is refused is told to the accounts too.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, StringArray, UInt32Array},
    compute::{cast, filter_record_batch, take_record_batch},
    datatypes::{DataType, Field, Schema, SchemaRef, TimestampMillisecondType},
    record_batch::RecordBatch,
};
use async_trait::async_trait;
use chrono::{DateTime, NaiveDateTime};
use chrono_tz::Tz;
use headwater_engine::{
    catalog::TableName,
    connector::{ARRIVAL, Cut, JobContext, OpenUnit, Prepared, RECORD, RefusedRow, SinkTask, SinkWriter},
    error::{Error, Result},
    message::{ChangeBatch, Epoch},
    time::{Instant, Watermark},
};

use super::{
    failure::{Failure, Undelivered},
    keys_query::KeysQuery,
    options::SinkOptions,
    prefix::{self, Facts, Key, KeyFrom, Prefix},
    sink::FilesystemSink,
    units::{Kind, Portion, Units},
};
use crate::lake::write::{
    encode,
    partition::{Layout, Values},
};

/// What a sink is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It takes the rows of an INSERT.
    Rows,
    /// It takes rows of `"t$rejected"` and writes error objects.
    Errors,
    /// It takes records as they came.
    Backup,
}

/// A table's rows as files have them.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) role: Role,
    pub(super) options: SinkOptions,
    pub(super) layout: Layout,
    /// Where the layout comes from.
    pub(super) sink: FilesystemSink,
    pub(super) table: TableName,
    /// Columns of the files, by their names.
    pub(super) files: Vec<String>,
    /// Whether the format puts a line end after each row.
    pub(super) ends_lines: bool,
}

/// Writes the rows of one task.
#[derive(Debug)]
pub(super) struct UnitWriter {
    target: Target,
    columns: Columns,
    query: Option<KeysQuery>,
    units: Units,
    job: JobContext,
}

/// Where a row's columns are: those of the files first, then what comes along, then the keys of the partition.
#[derive(Debug)]
struct Columns {
    projection: Vec<usize>,
    files: usize,
    arrival: Option<usize>,
    record: Option<usize>,
}

impl Columns {
    fn of(target: &Target, rows: &Schema) -> Result<Self> {
        if target.role == Role::Errors {
            return Ok(Self { projection: Vec::new(), files: 0, arrival: None, record: None });
        }
        let find = |name: &str| rows.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name));
        let index =
            |name: &String| find(name).ok_or_else(|| Error::internal(format!("rows without column \"{name}\"")));
        let mut projection = target.files.iter().map(index).collect::<Result<Vec<usize>>>()?;
        let files = projection.len();
        let mut along = |name: &str| {
            let index = rows.fields().iter().rposition(|field| field.name() == name)?;
            projection.push(index);
            Some(projection.len() - 1)
        };
        let (arrival, record) = (along(ARRIVAL), along(RECORD));
        let keys = target.layout.keys.iter().map(index).collect::<Result<Vec<usize>>>()?;
        projection.extend(keys);
        Ok(Self { projection, files, arrival, record })
    }

    fn file_rows(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        Ok(rows.project(&(0..self.files).collect::<Vec<_>>())?)
    }

    fn arrival_ms(&self, rows: &RecordBatch, row: usize, now: Instant) -> i64 {
        let arrivals = self.arrival.map(|index| rows.column(index).as_primitive::<TimestampMillisecondType>());
        arrivals.filter(|arrivals| arrivals.is_valid(row)).map_or(now.0, |arrivals| arrivals.value(row))
    }

    fn oldest_ms(&self, rows: &RecordBatch, now: Instant) -> i64 {
        let arrivals = self.arrival.map(|index| rows.column(index).as_primitive::<TimestampMillisecondType>());
        arrivals.and_then(arrow::compute::min).unwrap_or(now.0)
    }

    fn record<'r>(&self, rows: &'r RecordBatch, row: usize) -> Option<&'r [u8]> {
        let records = rows.column(self.record?).as_binary::<i32>();
        records.is_valid(row).then(|| records.value(row))
    }
}

/// Rows of one prefix, or rows that have none.
#[derive(Debug, Default)]
struct Dealt {
    groups: Vec<(Values, RecordBatch)>,
    failed: Vec<(usize, Failure)>,
}

impl UnitWriter {
    /// A writer that goes on with the units of a checkpoint.
    pub(super) fn new(target: Target, job: &JobContext, task: &SinkTask, open: Vec<OpenUnit>) -> Result<Self> {
        let columns = Columns::of(&target, &task.schema)?;
        let query = target.options.keys_query.as_deref().map(KeysQuery::parse).transpose()?;
        let units = Units::new((target.options.clone(), target.layout.keys.clone()), job, task, open)?;
        Ok(Self { target, columns, query, units, job: job.clone() })
    }

    async fn write_rows(&mut self, rows: &RecordBatch, now: Instant) -> Result<Vec<RefusedRow>> {
        let mut rows = rows.project(&self.columns.projection)?;
        let mut refused = match self.target.role {
            Role::Backup => {
                rows = records(&rows, self.target.ends_lines)?;
                Vec::new()
            }
            Role::Rows | Role::Errors => self.refuse_unwritable(&mut rows, now)?,
        };
        let (dealt, has_prefix) = match &self.target.options.prefix {
            Some(prefix) => (self.deal(prefix, &rows, now)?, true),
            None => (Dealt { groups: self.target.layout.deal_all(&rows)?, failed: Vec::new() }, false),
        };
        refused.extend(self.refuse(&rows, &dealt.failed, now)?);
        if dealt.groups.iter().any(|(values, _)| self.target.layout.check(values).is_err()) {
            // A range that ends now goes on, and partitions are added.
            self.target.layout = self.target.sink.layout().await?;
        }
        for (values, group) in dealt.groups {
            if let Some(failure) = self.misplaced(&values, has_prefix) {
                let failed: Vec<_> = (0..group.num_rows()).map(|row| (row, failure.clone())).collect();
                refused.extend(self.refuse(&group, &failed, now)?);
                continue;
            }
            let oldest_ms = self.columns.oldest_ms(&group, now);
            let data = self.columns.file_rows(&group)?;
            let portion = Portion { kind: Kind::File, values, rows: data, oldest_ms, has_prefix };
            if !self.units.add(portion, now) {
                let failure = Failure::too_many(self.target.options.open_max);
                let failed: Vec<_> = (0..group.num_rows()).map(|row| (row, failure.clone())).collect();
                refused.extend(self.refuse(&group, &failed, now)?);
            }
        }
        Ok(refused)
    }

    /// Refuses rows that a file of the table's format cannot have: once they are committed it would be too late.
    fn refuse_unwritable(&mut self, rows: &mut RecordBatch, now: Instant) -> Result<Vec<RefusedRow>> {
        let failed = encode::unwritable(&self.target.sink.format, &self.columns.file_rows(rows)?)?;
        if failed.is_empty() {
            return Ok(Vec::new());
        }
        let failed: Vec<_> = failed.into_iter().map(|(row, why)| (row, Failure::unwritable(why))).collect();
        let refused = self.refuse(rows, &failed, now)?;
        let mut is_kept = vec![true; rows.num_rows()];
        failed.iter().for_each(|(row, _)| is_kept[*row] = false);
        *rows = filter_record_batch(rows, &BooleanArray::from(is_kept))?;
        Ok(refused)
    }

    /// Why no file can be where these rows belong.
    fn misplaced(&self, values: &Values, has_prefix: bool) -> Option<Failure> {
        let layout = &self.target.layout;
        if let Err(refusal) = layout.check(values) {
            return Some(Failure::not_partitioned(refusal.message()));
        }
        let names = self.target.sink.names();
        match values.first() {
            Some(Some(prefix)) if has_prefix => {
                let settled = prefix::settled(prefix);
                names.refusal(&format!("{}/{settled}", layout.root)).map(Failure::no_key)
            }
            _ => names.refusal(&format!("{}/", layout.folder(values))).map(Failure::not_partitioned),
        }
    }

    /// Deals rows out by their prefix.
    fn deal(&self, prefix: &Prefix, rows: &RecordBatch, now: Instant) -> Result<Dealt> {
        let keys: Vec<&Key> = prefix.keys().collect();
        let texts = keys.iter().map(|key| self.column_of(key, rows)).collect::<Result<Vec<_>>>()?;
        let (mut rows_of, mut failed) = (BTreeMap::<String, Vec<u32>>::new(), Vec::new());
        for row in 0..rows.num_rows() {
            let time = time_of(self.columns.arrival_ms(rows, row, now), self.target.options.time_zone);
            let evaluated = self.keys_of(&keys, &texts, rows, row).and_then(|values| {
                prefix.evaluated(Facts { time, keys: &values, error: None }).map_err(Failure::no_key)
            });
            match evaluated {
                Ok(prefix) => rows_of.entry(prefix).or_default().push(row as u32),
                Err(failure) => failed.push((row, failure)),
            }
        }
        let group = |(prefix, indexes): (String, Vec<u32>)| {
            let is_all = indexes.len() == rows.num_rows();
            let rows = if is_all { rows.clone() } else { take_record_batch(rows, &UInt32Array::from(indexes))? };
            Ok((vec![Some(prefix)], rows))
        };
        Ok(Dealt { groups: rows_of.into_iter().map(group).collect::<Result<_>>()?, failed })
    }

    /// The column of a key as text, unless the query has it.
    fn column_of(&self, key: &Key, rows: &RecordBatch) -> Result<Option<ArrayRef>> {
        if key.from == KeyFrom::Query && self.query.is_some() {
            return Ok(None);
        }
        let schema = rows.schema();
        let index = schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(&key.name));
        let index = index.ok_or_else(|| Error::internal(format!("rows without key \"{}\"", key.name)))?;
        Ok(Some(cast(rows.column(index), &DataType::Utf8)?))
    }

    /// Values of the keys of a row.
    fn keys_of(
        &self,
        keys: &[&Key],
        texts: &[Option<ArrayRef>],
        rows: &RecordBatch,
        row: usize,
    ) -> std::result::Result<Vec<String>, Failure> {
        let mut of_query = match &self.query {
            None => Vec::new(),
            Some(query) => {
                let record = self.columns.record(rows, row).unwrap_or_default();
                let names = keys.iter().filter(|key| key.from == KeyFrom::Query).map(|key| key.name.as_str());
                query.keys(record, names)?
            }
        }
        .into_iter();
        let value = |(key, text): (&&Key, &Option<ArrayRef>)| {
            let Some(text) = text else { return Ok(of_query.next().unwrap_or_default()) };
            let text = text.as_string::<i32>();
            if text.is_valid(row) && !text.value(row).is_empty() {
                return Ok(text.value(row).to_owned());
            }
            let message = format!("partition key \"{}\" is null or empty", key.name);
            Err(match key.from {
                KeyFrom::Query => Failure::no_key(message),
                KeyFrom::Lambda => Failure::not_partitioned(message),
            })
        };
        keys.iter().zip(texts).map(value).collect()
    }

    /// Refuses rows: they go to the accounts, and to the error objects where there are some.
    fn refuse(&mut self, rows: &RecordBatch, failed: &[(usize, Failure)], now: Instant) -> Result<Vec<RefusedRow>> {
        if failed.is_empty() {
            return Ok(Vec::new());
        }
        let shown = self.columns.file_rows(rows)?;
        let mut refused = Vec::with_capacity(failed.len());
        let mut lines = Vec::new();
        for (row, failure) in failed {
            let told = RefusedRow::of(&shown, *row, failure.reason())?;
            let raw = self.columns.record(rows, *row).unwrap_or(told.raw.as_bytes());
            let arrival_ms = self.columns.arrival_ms(rows, *row, now);
            lines.push(self.line(failure, Undelivered { raw, arrival_ms, sequence: None }, now)?);
            refused.push(told);
        }
        self.add_errors(lines, Kind::Error, now)?;
        Ok(refused)
    }

    fn line(&self, failure: &Failure, record: Undelivered<'_>, now: Instant) -> Result<ErrorLine> {
        let text = failure.line(record, now.0, &self.target.table)?;
        Ok(ErrorLine { kind: failure.kind, arrival_ms: record.arrival_ms, text })
    }

    /// Rows of `"t$rejected"` as error objects.
    fn write_rejected(&mut self, rows: &RecordBatch, now: Instant) -> Result<()> {
        let column = |name: &str| {
            rows.column_by_name(name).ok_or_else(|| Error::internal(format!("rejected rows without \"{name}\"")))
        };
        let (raw, reason) = (column("raw")?.as_binary::<i32>(), column("reason")?.as_string::<i32>());
        let (offset, arrival) = (column("offset")?.as_string::<i32>(), column("arrival")?);
        let arrival = arrival.as_primitive::<TimestampMillisecondType>();
        let mut lines = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            let failure = Failure::of_reason(reason.value(row));
            let sequence = offset.is_valid(row).then(|| offset.value(row));
            let record = Undelivered { raw: raw.value(row), arrival_ms: arrival.value(row), sequence };
            lines.push(self.line(&failure, record, now)?);
        }
        self.add_errors(lines, Kind::File, now)
    }

    /// Puts lines into the units of their prefixes.
    fn add_errors(&mut self, lines: Vec<ErrorLine>, kind: Kind, now: Instant) -> Result<()> {
        let Some(prefix) = self.target.options.error_prefix.clone() else { return Ok(()) };
        let mut by_prefix = BTreeMap::<String, (i64, Vec<String>)>::new();
        for line in lines {
            let facts = Facts {
                time: time_of(line.arrival_ms, self.target.options.time_zone),
                keys: &[],
                error: Some(line.kind),
            };
            let evaluated = prefix
                .evaluated(facts)
                .map_err(|why| Error::user("INVALID_TABLE_PROPERTY", format!("'sink.error-prefix': {why}")))?;
            let (oldest, texts) = by_prefix.entry(evaluated).or_insert((line.arrival_ms, Vec::new()));
            *oldest = line.arrival_ms.min(*oldest);
            texts.push(line.text);
        }
        for (prefix, (oldest_ms, texts)) in by_prefix {
            let rows = RecordBatch::try_new(error_schema(), vec![Arc::new(StringArray::from(texts))])?;
            let portion = Portion { kind, values: vec![Some(prefix)], rows, oldest_ms, has_prefix: true };
            self.units.add(portion, now);
        }
        Ok(())
    }
}

/// A line of an error object on its way.
#[derive(Debug)]
struct ErrorLine {
    kind: super::failure::ErrorType,
    arrival_ms: i64,
    text: String,
}

/// Columns of an error object.
pub(super) fn error_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("line", DataType::Utf8, true)]))
}

/// A time as the clocks of a zone show it.
pub(super) fn time_of(ms: i64, zone: Tz) -> NaiveDateTime {
    DateTime::from_timestamp_millis(ms).unwrap_or_default().with_timezone(&zone).naive_local()
}

/// Records as a backup has them: one without a value is empty, and none has the line end that the file's format adds.
fn records(rows: &RecordBatch, ends_lines: bool) -> Result<RecordBatch> {
    let raw = rows.column(0).as_binary::<i32>();
    let end: &[u8] = if ends_lines { b"\n" } else { b"" };
    let bare = raw.iter().map(|raw| raw.map_or(Some(&b""[..]), |raw| Some(raw.strip_suffix(end).unwrap_or(raw))));
    let mut columns = rows.columns().to_vec();
    columns[0] = Arc::new(bare.collect::<BinaryArray>());
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}

#[async_trait]
impl SinkWriter for UnitWriter {
    async fn write(&mut self, changes: ChangeBatch) -> Result<Vec<RefusedRow>> {
        let now = self.job.clock.now();
        let refused = match self.target.role {
            Role::Errors => self.write_rejected(&changes.rows, now).map(|()| Vec::new())?,
            Role::Rows => self.write_rows(&changes.rows, now).await?,
            Role::Backup => match self.write_rows(&changes.rows, now).await?.first() {
                None => Vec::new(),
                // A backup takes every record, and has nowhere to put one aside.
                Some(refused) => {
                    let message = format!("'sink.backup-prefix': {}", refused.reason);
                    return Err(Error::user("INVALID_TABLE_PROPERTY", message));
                }
            },
        };
        self.units.note_memory();
        Ok(refused)
    }

    fn on_watermark(&mut self, watermark: Watermark) {
        self.units.on_watermark(watermark);
    }

    async fn prepare(&mut self, _epoch: Epoch, cut: Cut) -> Result<Prepared> {
        self.units.prepare(cut)
    }
}
