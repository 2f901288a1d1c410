//! The tables a job reads: which columns, and how each becomes a source node.
//!
//! Invariant: a source reads the columns some INSERT uses, those its event time needs, and no others.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::{
    catalog::default_table_source::source_as_provider,
    common::DFSchema,
    logical_expr::{LogicalPlan, TableScan},
    physical_expr::{
        PhysicalExpr,
        expressions::{CastExpr, Column},
    },
};
use headwater_engine::{
    connector::ChangelogMode,
    error::{Error, Result},
    graph::{Branch, BranchInput, Projection, SourceNode, TimeSpec, WatermarkRule},
};

use super::{
    aside::{SideRows, read_table, side_table},
    flow::{SourceTable, physical},
    join::looked_up,
    table::{ColumnSource, StreamTable, stream_table},
};

/// The stream tables of these plans with the columns they are read for. Tables that are looked up are no sources.
pub(super) fn collect<'p>(plans: impl Iterator<Item = &'p LogicalPlan>) -> Result<Vec<SourceTable>> {
    let mut sources: Vec<SourceTable> = Vec::new();
    for plan in plans {
        walk(plan, &mut sources)?;
    }
    for source in &mut sources {
        source.kept.sort_unstable();
        source.kept.dedup();
    }
    Ok(sources)
}

fn walk(plan: &LogicalPlan, sources: &mut Vec<SourceTable>) -> Result<()> {
    match plan {
        LogicalPlan::TableScan(scan) => add(sources, scan),
        LogicalPlan::Join(join) => match looked_up(join) {
            Some(0) => walk(&join.right, sources),
            Some(_) => walk(&join.left, sources),
            None => [&join.left, &join.right].into_iter().try_for_each(|side| walk(side, sources)),
        },
        other => other.inputs().into_iter().try_for_each(|input| walk(input, sources)),
    }
}

fn add(sources: &mut Vec<SourceTable>, scan: &TableScan) -> Result<()> {
    let provider = source_as_provider(&scan.source)?;
    let Some((table, which)) = read_table(&provider) else { return Ok(()) };
    let all: Vec<usize> = (0..table.schema.fields().len()).collect();
    // What is kept aside has all columns, and what is rejected depends on which are decoded.
    let wanted = scan.projection.as_ref().filter(|_| which == BranchInput::Rows).unwrap_or(&all);
    let index = match sources.iter().position(|source| source.table().is_ok_and(|known| known.name == table.name)) {
        Some(index) => index,
        None => {
            let mut kept = time_columns(table)?;
            let changes = table.connector.source(&table.spec)?.changelog();
            if changes == ChangelogMode::Upsert {
                kept.extend(table.key_columns()?);
            }
            let provider = side_table(&provider).map_or_else(|| Arc::clone(&provider), SideRows::table);
            sources.push(SourceTable { provider, kept, branches: Vec::new(), changes });
            sources.len() - 1
        }
    };
    sources[index].kept.extend(wanted);
    Ok(())
}

/// The event time and what its watermark is computed from.
fn time_columns(table: &StreamTable) -> Result<Vec<usize>> {
    let Some(time) = &table.time else { return Ok(Vec::new()) };
    let mut columns = vec![time.column];
    for column in time.watermark.iter().flat_map(|watermark| watermark.column_refs()) {
        columns.push(table.schema.index_of(&column.name)?);
    }
    Ok(columns)
}

/// The source node of a table.
pub(super) fn node(source: SourceTable) -> Result<SourceNode> {
    let branches = source.branches;
    let table = stream_table(&source.provider).ok_or_else(|| Error::internal("a source is no table of the run"))?;
    let node = node_of(table, &source.kept, branches)?;
    let names: Vec<&str> = [change_id(table)?, change_order(table)?].into_iter().flatten().collect();
    Ok(told_apart(node, &names))
}

/// The column that orders the changes of a key of this table, where they may come in another order.
pub(super) fn change_order(table: &StreamTable) -> Result<Option<&'static str>> {
    let source = table.connector.source(&table.spec)?;
    if table.time.is_some() && source.change_id().is_none() {
        return Ok(None);
    }
    Ok(source.change_order())
}

/// The column that names each row of this table, where the rows are changes that may come more than once.
pub(super) fn change_id(table: &StreamTable) -> Result<Option<&'static str>> {
    Ok(table.connector.source(&table.spec)?.change_id())
}

/// A schema with columns by which changes are told apart behind its own.
pub(super) fn with_names(schema: &SchemaRef, names: &[&str]) -> SchemaRef {
    let names = names.iter().map(|name| Arc::new(Field::new(*name, DataType::Utf8, true)));
    Arc::new(Schema::new(schema.fields().iter().cloned().chain(names).collect::<Vec<_>>()))
}

/// The node with these columns behind all others.
fn told_apart(mut node: SourceNode, names: &[&str]) -> SourceNode {
    if let Some(project) = &mut node.project {
        let first = node.columns.fields().len();
        let column = |(index, name): (usize, &&str)| Arc::new(Column::new(name, first + index)) as _;
        project.exprs.extend(names.iter().enumerate().map(column));
        project.schema = with_names(&project.schema, names);
    }
    node.columns = with_names(&node.columns, names);
    node
}

/// The source node of a table that is read for these of its columns.
pub(super) fn node_of(table: &StreamTable, kept: &[usize], branches: Vec<Branch>) -> Result<SourceNode> {
    let read = read_columns(table, kept)?;
    let columns: SchemaRef = Arc::new(table.spec.schema.project(&read)?);
    let place = |index: usize| read.iter().position(|column| *column == index);
    let metadata = table.spec.metadata.iter().filter_map(|field| Some((place(field.column)?, field.key.clone())));
    let mut metadata: Vec<(usize, String)> = metadata.collect();
    metadata.sort_unstable();
    let (project, schema) = projection(table, kept, &columns, &place)?;
    let time = time(table, kept, &schema)?;
    let name = table.name.clone();
    let (malformed, source) = (table.malformed, table.connector.source(&table.spec)?);
    Ok(SourceNode { table: name, source, columns, metadata, project, time, branches, malformed })
}

/// Indexes of the spec's columns that the declared columns `kept` need.
pub(super) fn read_columns(table: &StreamTable, kept: &[usize]) -> Result<Vec<usize>> {
    let mut read = Vec::new();
    for column in kept {
        match &table.columns[*column] {
            ColumnSource::Spec(index) => read.push(*index),
            ColumnSource::Computed(expr) => {
                for column in expr.column_refs() {
                    read.push(table.spec.schema.index_of(&column.name)?);
                }
            }
        }
    }
    read.sort_unstable();
    read.dedup();
    Ok(read)
}

pub(super) type Place<'a> = &'a dyn Fn(usize) -> Option<usize>;

/// The declared columns in terms of those read; `None` when they are the same.
pub(super) fn projection(
    table: &StreamTable,
    kept: &[usize],
    columns: &SchemaRef,
    place: Place<'_>,
) -> Result<(Option<Projection>, SchemaRef)> {
    let schema: SchemaRef = Arc::new(table.schema.project(kept)?);
    let read = DFSchema::try_from(Arc::clone(columns))?;
    let mut is_same = kept.len() == columns.fields().len();
    let mut exprs: Vec<Arc<dyn PhysicalExpr>> = Vec::with_capacity(kept.len());
    for (position, column) in kept.iter().enumerate() {
        let wanted = table.schema.field(*column).data_type();
        exprs.push(match &table.columns[*column] {
            ColumnSource::Computed(expr) => {
                is_same = false;
                physical(expr, &read)?
            }
            ColumnSource::Spec(index) => {
                let at = place(*index).ok_or_else(|| Error::internal("a column that is used is not read"))?;
                let field = columns.field(at);
                let own = Arc::new(Column::new(field.name(), at));
                is_same &= at == position && field.data_type() == wanted;
                if field.data_type() == wanted { own } else { Arc::new(CastExpr::new(own, wanted.clone(), None)) }
            }
        });
    }
    let projection = Projection { exprs, schema: Arc::clone(&schema) };
    Ok(((!is_same).then_some(projection), schema))
}

fn time(table: &StreamTable, kept: &[usize], schema: &SchemaRef) -> Result<Option<TimeSpec>> {
    let Some(time) = &table.time else { return Ok(None) };
    let Some(column) = kept.iter().position(|column| *column == time.column) else { return Ok(None) };
    let watermark = match &time.watermark {
        Some(watermark) => WatermarkRule::Expr(physical(watermark, &DFSchema::try_from(Arc::clone(schema))?)?),
        None => WatermarkRule::Clock,
    };
    let clocks = time.clocks.iter().filter_map(|clock| kept.iter().position(|column| column == clock));
    Ok(Some(TimeSpec {
        column,
        clocks: clocks.collect(),
        watermark,
        idle_timeout: time.idle_timeout,
        max_ahead: time.max_ahead,
        alignment: time.alignment,
    }))
}
