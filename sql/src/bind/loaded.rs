//! Tables a query names, loaded before it is bound, because the binder does not wait.
//!
//! Invariant: a name that cannot be loaded is an error only where the query really means a table by it.

use std::{collections::HashMap, ops::ControlFlow, sync::Arc};

use datafusion::{
    catalog::TableProvider,
    common::TableReference,
    datasource::provider_as_source,
    execution::SessionState,
    sql::sqlparser::ast::{self, ObjectName},
};
use headwater_engine::error::{Error, Result};

use super::{Relation, TableResolver};
use crate::{
    files::{Call, FUNCTIONS},
    tables::{CATALOG, FILES, LOOKUP_SUFFIX},
};

/// The name `TABLE t` in an argument is written as.
pub(crate) const TABLE_ARGUMENT: &str = "$table";

/// The tables of a query.
#[derive(Debug, Default)]
pub struct LoadedTables {
    found: HashMap<Vec<String>, Result<Arc<dyn TableProvider>>>,
}

impl LoadedTables {
    /// Loads whatever a query names in FROM.
    pub async fn load(query: &ast::Query, state: &SessionState) -> Self {
        let mut names = names_read(query);
        names.extend(looked_up(query));
        let mut found = HashMap::new();
        for (function, call) in file_functions(query) {
            let Ok(text) = call.to_text() else { continue };
            let loaded = files(function, &text, state).await;
            found.insert(vec![format!("{FILES}{function}"), text], loaded);
        }
        for parts in names {
            let loaded = provider(&parts, state).await;
            found.insert(parts, loaded);
        }
        Self { found }
    }
}

/// What a query names in FROM, window functions' tables too, each once.
pub(crate) fn names_read(query: &ast::Query) -> Vec<Vec<String>> {
    let mut names: Vec<Vec<String>> = Vec::new();
    let mut add = |name: &ObjectName| {
        let parts: Vec<String> = name.0.iter().filter_map(|part| Some(part.as_ident()?.value.clone())).collect();
        if !names.contains(&parts) {
            names.push(parts);
        }
    };
    let _ = ast::visit_relations(query, |name| {
        add(name);
        ControlFlow::<()>::Continue(())
    });
    let _ = ast::visit_expressions(query, |node| {
        if let Some(name) = table_argument(node) {
            add(&ObjectName::from(name));
        }
        ControlFlow::<()>::Continue(())
    });
    names
}

/// The tables of `FOR SYSTEM_TIME AS OF`, under the names they are loaded by.
fn looked_up(query: &ast::Query) -> Vec<Vec<String>> {
    #[derive(Default)]
    struct Versions(Vec<Vec<String>>);
    impl ast::Visitor for Versions {
        type Break = ();
        fn pre_visit_table_factor(&mut self, factor: &ast::TableFactor) -> ControlFlow<()> {
            if let ast::TableFactor::Table { name, version: Some(_), .. } = factor {
                let parts = name.0.iter().filter_map(|part| Some(part.as_ident()?.value.clone()));
                self.0.push(looked_up_name(parts.collect()));
            }
            ControlFlow::Continue(())
        }
    }
    let mut versions = Versions::default();
    let _ = ast::Visit::visit(query, &mut versions);
    versions.0
}

/// The name under which a table is looked up.
pub(crate) fn looked_up_name(mut parts: Vec<String>) -> Vec<String> {
    if let Some(last) = parts.last_mut() {
        last.push_str(LOOKUP_SUFFIX);
    }
    parts
}

/// The table that `TABLE t` names in an argument of a table function.
pub(crate) fn table_argument(node: &ast::Expr) -> Option<Vec<ast::Ident>> {
    let ast::Expr::Function(function) = node else { return None };
    if function.name.0.first()?.as_ident()?.value != TABLE_ARGUMENT {
        return None;
    }
    let ast::FunctionArguments::List(list) = &function.args else { return None };
    match list.args.first()? {
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::Identifier(name))) => Some(vec![name.clone()]),
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::CompoundIdentifier(parts))) => {
            Some(parts.clone())
        }
        _ => None,
    }
}

/// The calls of `read_json('..')` and its like in FROM; one that is not well formed is refused when it is bound.
fn file_functions(query: &ast::Query) -> Vec<(&'static str, Call)> {
    #[derive(Default)]
    struct Calls(Vec<(&'static str, Call)>);
    impl ast::Visitor for Calls {
        type Break = ();
        fn pre_visit_table_factor(&mut self, factor: &ast::TableFactor) -> ControlFlow<()> {
            if let ast::TableFactor::Table { name, args: Some(args), .. } = factor
                && let Some((function, _)) =
                    FUNCTIONS.iter().find(|(function, _)| name.to_string().eq_ignore_ascii_case(function))
                && let Ok(call) = Call::of(function, &args.args)
            {
                self.0.push((function, call));
            }
            ControlFlow::Continue(())
        }
    }
    let mut calls = Calls::default();
    let _ = ast::Visit::visit(query, &mut calls);
    calls.0
}

async fn files(function: &str, call: &str, state: &SessionState) -> Result<Arc<dyn TableProvider>> {
    let reference = TableReference::full(CATALOG, format!("{FILES}{function}"), call);
    let database = state.schema_for_ref(reference)?;
    let found = database.table(call).await?;
    found.ok_or_else(|| Error::internal("a path of files is a table or an error"))
}

async fn provider(parts: &[String], state: &SessionState) -> Result<Arc<dyn TableProvider>> {
    let lower: Vec<String> = parts.iter().map(|part| part.to_lowercase()).collect();
    let reference = match lower.as_slice() {
        [table] => TableReference::bare(table.as_str()),
        [schema, table] => TableReference::partial(schema.as_str(), table.as_str()),
        [catalog, schema, table] => TableReference::full(catalog.as_str(), schema.as_str(), table.as_str()),
        _ => return Err(Error::user("SYNTAX_ERROR", format!("too many parts in table name {}", parts.join(".")))),
    };
    let name = reference.table().to_owned();
    let missing = || Error::user("TABLE_NOT_FOUND", format!("table \"{}\" does not exist", parts.join(".")));
    let schema = state
        .schema_for_ref(reference)
        .map_err(|_| Error::user("CATALOG_NOT_FOUND", format!("catalog of \"{}\" does not exist", parts.join("."))))?;
    schema.table(&name).await?.ok_or_else(missing)
}

impl TableResolver for LoadedTables {
    fn table(&self, name: &[String]) -> Result<Option<Relation>> {
        match self.found.get(name) {
            Some(Ok(provider)) => Ok(Some(Relation::Table(provider_as_source(provider.clone())))),
            Some(Err(error)) => Err(error.duplicate()),
            None => Ok(None),
        }
    }

    fn function(&self, name: &str, arguments: &[ast::FunctionArg]) -> Result<Option<Relation>> {
        let Some((name, _)) = FUNCTIONS.iter().find(|(function, _)| *function == name) else { return Ok(None) };
        self.table(&[format!("{FILES}{name}"), Call::of(name, arguments)?.to_text()?])
    }
}
