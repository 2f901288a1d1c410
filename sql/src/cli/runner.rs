//! Runs statements one after another, writes their rows, and says on standard error what each did.
//!
//! Invariant: rows go to the output and nothing else does; the first row is written only when there is one, so a
//! statement that fails at once leaves the output untouched.

use std::{
    io::{self, BufWriter, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use cpu_time::ProcessTime;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use headwater_connectors::lake::stats::ScanStats;
use headwater_engine::error::Error;

use super::{
    exit::Failure,
    interrupt::{Deadline, Running, Watched},
    progress::Progress,
    report::Report,
    tell,
};
use crate::{
    diagnostics::Classify,
    output::{Format, Look, Rows, value::write_text},
    parser::{Statement, StatementKind, ddl::Show},
    session::{Outcome, Session},
};

/// How statements are run and shown.
#[derive(Debug, Clone)]
pub(crate) struct Style {
    /// How rows look.
    pub(crate) look: Look,
    /// Say what each statement did.
    pub(crate) report: ReportStyle,
    /// Show a line while a statement takes long.
    pub(crate) progress: bool,
    /// Write what `SHOW CREATE` shows as it is: no format was asked for, and a program reads it.
    pub(crate) bare_ddl: bool,
}

/// What is said after a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReportStyle {
    /// Nothing.
    Silent,
    /// A line after each statement that read or wrote rows.
    Rows,
    /// A line after every statement.
    Every,
    /// A JSON object after every statement.
    Json,
}

/// Where rows go.
pub(crate) trait Target: Write + Send {
    /// Called once a statement's last row is written, before anything is said of it.
    fn end_of_result(&mut self) -> io::Result<()>;
}

impl<W: Write + Send> Target for BufWriter<W> {
    fn end_of_result(&mut self) -> io::Result<()> {
        self.flush()
    }
}

/// The target of a run.
pub(crate) type Output = Box<dyn Target>;

/// What the statements did, taken together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    /// A statement warned, or left something out.
    pub(crate) warned: bool,
    /// And that is a failure.
    pub(crate) strict: bool,
}

/// Runs statements and writes their rows to an output.
pub(crate) async fn run(
    session: &Session,
    statements: &[Statement],
    style: &Style,
    watched: &Watched,
    mut out: Output,
) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    for statement in statements {
        let limit = session.settings().timeout;
        let deadline = Deadline { at: Instant::now() + limit, limit, location: statement.at };
        let counters = Arc::<ScanStats>::default();
        let progress = Progress::new(Arc::clone(&counters), style.progress);
        let deadline = (!limit.is_zero()).then_some(deadline);
        watched.send_replace(Some(Running { deadline, progress: progress.clone() }));
        let (started, cpu) = (Instant::now(), ProcessTime::now());
        let done = execute(&session.counting_into(counters), statement, style, &progress, out).await;
        let took = (started.elapsed(), cpu.elapsed());
        watched.send_replace(None);
        progress.clear();
        let mut done = done?;
        done.out.end_of_result()?;
        tally.warned |= report(statement, style, &done, took);
        out = done.out;
    }
    tally.strict = session.settings().strict;
    Ok(tally)
}

/// Says what a statement did; whether it warned or left something out.
fn report(statement: &Statement, style: &Style, done: &Done, (wall, cpu): (Duration, Duration)) -> bool {
    let Done { rows, written, stats, .. } = done;
    let warnings = stats.warnings();
    for warning in &warnings {
        tell(&format!("warning: {warning}"));
    }
    let left_out = ScanStats::get(&stats.rows_rejected) + ScanStats::get(&stats.files_ignored);
    let report = Report { statement: &statement.text, rows: *rows, written: *written, wall, cpu, stats };
    match style.report {
        ReportStyle::Silent => {}
        ReportStyle::Rows if rows.is_none() => {}
        ReportStyle::Rows | ReportStyle::Every => tell(&report.line()),
        ReportStyle::Json => tell(&report.json()),
    }
    !warnings.is_empty() || left_out > 0
}

struct Done {
    rows: Option<u64>,
    written: bool,
    stats: Arc<ScanStats>,
    out: Output,
}

async fn execute(
    session: &Session,
    statement: &Statement,
    style: &Style,
    progress: &Progress,
    out: Output,
) -> Result<Done, Failure> {
    match session.execute(statement).await? {
        Outcome::Done { rows, stats } => Ok(Done { rows, written: true, stats, out }),
        Outcome::Rows { stream, stats } if style.bare_ddl && shows_ddl(statement) => {
            let (rows, out) = write_lines(stream, out).await?;
            Ok(Done { rows: Some(rows), written: false, stats, out })
        }
        // What a statement that changes the catalog has to say is no result of a query.
        Outcome::Rows { mut stream, stats } if matches!(statement.kind, StatementKind::Ddl(_)) => {
            for line in lines_of(&mut stream).await? {
                tell(&line);
            }
            Ok(Done { rows: None, written: false, stats, out })
        }
        Outcome::Rows { stream, stats } => {
            let follows = matches!(&statement.kind, StatementKind::Query(query) if query.emit_changes);
            let (rows, out) = write_rows(stream, (style.look, follows), progress, out).await?;
            Ok(Done { rows: Some(rows), written: false, stats, out })
        }
    }
}

fn shows_ddl(statement: &Statement) -> bool {
    matches!(&statement.kind, StatementKind::Show(Show::CreateTable(_) | Show::CreateView(_)))
}

/// Writes the lines of a statement, and a semicolon after them.
async fn write_lines(mut stream: SendableRecordBatchStream, mut out: Output) -> Result<(u64, Output), Failure> {
    let lines = lines_of(&mut stream).await?;
    writeln!(out, "{};", lines.join("\n"))?;
    out.flush()?;
    Ok((lines.len() as u64, out))
}

/// The first column as text.
async fn lines_of(stream: &mut SendableRecordBatchStream) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch.classify()?;
        lines.extend((0..batch.num_rows()).map(|row| {
            let mut line = String::new();
            write_text(batch.column(0).as_ref(), row, &mut line);
            line
        }));
    }
    Ok(lines)
}

async fn write_rows(
    mut stream: SendableRecordBatchStream,
    (look, follows): (Look, bool),
    progress: &Progress,
    out: Output,
) -> Result<(u64, Output), Failure> {
    let schema = stream.schema();
    let mut waiting = Some(out);
    let mut rows: Option<Rows<Output>> = None;
    let mut count = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch.classify()?;
        if batch.num_rows() == 0 {
            continue;
        }
        if let Some(out) = waiting.take() {
            progress.clear();
            rows = Some(Rows::begin(look, Arc::clone(&schema), out)?);
        }
        if let Some(rows) = &mut rows {
            rows.write(&batch)?;
            if follows {
                rows.show()?;
            }
        }
        count += batch.num_rows() as u64;
    }
    progress.clear();
    let rows = match (rows, waiting) {
        (Some(rows), _) => rows,
        (None, Some(out)) => Rows::begin(look, schema, out)?,
        (None, None) => return Err(Error::internal("the output of a statement is gone").into()),
    };
    Ok((count, rows.finish()?))
}

/// The output of the process, buffered.
pub(crate) fn standard_output() -> Output {
    Box::new(BufWriter::with_capacity(64 << 10, io::stdout()))
}

/// Refuses what a format cannot do.
pub(crate) fn check_format(format: Format, results: usize, to_terminal: bool) -> Result<(), Failure> {
    if format != Format::Parquet {
        return Ok(());
    }
    if to_terminal {
        return Err(Failure::Usage("a Parquet file cannot be shown on a terminal; redirect standard output".into()));
    }
    if results > 1 {
        return Err(Failure::Usage(format!("a Parquet file holds one result, but {results} statements give rows")));
    }
    Ok(())
}
