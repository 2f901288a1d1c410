//! Views: a query under a name, with the database its own names are resolved in.
//!
//! Invariant: a view in the catalog was planned when it was made; one that reads a table of the run lives as long as
//! that table, and is expanded where it is used.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast;
use headwater_connectors::lake::hive_type;
use headwater_engine::{
    catalog::{Column, FileFormat, PartitionDiscovery, Properties, Storage, Table, TableKind, TableName},
    error::{Error, Result},
};

use super::names;
use crate::{
    bind::{OutputColumn, loaded::names_read},
    parser::{cursor::ObjectName, ddl::CreateView},
    session::{Outcome, Session},
    tables::{LATE_SUFFIX, REJECTED_SUFFIX, RunTable, not_found},
    types::trino_type_name,
    write::discard,
};

/// `CREATE VIEW`.
pub(super) async fn create(session: &Session, create: &CreateView) -> Result<Outcome> {
    let name = names::new_table(session, &create.name)?;
    if create.is_temporary || reads_run_table(session, &create.query) {
        session.run_tables().write().insert(name, RunTable::View(Arc::new(create.clone())));
        return Ok(Outcome::done());
    }
    let known = session.catalog().table(&name).await?;
    if let Some(known) = &known {
        let is_view = matches!(known.kind, TableKind::View { .. });
        if is_view && create.if_not_exists {
            return Ok(Outcome::done());
        }
        if !is_view || !create.or_replace {
            let what = if is_view { "view" } else { "table" };
            let error =
                Error::user("TABLE_ALREADY_EXISTS", format!("{what} \"{name}\" exists already")).at(create.name.at());
            return Err(if is_view { error.with_hint("CREATE OR REPLACE VIEW takes its place") } else { error });
        }
    }
    let table = entry(session, create, name).await?;
    match known {
        Some(known) => session.catalog().replace_table(Table { version: known.version, ..table }).await?,
        None => session.catalog().create_table(table, Vec::new()).await?,
    }
    Ok(Outcome::done())
}

async fn entry(session: &Session, create: &CreateView, name: TableName) -> Result<Table> {
    let database = session.database();
    let bound = session.bound_as_view(&name, &create.query).await?;
    let sql = text_of(create, &bound.columns);
    let schema = bound.schema();
    let fields = schema.fields();
    if !create.columns.is_empty() && create.columns.len() != fields.len() {
        let message = format!("the view names {} columns, its query has {}", create.columns.len(), fields.len());
        return Err(Error::user("MISMATCHED_COLUMN_ALIASES", message).at(create.name.at()));
    }
    let named = |index: usize, field: &str| {
        create.columns.get(index).map_or_else(|| field.to_owned(), |column| column.value.clone())
    };
    let columns = fields.iter().enumerate().map(|(index, field)| Column {
        name: named(index, field.name()),
        type_text: hive_type::text(field.data_type()).unwrap_or_else(|_| trino_type_name(field.data_type())),
        comment: None,
    });
    let columns: Vec<Column> = columns.collect();
    let unnamed = bound.columns.iter().position(|column| !column.is_named);
    if let Some(index) = unnamed.filter(|_| create.columns.is_empty()) {
        let message = format!("column {} of the view's query has no name", index + 1);
        return Err(Error::user("MISSING_COLUMN_NAME", message).with_hint("name it with AS").at(create.name.at()));
    }
    for (index, column) in columns.iter().enumerate() {
        if columns[..index].iter().any(|other| other.name.eq_ignore_ascii_case(&column.name)) {
            return Err(Error::user("DUPLICATE_COLUMN_NAME", format!("column \"{}\" is named twice", column.name))
                .with_hint("give one of them another name with AS")
                .at(create.name.at()));
        }
    }
    Ok(Table {
        name,
        kind: TableKind::View { sql, database },
        columns,
        partition_keys: Vec::new(),
        storage: Storage {
            format: FileFormat::Raw,
            serde: None,
            serde_properties: Properties::new(),
            input_format: None,
            output_format: None,
        },
        location: String::new(),
        discovery: PartitionDiscovery::Registered,
        properties: Properties::new(),
        comment: create.comment.clone(),
        version: 0,
    })
}

/// The query of a view, with the names it gives its columns: by the names they have in the query, which stay when `*` comes
/// to stand for more; by their places where these do not tell them apart.
fn text_of(create: &CreateView, columns: &[OutputColumn]) -> String {
    if create.columns.is_empty() {
        return create.query_text.clone();
    }
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let is_told = |(index, column): (usize, &OutputColumn)| {
        column.is_named && columns[..index].iter().all(|other| !other.name.eq_ignore_ascii_case(&column.name))
    };
    if columns.iter().enumerate().all(is_told) {
        let named = columns.iter().zip(&create.columns);
        let items: Vec<_> = named.map(|(of, to)| format!("{} AS {}", quoted(&of.name), quoted(&to.value))).collect();
        return format!("SELECT {} FROM (\n{}\n) AS v", items.join(", "), create.query_text);
    }
    let names: Vec<_> = create.columns.iter().map(|column| quoted(&column.value)).collect();
    format!("SELECT * FROM (\n{}\n) AS v ({})", create.query_text, names.join(", "))
}

/// Whether a query names a table of the run, or a view that does.
fn reads_run_table(session: &Session, query: &ast::Query) -> bool {
    let database = session.database();
    let run = session.run_tables().read();
    if run.is_empty() {
        return false;
    }
    names_read(query).iter().any(|parts| {
        let [.., table] = parts.as_slice() else { return false };
        let table = [REJECTED_SUFFIX, LATE_SUFFIX].iter().find_map(|side| table.strip_suffix(side)).unwrap_or(table);
        let database = parts.iter().rev().nth(1).unwrap_or(&database);
        run.contains_key(&TableName::new(database, table))
    })
}

/// `DROP VIEW` and `DROP TABLE`.
pub(super) async fn drop(session: &Session, name: &ObjectName, if_exists: bool, is_view: bool) -> Result<Outcome> {
    let full = session.table_name(name)?;
    if session.run_tables().write().remove(&full).is_some() {
        return Ok(Outcome::done());
    }
    let Some(table) = session.catalog().table(&full).await? else {
        return match if_exists {
            true => Ok(Outcome::done()),
            false => Err(not_found(session.catalog().as_ref(), session.run_tables(), &full).await.at(name.at())),
        };
    };
    match (is_view, matches!(table.kind, TableKind::View { .. })) {
        (true, false) => {
            let message = format!("\"{full}\" is a table, not a view");
            return Err(Error::user("NOT_SUPPORTED", message).with_hint("use DROP TABLE").at(name.at()));
        }
        (false, true) => {
            let message = format!("\"{full}\" is a view, not a table");
            return Err(Error::user("NOT_SUPPORTED", message).with_hint("use DROP VIEW").at(name.at()));
        }
        (true, true) | (false, false) => {}
    }
    session.catalog().drop_table(&full).await?;
    discard(session, &table).await?;
    Ok(Outcome::done())
}
