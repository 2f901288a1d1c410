//! EXPLAIN of a job: its nodes in the order of the data, with what each edge carries and what each node keeps.
//!
//! Invariant: what is shown is taken from the graph that would run, not from the query.

use std::fmt::Write;

use headwater_engine::{
    connector::ChangelogMode,
    error::Result,
    graph::{Branch, BranchInput, Exchange, Graph, Input, Lateness, Node, NodeKind, SourceNode, Step, WatermarkRule},
};

use crate::windows::describe;

/// The graph as text, a node at a time, and what a user should know about it.
pub(crate) fn text(graph: &Graph, notes: &[String]) -> Result<String> {
    let mut out = String::new();
    for node in &graph.nodes {
        describe_node(&mut out, graph, node)?;
    }
    for note in notes {
        let _ = writeln!(out, "note: {note}");
    }
    Ok(out)
}

fn describe_node(out: &mut String, graph: &Graph, node: &Node) -> Result<()> {
    match &node.kind {
        NodeKind::Source(source) => describe_source(out, &node.name, source),
        NodeKind::Operator(operator) => {
            let factory = operator.operator.as_ref();
            let state = if factory.fingerprint().is_some() { "keeps state" } else { "no state" };
            let _ = writeln!(out, "{}: {} ({state})", node.name, factory.name());
            let _ = writeln!(out, "  {}", factory.describe());
        }
        NodeKind::Sink(sink) => {
            let takes = changes(sink.sink.accepts());
            let _ = writeln!(out, "{}: {} (takes {takes}, {:?})", node.name, sink.sink, sink.sink.guarantee());
        }
    }
    for input in node.kind.inputs() {
        describe_edge(out, graph, input)?;
    }
    Ok(())
}

fn describe_source(out: &mut String, name: &str, source: &SourceNode) {
    let columns: Vec<&str> = source.columns.fields().iter().map(|field| field.name().as_str()).collect();
    let _ = writeln!(
        out,
        "{name}: {} ({}), reads {}",
        source.source,
        changes(source.source.changelog()),
        columns.join(", ")
    );
    if let Some(time) = &source.time {
        let rule = match &time.watermark {
            WatermarkRule::Expr(expr) => expr.to_string(),
            WatermarkRule::Clock => "the clock".to_owned(),
        };
        let _ = writeln!(out, "  watermark: {rule}");
    }
    for (index, branch) in source.branches.iter().enumerate() {
        describe_branch(out, index, branch);
    }
}

fn describe_branch(out: &mut String, index: usize, branch: &Branch) {
    let rows = match branch.input {
        BranchInput::Rows => "rows",
        BranchInput::Records => "records",
        BranchInput::Rejected => "rejected rows",
        BranchInput::Late => "late rows",
    };
    let _ = writeln!(out, "  branch {index}: {rows} for {}", branch.insert);
    for step in &branch.steps {
        let _ = match step {
            Step::Filter(expr) => writeln!(out, "    filter {expr}"),
            Step::Project(projection) => {
                let exprs: Vec<String> = projection.exprs.iter().map(ToString::to_string).collect();
                writeln!(out, "    project {}", exprs.join(", "))
            }
        };
    }
    match &branch.lateness {
        Some(Lateness::Windows { windows, allowed }) => {
            let _ = writeln!(
                out,
                "    late once the windows of {} have ended, by {} ms",
                describe(windows),
                allowed / 1000
            );
        }
        Some(Lateness::EventTime) => {
            let _ = writeln!(out, "    late below the watermark");
        }
        Some(Lateness::Clock) => {
            let _ = writeln!(out, "    by the clock");
        }
        None => {}
    }
    for local in &branch.local {
        let _ = writeln!(out, "    {} before the exchange", local.name());
    }
}

fn describe_edge(out: &mut String, graph: &Graph, input: &Input) -> Result<()> {
    let from = graph.node(input.from)?;
    let schema = graph.schema_of(input)?;
    let exchange = match &input.exchange {
        Exchange::Forward => "forward".to_owned(),
        Exchange::Single => "to one task".to_owned(),
        Exchange::Hash(columns) => {
            let names: Vec<&str> = columns.iter().map(|column| schema.field(*column).name().as_str()).collect();
            format!("by {}", names.join(", "))
        }
    };
    let branch = match &from.kind {
        NodeKind::Source(_) => format!(" branch {}", input.branch),
        NodeKind::Operator(_) | NodeKind::Sink(_) => String::new(),
    };
    let _ = writeln!(out, "  <- {}{branch}, {exchange}, {}", from.name, changes(graph.changelog_of(input)?));
    Ok(())
}

fn changes(mode: ChangelogMode) -> &'static str {
    match mode {
        ChangelogMode::Append => "inserts",
        ChangelogMode::Upsert => "upserts by key",
        ChangelogMode::Retract => "changes with their old rows",
    }
}
