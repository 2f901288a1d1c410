//! `SHOW ..` and `DESCRIBE ..`.
//!
//! Invariant: columns are named as in Athena, rows come in the order of their names, and nothing here changes anything.

use std::{collections::BTreeSet, sync::Arc};

use headwater_engine::{
    catalog::{Column, Table, TableKind},
    error::{Error, Result},
};

use super::{create_text, database, partitions, rows, run_table, table_named};
use crate::{
    diagnostics::did_you_mean,
    functions::{Callable, Example, bound, library},
    parser::{
        StatementKind,
        cursor::{Identifier, ObjectName},
        ddl::{PartitionSpec, Pattern, Show},
    },
    session::{Outcome, Session, parameter_count},
    tables::{CATALOG, Found, INFORMATION_SCHEMA, RunTable, find, not_found},
    types::trino_type_name,
};

/// Shows it.
pub(crate) async fn run(session: &Session, show: &Show) -> Result<Outcome> {
    match show {
        Show::Databases { pattern } => {
            let databases = session.catalog().databases().await?;
            rows::lines("database_name", kept(pattern, databases.into_iter().map(|database| database.name))?)
        }
        Show::Tables { database, pattern } => {
            rows::lines("tab_name", kept(pattern, table_names(session, database.as_ref(), false).await?)?)
        }
        Show::Views { database, pattern } => {
            rows::lines("views", kept(pattern, table_names(session, database.as_ref(), true).await?)?)
        }
        Show::Columns(name) => rows::lines("field", columns(session, name).await?.into_iter().map(|(name, ..)| name)),
        Show::Partitions { table, filter } => show_partitions(session, table, filter.as_ref()).await,
        Show::CreateTable(name) => {
            let table = table_named(session, name).await?;
            if matches!(table.kind, TableKind::View { .. }) {
                return Err(Error::user("NOT_SUPPORTED", format!("\"{}\" is a view", table.name))
                    .with_hint("use SHOW CREATE VIEW")
                    .at(name.at()));
            }
            rows::lines("createtab_stmt", create_text::lines(&table))
        }
        Show::CreateView(name) => {
            let table = table_named(session, name).await?;
            if !matches!(table.kind, TableKind::View { .. }) {
                return Err(Error::user("NOT_SUPPORTED", format!("\"{}\" is a table", table.name))
                    .with_hint("use SHOW CREATE TABLE")
                    .at(name.at()));
            }
            rows::lines("Create View", create_text::lines(&table))
        }
        Show::TableProperties { table, key } => show_properties(session, table, key.as_deref()).await,
        Show::Functions { pattern } => functions(pattern),
        Show::Function(name) => function(name),
        Show::Settings { pattern } => settings(session, pattern),
        Show::Catalogs => rows::lines("Catalog", [CATALOG.to_owned()]),
        Show::Describe { table, column: Some(column), .. } => describe_column(session, table, column).await,
        Show::Describe { table, is_detailed, partition, column: None } => {
            describe(session, table, *is_detailed, partition.as_ref()).await
        }
        Show::DescribePrepared { name, is_output } => describe_prepared(session, name, *is_output).await,
    }
}

async fn table_names(session: &Session, database: Option<&Identifier>, only_views: bool) -> Result<Vec<String>> {
    let name = database.map_or_else(|| session.database(), |database| database.value.to_lowercase());
    if name == INFORMATION_SCHEMA && !only_views {
        return Ok(["columns", "schemata", "tables", "views"].map(str::to_owned).to_vec());
    }
    let tables = match (session.catalog().tables(&name).await, database) {
        (Err(error), Some(database)) if error.code().0 == "SCHEMA_NOT_FOUND" => {
            return Err(database::not_found(session, database).await);
        }
        (tables, _) => tables?,
    };
    let is_wanted = |is_view: bool| is_view || !only_views;
    let mut names: Vec<String> = tables
        .iter()
        .filter(|table| is_wanted(matches!(table.kind, TableKind::View { .. })))
        .map(|table| table.name.table.clone())
        .collect();
    let run = session.run_tables().read();
    let of_run =
        run.iter().filter(|(key, table)| key.database == name && is_wanted(matches!(table, RunTable::View(_))));
    names.extend(of_run.map(|(key, _)| key.table.clone()));
    names.sort();
    names.dedup();
    Ok(names)
}

/// The names that a pattern keeps.
fn kept(pattern: &Option<Pattern>, names: impl IntoIterator<Item = String>) -> Result<Vec<String>> {
    let Some(pattern) = pattern else { return Ok(names.into_iter().collect()) };
    let expression = match pattern {
        Pattern::Like(text) if !text.contains(['*', '|']) => regex::escape(text).replace('%', ".*").replace('_', "."),
        Pattern::Like(text) | Pattern::Regex(text) => hive_pattern(text),
    };
    let regex = regex::Regex::new(&format!("(?i)^(?:{expression})$")).map_err(|_| {
        let (Pattern::Like(text) | Pattern::Regex(text)) = pattern;
        Error::user("INVALID_ARGUMENTS", format!("pattern \"{text}\" is not a regular expression"))
            .with_hint("* stands for any text and | for or, as in 'sales*|orders*'")
    })?;
    Ok(names.into_iter().filter(|name| regex.is_match(name)).collect())
}

/// Hive's pattern: a regular expression in which a `*` that repeats nothing stands for any text.
fn hive_pattern(text: &str) -> String {
    let mut expression = String::new();
    for character in text.chars() {
        let repeats = expression.ends_with(['.', ']', ')']);
        if character == '*' && !repeats { expression.push_str(".*") } else { expression.push(character) }
    }
    expression
}

/// Name, type and comment of each column of a table, view or table of the run, partition keys last.
async fn columns(session: &Session, name: &ObjectName) -> Result<Vec<(String, String, String)>> {
    let full = session.table_name(name)?;
    if full.database == INFORMATION_SCHEMA {
        let provider =
            crate::information_schema::table(session, &full.table).await.map_err(|error| error.at(name.at()))?;
        let schema = provider.schema();
        let row = |field: &Arc<arrow::datatypes::Field>| {
            (field.name().clone(), trino_type_name(field.data_type()), String::new())
        };
        return Ok(schema.fields().iter().map(row).collect());
    }
    match find(session.catalog().as_ref(), session.run_tables(), &full).await? {
        Some(Found::Cataloged(table)) => Ok(table.columns.iter().chain(&table.partition_keys).map(texts_of).collect()),
        Some(Found::Run(RunTable::Table(table))) => Ok(run_table::column_texts(&table)),
        Some(Found::Run(RunTable::View(view))) => {
            Ok(view.columns.iter().map(|column| (column.value.clone(), String::new(), String::new())).collect())
        }
        None => Err(not_found(session.catalog().as_ref(), session.run_tables(), &full).await.at(name.at())),
    }
}

fn texts_of(column: &Column) -> (String, String, String) {
    (column.name.clone(), column.type_text.clone(), column.comment.clone().unwrap_or_default())
}

async fn show_partitions(session: &Session, name: &ObjectName, filter: Option<&PartitionSpec>) -> Result<Outcome> {
    let table = table_named(session, name).await?;
    if table.partition_keys.is_empty() {
        return Err(partitions::not_partitioned(&table).at(name.at()));
    }
    let known = partitions::known(session, &table).await?;
    let shown = match filter {
        Some(spec) => partitions::matching(&table, spec, &known)?,
        None => known.iter().collect(),
    };
    rows::lines("partition", shown.into_iter().map(|partition| partitions::path(&table, &partition.values)))
}

async fn show_properties(session: &Session, name: &ObjectName, key: Option<&str>) -> Result<Outcome> {
    let table = table_named(session, name).await?;
    let mut properties = table.properties.clone();
    properties.extend(table.comment.iter().map(|comment| ("comment".to_owned(), comment.clone())));
    if let Some(key) = key {
        let value = properties
            .get(key)
            .cloned()
            .unwrap_or_else(|| format!("Table {} does not have property: {key}", table.name));
        return rows::lines("prpt_value", [value]);
    }
    let shown = properties.into_iter().map(|(key, value)| vec![Some(key), Some(value)]).collect();
    rows::texts(&["prpt_name", "prpt_value"], shown)
}

/// Each signature of each function, in the order of names.
/// What is told of a signature of a function: its name, the signature, the kind, the summary, the example, its result.
type Told = [String; 6];

/// All functions by all their names.
fn all_functions() -> Result<Vec<Told>> {
    let mut all: Vec<Told> = Vec::new();
    let mut tell = |name: &str, signatures: &[&str], [kind, summary]: [&str; 2], example: &Example| {
        let told =
            |signature: &&str| [name, signature, kind, summary, example.statement, example.result].map(str::to_owned);
        all.extend(signatures.iter().map(told));
    };
    for function in library()?.iter().filter(|function| !function.name.contains('$')) {
        let kind = match function.callable {
            Callable::Scalar(..) | Callable::Higher(_) => "scalar",
            Callable::Aggregate(_) => "aggregate",
            Callable::Window(_) => "window",
        };
        for name in std::iter::once(&function.name).chain(function.aliases) {
            tell(name, &function.signatures, [kind, function.summary], &function.example);
        }
    }
    for function in bound::all() {
        tell(function.name, function.signatures, [function.kind, function.summary], &function.example);
    }
    all.sort();
    Ok(all)
}

fn functions(pattern: &Option<Pattern>) -> Result<Outcome> {
    let all = all_functions()?;
    let names: BTreeSet<String> = kept(pattern, all.iter().map(|told| told[0].clone()))?.into_iter().collect();
    let shown = all.into_iter().filter(|told| names.contains(&told[0]));
    let shown = shown.map(|told| told.into_iter().take(4).map(Some).collect()).collect();
    rows::texts(&["Function", "Signature", "Function Type", "Description"], shown)
}

fn function(name: &Identifier) -> Result<Outcome> {
    let all = all_functions()?;
    let (shown, others): (Vec<Told>, Vec<Told>) =
        all.into_iter().partition(|told| told[0].eq_ignore_ascii_case(&name.value));
    if shown.is_empty() {
        let error = Error::user("FUNCTION_NOT_FOUND", format!("function \"{}\" is not known", name.value));
        let error = did_you_mean(error, &name.value, others.iter().map(|told| told[0].as_str()));
        let error =
            if error.hint().is_some() { error } else { error.with_hint("SHOW FUNCTIONS LIKE '%part%' lists them") };
        return Err(error.at(name.at));
    }
    let shown = shown.into_iter().map(|told| told.map(Some).to_vec()).collect();
    rows::texts(&["Function", "Signature", "Function Type", "Description", "Example", "Result"], shown)
}

fn settings(session: &Session, pattern: &Option<Pattern>) -> Result<Outcome> {
    let all = session.settings().rows();
    let names = kept(pattern, all.iter().map(|row| row.key.clone()))?;
    let shown = all
        .into_iter()
        .filter(|row| names.contains(&row.key))
        .map(|row| vec![Some(row.key), Some(row.value), Some(row.default), Some(row.meaning)])
        .collect();
    rows::texts(&["name", "value", "default", "meaning"], shown)
}

async fn describe_column(session: &Session, name: &ObjectName, column: &Identifier) -> Result<Outcome> {
    let mut all = columns(session, name).await?;
    let names: Vec<String> = all.iter().map(|(name, ..)| name.clone()).collect();
    all.retain(|(name, ..)| name.eq_ignore_ascii_case(&column.value));
    if all.is_empty() {
        let message = format!("column \"{}\" not found in table \"{}\"", column.value, session.table_name(name)?);
        let error = Error::user("COLUMN_NOT_FOUND", message).at(column.at);
        return Err(did_you_mean(error, &column.value, names.iter().map(String::as_str)));
    }
    let shown = all.into_iter().map(|(name, kind, comment)| vec![Some(name), Some(kind), Some(comment)]).collect();
    rows::texts(&["col_name", "data_type", "comment"], shown)
}

async fn describe(
    session: &Session,
    name: &ObjectName,
    is_detailed: bool,
    partition: Option<&PartitionSpec>,
) -> Result<Outcome> {
    let mut shown = columns(session, name).await?;
    let full = session.table_name(name)?;
    let table = session.catalog().table(&full).await?;
    if let Some(table) = table.filter(|_| !session.run_tables().read().contains_key(&full)) {
        let mut location = table.location.clone();
        if let Some(spec) = partition {
            let registered = session.catalog().partitions(&full).await?;
            let Some(found) = partitions::matching(&table, spec, &registered)?.first().copied() else {
                return Err(partitions::no_partition(&table, spec));
            };
            location = found.location.clone().unwrap_or_else(|| partitions::folder_of(&table, &found.values));
        }
        if !table.partition_keys.is_empty() {
            shown.push(Default::default());
            shown.push(("# Partition Information".into(), String::new(), String::new()));
            shown.push(("# col_name".into(), "data_type".into(), "comment".into()));
            shown.push(Default::default());
            shown.extend(table.partition_keys.iter().map(texts_of));
        }
        if is_detailed {
            shown.extend(details(&table, &location));
        }
    }
    let shown = shown.into_iter().map(|(name, kind, comment)| vec![Some(name), Some(kind), Some(comment)]).collect();
    rows::texts(&["col_name", "data_type", "comment"], shown)
}

fn details(table: &Table, location: &str) -> Vec<(String, String, String)> {
    let row = |name: &str, value: &str| (name.to_owned(), value.to_owned(), String::new());
    let mut shown = vec![Default::default(), row("# Detailed Table Information", "")];
    shown.push(row("Database:", &table.name.database));
    if let TableKind::View { sql, .. } = &table.kind {
        shown.extend([row("Table Type:", "VIRTUAL_VIEW"), row("View Original Text:", sql)]);
        return shown;
    }
    let kind = if table.kind == TableKind::Managed { "MANAGED_TABLE" } else { "EXTERNAL_TABLE" };
    shown.extend([row("Location:", location), row("Table Type:", kind)]);
    shown.push(row("Table Parameters:", ""));
    shown.extend(table.comment.iter().map(|comment| ("\tcomment".to_owned(), comment.clone(), String::new())));
    shown.extend(table.properties.iter().map(|(key, value)| (format!("\t{key}"), value.clone(), String::new())));
    shown.extend([Default::default(), row("# Storage Information", "")]);
    shown.push(row("Format:", super::storage::format_word(table.storage.format)));
    let classes = [
        ("SerDe Library:", &table.storage.serde),
        ("InputFormat:", &table.storage.input_format),
        ("OutputFormat:", &table.storage.output_format),
    ];
    shown.extend(classes.iter().filter_map(|(name, class)| class.as_ref().map(|class| row(name, class))));
    if !table.storage.serde_properties.is_empty() {
        shown.push(row("Storage Desc Params:", ""));
        let pairs = table.storage.serde_properties.iter();
        shown.extend(pairs.map(|(key, value)| (format!("\t{key}"), value.escape_debug().to_string(), String::new())));
    }
    shown
}

async fn describe_prepared(session: &Session, name: &Identifier, is_output: bool) -> Result<Outcome> {
    let text = session.prepared_text(name)?;
    if !is_output {
        let count = parameter_count(&text);
        let shown = (0..count).map(|index| vec![Some(index.to_string()), Some("unknown".to_owned())]).collect();
        return rows::texts(&["Position", "Type"], shown);
    }
    let arguments = vec!["NULL".to_owned(); parameter_count(&text)];
    let statement = session.bind_parameters(&text, &arguments)?;
    let StatementKind::Query(query) = &statement.kind else {
        return rows::texts(&["Column Name", "Type"], vec![vec![Some("rows".into()), Some("bigint".into())]]);
    };
    let (bound, _) = session.bound(&query.body, &Arc::default()).await?;
    let columns = bound.columns.iter();
    let shown = columns.map(|column| vec![Some(column.name.to_string()), Some(column.data_type.to_string())]).collect();
    rows::texts(&["Column Name", "Type"], shown)
}
