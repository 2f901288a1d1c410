//! What becomes of a job's state when its SQL has changed: for each piece, whether it carries over, is dropped or is new.
//!
//! Invariant: an operator's state carries over only between equal fingerprints; a restart loses nothing that is not
//! listed here as dropped.

use std::fmt;

use crate::{
    checkpoint::manifest::{Manifest, OperatorState},
    graph::{Graph, Node, NodeKind},
};

/// What becomes of a piece of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The job goes on from it.
    Carries,
    /// Nothing takes it up.
    Dropped,
    /// It begins empty.
    New,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Carries => "carries over",
            Verdict::Dropped => "dropped",
            Verdict::New => "new",
        })
    }
}

/// The verdict on one piece of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateVerdict {
    /// The node it belongs to.
    pub node: String,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Why, in words that follow the node's name.
    pub reason: String,
}

fn verdict(node: &str, verdict: Verdict, reason: impl Into<String>) -> StateVerdict {
    StateVerdict { node: node.to_owned(), verdict, reason: reason.into() }
}

/// Compares a graph with a checkpoint.
pub fn against(graph: &Graph, manifest: &Manifest) -> Vec<StateVerdict> {
    let mut verdicts = Vec::new();
    for node in &graph.nodes {
        verdicts.extend(of_node(graph, node, manifest));
    }
    let is_gone = |name: &str| graph.nodes.iter().all(|node| node.name != name);
    for (name, state) in manifest.operators.iter().filter(|(name, _)| is_gone(name)) {
        if holds(state) {
            verdicts.push(verdict(name, Verdict::Dropped, "is no longer there"));
        }
    }
    for name in manifest.sources.keys().filter(|name| is_gone(name)) {
        verdicts.push(verdict(name, Verdict::Dropped, "is no longer read"));
    }
    for (name, _) in manifest.sinks.iter().filter(|(name, sink)| is_gone(name) && !sink.open.is_empty()) {
        verdicts.push(verdict(name, Verdict::Dropped, "has rows that are not committed"));
    }
    verdicts
}

fn holds(state: &OperatorState) -> bool {
    state.tasks.iter().any(|tables| tables.values().any(|files| !files.is_empty()))
}

/// Why a node does not go on from the state of its name; `None` if it does.
///
/// State that was computed from tables none of which is read any more says nothing about those that are.
pub(crate) fn why_dropped(graph: &Graph, name: &str, fingerprint: &str, state: &OperatorState) -> Option<&'static str> {
    if state.fingerprint != fingerprint {
        return Some("computes something else now");
    }
    let reads = graph.sources_of(name);
    let is_other = !state.reads.is_empty() && state.reads.iter().all(|table| !reads.contains(table));
    is_other.then_some("reads other tables now")
}

fn of_node(graph: &Graph, node: &Node, manifest: &Manifest) -> Vec<StateVerdict> {
    let name = node.name.as_str();
    match &node.kind {
        NodeKind::Source(_) => vec![match manifest.sources.get(name) {
            Some(source) => {
                let splits = source.splits.len();
                verdict(name, Verdict::Carries, format!("goes on at the offsets of {splits} splits"))
            }
            None => verdict(name, Verdict::New, "starts where its table's options say"),
        }],
        NodeKind::Sink(_) => match manifest.sinks.get(name) {
            Some(sink) if !sink.open.is_empty() => {
                let open = sink.open.len();
                vec![verdict(name, Verdict::Carries, format!("keeps the rows of {open} open files"))]
            }
            Some(_) | None => Vec::new(),
        },
        NodeKind::Operator(operator) => {
            let Some(fingerprint) = operator.operator.fingerprint() else { return Vec::new() };
            let Some(state) = manifest.operators.get(name) else {
                return vec![verdict(name, Verdict::New, "begins empty")];
            };
            match why_dropped(graph, name, &fingerprint, state) {
                None => vec![verdict(name, Verdict::Carries, "computes the same")],
                Some(why) if holds(state) => {
                    vec![verdict(name, Verdict::Dropped, why), verdict(name, Verdict::New, "begins empty")]
                }
                Some(_) => vec![verdict(name, Verdict::New, "begins empty")],
            }
        }
    }
}
