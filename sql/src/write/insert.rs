//! `INSERT INTO` and `INSERT OVERWRITE`.
//!
//! Invariant: columns that are not named become NULL; a partition key given in `PARTITION (..)` is not in the query.

use std::sync::Arc;

use datafusion::{execution::SessionState, logical_expr::LogicalPlan};
use headwater_connectors::lake::{
    hive_type,
    layout::NULL_FOLDER,
    stats::ScanStats,
    write::{Mode, known::Change, partition::spell},
};
use headwater_engine::{
    catalog::{Column, Table, TableKind},
    error::{Error, Result},
};

use super::{
    columns::{self, From},
    target,
};
use crate::{
    diagnostics::did_you_mean,
    lower::plan_for_sink,
    parser::{cursor::Identifier, statement::Insert},
    session::{Outcome, Session},
    tables::{self, Found, RunTable},
};

/// Runs the statement.
pub(crate) async fn insert(session: &Session, insert: &Insert) -> Result<Outcome> {
    if is_system(session, insert).await? {
        return super::system::insert(session, insert).await;
    }
    let stats = session.counters();
    let (table, plan, state) = planned(session, insert, &stats).await?;
    let change = if insert.overwrite { Change::Replaces } else { Change::Adds };
    let target = target::of_table(session, &table, change).await?;
    let mode = match change {
        Change::Adds => Mode::Append,
        Change::Replaces => Mode::Overwrite { also: static_partition(&table, insert)?.into_iter().collect() },
    };
    super::run(plan, &state, target, mode, stats).await
}

/// The rows as the target takes them.
pub(super) async fn plan(
    session: &Session,
    insert: &Insert,
    stats: &Arc<ScanStats>,
) -> Result<(LogicalPlan, SessionState)> {
    if is_system(session, insert).await? {
        let (plan, state, _) = plan_for_sink(session, insert, stats).await?;
        return Ok((plan, state));
    }
    let (_, plan, state) = planned(session, insert, stats).await?;
    Ok((plan, state))
}

async fn planned(
    session: &Session,
    insert: &Insert,
    stats: &Arc<ScanStats>,
) -> Result<(Arc<Table>, LogicalPlan, SessionState)> {
    let table = target_table(session, insert).await?;
    let given = given_columns(&table, insert)?;
    let (bound, state) = session.bound(&insert.query, stats).await?;
    let targets: Vec<&Column> = given.iter().map(|index| column(&table, *index)).collect();
    columns::check(&table.name.to_string(), &targets, &bound.columns)?;
    let all = table.columns.iter().chain(&table.partition_keys).enumerate();
    let mut from: Vec<(Column, From)> = all
        .map(|(index, column)| {
            let position = given.iter().position(|given| *given == index);
            (column.clone(), position.map_or(From::Nothing, From::Query))
        })
        .collect();
    for (key, value) in &insert.partition {
        let index = index_of(&table, key)?;
        from[index].1 = if is_null(value) { From::Nothing } else { From::Text(value.clone()) };
    }
    let plan = columns::with_values(columns::assigned(bound, &from)?, &not_null(session, &table))?;
    Ok((table, plan, state))
}

/// What makes a folder one that only its sink knows how to write.
const DELIVERY: [&str; 3] = ["sink.prefix", "sink.partition-keys-query", "sink.backup-prefix"];

/// Whether the target is a table of the run that is no folder, or one whose objects are placed as Firehose places them.
async fn is_system(session: &Session, insert: &Insert) -> Result<bool> {
    let name = session.table_name(&insert.table)?;
    Ok(match tables::find(session.catalog().as_ref(), session.run_tables(), &name).await? {
        Some(Found::Run(RunTable::Table(table))) => {
            is_delivered(|key| table.option(key)) || table.option("connector") != Some("filesystem")
        }
        Some(Found::Cataloged(table)) => is_delivered(|key| table.properties.get(key).map(String::as_str)),
        Some(Found::Run(RunTable::View(_))) | None => false,
    })
}

/// Whether objects are placed or named as Firehose does it.
fn is_delivered<'t>(option: impl Fn(&str) -> Option<&'t str>) -> bool {
    let is_named = option("sink.object-names").is_some_and(|names| names.trim().eq_ignore_ascii_case("firehose"));
    is_named || DELIVERY.iter().any(|key| option(key).is_some())
}

async fn target_table(session: &Session, insert: &Insert) -> Result<Arc<Table>> {
    let name = session.table_name(&insert.table)?;
    let at = insert.table.at();
    match tables::find(session.catalog().as_ref(), session.run_tables(), &name).await? {
        Some(Found::Cataloged(table)) => match table.kind {
            TableKind::View { .. } => Err(Error::not_supported(format!("\"{name}\" is a view; it holds no rows"))
                .with_hint("insert into the tables it reads")
                .at(at)),
            TableKind::External | TableKind::Managed => Ok(table),
        },
        Some(Found::Run(table)) => target::of_run_table(&name, &table).map_err(|error| error.at(at)),
        None => Err(tables::not_found(session.catalog().as_ref(), session.run_tables(), &name).await.at(at)),
    }
}

/// The columns of a table of the run that are declared `NOT NULL`.
fn not_null(session: &Session, table: &Table) -> Vec<String> {
    let tables = session.run_tables().read();
    let Some(RunTable::Table(declared)) = tables.get(&table.name) else { return Vec::new() };
    crate::run_tables::not_null(declared)
}

fn column(table: &Table, index: usize) -> &Column {
    match index.checked_sub(table.columns.len()) {
        None => &table.columns[index],
        Some(key) => &table.partition_keys[key],
    }
}

fn index_of(table: &Table, name: &Identifier) -> Result<usize> {
    let mut all = table.columns.iter().chain(&table.partition_keys);
    all.position(|column| column.name.eq_ignore_ascii_case(&name.value)).ok_or_else(|| {
        let message = format!("column \"{}\" not found in table \"{}\"", name.value, table.name);
        let known = table.columns.iter().chain(&table.partition_keys).map(|column| column.name.as_str());
        did_you_mean(Error::user("COLUMN_NOT_FOUND", message).at(name.at), &name.value, known)
    })
}

/// Indices of the columns the query gives, in its order; keys come after the columns.
fn given_columns(table: &Table, insert: &Insert) -> Result<Vec<usize>> {
    let mut fixed = Vec::new();
    for (key, _) in &insert.partition {
        let index = index_of(table, key)?;
        if index < table.columns.len() {
            let message = format!("column \"{}\" is not a partition key", key.value);
            return Err(Error::user("COLUMN_NOT_FOUND", message).at(key.at));
        }
        fixed.push(index);
    }
    if insert.columns.is_empty() {
        let all = table.columns.len() + table.partition_keys.len();
        return Ok((0..all).filter(|index| !fixed.contains(index)).collect());
    }
    let mut given = Vec::new();
    for name in &insert.columns {
        let index = index_of(table, name)?;
        if given.contains(&index) || fixed.contains(&index) {
            let message = format!("column \"{}\" is given twice", name.value);
            return Err(Error::user("DUPLICATE_COLUMN_NAME", message).at(name.at));
        }
        given.push(index);
    }
    Ok(given)
}

/// The one partition that a fully static `PARTITION (..)` names: it is replaced even by no rows.
fn static_partition(table: &Table, insert: &Insert) -> Result<Option<Vec<Option<String>>>> {
    let value = |key: &Column| {
        let given = insert.partition.iter().find(|(name, _)| name.value.eq_ignore_ascii_case(&key.name));
        given.map(|(_, value)| Some(value.clone()))
    };
    let values: Option<Vec<_>> = table.partition_keys.iter().map(value).collect();
    let Some(values) = values.filter(|values| !values.is_empty()) else { return Ok(None) };
    let types = table.partition_keys.iter().map(|key| hive_type::parse(&key.type_text));
    spell(&types.collect::<Result<Vec<_>>>()?, &values).map(Some)
}

/// Whether a text given to a key is a spelling of NULL.
fn is_null(value: &str) -> bool {
    value.is_empty() || value == NULL_FOLDER
}
