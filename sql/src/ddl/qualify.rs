//! The text of a view with the database of each table in it, so that it means the same whichever database is in use.
//!
//! Invariant: only names of tables without a database get one; names of WITH, calls, and everything else stay as they
//! were written.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, Ident, ObjectName, Visit};
use headwater_engine::error::Location;

use crate::{
    bind::loaded::table_argument,
    parser::{self, StatementKind, lines::Lines},
};

/// The text with `database` before the tables that it does not say of; as it is if it is no query.
pub(super) fn qualified(sql: &str, database: &str) -> String {
    let parsed = parser::parse_filled(sql).ok().and_then(|mut statements| statements.pop());
    let Some(StatementKind::Query(query)) = parsed.map(|statement| statement.kind) else { return sql.to_owned() };
    let mut names = Names::default();
    let _ = query.body.visit(&mut names);
    let lines = Lines::of(sql);
    let mut places: Vec<usize> = names.bare.iter().map(|location| lines.byte(sql, *location)).collect();
    places.sort_unstable();
    places.dedup();
    let prefix = format!("\"{}\".", database.replace('"', "\"\""));
    let mut text = sql.to_owned();
    for place in places.into_iter().rev() {
        text.insert_str(place, &prefix);
    }
    text
}

/// The queries a name may mean at one level: those of WITH, of which the first `visible` are in scope.
#[derive(Debug)]
struct Level {
    names: Vec<String>,
    visible: usize,
}

/// Where names of tables without a database begin.
#[derive(Debug, Default)]
struct Names {
    levels: Vec<Level>,
    bare: Vec<Location>,
}

impl Names {
    fn add(&mut self, name: &Ident) {
        let wanted = name.value.to_lowercase();
        let is_query = self.levels.iter().any(|level| level.names[..level.visible].contains(&wanted));
        let start = name.span.start;
        if !is_query && start.line > 0 {
            self.bare.push(Location { line: start.line, column: start.column });
        }
    }
}

impl ast::Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
        let with = query.with.as_ref();
        let names: Vec<String> =
            with.into_iter().flat_map(|with| &with.cte_tables).map(|cte| cte.alias.name.value.to_lowercase()).collect();
        let visible = if with.is_some_and(|with| with.recursive) { names.len() } else { 0 };
        self.levels.push(Level { names, visible });
        ControlFlow::Continue(())
    }

    /// The queries of WITH come before all others of their level, in their order, and are in scope once they end.
    fn post_visit_query(&mut self, _: &ast::Query) -> ControlFlow<()> {
        self.levels.pop();
        if let Some(level) = self.levels.last_mut() {
            level.visible = (level.visible + 1).min(level.names.len());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &ast::TableFactor) -> ControlFlow<()> {
        if let ast::TableFactor::Table { name: ObjectName(parts), args: None, .. } = factor
            && let [part] = parts.as_slice()
            && let Some(name) = part.as_ident()
        {
            self.add(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
        if let Some([name]) = table_argument(expr).as_deref() {
            self.add(name);
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::qualified;

    #[test]
    fn only_tables_get_their_database() {
        for (written, wanted) in [
            ("SELECT t.a FROM t", r#"SELECT t.a FROM "d".t"#),
            (
                "SELECT * FROM e.t, awsdatacatalog.e.t JOIN \"T x\" u ON true",
                r#"SELECT * FROM e.t, awsdatacatalog.e.t JOIN "d"."T x" u ON true"#,
            ),
            (
                "WITH a AS (SELECT * FROM a), b AS (SELECT * FROM a) SELECT (SELECT max(x) FROM B) FROM a, c",
                r#"WITH a AS (SELECT * FROM "d".a), b AS (SELECT * FROM a) SELECT (SELECT max(x) FROM B) FROM a, "d".c"#,
            ),
            (
                "SELECT * FROM (WITH a AS (SELECT 1) TABLE a) x, a",
                r#"SELECT * FROM (WITH a AS (SELECT 1) TABLE a) x, "d".a"#,
            ),
            (
                "WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT n FROM r",
                "WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT n FROM r",
            ),
            (
                "SELECT 'é',\n  n FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(at), INTERVAL '1' MINUTE))",
                "SELECT 'é',\n  n FROM TABLE(TUMBLE(TABLE \"d\".s, DESCRIPTOR(at), INTERVAL '1' MINUTE))",
            ),
            (
                "SELECT * FROM read_json('t/'), UNNEST(ARRAY[1]) u (x)",
                "SELECT * FROM read_json('t/'), UNNEST(ARRAY[1]) u (x)",
            ),
        ] {
            assert_eq!(qualified(written, "d"), wanted);
        }
    }
}
