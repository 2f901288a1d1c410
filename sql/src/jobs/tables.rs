//! `headwater.{jobs, checkpoints, splits, operators, windows, ledger, sinks}`: jobs as tables.
//!
//! Invariant: times are TIMESTAMP(3) in UTC, and a name is the one the job's file gave.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray, Int64Array, StringArray, TimestampMillisecondArray},
    datatypes::{DataType, Field, Schema, TimeUnit},
    record_batch::RecordBatch,
};
use datafusion::{catalog::TableProvider, datasource::MemTable};
use headwater_engine::{
    checkpoint::manifest::{Manifest, OperatorState, SplitStatus},
    error::{Error, Result},
    inspect::{self, SplitRow},
    operator::Traffic,
    time::{Instant, Watermark},
};

use super::Jobs;
use crate::{
    diagnostics::{Classify, did_you_mean},
    session::Session,
};

/// The database of these tables.
pub(crate) const SCHEMA: &str = "headwater";

const TABLES: [&str; 7] = ["jobs", "checkpoints", "splits", "operators", "windows", "ledger", "sinks"];

/// A value of a row.
enum Cell {
    Text(Option<String>),
    Number(Option<u64>),
    Time(Option<i64>),
    Flag(bool),
}

fn text(value: impl Into<String>) -> Cell {
    Cell::Text(Some(value.into()))
}

fn number(value: u64) -> Cell {
    Cell::Number(Some(value))
}

fn instant(at: Instant) -> Cell {
    Cell::Time(Some(at.0))
}

/// A watermark; none before the first row and after the last.
fn watermark(at: Option<Watermark>) -> Cell {
    Cell::Time(at.filter(|at| *at > Watermark::MIN && *at < Watermark::MAX).map(|at| at.0.div_euclid(1000)))
}

/// One of the tables.
pub(crate) async fn table(session: &Session, name: &str) -> Result<Arc<dyn TableProvider>> {
    let jobs = || Jobs::read(session);
    let batch = match name {
        "jobs" => job_rows(&jobs().await?).await?,
        "checkpoints" => checkpoint_rows(&jobs().await?).await?,
        "splits" => split_rows(&jobs().await?)?,
        "operators" => operator_rows(&jobs().await?)?,
        "windows" => window_rows(&jobs().await?)?,
        "ledger" => ledger_rows(&jobs().await?)?,
        "sinks" => sink_rows(&jobs().await?)?,
        _ => {
            let error = Error::user("TABLE_NOT_FOUND", format!("table \"{SCHEMA}.{name}\" does not exist"));
            return Err(did_you_mean(error, name, TABLES));
        }
    };
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]]).classify()?))
}

/// Rows under these names; a name's first letter says its type: `t`ext, `n`umber, `i`nstant, `f`lag.
fn batch(names: &[&str], rows: Vec<Vec<Cell>>) -> Result<RecordBatch> {
    let mut columns: Vec<Vec<Cell>> = names.iter().map(|_| Vec::with_capacity(rows.len())).collect();
    for row in rows {
        if row.len() != names.len() {
            return Err(Error::internal("a row of a system table has another number of values than columns"));
        }
        columns.iter_mut().zip(row).for_each(|(column, cell)| column.push(cell));
    }
    let built = names.iter().zip(columns).map(|(name, cells)| {
        let (kind, name) = name.split_once(':').unwrap_or(("t", name));
        let array: ArrayRef = match kind {
            "n" => Arc::new(cells.iter().map(Cell::number).collect::<Int64Array>()),
            "i" => Arc::new(cells.iter().map(Cell::time).collect::<TimestampMillisecondArray>()),
            "f" => Arc::new(cells.iter().map(Cell::flag).collect::<BooleanArray>()),
            _ => Arc::new(cells.iter().map(Cell::text).collect::<StringArray>()),
        };
        let data_type = match kind {
            "n" => DataType::Int64,
            "i" => DataType::Timestamp(TimeUnit::Millisecond, None),
            "f" => DataType::Boolean,
            _ => DataType::Utf8,
        };
        (Field::new(name, data_type, true), array)
    });
    let (fields, arrays): (Vec<_>, Vec<_>) = built.unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

impl Cell {
    fn text(&self) -> Option<&str> {
        match self {
            Cell::Text(value) => value.as_deref(),
            Cell::Number(_) | Cell::Time(_) | Cell::Flag(_) => None,
        }
    }

    fn number(&self) -> Option<i64> {
        match self {
            Cell::Number(value) => value.map(|value| i64::try_from(value).unwrap_or(i64::MAX)),
            Cell::Text(_) | Cell::Time(_) | Cell::Flag(_) => None,
        }
    }

    fn time(&self) -> Option<i64> {
        match self {
            Cell::Time(value) => *value,
            Cell::Text(_) | Cell::Number(_) | Cell::Flag(_) => None,
        }
    }

    fn flag(&self) -> Option<bool> {
        match self {
            Cell::Flag(value) => Some(*value),
            Cell::Text(_) | Cell::Number(_) | Cell::Time(_) => None,
        }
    }
}

fn rows_read(manifest: &Manifest) -> u64 {
    // Every INSERT counts the rows of a split it reads; a table is read once for all of them.
    let most = |rows: &mut dyn Iterator<Item = u64>| rows.max().unwrap_or(0);
    manifest
        .sources
        .values()
        .map(|source| {
            let splits = source.splits.iter().map(|split| most(&mut split.account.values().map(|tally| tally.read)));
            splits.sum::<u64>() + most(&mut source.retired.values().map(|tally| tally.read))
        })
        .sum()
}

async fn job_rows(jobs: &Jobs) -> Result<RecordBatch> {
    let names = [
        "job",
        "status",
        "script",
        "host",
        "n:pid",
        "n:generation",
        "incarnation",
        "i:started",
        "n:checkpoint",
        "i:checkpoint_at",
        "n:parallelism",
        "n:running_ms",
        "n:rows_read",
        "n:rows_written",
        "n:rows_read_per_second",
        "n:rows_written_per_second",
        "n:lag",
        "n:state_bytes",
    ];
    let mut rows = Vec::new();
    for job in &jobs.jobs {
        let (status, claim) = jobs.status(job);
        let newest = job.newest.as_deref();
        let (read_rate, written_rate) = rates(jobs, &job.name).await?.unzip();
        let of = |value: fn(&Manifest) -> u64| Cell::Number(newest.map(value));
        rows.push(vec![
            text(&job.name),
            text(status.name()),
            Cell::Text(claim.as_ref().map(|claim| claim.script.clone()).filter(|script| !script.is_empty())),
            Cell::Text(claim.as_ref().map(|claim| claim.host.clone())),
            Cell::Number(claim.as_ref().map(|claim| u64::from(claim.pid))),
            Cell::Number(claim.as_ref().map(|claim| claim.generation.0)),
            Cell::Text(claim.as_ref().map(|claim| claim.incarnation.clone())),
            Cell::Time(claim.as_ref().map(|claim| claim.at.0)),
            of(|manifest| manifest.epoch.0),
            Cell::Time(newest.map(|manifest| manifest.at.0)),
            of(|manifest| manifest.parallelism as u64),
            of(|manifest| manifest.running_ms),
            of(rows_read),
            of(rows_written),
            Cell::Number(read_rate),
            Cell::Number(written_rate),
            Cell::Number(newest.and_then(lag)),
            of(Manifest::state_bytes),
        ]);
    }
    batch(&names, rows)
}

/// Records that wait, where every split that is open says how many.
fn lag(manifest: &Manifest) -> Option<u64> {
    let splits = manifest.sources.values().flat_map(|source| &source.splits);
    splits.filter(|split| split.status == SplitStatus::Open).map(|split| split.lag).sum()
}

fn rows_written(manifest: &Manifest) -> u64 {
    manifest.sinks.values().map(|sink| sink.rows.saturating_sub(sink.refused)).sum()
}

/// Rows read and written a second between the last two checkpoints.
async fn rates(jobs: &Jobs, name: &str) -> Result<Option<(u64, u64)>> {
    let kept = inspect::checkpoints(&jobs.store, &jobs.clock, name).await?;
    let [.., before, last] = kept.as_slice() else { return Ok(None) };
    let rows = async |epoch| -> Result<Option<(u64, u64)>> {
        let manifest = inspect::checkpoint(&jobs.store, &jobs.clock, name, epoch).await?;
        Ok(manifest.as_ref().map(|manifest| (rows_read(manifest), rows_written(manifest))))
    };
    let (Some(first), Some(second)) = (rows(before.epoch).await?, rows(last.epoch).await?) else { return Ok(None) };
    let millis = u64::try_from(last.started.since(before.started).as_millis()).unwrap_or(u64::MAX);
    let rate = |first: u64, second: u64| second.saturating_sub(first).saturating_mul(1000) / millis.max(1);
    Ok((millis > 0).then(|| (rate(first.0, second.0), rate(first.1, second.1))))
}

async fn checkpoint_rows(jobs: &Jobs) -> Result<RecordBatch> {
    let names = [
        "job",
        "n:epoch",
        "n:generation",
        "i:started",
        "i:published",
        "n:duration_ms",
        "n:bytes",
        "f:committed",
        "f:final",
        "savepoint",
    ];
    let mut rows = Vec::new();
    for job in &jobs.jobs {
        for line in inspect::checkpoints(&jobs.store, &jobs.clock, &job.name).await? {
            let took = line.at.since(line.started).as_millis();
            rows.push(vec![
                text(&job.name),
                number(line.epoch.0),
                number(line.generation),
                instant(line.started),
                instant(line.at),
                Cell::Number(u64::try_from(took).ok()),
                number(line.bytes),
                Cell::Flag(line.is_committed),
                Cell::Flag(line.is_final),
                Cell::Text(Some(line.savepoints.join(", ")).filter(|names| !names.is_empty())),
            ]);
        }
    }
    batch(&names, rows)
}

fn split_status(status: SplitStatus) -> &'static str {
    match status {
        SplitStatus::Waiting => "waiting",
        SplitStatus::Open => "open",
        SplitStatus::Ended => "ended",
    }
}

fn split_rows(jobs: &Jobs) -> Result<RecordBatch> {
    let names = [
        "job",
        "table_name",
        "split",
        "status",
        "offset",
        "n:lag",
        "n:lag_ms",
        "i:watermark",
        "i:watermark_since",
        "f:idle",
        "f:holds_watermark",
        "n:rows_ahead",
    ];
    let rows = jobs.manifests().flat_map(|(job, manifest)| {
        inspect::splits(manifest).into_iter().map(move |split| {
            vec![
                text(job),
                text(&split.table),
                text(&split.split),
                text(split_status(split.status)),
                Cell::Text(split.offset.clone()),
                Cell::Number(split.lag),
                Cell::Number(split.lag_ms),
                watermark(split.watermark),
                Cell::Time(split.advanced.map(|at| at.0)),
                Cell::Flag(split.is_idle),
                Cell::Flag(split.holds),
                number(split.ahead),
            ]
        })
    });
    batch(&names, rows.collect())
}

fn operator_rows(jobs: &Jobs) -> Result<RecordBatch> {
    let names = [
        "job",
        "operator",
        "n:tasks",
        "i:watermark",
        "n:state_rows",
        "n:state_bytes",
        "n:checkpoint_files",
        "n:checkpoint_bytes",
        "n:spilled_bytes",
        "n:open_windows",
        "i:oldest_window_end",
        "n:queue_bytes",
        "n:rows_in",
        "n:rows_out",
        "n:rows_dropped",
    ];
    let stateless = |manifest: &'_ Manifest| {
        let is_stateless = |name: &&String| !manifest.operators.contains_key(*name);
        let others: BTreeSet<&String> = manifest.queued.keys().chain(manifest.traffic.keys()).collect();
        others.into_iter().filter(is_stateless).map(|name| (name.clone(), OperatorState::default())).collect::<Vec<_>>()
    };
    let rows = jobs.manifests().flat_map(|(job, manifest)| {
        let all = manifest.operators.iter().map(|(name, state)| (name.clone(), state.clone()));
        all.chain(stateless(manifest)).map(move |(name, state)| {
            let queued = manifest.queued.get(&name).copied().unwrap_or(0);
            let traffic = manifest.traffic.get(&name);
            let passed = |rows: fn(&Traffic) -> u64| Cell::Number(traffic.map(rows));
            let files = || state.tasks.iter().flat_map(|tables| tables.values().flatten());
            vec![
                text(job),
                text(name),
                number(state.tasks.len() as u64),
                watermark(state.watermark),
                number(state.observed.state_rows),
                number(state.observed.state_bytes),
                number(files().count() as u64),
                number(files().map(|file| file.bytes).sum()),
                number(state.observed.spilled_bytes),
                number(state.observed.open_windows),
                Cell::Time(state.observed.oldest_open_window.map(|end| end.div_euclid(1000))),
                number(queued),
                passed(|rows| rows.rows_in),
                passed(|rows| rows.rows_out),
                passed(|rows| rows.dropped),
            ]
        })
    });
    batch(&names, rows.collect())
}

fn ledger_rows(jobs: &Jobs) -> Result<RecordBatch> {
    let names = [
        "job",
        "insert_name",
        "table_name",
        "split",
        "n:read",
        "n:rejected",
        "n:filtered",
        "n:late",
        "n:held",
        "n:released",
        "f:balanced",
        "n:partly_late",
    ];
    let rows = jobs.manifests().flat_map(|(job, manifest)| {
        inspect::ledger(manifest).into_iter().map(move |row| {
            let tally = &row.tally;
            vec![
                text(job),
                text(&row.insert),
                text(&row.table),
                Cell::Text(row.split.clone()),
                number(tally.read),
                number(tally.rejected),
                number(tally.filtered),
                number(tally.late),
                number(tally.held_rows()),
                number(tally.released),
                Cell::Flag(tally.is_balanced()),
                number(tally.partly_late),
            ]
        })
    });
    batch(&names, rows.collect())
}

fn sink_rows(jobs: &Jobs) -> Result<RecordBatch> {
    let names = ["job", "sink", "n:rows", "n:refused", "n:open_units", "n:outbox_rows", "n:outbox_bytes"];
    let rows = jobs.manifests().flat_map(|(job, manifest)| {
        manifest.sinks.iter().map(move |(name, sink)| {
            let units = || sink.open.iter().chain(&sink.closed);
            vec![
                text(job),
                text(name),
                number(sink.rows.saturating_sub(sink.refused)),
                number(sink.refused),
                number(sink.open.len() as u64),
                number(units().map(|unit| unit.rows).sum()),
                number(units().map(|unit| unit.bytes).sum()),
            ]
        })
    });
    batch(&names, rows.collect())
}

/// Why a window has not fired: one row for each split that holds the oldest open window of an operator.
fn window_rows(jobs: &Jobs) -> Result<RecordBatch> {
    let names = [
        "job",
        "operator",
        "n:open_windows",
        "i:oldest_window_end",
        "i:watermark",
        "table_name",
        "split",
        "i:split_watermark",
        "i:since",
        "n:missing_ms",
        "reason",
    ];
    let mut rows = Vec::new();
    for (job, manifest) in jobs.manifests() {
        let splits = inspect::splits(manifest);
        for (name, state) in &manifest.operators {
            let Some(end) = state.observed.oldest_open_window else { continue };
            let holding = holders(manifest, state, &splits, end);
            let mut row = |split: Option<&SplitRow>| {
                let missing = split.and_then(|split| split.watermark).map(|at| (end - at.0).max(0) as u64 / 1000);
                rows.push(vec![
                    text(job),
                    text(name),
                    number(state.observed.open_windows),
                    Cell::Time(Some(end.div_euclid(1000))),
                    watermark(state.watermark),
                    Cell::Text(split.map(|split| split.table.clone())),
                    Cell::Text(split.map(|split| split.split.clone())),
                    watermark(split.and_then(|split| split.watermark)),
                    Cell::Time(split.and_then(|split| split.advanced).map(|at| at.0)),
                    Cell::Number(missing),
                    text(reason(split)),
                ]);
            };
            match holding.is_empty() {
                true => row(None),
                false => holding.into_iter().for_each(|split| row(Some(split))),
            }
        }
    }
    batch(&names, rows)
}

/// The splits whose watermark has not reached a window's end and that hold their table's.
fn holders<'s>(manifest: &Manifest, state: &OperatorState, splits: &'s [SplitRow], end: i64) -> Vec<&'s SplitRow> {
    let tables: Vec<&str> =
        state.reads.iter().filter_map(|node| manifest.sources.get(node)).map(|source| source.table.as_str()).collect();
    let below = |split: &&SplitRow| split.watermark.is_none_or(|at| at.0 < end);
    splits.iter().filter(|split| tables.contains(&split.table.as_str()) && split.holds).filter(below).collect()
}

fn reason(split: Option<&SplitRow>) -> String {
    let Some(split) = split else {
        return "no split holds it back: it fires with the next watermark, or when a row arrives after idle splits"
            .into();
    };
    match (split.status, split.watermark, split.lag) {
        (SplitStatus::Waiting, ..) => "the split waits to be read".into(),
        (_, None, _) => "the split has given no row with an event time; 'scan.watermark.idle-timeout' lets the others \
                         go on without it"
            .into(),
        (_, Some(_), Some(0)) => "the split is read to its end and has given no later row; \
                                  'scan.watermark.idle-timeout' lets the others go on without it"
            .into(),
        (_, Some(_), Some(lag)) => format!("the split is {lag} records behind"),
        (_, Some(_), None) => "the split has given no later row yet".into(),
    }
}
