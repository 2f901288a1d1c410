//! A DynamoDB table as a writable table: each row is an item, by the table's own key.
//!
//! The writer only collects and refuses what the service would refuse; [`Sink::commit`] sends (see `deliver`). An epoch
//! that is committed again writes the same values. An older generation is stopped by the job's log before each request,
//! and where values are updated later each item's version stops it too; by transaction (see `transact`) nothing of it
//! gets through.
//!
//! Invariant: a row leaves this process in a commit only.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use aws_sdk_dynamodb::{
    Client,
    config::{Builder, retry::RetryConfig},
};
use futures::StreamExt;
use headwater_engine::{
    connector::{
        ChangelogMode, CommitFacts, CommitReport, Committable, Cut, Distribution, Guarantee, JobContext, OpenUnit,
        Prepared, PreparedUnit, RefusedRow, Sink, SinkTask, SinkWriter, TableSpec,
    },
    error::{Error, Result},
    message::{ChangeBatch, Epoch},
};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::{
    SERVICE,
    deliver::Delivery,
    keys::{self, Description},
    options::{DynamoOptions, Fencing},
    rows::RowWrites,
    transact::FencingTable,
};

/// A writable table.
pub(super) struct DynamoSink {
    options: DynamoOptions,
    spec: TableSpec,
    target: OnceCell<Target>,
    units: AtomicU64,
}

/// The table as it is outside.
#[derive(Debug)]
struct Target {
    client: Client,
    description: Arc<Description>,
    fencing_table: Option<FencingTable>,
}

/// What a unit's commit must know.
#[derive(Debug, Serialize, Deserialize)]
struct Detail {
    /// Whether values of a key may be updated later, so that each item carries a version.
    item_versions: bool,
}

impl DynamoSink {
    pub(super) fn new(spec: &TableSpec) -> Result<Self> {
        let options = DynamoOptions::parse(spec)?;
        Ok(Self { options, spec: spec.clone(), target: OnceCell::new(), units: AtomicU64::new(0) })
    }

    async fn target(&self) -> Result<&Target> {
        self.target
            .get_or_try_init(|| async {
                // The delivery's own pace waits and tries again; a second one below it would hide the throttling.
                let config = Builder::from(&self.options.aws.connect(&[SERVICE]).await?);
                let client = Client::from_conf(config.retry_config(RetryConfig::disabled()).build());
                let description = Arc::new(keys::describe(&client, &self.options.table_name).await?);
                let fencing_table = FencingTable::find(&client, &self.options).await?;
                Ok(Target { client, description, fencing_table })
            })
            .await
    }

    /// The columns that hold the table's key.
    pub(super) async fn key(&self) -> Result<Vec<String>> {
        let schema = &self.spec.schema;
        let columns = self.target().await?.description.columns(&self.options.table, schema, &self.spec.primary_key)?;
        Ok(columns.into_iter().map(|column| schema.field(column).name().clone()).collect())
    }

    async fn writes(&self, schema: &SchemaRef) -> Result<RowWrites> {
        let description = Arc::clone(&self.target().await?.description);
        RowWrites::new(&self.options, &self.spec.primary_key, description, schema)
    }

    fn fencing(&self, changes: ChangelogMode) -> Fencing {
        let default = if changes == ChangelogMode::Append { Fencing::Check } else { Fencing::Item };
        self.options.fencing.unwrap_or(default)
    }

    /// How a unit's writes are fenced, which was made when its job was told so. A statement has no other copy: were it
    /// to take the entries of the fencing table, statements at the same time would end one another.
    fn fencing_of(&self, job: &JobContext, detail: &Detail) -> Fencing {
        match (self.options.fencing, detail.item_versions) {
            (Some(Fencing::Transaction), _) if job.fence.can_be_lost() => Fencing::Transaction,
            (_, true) => Fencing::Item,
            (_, false) => Fencing::Check,
        }
    }
}

impl fmt::Debug for DynamoSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoSink").field("table", &self.options.table_name).finish_non_exhaustive()
    }
}

impl fmt::Display for DynamoSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dynamodb table {}", self.options.table_name)
    }
}

#[async_trait]
impl Sink for DynamoSink {
    fn accepts(&self) -> ChangelogMode {
        ChangelogMode::Upsert
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn caution(&self, changes: ChangelogMode) -> Option<String> {
        let note = match (changes, self.fencing(changes)) {
            (ChangelogMode::Append, _) | (_, Fencing::Transaction) => return None,
            (_, Fencing::Check) => {
                "a copy of the job that was paused while another took over can then overwrite newer values: leave out 'sink.fencing' = 'check'"
            }
            (_, Fencing::Item) => {
                "items carry a version, so that a copy of the job that was paused overwrites nothing newer; it can put back what was deleted since, unless 'sink.fencing' = 'transaction'"
            }
        };
        Some(note.to_owned())
    }

    /// By the declared key; without one, where rows are only added, everything passes one writer.
    fn distribution(&self) -> Distribution {
        let column = |name: &String| self.spec.schema.index_of(name).ok();
        let columns: Option<Vec<usize>> = self.spec.primary_key.iter().map(column).collect();
        match columns {
            Some(columns) if !columns.is_empty() => Distribution::ByKey(columns),
            _ => Distribution::Single,
        }
    }

    async fn check(&self, _job: &JobContext, schema: SchemaRef) -> Result<()> {
        self.writes(&schema).await.map(drop)
    }

    async fn writer(&self, _job: &JobContext, task: SinkTask, open: Vec<OpenUnit>) -> Result<Box<dyn SinkWriter>> {
        if let Some(unit) = open.first() {
            return Err(Error::internal(format!(
                "dynamodb units close at each barrier, but \"{}\" is open",
                unit.unit
            )));
        }
        Ok(Box::new(DynamoWriter {
            options: self.options.clone(),
            description: Arc::clone(&self.target().await?.description),
            writes: self.writes(&task.schema).await?,
            task: task.index,
            number: self.units.fetch_add(1, Ordering::Relaxed),
            item_versions: self.fencing(task.changes) == Fencing::Item,
            rows: Vec::new(),
        }))
    }

    async fn recover(&self, job: &JobContext, _facts: &CommitFacts) -> Result<()> {
        job.fence.check().await?;
        let target = self.target().await?;
        match &target.fencing_table {
            Some(fencing_table) if job.fence.can_be_lost() => fencing_table.claim(&target.client, job).await,
            _ => Ok(()),
        }
    }

    async fn commit(&self, job: &JobContext, epoch: Epoch, work: Vec<Committable>) -> Result<CommitReport> {
        if work.is_empty() {
            return Ok(CommitReport::default());
        }
        let target = self.target().await?;
        let table = (&*target.description, target.fencing_table.as_ref());
        let mut delivery = Delivery::new(&target.client, table, &self.options, (job, epoch));
        for mut unit in work {
            let detail: Detail = serde_json::from_str(&unit.detail)
                .map_err(|error| Error::internal(format!("unit \"{}\" has no detail: {error}", unit.unit)))?;
            delivery.fence_by(self.fencing_of(job, &detail)).await?;
            let mut writes = None;
            while let Some(changes) = unit.rows.next().await {
                let changes = changes?;
                let writes = match &mut writes {
                    Some(writes) => writes,
                    none => none.insert(self.writes(&changes.rows.schema()).await?),
                };
                let mut refused = Vec::new();
                for write in writes.writes(&changes, &mut refused)? {
                    delivery.add(write).await?;
                }
                delivery.refuse(refused);
            }
        }
        let report = delivery.finish().await?;
        fail_on(&report.refused, &self.options, &target.description)?;
        Ok(report)
    }
}

/// The error for rows that cannot be written, where the table asks for one.
fn fail_on(refused: &[RefusedRow], options: &DynamoOptions, description: &Description) -> Result<()> {
    let Some(row) = refused.first().filter(|_| options.fail_on_error) else { return Ok(()) };
    let (table, key) = (&options.table, description.key_in(&row.raw));
    let message = format!("table \"{table}\": the item of {key} cannot be written: {}", row.reason);
    let hint =
        format!("without 'sink.fail-on-error' = 'true' the job goes on, and such rows are in \"{table}$rejected\"");
    Err(Error::data("INVALID_ROW", message).with_hint(hint))
}

/// Collects an epoch's rows for the outbox.
struct DynamoWriter {
    options: DynamoOptions,
    description: Arc<Description>,
    writes: RowWrites,
    task: usize,
    number: u64,
    item_versions: bool,
    rows: Vec<ChangeBatch>,
}

impl fmt::Debug for DynamoWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoWriter").field("task", &self.task).field("batches", &self.rows.len()).finish()
    }
}

#[async_trait]
impl SinkWriter for DynamoWriter {
    async fn write(&mut self, changes: ChangeBatch) -> Result<Vec<RefusedRow>> {
        let (kept, refused) = self.writes.checked(changes)?;
        fail_on(&refused, &self.options, &self.description)?;
        if kept.num_rows() > 0 {
            self.rows.push(kept);
        }
        Ok(refused)
    }

    async fn prepare(&mut self, epoch: Epoch, _cut: Cut) -> Result<Prepared> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(Prepared::default());
        }
        let detail = serde_json::to_string(&Detail { item_versions: self.item_versions })
            .map_err(|error| Error::internal(format!("a unit's detail: {error}")))?;
        let unit = format!("epoch-{}-{}-{}", epoch.0, self.task, self.number);
        let unit = PreparedUnit { unit, rows, detail, closes: true };
        Ok(Prepared { units: vec![unit], refused: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn what_a_paused_copy_can_do_is_said_where_values_are_updated() {
        let caution = |extra: Option<(&str, &str)>, changes| {
            let options = [("table-name", "T")].into_iter().chain(extra);
            let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, true)]));
            DynamoSink::new(&TableSpec::new("t", schema, options)).unwrap().caution(changes)
        };
        let check = Some(("sink.fencing", "check"));
        assert_eq!(caution(check, ChangelogMode::Append), None, "a stale repeat writes the same value");
        assert!(caution(check, ChangelogMode::Upsert).unwrap().contains("can then overwrite newer values"));
        assert!(caution(None, ChangelogMode::Upsert).unwrap().contains("put back what was deleted since"));
    }
}
