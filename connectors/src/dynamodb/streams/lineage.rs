//! Which shards there are, and which must be read before which.
//!
//! Invariant: a shard comes after its parent, and a stream's first shards after the last ones of the stream before it.

use std::sync::Arc;

use aws_sdk_dynamodbstreams::{Client, types::StreamViewType};
use headwater_engine::{
    connector::{Split, SplitId},
    error::{Error, Result},
};

use crate::aws::failed;

/// A shard as its stream lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) label: Arc<str>,
    pub(super) id: String,
    pub(super) parent: Option<String>,
}

/// All shards of a table's streams.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    splits: Vec<Split>,
    /// Shards of the newest stream so far that no other follows.
    last: Vec<SplitId>,
}

impl Lineage {
    /// Adds the shards of the next stream.
    pub(super) fn add(&mut self, shards: Vec<Shard>) {
        if shards.is_empty() {
            return;
        }
        let before = std::mem::take(&mut self.last);
        let listed = |id: &String| shards.iter().any(|shard| shard.id == *id);
        for shard in &shards {
            let parent = shard.parent.as_ref().filter(|parent| listed(parent));
            let parents = match parent {
                Some(parent) => vec![split_id(&shard.label, parent)],
                None => before.clone(),
            };
            self.splits.push(Split { id: split_id(&shard.label, &shard.id), version: String::new(), parents });
        }
        let has_child = |shard: &Shard| shards.iter().any(|other| other.parent.as_ref() == Some(&shard.id));
        self.last =
            shards.iter().filter(|shard| !has_child(shard)).map(|shard| split_id(&shard.label, &shard.id)).collect();
    }

    /// The splits.
    pub(super) fn splits(self) -> Vec<Split> {
        self.splits
    }
}

/// `<stream label>/<shard id>`.
fn split_id(label: &str, shard: &str) -> SplitId {
    SplitId::new(format!("{label}/{shard}"))
}

/// Label and shard of a split.
pub(super) fn parse_split(split: &SplitId) -> Result<(&str, &str)> {
    split.0.split_once('/').ok_or_else(|| Error::internal(format!("\"{split}\" is no shard of a change stream")))
}

/// The label in a stream's ARN: what follows `/stream/`.
pub(super) fn label_of(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// The ARNs of a table's streams, oldest first.
pub(super) async fn streams_of(client: &Client, table: &str) -> Result<Vec<String>> {
    let doing = format!("cannot list the change streams of the DynamoDB table \"{table}\"");
    let (mut found, mut from) = (Vec::new(), None);
    loop {
        let request = client.list_streams().table_name(table).set_exclusive_start_stream_arn(from);
        let answer = request.send().await.map_err(|error| failed(&doing, &error))?;
        let streams = answer.streams.unwrap_or_default();
        found.extend(streams.into_iter().filter_map(|stream| Some((stream.stream_label?, stream.stream_arn?))));
        from = answer.last_evaluated_stream_arn;
        if from.is_none() {
            found.sort();
            return Ok(found.into_iter().map(|(_, arn)| arn).collect());
        }
    }
}

/// A stream as the service describes it.
#[derive(Debug, Default)]
pub(super) struct Described {
    pub(super) shards: Vec<Shard>,
    /// Which images its records have.
    pub(super) view: Option<StreamViewType>,
}

/// The shards of a stream, and what its records hold.
pub(super) async fn described(client: &Client, arn: &str) -> Result<Described> {
    let doing = format!("cannot describe the change stream \"{arn}\"");
    let label: Arc<str> = Arc::from(label_of(arn));
    let (mut found, mut from) = (Described::default(), None);
    loop {
        let request = client.describe_stream().stream_arn(arn).set_exclusive_start_shard_id(from);
        let answer = request.send().await.map_err(|error| failed(&doing, &error))?;
        let description =
            answer.stream_description.ok_or_else(|| Error::unavailable(format!("{doing}: the answer is empty")))?;
        for shard in description.shards.unwrap_or_default() {
            let Some(id) = shard.shard_id else { continue };
            found.shards.push(Shard { label: Arc::clone(&label), id, parent: shard.parent_shard_id });
        }
        found.view = description.stream_view_type.or(found.view);
        from = description.last_evaluated_shard_id;
        if from.is_none() {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(label: &str, id: &str, parent: Option<&str>) -> Shard {
        Shard { label: label.into(), id: id.into(), parent: parent.map(Into::into) }
    }

    #[test]
    fn children_follow_parents_and_a_stream_follows_the_one_before() {
        let mut lineage = Lineage::default();
        lineage.add(vec![
            shard("2026-01", "a", Some("trimmed")),
            shard("2026-01", "b", Some("a")),
            shard("2026-01", "c", Some("a")),
        ]);
        lineage.add(Vec::new());
        lineage.add(vec![shard("2026-02", "a", None)]);
        let shown: Vec<String> = lineage
            .splits()
            .into_iter()
            .map(|split| {
                let parents: Vec<String> = split.parents.iter().map(ToString::to_string).collect();
                format!("{} after [{}]", split.id, parents.join(", "))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "2026-01/a after []",
                "2026-01/b after [2026-01/a]",
                "2026-01/c after [2026-01/a]",
                "2026-02/a after [2026-01/b, 2026-01/c]"
            ]
        );
    }
}
