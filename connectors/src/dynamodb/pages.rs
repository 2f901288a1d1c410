//! Reading items a page at a time: Scan by segments, Query and GetItem by key, with what each request cost.
//!
//! Invariant: a page that is throttled is asked for again from where the last one ended; no item is read twice.

use std::{sync::Arc, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    operation::{query::QueryOutput, scan::ScanOutput},
    types::{AttributeValue, ReturnConsumedCapacity},
};
use headwater_engine::{error::Result, time::Clock};

use super::size::{Item, item_bytes};
use crate::aws::{Backoff, Failure, failed};

/// Requests in a row that may fail before the statement does.
const TRIES: u32 = 12;

/// What is read of a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    /// One of the segments of a scan.
    Segment { index: usize, of: usize },
    /// The items with this partition key.
    Partition { name: String, value: AttributeValue },
    /// The item with this key.
    Item(Item),
}

/// Items of one request.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) items: Vec<Item>,
    /// Where the next one begins, if there is one.
    pub(super) next: Option<Item>,
    /// Bytes of the items, as DynamoDB counts them.
    pub(super) bytes: u64,
}

/// Reads parts of one table.
#[derive(Debug, Clone)]
pub(super) struct Pages {
    pub(super) client: Client,
    pub(super) table: String,
    pub(super) consistent: bool,
    /// Attributes wanted; all if empty.
    pub(super) attributes: Vec<String>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Pages {
    /// The page of a part that begins at `from`.
    pub(super) async fn page(&self, part: &Part, from: Option<&Item>, limit: Option<i32>) -> Result<Page> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        loop {
            let error = match self.ask(part, from, limit).await {
                Ok(page) => return Ok(page),
                Err((failure, error)) if failure == Failure::Refused || backoff.attempts() >= TRIES => {
                    return Err(error);
                }
                Err((_, error)) => error,
            };
            tracing::debug!(%error, "a page of a DynamoDB table is asked for again");
            backoff.wait(&self.clock).await;
        }
    }

    async fn ask(
        &self,
        part: &Part,
        from: Option<&Item>,
        limit: Option<i32>,
    ) -> std::result::Result<Page, (Failure, headwater_engine::error::Error)> {
        let doing = format!("cannot read the DynamoDB table \"{}\"", self.table);
        let names: Vec<String> = (0..self.attributes.len()).map(|index| format!("#a{index}")).collect();
        let projection = (!names.is_empty()).then(|| names.join(", "));
        let mut named: std::collections::HashMap<String, String> =
            names.iter().cloned().zip(self.attributes.iter().cloned()).collect();
        let capacity = ReturnConsumedCapacity::None;
        match part {
            Part::Segment { index, of } => {
                let mut request = self.client.scan().table_name(&self.table).consistent_read(self.consistent);
                if *of > 1 {
                    request = request.segment(*index as i32).total_segments(*of as i32);
                }
                request = request
                    .set_exclusive_start_key(from.cloned())
                    .set_limit(limit)
                    .set_projection_expression(projection)
                    .set_expression_attribute_names((!named.is_empty()).then_some(named))
                    .return_consumed_capacity(capacity);
                let answer = request.send().await.map_err(|error| (Failure::of(&error), failed(&doing, &error)))?;
                let ScanOutput { items, last_evaluated_key, .. } = answer;
                Ok(Page::of(items.unwrap_or_default(), last_evaluated_key))
            }
            Part::Partition { name, value } => {
                named.insert("#p".to_owned(), name.clone());
                let request = self.client.query().table_name(&self.table).consistent_read(self.consistent);
                let request = request
                    .key_condition_expression("#p = :p")
                    .expression_attribute_values(":p", value.clone())
                    .set_exclusive_start_key(from.cloned())
                    .set_limit(limit)
                    .set_projection_expression(projection)
                    .set_expression_attribute_names(Some(named))
                    .return_consumed_capacity(capacity);
                let answer = request.send().await.map_err(|error| (Failure::of(&error), failed(&doing, &error)))?;
                let QueryOutput { items, last_evaluated_key, .. } = answer;
                Ok(Page::of(items.unwrap_or_default(), last_evaluated_key))
            }
            Part::Item(key) => {
                let request = self.client.get_item().table_name(&self.table).consistent_read(self.consistent);
                let request = request
                    .set_key(Some(key.clone()))
                    .set_projection_expression(projection)
                    .set_expression_attribute_names((!named.is_empty()).then_some(named))
                    .return_consumed_capacity(capacity);
                let answer = request.send().await.map_err(|error| (Failure::of(&error), failed(&doing, &error)))?;
                Ok(Page::of(answer.item.into_iter().collect(), None))
            }
        }
    }
}

impl Page {
    fn of(items: Vec<Item>, next: Option<Item>) -> Self {
        let bytes = items.iter().map(|item| item_bytes(item) as u64).sum();
        Self { items, next: next.filter(|key| !key.is_empty()), bytes }
    }
}
