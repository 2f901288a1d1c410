//! What becomes of a job's state when its SQL has changed: for each piece, whether it carries over, is dropped or is new.
//!
//! Invariant: an operator's state carries over only between equal fingerprints; a restart loses nothing that is not
//! listed here as dropped.

use std::fmt;

use crate::{
    checkpoint::manifest::{Manifest, OperatorState, SinkState, SourceState},
    connector::{Guarantee, SplitId},
    graph::{Graph, Node, NodeKind, SinkNode, SourceNode},
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

/// What a graph cannot deliver of an epoch that is published and has no commit marker.
pub fn undelivered(graph: &Graph, manifest: &Manifest) -> Vec<StateVerdict> {
    let waiting = manifest.sinks.iter().filter(|(_, state)| !state.closed.is_empty());
    let lost = waiting.filter_map(|(name, state)| {
        let rows: u64 = state.closed.iter().map(|unit| unit.rows).sum();
        let begun = format!("has {rows} rows of epoch {} that are published but not delivered", manifest.epoch.0);
        let why = match sink_of(graph, name) {
            Some(sink) if is_same_destination(state, sink) && sink.sink.guarantee() == Guarantee::ExactlyOnce => {
                return None;
            }
            Some(sink) => {
                format!("{begun}, and writes to {} now; start the job once as it was", sink.sink.destination())
            }
            None => format!("{begun}, and is no longer there; start the job once as it was"),
        };
        Some(verdict(name, Verdict::Dropped, why))
    });
    lost.collect()
}

/// A checkpoint without what a graph does not take up of its sinks.
pub(crate) fn taken_up(graph: &Graph, mut manifest: Manifest) -> Manifest {
    manifest.sinks.retain(|name, state| sink_of(graph, name).is_some_and(|sink| is_same_destination(state, sink)));
    manifest
}

/// Whether a node delivered an epoch, through its outbox and to where it writes now.
pub(crate) fn delivered_by(manifest: &Manifest, name: &str, sink: &SinkNode) -> bool {
    let destination = manifest.sinks.get(name).and_then(|state| state.destination.as_deref());
    destination.is_some_and(|destination| sink.sink.is_destination(destination))
}

/// Whether units go where the sink writes now.
pub(crate) fn is_same_destination(state: &SinkState, sink: &SinkNode) -> bool {
    state.destination.as_deref().is_none_or(|destination| sink.sink.is_destination(destination))
}

fn sink_of<'a>(graph: &'a Graph, name: &str) -> Option<&'a SinkNode> {
    graph.nodes.iter().filter(|node| node.name == name).find_map(|node| match &node.kind {
        NodeKind::Sink(sink) => Some(sink),
        NodeKind::Source(_) | NodeKind::Operator(_) => None,
    })
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

/// Splits that a message names.
const NAMED: usize = 3;

fn of_source(name: &str, source: &SourceNode, state: &SourceState) -> Vec<StateVerdict> {
    let splits = state.splits.iter().map(|split| &split.split.id);
    let (kept, gone): (Vec<&SplitId>, Vec<&SplitId>) =
        splits.partition(|split| source.source.keeps(split, &state.origin));
    let mut verdicts = Vec::new();
    if !gone.is_empty() {
        let named = gone.iter().take(NAMED).map(|split| format!("\"{split}\"")).collect::<Vec<_>>().join(", ");
        let more = if gone.len() > NAMED { format!(" and {} more", gone.len() - NAMED) } else { String::new() };
        verdicts.push(verdict(name, Verdict::Dropped, format!("no longer reads {named}{more}")));
    }
    verdicts.push(match (kept.len(), state.watermark) {
        (0, None) if !gone.is_empty() => verdict(name, Verdict::New, "starts where its table's options say"),
        (0, Some(_)) if !gone.is_empty() => {
            let why = "starts where its table's options say; rows behind the watermark it has are late";
            verdict(name, Verdict::New, why)
        }
        (kept, _) => verdict(name, Verdict::Carries, format!("goes on at the offsets of {kept} splits")),
    });
    verdicts
}

fn of_node(graph: &Graph, node: &Node, manifest: &Manifest) -> Vec<StateVerdict> {
    let name = node.name.as_str();
    match &node.kind {
        NodeKind::Source(source) => match manifest.sources.get(name) {
            Some(state) => of_source(name, source, state),
            None => vec![verdict(name, Verdict::New, "starts where its table's options say")],
        },
        NodeKind::Sink(sink) => match manifest.sinks.get(name) {
            Some(state) if !state.open.is_empty() && !is_same_destination(state, sink) => {
                let why = format!("has rows that are not committed, and writes to {} now", sink.sink.destination());
                vec![verdict(name, Verdict::Dropped, why)]
            }
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
