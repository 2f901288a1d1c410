//! The balance of a finished job's operators and sinks, along the edges of its graph.
//!
//! Invariant: whatever leaves a node arrives at each of those that read it, over restarts and at any parallelism.

use std::collections::BTreeMap;

use headwater_engine::{
    graph::{Graph, Input, NodeKind},
    runtime::job::JobSummary,
};

/// What goes over an edge; `None` where several branches of a table count under one INSERT.
fn sent(graph: &Graph, summary: &JobSummary, out: &BTreeMap<String, u64>, input: &Input) -> Option<u64> {
    let from = &graph.nodes[input.from.0];
    let NodeKind::Source(source) = &from.kind else { return Some(out[&from.name]) };
    let branch = &source.branches[input.branch];
    if let Some(last) = branch.local.last() {
        return Some(out[&source.local_name(input.branch, last)]);
    }
    let is_own = |other: &&headwater_engine::graph::Branch| other.insert == branch.insert;
    if source.branches.iter().filter(is_own).count() > 1 {
        return None;
    }
    let tally = &summary.ledger[&source.table][&branch.insert];
    Some(tally.held_rows() + tally.released)
}

/// Checks every operator and sink; there is one of each at least.
pub(crate) fn check(job: &str, graph: &Graph, summary: &JobSummary) {
    let manifest = summary.manifest.as_ref().unwrap();
    let traffic = &manifest.traffic;
    let out: BTreeMap<String, u64> = traffic.iter().map(|(name, rows)| (name.clone(), rows.rows_out)).collect();
    for node in &graph.nodes {
        let arrived = match &node.kind {
            NodeKind::Source(source) => {
                for (index, branch) in source.branches.iter().enumerate() {
                    let [local] = branch.local.as_slice() else { continue };
                    let arrived = traffic[&source.local_name(index, local)].rows_in;
                    let tally = &summary.ledger[&source.table][&branch.insert];
                    let is_own = |other: &&headwater_engine::graph::Branch| other.insert == branch.insert;
                    let is_alone = source.branches.iter().filter(is_own).count() == 1;
                    assert!(!is_alone || arrived == tally.held_rows() + tally.released, "{job}: {}", node.name);
                }
                continue;
            }
            NodeKind::Operator(_) => {
                let rows = traffic[&node.name];
                assert!(rows.dropped <= rows.rows_in, "{job}: {}: {rows:?}", node.name);
                rows.rows_in
            }
            NodeKind::Sink(_) => manifest.sinks[&node.name].rows,
        };
        let sent: Option<u64> = node.kind.inputs().iter().map(|input| sent(graph, summary, &out, input)).sum();
        assert!(sent.is_none_or(|sent| sent == arrived), "{job}: {} got {arrived} rows of {sent:?}", node.name);
    }
}
