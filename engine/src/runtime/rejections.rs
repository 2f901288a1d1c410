//! How many rows a run of a job has put into `"t$rejected"`, so that who runs it can be told.
//!
//! Invariant: what earlier runs rejected is not counted, wherever this one began: at the newest checkpoint, at an older
//! one, or at none.

use std::collections::BTreeMap;

use crate::{
    checkpoint::manifest::Manifest,
    graph::{Graph, NodeKind},
    runtime::job,
};

/// Rows rejected up to a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rejections {
    /// By table and INSERT.
    read: BTreeMap<(String, String), u64>,
    /// By sink node.
    refused: BTreeMap<String, u64>,
}

impl Rejections {
    /// Those of a checkpoint; none without one.
    pub(super) fn of(manifest: Option<&Manifest>) -> Self {
        let Some(manifest) = manifest else { return Self::default() };
        let of_table = |(table, account): (String, crate::accounts::SplitAccount)| {
            account.into_iter().map(move |(insert, tally)| ((table.clone(), insert), tally.rejected))
        };
        Self {
            read: job::ledger(manifest).into_iter().flat_map(of_table).collect(),
            refused: manifest.sinks.iter().map(|(name, sink)| (name.clone(), sink.refused)).collect(),
        }
    }

    /// What came to these since then, by table. Each INSERT counts a row that its table rejects.
    pub(super) fn since(&self, before: &Self, graph: &Graph) -> BTreeMap<String, u64> {
        let mut rows: BTreeMap<String, u64> = BTreeMap::new();
        for ((table, insert), now) in &self.read {
            let key = (table.clone(), insert.clone());
            let more = now.saturating_sub(before.read.get(&key).copied().unwrap_or(0));
            let most = rows.entry(table.clone()).or_default();
            *most = more.max(*most);
        }
        for node in &graph.nodes {
            if let (NodeKind::Sink(sink), Some(now)) = (&node.kind, self.refused.get(&node.name)) {
                let more = now.saturating_sub(before.refused.get(&node.name).copied().unwrap_or(0));
                *rows.entry(sink.table.clone()).or_default() += more;
            }
        }
        rows.retain(|_, rows| *rows > 0);
        rows
    }
}
