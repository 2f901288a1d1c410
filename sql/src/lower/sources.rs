//! The tables a job reads: which columns, and how each becomes a source node.
//!
//! What makes a row malformed is judged by all declared columns where such rows are left out, so that what one INSERT counts
//! does not depend on the others.
//!
//! Invariant: a source reads the columns some INSERT uses, those its event time needs, those a row is judged by, and no
//! others.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::{
    catalog::default_table_source::source_as_provider,
    common::{
        DFSchema,
        tree_node::{Transformed, TreeNode},
    },
    logical_expr::{LogicalPlan, TableScan},
    physical_expr::{
        PhysicalExpr,
        expressions::{CastExpr, Column},
    },
};
use headwater_engine::{
    connector::{ChangelogMode, ReadsAgain},
    error::{Error, Result},
    graph::{
        Branch, BranchInput, Lateness, Malformed, Projection, SourceNode, Step, TimeSpec, WatermarkRule, WholeColumn,
        WholeRows,
    },
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
    let source = table.connector.source(&table.spec)?;
    // What comes too late is kept with all columns.
    let may_be_late = table.time.as_ref().is_some_and(|time| time.watermark.is_some());
    let wanted = match (&scan.projection, which) {
        _ if may_be_late && source.reads_again() == ReadsAgain::Never => &all,
        (Some(wanted), BranchInput::Rows) => wanted,
        (None, BranchInput::Rows) => &all,
        (_, BranchInput::Rejected | BranchInput::Late | BranchInput::Records) => &Vec::new(),
    };
    let index = match sources.iter().position(|source| source.table().is_ok_and(|known| known.name == table.name)) {
        Some(index) => index,
        None => {
            let mut kept = time_columns(table)?;
            let changes = source.changelog();
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
    let node = node_of(table, &source.kept, branches, table.malformed)?;
    let names: Vec<&str> = [change_id(table)?, change_order(table)?].into_iter().flatten().collect();
    Ok(told_apart(narrowed(node), &names))
}

/// The node without the splits that every INSERT filters out. What is kept aside, and records as they came, are wanted of
/// all splits.
fn narrowed(mut node: SourceNode) -> SourceNode {
    let filter = |branch: &Branch| if matches!(branch.input, BranchInput::Rows) { first_filter(branch) } else { None };
    let filters: Option<Vec<_>> = node.branches.iter().map(filter).collect();
    if let Some(source) = filters.and_then(|filters| node.source.narrowed(&filters, &node.schema())) {
        node.source = source;
    }
    node
}

/// The first filter of a branch, in terms of the table's columns.
fn first_filter(branch: &Branch) -> Option<Arc<dyn PhysicalExpr>> {
    let mut columns: Option<&[Arc<dyn PhysicalExpr>]> = None;
    for step in &branch.steps {
        match (step, columns) {
            (Step::Filter(filter), None) => return Some(Arc::clone(filter)),
            (Step::Filter(filter), Some(columns)) => {
                let over_table = Arc::clone(filter).transform(|expr| match expr.downcast_ref::<Column>() {
                    Some(column) => Ok(Transformed::yes(Arc::clone(&columns[column.index()]))),
                    None => Ok(Transformed::no(expr)),
                });
                return over_table.ok().map(|filter| filter.data);
            }
            (Step::Project(projection), None) => columns = Some(&projection.exprs),
            (Step::Project(_), Some(_)) => return None,
        }
    }
    None
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
pub(super) fn node_of(
    table: &StreamTable,
    kept: &[usize],
    branches: Vec<Branch>,
    malformed: Malformed,
) -> Result<SourceNode> {
    let source = table.connector.source(&table.spec)?;
    let mut read = read_columns(table, kept)?;
    let spec = &table.spec.schema;
    let is_metadata = |index: usize| table.metadata_of(index).is_some();
    if malformed == Malformed::Reject {
        let judges = |index: &usize| {
            let field = spec.field(*index);
            !is_metadata(*index) && (!field.is_nullable() || source.may_refuse(field.data_type()))
        };
        read.extend((0..spec.fields().len()).filter(judges));
    }
    let may_be_late = |branch: &Branch| !matches!(branch.lateness, None | Some(Lateness::Clock));
    let whole = match branches.iter().any(may_be_late) {
        true => whole_rows(table, kept)?,
        false => None,
    };
    if whole.is_some() && source.reads_again() == ReadsAgain::Payloads {
        read.extend(table.spec.metadata.iter().map(|field| field.column));
    }
    read.sort_unstable();
    read.dedup();
    let columns = nullable(&spec.project(&read)?);
    let place = |index: usize| read.iter().position(|column| *column == index);
    let metadata = metadata(table, &place);
    let not_null = read.iter().enumerate();
    let not_null = not_null.filter(|(_, index)| !spec.field(**index).is_nullable() && !is_metadata(**index));
    let not_null = not_null.map(|(place, _)| place).collect();
    let (projection, is_same) = projection(table, kept, &columns, &place)?;
    let time = time(table, kept, &projection.schema)?;
    let (name, project) = (table.name.clone(), (!is_same).then_some(projection));
    Ok(SourceNode { table: name, source, columns, metadata, project, time, branches, malformed, not_null, whole })
}

/// The metadata among columns, by their places.
fn metadata(table: &StreamTable, place: Place<'_>) -> Vec<(usize, String)> {
    let metadata = table.spec.metadata.iter().filter_map(|field| Some((place(field.column)?, field.key.clone())));
    let mut metadata: Vec<(usize, String)> = metadata.collect();
    metadata.sort_unstable();
    metadata
}

/// What is read may lack a value; whether it may is judged row by row.
fn nullable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true)));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// How late rows get the columns that are not kept; `None` if all are.
fn whole_rows(table: &StreamTable, kept: &[usize]) -> Result<Option<WholeRows>> {
    let declared = table.schema.fields().len();
    let missing: Vec<usize> = (0..declared).filter(|column| !kept.contains(column)).collect();
    if missing.is_empty() {
        return Ok(None);
    }
    let columns = nullable(&table.spec.schema);
    let (project, _) = projection(table, &missing, &columns, &Some)?;
    let column_of = |column: usize| match kept.iter().position(|other| *other == column) {
        Some(used) => WholeColumn::Used(used),
        None => WholeColumn::Again(missing.iter().position(|other| *other == column).unwrap_or_default()),
    };
    Ok(Some(WholeRows {
        metadata: metadata(table, &Some),
        columns,
        project,
        columns_of: (0..declared).map(column_of).collect(),
        schema: Arc::clone(&table.schema),
    }))
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

/// The declared columns in terms of those read, and whether they are the same.
pub(super) fn projection(
    table: &StreamTable,
    kept: &[usize],
    columns: &SchemaRef,
    place: Place<'_>,
) -> Result<(Projection, bool)> {
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
    Ok((Projection { exprs, schema }, is_same))
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
