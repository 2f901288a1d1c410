//! The commit of an epoch: writes merged by key, in batches of 25, several on their way.
//!
//! ```text
//! rows ──> round: last write of each key ──> batches ──> BatchWriteItem ──unprocessed──> back into the queue
//!                                                   ├──> PutItem, DeleteItem on condition (fencing by item)
//!                                                   └──> TransactWriteItems (fencing by transaction)
//! ```
//!
//! A round is sent to its end before the next begins, and holds a key once: so a key has at most one write on its way,
//! and its writes arrive in order. Everything is a function of the epoch's rows, so a repeat writes the same values.
//!
//! Invariant: before each request the job's log is asked whether this attempt still holds the job.

use std::{collections::VecDeque, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, DeleteRequest, PutRequest, WriteRequest},
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use futures::{StreamExt, stream::FuturesUnordered};
use headwater_engine::{
    connector::{CommitReport, JobContext, RefusedRow},
    error::{Error, Result},
    message::Epoch,
};
use indexmap::IndexMap;

use super::{
    keys::{Description, KeyId},
    options::{DynamoOptions, Fencing},
    rows::{Action, Write},
    transact::{Cancelled, FencingTable, PLACES},
};
use crate::aws::{Failure, Pace, failed};

/// Name of the version that fencing by item keeps in each item.
pub(super) const VERSION: &str = "headwater_version";
/// The version is absent, of another incarnation of the job's state, or not newer than ours.
const NOT_NEWER: &str = "attribute_not_exists(#v) OR NOT begins_with(#v, :i) OR #v <= :v";
/// Requests in a row that may go without an answer before the commit fails (the runtime then tries it again).
const UNANSWERED_MAX: u32 = 5;

/// Sends writes.
#[derive(Debug)]
pub(super) struct Delivery<'a> {
    sender: Sender<'a>,
    options: &'a DynamoOptions,
    pace: Pace,
    round: IndexMap<KeyId, Write>,
    round_bytes: usize,
    fencing: Fencing,
    unanswered: u32,
    report: CommitReport,
}

impl<'a> Delivery<'a> {
    /// The delivery of an epoch.
    pub(super) fn new(
        client: &'a Client,
        (description, fencing_table): (&'a Description, Option<&'a FencingTable>),
        options: &'a DynamoOptions,
        (job, epoch): (&'a JobContext, Epoch),
    ) -> Self {
        let sender = Sender { client, description, fencing_table, table: &options.table_name, job, epoch };
        Self {
            sender,
            options,
            pace: Pace::new(options.in_flight),
            round: IndexMap::new(),
            round_bytes: 0,
            fencing: Fencing::Check,
            unanswered: 0,
            report: CommitReport::default(),
        }
    }

    /// The following writes are fenced in this way.
    pub(super) async fn fence_by(&mut self, fencing: Fencing) -> Result<()> {
        if fencing != self.fencing {
            self.send_round().await?;
            self.fencing = fencing;
        }
        Ok(())
    }

    /// Adds a write; an earlier one of its key that waits is replaced.
    pub(super) async fn add(&mut self, write: Write) -> Result<()> {
        self.round_bytes += write.bytes;
        self.report.rows += 1;
        if let Some(replaced) = self.round.insert(write.key.clone(), write) {
            self.round_bytes -= replaced.bytes;
        }
        let is_full =
            self.round.len() >= self.options.buffered_items || self.round_bytes >= self.options.buffered_bytes;
        if is_full { self.send_round().await } else { Ok(()) }
    }

    /// Adds rows that were refused before.
    pub(super) fn refuse(&mut self, refused: Vec<RefusedRow>) {
        self.report.refused.extend(refused);
    }

    /// Sends what is left.
    pub(super) async fn finish(mut self) -> Result<CommitReport> {
        self.send_round().await?;
        self.report.rows -= (self.report.refused.len() as u64).min(self.report.rows);
        Ok(self.report)
    }

    async fn send_round(&mut self) -> Result<()> {
        let mut queue: VecDeque<Write> = std::mem::take(&mut self.round).into_values().collect();
        self.round_bytes = 0;
        let sender = self.sender.clone();
        let fencing = self.fencing;
        let (items, mut places) = match fencing {
            Fencing::Check => (self.options.batch_items, (0..self.options.in_flight).collect()),
            Fencing::Item => (1, (0..self.options.in_flight).collect()),
            Fencing::Transaction => (self.options.batch_items, (0..PLACES).collect::<Vec<usize>>()),
        };
        let mut wait = Duration::ZERO;
        let mut on_their_way = FuturesUnordered::new();
        loop {
            while !queue.is_empty()
                && on_their_way.len() < self.pace.allowed()
                && let Some(place) = places.pop()
            {
                let batch = next_batch(&mut queue, items, fencing.request_bytes());
                let answer = sender.send(batch, (fencing, place), std::mem::take(&mut wait));
                on_their_way.push(async move { (place, answer.await) });
            }
            let Some((place, answer)) = on_their_way.next().await else { return Ok(()) };
            let Answer { left, refused, pressure } = answer?;
            places.push(place);
            self.report.refused.extend(refused);
            queue.extend(left);
            match pressure {
                Pressure::None => {
                    self.pace.taken();
                    self.unanswered = 0;
                }
                Pressure::Throttled => wait = self.pace.throttled(),
                Pressure::Unanswered(error) => {
                    self.unanswered += 1;
                    if self.unanswered >= UNANSWERED_MAX {
                        return Err(error);
                    }
                    wait = self.pace.throttled();
                }
            }
        }
    }
}

/// The writes of the next request: as many as it may hold, at least one.
fn next_batch(queue: &mut VecDeque<Write>, items: usize, bytes: usize) -> Vec<Write> {
    let sizes = queue.iter().take(items).scan(0, |sum, write| {
        *sum += write.bytes;
        Some(*sum)
    });
    let count = sizes.take_while(|sum| *sum <= bytes).count().max(1);
    queue.drain(..count.min(queue.len())).collect()
}

/// What became of a request.
struct Answer {
    /// Writes to send again.
    left: Vec<Write>,
    refused: Vec<RefusedRow>,
    pressure: Pressure,
}

enum Pressure {
    None,
    Throttled,
    Unanswered(Error),
}

impl Answer {
    fn taken() -> Self {
        Self { left: Vec::new(), refused: Vec::new(), pressure: Pressure::None }
    }

    fn add(&mut self, other: Self) {
        self.left.extend(other.left);
        self.refused.extend(other.refused);
        if !matches!(other.pressure, Pressure::None) {
            self.pressure = other.pressure;
        }
    }
}

/// What became of a transaction.
enum Transacted {
    Answered(Answer),
    /// All of these were refused for what one of them is.
    Refused(Vec<Write>, String),
}

/// Sends requests of one epoch.
#[derive(Debug, Clone)]
struct Sender<'a> {
    client: &'a Client,
    description: &'a Description,
    fencing_table: Option<&'a FencingTable>,
    table: &'a str,
    job: &'a JobContext,
    epoch: Epoch,
}

impl Sender<'_> {
    async fn send(&self, batch: Vec<Write>, (fencing, place): (Fencing, usize), wait: Duration) -> Result<Answer> {
        if !wait.is_zero() {
            self.job.clock.sleep(wait).await;
        }
        self.job.fence.check().await?;
        match fencing {
            Fencing::Check => self.send_batch(batch).await,
            Fencing::Item => self.send_each(batch, true).await,
            Fencing::Transaction => self.send_transaction(batch, place).await,
        }
    }

    /// All writes or none, while this attempt holds its entry of the fencing table.
    async fn send_transaction(&self, batch: Vec<Write>, place: usize) -> Result<Answer> {
        let (batch, reason) = match self.transact(batch, place).await? {
            Transacted::Answered(answer) => return Ok(answer),
            Transacted::Refused(batch, reason) => (batch, reason),
        };
        let mut all = Answer::taken();
        if let [write] = batch.as_slice() {
            all.refused.push(write.refused(&reason)?);
            return Ok(all);
        }
        // A transaction for each write, to find the row that all were refused for.
        for write in batch {
            match self.transact(vec![write], place).await? {
                Transacted::Answered(one) => all.add(one),
                Transacted::Refused(one, reason) => {
                    all.refused.extend(one.iter().map(|write| write.refused(&reason)).collect::<Result<Vec<_>>>()?);
                }
            }
        }
        Ok(all)
    }

    async fn transact(&self, mut batch: Vec<Write>, place: usize) -> Result<Transacted> {
        let Some(fencing_table) = self.fencing_table else {
            return Err(Error::internal("writes are fenced by transaction, but there is no fencing table"));
        };
        let items = fencing_table.transaction(self.job, self.table, place, &batch)?;
        let Err(error) = self.client.transact_write_items().set_transact_items(Some(items)).send().await else {
            return Ok(Transacted::Answered(Answer::taken()));
        };
        let again = |left, pressure| Ok(Transacted::Answered(Answer { left, refused: Vec::new(), pressure }));
        match Cancelled::of(&error) {
            Some(Cancelled::Lost) => {
                // The log says who holds the job, if that is what happened.
                self.job.fence.check().await?;
                return Err(fencing_table.lost());
            }
            Some(Cancelled::Later) => return again(batch, Pressure::Throttled),
            Some(Cancelled::Rows(reasons)) => {
                let mut refused = Vec::with_capacity(reasons.len());
                for (index, reason) in reasons.iter().rev() {
                    if *index < batch.len() {
                        refused.push(batch.remove(*index).refused(reason)?);
                    }
                }
                return Ok(Transacted::Answered(Answer { left: batch, refused, pressure: Pressure::None }));
            }
            None => {}
        }
        match Failure::of(&error) {
            Failure::Throttled => again(batch, Pressure::Throttled),
            Failure::Unanswered => again(batch, Pressure::Unanswered(failed(&self.doing(), &error))),
            Failure::Refused if is_about_a_row(error.code()) => {
                let reason = error.message().unwrap_or("DynamoDB refuses the item").to_owned();
                Ok(Transacted::Refused(batch, reason))
            }
            Failure::Refused => Err(failed(&self.doing(), &error)),
        }
    }

    async fn send_batch(&self, batch: Vec<Write>) -> Result<Answer> {
        let requests = batch.iter().map(request).collect::<Result<Vec<_>>>()?;
        match self.client.batch_write_item().request_items(self.table, requests).send().await {
            Ok(answer) => {
                let unprocessed = answer.unprocessed_items.and_then(|mut all| all.remove(self.table));
                let unprocessed: Vec<KeyId> = unprocessed.unwrap_or_default().iter().map(|one| self.key(one)).collect();
                if unprocessed.is_empty() {
                    return Ok(Answer::taken());
                }
                let count = unprocessed.len();
                let (left, written): (Vec<Write>, Vec<Write>) =
                    batch.into_iter().partition(|write| unprocessed.contains(&write.key));
                // The service may spell a number otherwise than it was sent: then all of them are sent again.
                let left = if left.len() == count { left } else { left.into_iter().chain(written).collect() };
                Ok(Answer { left, refused: Vec::new(), pressure: Pressure::Throttled })
            }
            Err(error) => match Failure::of(&error) {
                Failure::Throttled => Ok(Answer { left: batch, refused: Vec::new(), pressure: Pressure::Throttled }),
                Failure::Unanswered => {
                    let pressure = Pressure::Unanswered(failed(&self.doing(), &error));
                    Ok(Answer { left: batch, refused: Vec::new(), pressure })
                }
                Failure::Refused if is_about_a_row(error.code()) => self.send_each(batch, false).await,
                Failure::Refused => Err(failed(&self.doing(), &error)),
            },
        }
    }

    /// One request a write: to find the row that a batch was refused for, or to write on a condition.
    async fn send_each(&self, batch: Vec<Write>, on_condition: bool) -> Result<Answer> {
        let mut answer = Answer::taken();
        for (number, write) in batch.into_iter().enumerate() {
            if number > 0 {
                self.job.fence.check().await?;
            }
            let result = match &write.action {
                Action::Put(item) => self.put(item.clone(), on_condition).await,
                Action::Delete(key) => self.delete(key.clone(), on_condition).await,
            };
            match result {
                Ok(()) => {}
                Err(One::Newer) => {
                    tracing::debug!(table = self.table, "a newer epoch has written an item before this one");
                }
                Err(One::Refused(reason)) => answer.refused.push(write.refused(&reason)?),
                Err(One::Again(pressure)) => {
                    answer.pressure = pressure;
                    answer.left.push(write);
                }
                Err(One::Fails(error)) => return Err(error),
            }
        }
        Ok(answer)
    }

    async fn put(&self, mut item: super::size::Item, on_condition: bool) -> std::result::Result<(), One> {
        let mut request = self.client.put_item().table_name(self.table);
        if on_condition {
            item.insert(VERSION.to_owned(), AttributeValue::S(self.version()));
            request = request.condition_expression(NOT_NEWER).expression_attribute_names("#v", VERSION);
            request = request.expression_attribute_values(":i", AttributeValue::S(self.incarnation()));
            request = request.expression_attribute_values(":v", AttributeValue::S(self.version()));
        }
        let sent = request.set_item(Some(item)).send().await;
        sent.map(drop).map_err(|error| self.one(&error))
    }

    async fn delete(&self, key: super::size::Item, on_condition: bool) -> std::result::Result<(), One> {
        let mut request = self.client.delete_item().table_name(self.table).set_key(Some(key));
        if on_condition {
            request = request.condition_expression(NOT_NEWER).expression_attribute_names("#v", VERSION);
            request = request.expression_attribute_values(":i", AttributeValue::S(self.incarnation()));
            request = request.expression_attribute_values(":v", AttributeValue::S(self.version()));
        }
        request.send().await.map(drop).map_err(|error| self.one(&error))
    }

    fn one<E>(
        &self,
        error: &aws_smithy_runtime_api::client::result::SdkError<
            E,
            aws_smithy_runtime_api::client::orchestrator::HttpResponse,
        >,
    ) -> One
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match Failure::of(error) {
            Failure::Throttled => One::Again(Pressure::Throttled),
            Failure::Unanswered => One::Again(Pressure::Unanswered(failed(&self.doing(), error))),
            Failure::Refused if error.code() == Some("ConditionalCheckFailedException") => One::Newer,
            Failure::Refused if is_about_a_row(error.code()) => {
                One::Refused(error.message().unwrap_or("DynamoDB refuses the item").to_owned())
            }
            Failure::Refused => One::Fails(failed(&self.doing(), error)),
        }
    }

    fn incarnation(&self) -> String {
        format!("{}/", self.job.incarnation)
    }

    /// Ordered as text like epochs are as numbers.
    fn version(&self) -> String {
        format!("{}{:020}", self.incarnation(), self.epoch.0)
    }

    fn doing(&self) -> String {
        format!("cannot write to the DynamoDB table \"{}\"", self.table)
    }

    fn key(&self, request: &WriteRequest) -> KeyId {
        let put = request.put_request.as_ref().map(|put| &put.item);
        let delete = request.delete_request.as_ref().map(|delete| &delete.key);
        put.or(delete).map(|item| self.description.key_id(item)).unwrap_or_default()
    }
}

/// Why one write did not happen.
enum One {
    Newer,
    Refused(String),
    Again(Pressure),
    Fails(Error),
}

fn is_about_a_row(code: Option<&str>) -> bool {
    matches!(code, Some("ValidationException" | "ItemCollectionSizeLimitExceededException"))
}

fn request(write: &Write) -> Result<WriteRequest> {
    let incomplete = |error| Error::internal(format!("an incomplete request: {error}"));
    Ok(match &write.action {
        Action::Put(item) => {
            let put = PutRequest::builder().set_item(Some(item.clone())).build().map_err(incomplete)?;
            WriteRequest::builder().put_request(put).build()
        }
        Action::Delete(key) => {
            let delete = DeleteRequest::builder().set_key(Some(key.clone())).build().map_err(incomplete)?;
            WriteRequest::builder().delete_request(delete).build()
        }
    })
}
