//! `'connector' = 'print'`: every change as a line on standard output, or on standard error.
//!
//! ```text
//! identifier:2> +I[1, anna]        one line a change: its kind, then the values
//! ```
//!
//! Invariant: lines are written as rows come, before any checkpoint: a restarted job prints some of them again.

use std::{
    fmt,
    io::{self, Write},
    sync::Arc,
};

use arrow::{
    datatypes::SchemaRef,
    util::display::{ArrayFormatter, FormatOptions},
};
use async_trait::async_trait;
use headwater_engine::{
    connector::{
        ChangelogMode, CommitFacts, CommitReport, Committable, Connector, Cut, Guarantee, JobContext, OpenUnit,
        Prepared, RefusedRow, Sink, SinkTask, SinkWriter, Source, TableSpec,
    },
    error::{Error, Result},
    message::{ChangeBatch, Epoch, RowKind},
};

use crate::options::Options;

/// The connector.
#[derive(Debug, Clone, Copy, Default)]
pub struct Print;

impl Connector for Print {
    fn name(&self) -> &'static str {
        "print"
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        Err(Error::not_supported(format!("table \"{}\": a print table cannot be read", table.name)))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        let mut options = Options::new(&table.name, &table.options);
        options.accept(&["connector"]);
        let identifier = options.text("print-identifier").unwrap_or_default();
        let to_error = options.flag("standard-error")?.unwrap_or_default();
        options.finish()?;
        Ok(Arc::new(PrintSink { identifier, to_error }))
    }
}

#[derive(Debug, Clone)]
struct PrintSink {
    identifier: String,
    to_error: bool,
}

impl fmt::Display for PrintSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "print {}", self.identifier)
    }
}

#[async_trait]
impl Sink for PrintSink {
    fn accepts(&self) -> ChangelogMode {
        ChangelogMode::Retract
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    async fn check(&self, _: &JobContext, _: SchemaRef) -> Result<()> {
        Ok(())
    }

    async fn writer(&self, _: &JobContext, task: SinkTask, _: Vec<OpenUnit>) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(PrintWriter { prefix: prefix(&self.identifier, &task), to_error: self.to_error }))
    }

    async fn recover(&self, _: &JobContext, _: &CommitFacts) -> Result<()> {
        Ok(())
    }

    async fn commit(&self, _: &JobContext, _: Epoch, _: Vec<Committable>) -> Result<CommitReport> {
        Ok(CommitReport::default())
    }
}

/// What stands before each line: the identifier, and the task's number when there are several.
fn prefix(identifier: &str, task: &SinkTask) -> String {
    match (identifier.is_empty(), task.count > 1) {
        (true, false) => String::new(),
        (true, true) => format!("{}> ", task.index + 1),
        (false, false) => format!("{identifier}> "),
        (false, true) => format!("{identifier}:{}> ", task.index + 1),
    }
}

#[derive(Debug)]
struct PrintWriter {
    prefix: String,
    to_error: bool,
}

fn lines(prefix: &str, changes: &ChangeBatch) -> Result<String> {
    use fmt::Write;
    let options = FormatOptions::default().with_null("NULL");
    let columns = changes.rows.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
    let mut text = String::new();
    for row in 0..changes.num_rows() {
        let kind = match changes.kind(row) {
            RowKind::Insert => "+I",
            RowKind::UpdateBefore => "-U",
            RowKind::UpdateAfter => "+U",
            RowKind::Delete => "-D",
        };
        let values: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{prefix}{kind}[{}]", values.join(", "));
    }
    Ok(text)
}

#[async_trait]
impl SinkWriter for PrintWriter {
    async fn write(&mut self, changes: ChangeBatch) -> Result<Vec<RefusedRow>> {
        let text = lines(&self.prefix, &changes)?;
        let written = match self.to_error {
            true => io::stderr().lock().write_all(text.as_bytes()),
            false => io::stdout().lock().write_all(text.as_bytes()),
        };
        written.map_err(|error| Error::from(error).context("print"))?;
        Ok(Vec::new())
    }

    async fn prepare(&mut self, _: Epoch, _: Cut) -> Result<Prepared> {
        let flushed = if self.to_error { io::stderr().lock().flush() } else { io::stdout().lock().flush() };
        flushed.map_err(|error| Error::from(error).context("print"))?;
        Ok(Prepared::default())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int8Array, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn a_line_has_prefix_kind_and_values() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("name", DataType::Utf8, true),
        ]));
        let ids = Arc::new(Int64Array::from(vec![Some(1), None]));
        let names = Arc::new(StringArray::from(vec!["anna", "x"]));
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![ids, names]).unwrap();
        let changes = ChangeBatch::new(rows, Some(Int8Array::from(vec![0, 3])));
        let task = SinkTask { insert: "t".into(), index: 1, count: 2, schema, changes: ChangelogMode::Retract };
        let text = lines(&prefix("p", &task), &changes).unwrap();
        assert_eq!(text, "p:2> +I[1, anna]\np:2> -D[NULL, x]\n");
    }
}
