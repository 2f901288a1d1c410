//! Fencing by transaction: writes that happen only while this attempt holds the job, checked by the service itself.
//!
//! ```text
//! recover ──> PutItem  (fencing table): "<job>/<table>/<place>" is held by <incarnation>/<generation>, if none larger has it
//! commit  ──> TransactWriteItems: check of that entry, then up to 99 writes: all of them, or none
//! ```
//!
//! A newer attempt raises every entry before it commits, so that whatever an older one still sends, a put of an item that
//! was deleted since included, is refused. Transactions that name one entry at a time would exclude each other, hence a
//! number of entries, one for each request that may be on its way. A write costs twice the capacity of a plain one.
//!
//! Invariant: an entry never goes back to a smaller generation of one incarnation.

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    operation::transact_write_items::TransactWriteItemsError,
    types::{
        AttributeValue, CancellationReason, ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure,
        TransactWriteItem,
    },
};
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use headwater_engine::{
    connector::JobContext,
    error::{Error, ErrorKind, Result},
};

use super::{
    keys::describe,
    options::DynamoOptions,
    rows::{Action, Write},
};
use crate::aws::{Backoff, Failure, failed};

/// Transactions on their way at once, each with an entry of its own.
pub(super) const PLACES: usize = 8;
/// Who holds an entry.
const OWNER: &str = "owner";
/// Nobody, a job that began anew since, or a smaller generation.
const NO_LARGER: &str = "attribute_not_exists(#o) OR NOT begins_with(#o, :i) OR #o <= :o";
/// How often an entry is asked for before the attempt fails (the runtime then tries again).
const CLAIM_ATTEMPTS: u32 = 8;

/// The table that holds the entries.
#[derive(Debug)]
pub(super) struct FencingTable {
    name: String,
    key: String,
    /// The table whose writes are fenced, as SQL calls it.
    fenced: String,
}

/// What the service says of a transaction that it did not take.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cancelled {
    /// Another attempt holds the entry.
    Lost,
    /// Another transaction was under way with an item, or there were too many: the same again, later.
    Later,
    /// These writes are refused for these reasons, and the others did not happen.
    Rows(Vec<(usize, String)>),
}

impl FencingTable {
    /// The table that the options name, whose key is one text.
    pub(super) async fn find(client: &Client, options: &DynamoOptions) -> Result<Option<Self>> {
        let Some(name) = &options.fencing_table else { return Ok(None) };
        let wanted = "it is to have a partition key of type S and no sort key";
        let description = describe(client, name).await.map_err(|error| match error.code().0 {
            "TABLE_NOT_FOUND" => {
                let message = format!("DynamoDB table \"{name}\" of 'sink.fencing.table-name' does not exist");
                Error::user("TABLE_NOT_FOUND", message).with_hint(format!("create it: {wanted}"))
            }
            _ => error,
        })?;
        match description.keys.as_slice() {
            [key] if key.kind == "S" => {
                Ok(Some(Self { name: name.clone(), key: key.name.clone(), fenced: options.table.clone() }))
            }
            _ => {
                let message = format!("DynamoDB table \"{name}\" cannot hold who may write to \"{}\"", options.table);
                Err(Error::user("INVALID_TABLE_PROPERTY", message).with_hint(wanted))
            }
        }
    }

    /// Takes every entry for this attempt; fails if a larger generation has one.
    pub(super) async fn claim(&self, client: &Client, job: &JobContext) -> Result<()> {
        for place in 0..PLACES {
            self.claim_entry(client, job, place).await?;
        }
        Ok(())
    }

    async fn claim_entry(&self, client: &Client, job: &JobContext, place: usize) -> Result<()> {
        let doing = format!("cannot write to the DynamoDB table \"{}\" of 'sink.fencing.table-name'", self.name);
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        loop {
            let request = client.put_item().table_name(&self.name).item(&self.key, self.entry(job, place));
            let request = request.item(OWNER, owner(job)).condition_expression(NO_LARGER);
            let request = request.expression_attribute_names("#o", OWNER).expression_attribute_values(":o", owner(job));
            let incarnation = AttributeValue::S(format!("{}/", job.incarnation));
            let Err(error) = request.expression_attribute_values(":i", incarnation).send().await else { return Ok(()) };
            match Failure::of(&error) {
                Failure::Refused if error.code() == Some("ConditionalCheckFailedException") => {
                    return Err(self.lost());
                }
                Failure::Throttled | Failure::Unanswered if backoff.attempts() < CLAIM_ATTEMPTS => {
                    backoff.wait(&job.clock).await;
                }
                _ => return Err(failed(&doing, &error)),
            }
        }
    }

    /// The writes as a transaction that needs an entry to be this attempt's.
    pub(super) fn transaction(
        &self,
        job: &JobContext,
        table: &str,
        place: usize,
        writes: &[Write],
    ) -> Result<Vec<TransactWriteItem>> {
        let check = ConditionCheck::builder().table_name(&self.name).key(&self.key, self.entry(job, place));
        let check = check.condition_expression("#o = :o").expression_attribute_names("#o", OWNER);
        let check = check.expression_attribute_values(":o", owner(job));
        let check = check.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::None);
        let mut items = Vec::with_capacity(writes.len() + 1);
        items.push(TransactWriteItem::builder().condition_check(check.build().map_err(incomplete)?).build());
        for write in writes {
            items.push(match &write.action {
                Action::Put(item) => {
                    let put = Put::builder().table_name(table).set_item(Some(item.clone()));
                    TransactWriteItem::builder().put(put.build().map_err(incomplete)?).build()
                }
                Action::Delete(key) => {
                    let delete = Delete::builder().table_name(table).set_key(Some(key.clone()));
                    TransactWriteItem::builder().delete(delete.build().map_err(incomplete)?).build()
                }
            });
        }
        Ok(items)
    }

    /// Another attempt holds the job.
    pub(super) fn lost(&self) -> Error {
        let message = format!("another copy of the job writes to \"{}\" now", self.fenced);
        Error::new(ErrorKind::Fenced, "FENCED", message)
    }

    fn entry(&self, job: &JobContext, place: usize) -> AttributeValue {
        AttributeValue::S(format!("{}/{}/{place}", job.job, self.fenced))
    }
}

impl Cancelled {
    /// Of a transaction's error; nothing if it is another kind of failure.
    pub(super) fn of(error: &SdkError<TransactWriteItemsError, HttpResponse>) -> Option<Self> {
        match error.as_service_error()? {
            TransactWriteItemsError::TransactionCanceledException(cancelled) => {
                Some(Self::by(cancelled.cancellation_reasons()))
            }
            TransactWriteItemsError::TransactionInProgressException(_) => Some(Self::Later),
            _ => None,
        }
    }

    /// By the reason for each item, of which the first is the check of the entry.
    fn by(reasons: &[CancellationReason]) -> Self {
        let is = |reason: &CancellationReason, code: &str| reason.code() == Some(code);
        if reasons.first().is_some_and(|check| is(check, "ConditionalCheckFailed")) {
            return Self::Lost;
        }
        let of_row = |(index, reason): (usize, &CancellationReason)| {
            let of_row = is(reason, "ValidationError") || is(reason, "ItemCollectionSizeLimitExceeded");
            of_row.then(|| (index, reason.message().unwrap_or("DynamoDB refuses the item").to_owned()))
        };
        let rows: Vec<_> = reasons.iter().skip(1).enumerate().filter_map(of_row).collect();
        if rows.is_empty() { Self::Later } else { Self::Rows(rows) }
    }
}

/// Ordered as text like generations are as numbers.
fn owner(job: &JobContext) -> AttributeValue {
    AttributeValue::S(format!("{}/{:020}", job.incarnation, job.generation.0))
}

fn incomplete(error: aws_smithy_types::error::operation::BuildError) -> Error {
    Error::internal(format!("an incomplete request: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(codes: &[&str]) -> Vec<CancellationReason> {
        codes.iter().map(|code| CancellationReason::builder().code(*code).message("why").build()).collect()
    }

    #[test]
    fn a_lost_entry_counts_before_anything_else() {
        assert_eq!(Cancelled::by(&reasons(&["ConditionalCheckFailed", "ValidationError"])), Cancelled::Lost);
        let rows = Cancelled::Rows(vec![(1, "why".to_owned())]);
        assert_eq!(Cancelled::by(&reasons(&["None", "None", "ValidationError", "None"])), rows);
        assert_eq!(Cancelled::by(&reasons(&["None", "TransactionConflict"])), Cancelled::Later);
        assert_eq!(Cancelled::by(&reasons(&["ThrottlingError", "None"])), Cancelled::Later);
    }
}
