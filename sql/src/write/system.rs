//! `INSERT` into a table of the run that is no folder: one epoch of its sink, without a job.
//!
//! Invariant: nothing is visible before the query has ended, unless the sink itself promises less; a row the sink
//! refuses fails the statement before the commit.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::physical_plan::execute_stream;
use futures::{StreamExt, TryStreamExt};
use headwater_connectors::lake::stats::ScanStats;
use headwater_engine::{
    connector::{
        BesideRows, ChangelogMode, CommitFacts, Committable, Cut, JobContext, PreparedUnit, RefusedRow, Sink, SinkTask,
    },
    error::{Error, ErrorKind, Result},
    message::{ChangeBatch, Epoch},
};

use crate::{
    diagnostics::Classify,
    lower::{plan_for_sink, statement_context},
    parser::statement::Insert,
    session::{Outcome, Session},
};

/// Characters of a refused row that an error shows.
const SHOWN_CHARACTERS: usize = 200;
/// The epoch of a statement.
const EPOCH: Epoch = Epoch(1);

/// Runs the statement.
pub(super) async fn insert(session: &Session, insert: &Insert) -> Result<Outcome> {
    let stats: Arc<ScanStats> = session.counters();
    let (plan, state, table) = plan_for_sink(session, insert, &stats).await?;
    let job = statement_context(session);
    let (sink, not_null) = (table.connector.sink(&table.spec)?, table.not_null());
    if sink.needs_records() || sink.beside().iter().any(|other| other.takes == BesideRows::Records) {
        let message = format!("\"{}\" keeps source records, and a statement that ends has none", table.name);
        return Err(Error::not_supported(message).with_hint("run the file as a job: headwater run FILE --once"));
    }
    sink.check(&job, Arc::clone(&table.spec.schema)).await?;
    sink.recover(&job, &CommitFacts { insert: table.name.clone(), ..CommitFacts::default() }).await?;
    let physical = state.create_physical_plan(&plan).await.classify()?;
    let schema = physical.schema();
    let changes = ChangelogMode::Append;
    let task = SinkTask { insert: table.name.clone(), index: 0, count: 1, schema, changes };
    let mut writer = sink.writer(&job, task, Vec::new()).await?;
    let mut rows = execute_stream(physical, state.task_ctx()).classify()?;
    let mut count = 0;
    while let Some(batch) = rows.try_next().await.classify()? {
        count += batch.num_rows() as u64;
        let mut changes = ChangeBatch::inserts(batch);
        refuse(RefusedRow::without_values(&mut changes, &not_null)?)?;
        refuse(writer.write(changes).await?)?;
        if job.memory.is_over() {
            return Err(Error::new(
                ErrorKind::Limit,
                "EXCEEDED_LOCAL_MEMORY_LIMIT",
                format!("the rows for \"{}\" do not fit into the memory of a statement", table.name),
            )
            .with_hint("raise 'memory.limit', insert in parts, or run the file as a job"));
        }
    }
    let prepared = writer.prepare(EPOCH, Cut::Final).await?;
    refuse(prepared.refused)?;
    commit(sink.as_ref(), &job, prepared.units).await?;
    Ok(Outcome::Done { rows: Some(count), stats })
}

async fn commit(sink: &dyn Sink, job: &JobContext, units: Vec<PreparedUnit>) -> Result<()> {
    let mut merged: BTreeMap<String, (String, Vec<ChangeBatch>)> = BTreeMap::new();
    for PreparedUnit { unit, rows, detail, .. } in units {
        let entry = merged.entry(unit).or_default();
        entry.0 = detail;
        entry.1.extend(rows);
    }
    let committable = |(unit, (detail, rows)): (String, (String, Vec<ChangeBatch>))| Committable {
        unit,
        detail,
        rows: futures::stream::iter(rows.into_iter().map(Ok)).boxed(),
    };
    let report = sink.commit(job, EPOCH, merged.into_iter().map(committable).collect()).await?;
    refuse(report.refused)
}

/// The error for rows a sink would not take.
fn refuse(refused: Vec<RefusedRow>) -> Result<()> {
    match refused.first() {
        None => Ok(()),
        Some(row) => {
            Err(Error::data("INVALID_ROW", format!("the sink refuses a row: {}: {}", row.reason, shown(&row.raw))))
        }
    }
}

/// A row as an error shows it: its beginning, if it is long.
fn shown(raw: &str) -> String {
    match raw.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}.. ({} bytes)", &raw[..end], raw.len()),
        None => raw.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_row_is_shown_after_its_reason_and_not_whole() {
        let refused = |raw: &str| RefusedRow { raw: raw.to_owned(), reason: "too large (id = \"a\")".to_owned() };
        let message = |raw: &str| refuse(vec![refused(raw)]).unwrap_err().message().to_owned();
        assert_eq!(message("{}"), "the sink refuses a row: too large (id = \"a\"): {}");
        let long = message(&"\u{e9}".repeat(400_000));
        assert!(long.len() < 500 && long.starts_with("the sink refuses a row: too large"), "{}", long.len());
        assert!(long.ends_with(".. (800000 bytes)"), "{long}");
    }
}
