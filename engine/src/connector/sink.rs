//! Writing: units whose rows wait in the outbox, and the commit that makes them visible.
//!
//! An exactly-once sink never holds the only copy of a row and never leaves anything half-open outside. Its writer
//! collects rows into *units* (a file that will be; an epoch's worth of messages). At each barrier it hands the rows a
//! unit got since the last barrier to the runtime, which keeps them in the outbox, a part of the checkpoint. A unit
//! that closes becomes a [`Committable`] of that epoch: after the manifest is published, [`Sink::commit`] reads all its
//! rows back from the outbox and makes them visible. A crash before the publish forgets the epoch, a crash after it
//! repeats the commit, which must therefore be idempotent.
//!
//! ```text
//! write ─> unit "p=1/part-7": rows ──prepare(e1)──> outbox e1 ─┐
//! write ─> unit "p=1/part-7": rows ──prepare(e2)──> outbox e2 ─┤ closes at e3: Committable, 3 segments of rows
//! write ─> unit "p=1/part-7": rows ──prepare(e3)──> outbox e3 ─┘ ── publish e3 ── commit(e3) ── marker
//! ```
//!
//! Invariant: what `commit` does is a function of its arguments, so that repeating it repeats nothing outside.

use std::{collections::BTreeMap, fmt, sync::Arc};

use arrow::{
    array::{Array, AsArray, StringArray, UInt32Array},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    record_batch::{RecordBatch, RecordBatchOptions},
};
use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::{
    connector::JobContext,
    error::{Error, Result},
    message::{ChangeBatch, Epoch, RowKind},
    runtime::exchange::take_changes,
    time::Watermark,
};

/// A writable table.
#[async_trait]
pub trait Sink: fmt::Debug + fmt::Display + Send + Sync {
    /// Which changes it takes.
    fn accepts(&self) -> ChangelogMode;

    /// What it promises.
    fn guarantee(&self) -> Guarantee;

    /// Where its units go: another text is another place, and a checkpoint's units are not put there. It is kept in
    /// checkpoints and shown, so that no credential is in it.
    fn destination(&self) -> String {
        self.to_string()
    }

    /// Whether a destination of a checkpoint is this one; older checkpoints have it as the sink is shown.
    fn is_destination(&self, destination: &str) -> bool {
        destination == self.destination() || destination == self.to_string()
    }

    /// What EXPLAIN says of writing such changes: where the guarantee has a limit that a user should know.
    fn caution(&self, _changes: ChangelogMode) -> Option<String> {
        None
    }

    /// How rows are spread over its writers.
    fn distribution(&self) -> Distribution {
        Distribution::Any
    }

    /// What it wants to know of each row beside its columns. It gets that as further columns named [`ARRIVAL`] and
    /// [`RECORD`], where the query keeps rows and records together; the schema of its task says whether it does.
    fn carries(&self) -> Carries {
        Carries::Nothing
    }

    /// Whether it cannot do without the record of each row.
    fn needs_records(&self) -> bool {
        false
    }

    /// Sinks that get what goes into an INSERT beside its rows.
    fn beside(&self) -> Vec<Beside> {
        Vec::new()
    }

    /// Checks the outside before anything is read: the table is there, keys agree, the folder can be written.
    async fn check(&self, job: &JobContext, schema: SchemaRef) -> Result<()>;

    /// A writer for one task, which takes up the units of `open` that are given to it. Exactly-once writers do no
    /// outside I/O that a crash could leave visible.
    async fn writer(&self, job: &JobContext, task: SinkTask, open: Vec<OpenUnit>) -> Result<Box<dyn SinkWriter>>;

    /// Called once at every start, before any commit: fences what an older attempt left, aborts its open uploads and
    /// transactions, and fails if what `facts` claim to be delivered cannot be confirmed.
    async fn recover(&self, job: &JobContext, facts: &CommitFacts) -> Result<()>;

    /// Makes the units visible. Called for every epoch of an exactly-once sink, with an empty `work` too, in the order
    /// of epochs, and again for the last one after a crash; repeating an epoch changes nothing outside.
    async fn commit(&self, job: &JobContext, epoch: Epoch, work: Vec<Committable>) -> Result<CommitReport>;
}

/// Column with the time at which the system received a row's record, in milliseconds.
pub const ARRIVAL: &str = "headwater_arrival";
/// Column with the bytes of a row's record; NULL where its source yields ready rows.
pub const RECORD: &str = "headwater_record";

/// What comes along with each row. Ordered: each later one includes the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Carries {
    /// Its columns alone.
    #[default]
    Nothing,
    /// When its record arrived.
    Arrival,
    /// That, and the record's bytes.
    Record,
}

impl Carries {
    /// The schema of rows with these columns, with what comes along behind them.
    pub fn extend(self, rows: &SchemaRef) -> SchemaRef {
        let arrival = || Field::new(ARRIVAL, DataType::Timestamp(TimeUnit::Millisecond, None), true);
        let record = || Field::new(RECORD, DataType::Binary, true);
        let more = match self {
            Carries::Nothing => return Arc::clone(rows),
            Carries::Arrival => vec![arrival()],
            Carries::Record => vec![arrival(), record()],
        };
        let fields = rows.fields().iter().cloned().chain(more.into_iter().map(Arc::new));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

/// A sink beside another one: it is written by the same INSERT, in the same epochs.
#[derive(Debug, Clone)]
pub struct Beside {
    /// What it is for, as part of its name.
    pub name: &'static str,
    /// What it gets.
    pub takes: BesideRows,
    /// The sink.
    pub sink: Arc<dyn Sink>,
}

/// What a sink beside another one gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BesideRows {
    /// What could not be read from the tables of the INSERT: rows of [`crate::accounts::rejected_schema`].
    Rejected,
    /// Every record of the one table it reads: rows of [`crate::accounts::records_schema`].
    Records,
}

/// Which changes a query makes, or a sink takes. Ordered: each later one includes the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ChangelogMode {
    /// Inserts only.
    Append,
    /// Inserts, updates (`UpdateAfter` alone) and deletes by primary key.
    Upsert,
    /// All four row kinds, updates as a pair.
    Retract,
}

/// What a sink promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// Rows may be lost or repeated (`none`, `print`, `blackhole`).
    None,
    /// Rows are sent as they come and confirmed at each checkpoint; a crash repeats the rows since the last one.
    AtLeastOnce,
    /// Through the outbox.
    ExactlyOnce,
}

/// How rows are spread over the writers of a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Distribution {
    /// As they come from the task before.
    Any,
    /// By these columns of the sink's schema, so that one writer sees all rows of a key in order.
    ByKey(Vec<usize>),
    /// Everything through one writer.
    Single,
}

/// Which writer this is.
#[derive(Debug, Clone)]
pub struct SinkTask {
    /// Name of the INSERT, unique in the job.
    pub insert: String,
    /// Index of the task.
    pub index: usize,
    /// How many writers there are.
    pub count: usize,
    /// Schema of the rows.
    pub schema: SchemaRef,
    /// What the query's rows do.
    pub changes: ChangelogMode,
}

/// Takes rows. Dropping it forgets what was not prepared.
#[async_trait]
pub trait SinkWriter: fmt::Debug + Send {
    /// Takes changes; what this sink can see to be unacceptable (size, key, NaN, range) is refused by row, now.
    async fn write(&mut self, changes: ChangeBatch) -> Result<Vec<RefusedRow>>;

    /// Says that no later row is older, for sinks that declare parts of their output complete by event time.
    fn on_watermark(&mut self, _watermark: Watermark) {}

    /// Hands over what came since the last barrier. At-least-once writers wait here until everything is confirmed,
    /// and return no unit. [`Cut::Final`] closes every unit.
    async fn prepare(&mut self, epoch: Epoch, cut: Cut) -> Result<Prepared>;
}

/// Why there is a barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cut {
    /// The interval has passed, or a savepoint is taken.
    Periodic,
    /// The job ends after this one: open units are closed.
    Final,
}

/// What a writer hands over at a barrier.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Units that got rows, changed their detail, or close; a unit that is not named stays open as it was.
    pub units: Vec<PreparedUnit>,
    /// Rows refused while preparing.
    pub refused: Vec<RefusedRow>,
}

/// One unit at a barrier.
#[derive(Debug)]
pub struct PreparedUnit {
    /// Its name, unique within the sink over the life of the job (take generation, task and a counter into it).
    pub unit: String,
    /// The rows it got since the last barrier; all batches of a unit have one schema.
    pub rows: Vec<ChangeBatch>,
    /// What the sink needs to take the unit up again, or to commit it, in a form of its own (JSON).
    pub detail: String,
    /// Whether it closes: then it is part of this epoch's commit.
    pub closes: bool,
}

/// A unit that is open in the checkpoint a job restarts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUnit {
    /// Its name.
    pub unit: String,
    /// As last prepared.
    pub detail: String,
    /// Rows in the outbox so far.
    pub rows: u64,
    /// Their bytes in the outbox.
    pub bytes: u64,
}

/// A closed unit with its rows.
pub struct Committable {
    /// Its name.
    pub unit: String,
    /// As last prepared.
    pub detail: String,
    /// All its rows in the order they were written.
    pub rows: OutboxRows,
}

impl fmt::Debug for Committable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committable").field("unit", &self.unit).field("detail", &self.detail).finish_non_exhaustive()
    }
}

/// Rows read back from the outbox, a segment at a time.
pub type OutboxRows = BoxStream<'static, Result<ChangeBatch>>;

/// What the log says about earlier deliveries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitFacts {
    /// Name of the INSERT, unique in the job.
    pub insert: String,
    /// Newest published epoch, if any.
    pub published: Option<Epoch>,
    /// Newest epoch with a commit marker, if any and if this sink had a part in it. When it is less than `published`,
    /// `commit(published)` follows.
    pub committed: Option<Epoch>,
}

/// What became of a commit.
#[derive(Debug, Default)]
pub struct CommitReport {
    /// Rows only the service could refuse; recorded once, in the commit marker.
    pub refused: Vec<RefusedRow>,
    /// Rows made visible, for the status line.
    pub rows: u64,
}

/// A row a sink would not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRow {
    /// The row as one JSON object.
    pub raw: String,
    /// Why, in words a user can act on.
    pub reason: String,
}

impl RefusedRow {
    /// Row `index` of a batch, refused for a reason.
    pub fn of(rows: &RecordBatch, index: usize, reason: impl Into<String>) -> Result<Self> {
        let mut text = Vec::new();
        let mut writer = arrow::json::LineDelimitedWriter::new(&mut text);
        writer.write(&rows.slice(index, 1))?;
        writer.finish()?;
        if text.last() == Some(&b'\n') {
            text.pop();
        }
        Ok(Self { raw: String::from_utf8_lossy(&text).into_owned(), reason: reason.into() })
    }

    /// Leaves out the changes without a value in one of these columns, and returns them. A row that goes may name its key
    /// alone; the old value of one that changes is what was refused when it came, and is left out without a word.
    pub fn without_values(changes: &mut ChangeBatch, not_null: &[usize]) -> Result<Vec<Self>> {
        let mut refused = Vec::new();
        if not_null.iter().all(|column| changes.rows.column(*column).null_count() == 0) {
            return Ok(refused);
        }
        let mut kept: Vec<u32> = Vec::with_capacity(changes.num_rows());
        for row in 0..changes.num_rows() {
            let missing = not_null.iter().find(|column| changes.rows.column(**column).is_null(row));
            match (missing, changes.kind(row)) {
                (None, _) | (_, RowKind::Delete) => kept.push(row as u32),
                (_, RowKind::UpdateBefore) => {}
                (Some(column), RowKind::Insert | RowKind::UpdateAfter) => {
                    let name = changes.rows.schema().field(*column).name().clone();
                    refused.push(Self::of(&changes.rows, row, format!("column \"{name}\" is NULL"))?);
                }
            }
        }
        *changes = take_changes(changes, &kept.into())?;
        Ok(refused)
    }

    /// Leaves out the changes with a text that is too long for its column, and returns them; the others are as their
    /// columns hold them. A row that goes may name what never came; the old value of one that changes is left out without
    /// a word, as it was refused when it came.
    pub fn too_long(changes: &mut ChangeBatch, lengths: &[(usize, TextLength)]) -> Result<Vec<Self>> {
        if lengths.is_empty() {
            return Ok(Vec::new());
        }
        let mut reasons: BTreeMap<u32, Option<String>> = BTreeMap::new();
        let mut columns = changes.rows.columns().to_vec();
        for (index, length) in lengths {
            let texts: &StringArray =
                columns[*index].as_string_opt().ok_or_else(|| Error::internal("a column with a length holds text"))?;
            if texts.iter().flatten().all(|text| length.holds(text)) {
                continue;
            }
            let stored = texts.iter().enumerate().map(|(row, text)| {
                let fitted = length.fitted(text?);
                match (&fitted, changes.kind(row)) {
                    (Ok(_), _) | (_, RowKind::Delete) => {}
                    (Err(error), kind) => {
                        let reason = (kind != RowKind::UpdateBefore).then(|| error.message().to_owned());
                        reasons.entry(row as u32).or_insert(reason);
                    }
                }
                fitted.ok().or(text)
            });
            columns[*index] = Arc::new(stored.collect::<StringArray>());
        }
        let said = reasons.iter().filter_map(|(row, reason)| Some((*row as usize, reason.as_ref()?)));
        let refused = said.map(|(row, reason)| Self::of(&changes.rows, row, reason)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(changes.num_rows()));
        *changes = changes.in_columns(RecordBatch::try_new_with_options(changes.rows.schema(), columns, &options)?);
        if !reasons.is_empty() {
            let kept = (0..changes.num_rows() as u32).filter(|row| !reasons.contains_key(row));
            *changes = take_changes(changes, &UInt32Array::from_iter_values(kept))?;
        }
        Ok(refused)
    }
}

/// What a column declared `varchar(n)` or `char(n)` holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TextLength {
    /// Name of the column.
    pub column: String,
    /// Characters, at most.
    pub most: usize,
    /// Whether blanks at the end are none of a value's, as in `char(n)`.
    pub is_padded: bool,
    /// Whether rows that change are told apart by it: then nothing is cut off.
    pub is_key: bool,
}

impl TextLength {
    /// Whether a text is held as it is; may say no of one that is.
    fn holds(&self, text: &str) -> bool {
        text.len() <= self.most && !(self.is_padded && text.ends_with(' '))
    }

    /// The text as the column holds it: only blanks at its end are cut off, one that is longer without them is refused.
    pub fn fitted<'a>(&self, text: &'a str) -> Result<&'a str> {
        let own = if self.is_padded { text.trim_end_matches(' ') } else { text };
        let fitted = match own.char_indices().nth(self.most) {
            Some((end, _)) if own[end..].bytes().all(|byte| byte == b' ') => Some(&own[..end]),
            Some(_) => None,
            None => Some(own),
        };
        if let Some(fitted) = fitted.filter(|fitted| !self.is_key || fitted.len() == text.len()) {
            return Ok(fitted);
        }
        let kind = if self.is_padded { "char" } else { "varchar" };
        let (start, column, most) = (text.chars().take(50).collect::<String>(), &self.column, self.most);
        if fitted.is_some() {
            let message = format!(
                "the value {start:?} has blanks at its end that the key \"{column}\", which is {kind}({most}), does not keep"
            );
            return Err(Error::user("INVALID_CAST_ARGUMENT", message)
                .with_hint("take them off with rtrim before the query groups, ranks or joins by the value"));
        }
        let message = format!("the value {start:?} is longer than column \"{column}\", which is {kind}({most})");
        Err(Error::user("INVALID_CAST_ARGUMENT", message)
            .with_hint(format!("cut it off with CAST(.. AS {kind}({most})), or declare the column longer")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int8Array, Int64Array};

    #[test]
    fn a_text_too_long_is_refused_and_blanks_at_its_end_are_cut_off() {
        let length =
            |column: &str, is_padded| TextLength { column: column.to_owned(), most: 3, is_padded, is_key: false };
        let lengths = [(1, length("v", false)), (2, length("c", true))];
        let texts = |texts: &[Option<&str>]| Arc::new(StringArray::from(texts.to_vec())) as arrow::array::ArrayRef;
        let some = [Some("abc"), Some("abc  "), Some("abcdef"), None, Some("\u{e4}\u{f6}\u{fc}"), Some("gone")];
        let ids = Arc::new(Int64Array::from_iter_values(0..6));
        let rows = RecordBatch::try_from_iter([("id", ids as _), ("v", texts(&some)), ("c", texts(&some))]).unwrap();
        let kinds = [0, 0, 0, 0, 0, RowKind::Delete as i8];
        let mut changes = ChangeBatch::new(rows, Some(Int8Array::from(kinds.to_vec())));
        let refused = RefusedRow::too_long(&mut changes, &lengths).unwrap();
        let reasons: Vec<&str> = refused.iter().map(|row| row.reason.as_str()).collect();
        assert_eq!(reasons, ["the value \"abcdef\" is longer than column \"v\", which is varchar(3)"]);
        assert!(refused[0].raw.contains("\"id\":2"), "{}", refused[0].raw);
        let kept = [Some("abc"), Some("abc"), None, Some("\u{e4}\u{f6}\u{fc}"), Some("gone")];
        for column in [1, 2] {
            assert_eq!(changes.rows.column(column).as_ref(), texts(&kept).as_ref());
        }
        assert_eq!(changes.kind(4), RowKind::Delete);
    }

    #[test]
    fn a_row_that_was_refused_is_not_refused_again_when_it_changes() {
        let lengths = [(0, TextLength { column: "v".to_owned(), most: 3, is_padded: false, is_key: false })];
        let texts =
            StringArray::from(vec![Some("abcdef"), Some("abcdef"), Some("abc"), Some("abc"), None, None, Some("z")]);
        let rows = RecordBatch::try_from_iter_with_nullable([("v", Arc::new(texts) as _, true)]).unwrap();
        let [insert, before, after] =
            [RowKind::Insert, RowKind::UpdateBefore, RowKind::UpdateAfter].map(|kind| kind as i8);
        let kinds = vec![insert, before, after, before, after, before, after];
        let mut changes = ChangeBatch::new(rows, Some(Int8Array::from(kinds)));
        assert_eq!(RefusedRow::too_long(&mut changes, &lengths).unwrap().len(), 1, "the row as it came");
        assert_eq!(RefusedRow::without_values(&mut changes, &[0]).unwrap().len(), 1, "the row as it came");
        let kinds: Vec<RowKind> = (0..changes.num_rows()).map(|row| changes.kind(row)).collect();
        assert_eq!(kinds, [RowKind::UpdateAfter, RowKind::UpdateBefore, RowKind::UpdateAfter]);
    }

    #[test]
    fn nothing_is_cut_off_a_key_that_tells_changes_apart() {
        let length = |is_padded, is_key| TextLength { column: "c".to_owned(), most: 3, is_padded, is_key };
        for (text, is_padded) in [("bcd ", false), ("bcd ", true), ("b ", true)] {
            assert_eq!(length(is_padded, false).fitted(text).unwrap(), text.trim_end());
            let said = length(is_padded, true).fitted(text).unwrap_err();
            assert!(said.message().contains("blanks at its end that the key \"c\""), "{said:?}");
        }
        assert_eq!(length(false, true).fitted("b ").unwrap(), "b ");
        assert_eq!(length(true, true).fitted("bcd").unwrap(), "bcd");
    }
}
