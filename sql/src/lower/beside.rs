//! What an INSERT writes beside its rows: records as they came, records that could not be read.
//!
//! Invariant: the main rows of the INSERT do not change by what is written beside them.

use std::sync::Arc;

use headwater_engine::{
    accounts::{records_schema, rejected_schema},
    connector::{Beside, BesideRows, Carries, Sink},
    error::{Error, Result},
    graph::{Branch, BranchInput, Exchange, Input, NodeKind, SinkNode},
};

use super::flow::{Lowering, Origin};

/// Lets come along with the rows of an INSERT what its sink asks for, where rows and records are still together.
pub(super) fn carry(
    lowering: &mut Lowering,
    origin: &Origin,
    input: &Input,
    sink: &dyn Sink,
    table: &str,
) -> Result<Carries> {
    let source = match origin {
        Origin::Source(source, BranchInput::Rows) if sink.needs_records() => {
            records_of(lowering, *source, table).map(|()| *source)?
        }
        Origin::Source(source, BranchInput::Rows) => *source,
        Origin::Source(..) | Origin::Node(_) if sink.needs_records() => return Err(apart(table)),
        Origin::Source(..) | Origin::Node(_) => return Ok(Carries::Nothing),
    };
    lowering.carry(source, input, sink.carries())
}

/// Adds a sink beside the one of an INSERT, with the branches that feed it.
pub(super) fn add(lowering: &mut Lowering, origin: &Origin, input: &Input, other: Beside, table: &str) -> Result<()> {
    let sources = match (origin, other.takes) {
        (Origin::Source(source, BranchInput::Rows), _) | (Origin::Source(source, _), BesideRows::Rejected) => {
            vec![*source]
        }
        (Origin::Source(..) | Origin::Node(_), BesideRows::Records) => return Err(apart(table)),
        (Origin::Node(_), BesideRows::Rejected) => sources_of(lowering, input),
    };
    let (rows, schema) = match other.takes {
        BesideRows::Rejected => (BranchInput::Rejected, rejected_schema()),
        BesideRows::Records => (BranchInput::Records, records_schema()),
    };
    let own = std::mem::take(&mut lowering.insert);
    for source in sources {
        if other.takes == BesideRows::Records {
            records_of(lowering, source, table)?;
        }
        lowering.insert = format!("{own}${}", other.name);
        let branch = Branch {
            insert: lowering.insert.clone(),
            input: rows,
            of: (other.takes == BesideRows::Rejected).then(|| own.clone()),
            steps: Vec::new(),
            lateness: None,
            holds: false,
            local: Vec::new(),
            tells: Vec::new(),
            carries: Carries::Nothing,
            schema: Arc::clone(&schema),
        };
        let input = lowering.branch(source, branch, Exchange::Forward);
        let (insert, sink) = (lowering.insert.clone(), Arc::clone(&other.sink));
        let table = format!("{table}${}", other.name);
        let (not_null, lengths, schema) = (Vec::new(), Vec::new(), Arc::clone(&schema));
        lowering.add("sink", NodeKind::Sink(SinkNode { table, insert, input, sink, not_null, lengths, schema }));
    }
    lowering.insert = own;
    Ok(())
}

/// The tables whose rows reach an input.
fn sources_of(lowering: &Lowering, input: &Input) -> Vec<usize> {
    let (mut found, mut todo) = (Vec::new(), vec![input.from.0]);
    while let Some(node) = todo.pop() {
        match node.checked_sub(lowering.sources.len()) {
            None if found.contains(&node) => {}
            None => found.push(node),
            Some(behind) => {
                let inputs = lowering.nodes.get(behind).map(|(_, kind)| kind.inputs()).unwrap_or_default();
                todo.extend(inputs.iter().map(|input| input.from.0));
            }
        }
    }
    found.sort_unstable();
    found
}

/// Fails for a table whose source has rows and no records.
fn records_of(lowering: &Lowering, source: usize, sink: &str) -> Result<()> {
    let table = lowering.sources[source].table()?;
    let columns = Arc::clone(&table.spec.physical_schema());
    if table.connector.source(&table.spec)?.decoder(columns)?.is_some() {
        return Ok(());
    }
    let message = format!("\"{sink}\" keeps source records, and \"{}\" has rows, not records", table.name);
    Err(Error::not_supported(message)
        .with_hint("leave out 'sink.backup-prefix' and 'sink.partition-keys-query', or read from a stream"))
}

fn apart(sink: &str) -> Error {
    Error::not_supported(format!("\"{sink}\" keeps source records, and its query takes rows and records apart")).with_hint(
        "'sink.backup-prefix' and 'sink.partition-keys-query' need an INSERT from one table without aggregation, join or \
         UNNEST",
    )
}
