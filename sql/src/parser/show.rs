//! Parsers of `SHOW ..` and `DESCRIBE ..`.
//!
//! Invariant: `IN` and `FROM` mean the same, as in Athena.

use headwater_engine::error::{Error, Result};

use super::{
    cursor::{Cursor, Identifier},
    ddl::{Pattern, Show},
    ddl_statements::{table_to_end, values},
};

/// What others show, and what is to be done instead.
const NOT_SHOWN: &[(&str, &str)] = &[
    ("STATS", "statistics are taken from the files when they are read; EXPLAIN ANALYZE shows what a query read"),
    ("GRANTS", "access is that of the credentials in use"),
    ("ROLES", "access is that of the credentials in use"),
    ("GRANT", "access is that of the credentials in use"),
    ("ROLE", "access is that of the credentials in use"),
    ("CURRENT", "access is that of the credentials in use"),
    ("PRINCIPALS", "access is that of the credentials in use"),
    ("INDEXES", "there are none: partitions say what a query reads, and SHOW PARTITIONS lists them"),
    ("INDEX", "there are none: partitions say what a query reads, and SHOW PARTITIONS lists them"),
    ("LOCKS", "there are none: every statement is atomic by itself"),
    ("TRANSACTIONS", "there are none: every statement is atomic by itself"),
    ("COMPACTIONS", "there are none: rewrite a partition with INSERT OVERWRITE"),
    ("CONF", "SHOW SETTINGS lists the settings"),
    (
        "TABLE",
        "DESCRIBE FORMATTED t shows a table's location, format and properties, SHOW TABLES IN db LIKE '..' finds its name",
    ),
];

/// What to do instead of showing one database.
const OF_DATABASES: &str = "SELECT * FROM information_schema.schemata shows the databases, headwater catalog export all that is \
                            kept of them";

/// What can be shown.
const SHOWN: &[&str] = &[
    "DATABASES",
    "SCHEMAS",
    "TABLES",
    "VIEWS",
    "COLUMNS",
    "PARTITIONS",
    "CREATE",
    "TBLPROPERTIES",
    "FUNCTIONS",
    "SETTINGS",
    "CATALOGS",
];

/// Parses the statement.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Show> {
    if cursor.take(&["DESCRIBE"]) || cursor.take(&["DESC"]) {
        return describe(cursor);
    }
    cursor.expect(&["SHOW"])?;
    let shown = show(cursor)?;
    cursor.expect_end()?;
    Ok(shown)
}

fn show(cursor: &mut Cursor<'_>) -> Result<Show> {
    if let Some((word, instead)) = NOT_SHOWN.iter().find(|(word, _)| cursor.is_at(&[word])) {
        return Err(Error::not_supported(format!("SHOW {word} is not supported"))
            .with_hint(*instead)
            .at(cursor.location()));
    }
    if cursor.take(&["DATABASES"]) || cursor.take(&["SCHEMAS"]) {
        scope(cursor)?;
        return Ok(Show::Databases { pattern: pattern(cursor)? });
    }
    if cursor.take(&["TABLES"]) {
        return Ok(Show::Tables { database: scope(cursor)?, pattern: pattern(cursor)? });
    }
    if cursor.take(&["VIEWS"]) {
        return Ok(Show::Views { database: scope(cursor)?, pattern: pattern(cursor)? });
    }
    if cursor.take(&["COLUMNS"]) {
        return columns(cursor);
    }
    if cursor.take(&["PARTITIONS"]) {
        let table = cursor.object_name("the name of a table")?;
        let filter = if cursor.take(&["PARTITION"]) { Some(values(cursor)?) } else { None };
        return Ok(Show::Partitions { table, filter });
    }
    if cursor.take(&["CREATE", "TABLE"]) {
        return Ok(Show::CreateTable(table_to_end(cursor)?));
    }
    if cursor.take(&["CREATE", "VIEW"]) {
        return Ok(Show::CreateView(table_to_end(cursor)?));
    }
    if cursor.is_at(&["CREATE", "DATABASE"]) || cursor.is_at(&["CREATE", "SCHEMA"]) {
        return Err(Error::not_supported("SHOW CREATE DATABASE is not supported")
            .with_hint(OF_DATABASES)
            .at(cursor.location()));
    }
    if cursor.take(&["CREATE"]) {
        return Err(cursor.expected("TABLE or VIEW"));
    }
    if cursor.take(&["TBLPROPERTIES"]) {
        let table = cursor.object_name("the name of a table")?;
        let key = if cursor.take_symbol('(') {
            let key = cursor.text("a key in quotes")?;
            cursor.expect_symbol(')')?;
            Some(key)
        } else {
            None
        };
        return Ok(Show::TableProperties { table, key });
    }
    if cursor.take(&["FUNCTIONS"]) {
        return Ok(Show::Functions { pattern: pattern(cursor)? });
    }
    if cursor.take(&["SETTINGS"]) || cursor.take(&["SESSION"]) {
        return Ok(Show::Settings { pattern: pattern(cursor)? });
    }
    if cursor.take(&["CATALOGS"]) {
        return Ok(Show::Catalogs);
    }
    Err(unknown(cursor))
}

fn unknown(cursor: &Cursor<'_>) -> Error {
    let word = cursor.word_ahead(0).unwrap_or_default();
    let error = cursor.expected(&format!("one of {}", SHOWN.join(", ")));
    crate::diagnostics::did_you_mean(error, &word, SHOWN.iter().copied())
}

fn scope(cursor: &mut Cursor<'_>) -> Result<Option<Identifier>> {
    if cursor.take(&["IN"]) || cursor.take(&["FROM"]) {
        let mut name = cursor.object_name("the name of a database")?;
        return Ok(name.parts.pop());
    }
    Ok(None)
}

fn pattern(cursor: &mut Cursor<'_>) -> Result<Option<Pattern>> {
    if cursor.take(&["LIKE"]) {
        return Ok(Some(Pattern::Like(cursor.text("a pattern in quotes")?)));
    }
    if cursor.is_at_text() { Ok(Some(Pattern::Regex(cursor.text("a pattern")?))) } else { Ok(None) }
}

fn columns(cursor: &mut Cursor<'_>) -> Result<Show> {
    if !cursor.take(&["IN"]) && !cursor.take(&["FROM"]) {
        return Err(cursor.expected("IN or FROM"));
    }
    let mut table = cursor.object_name("the name of a table")?;
    if let Some(database) = scope(cursor)? {
        if table.parts.len() > 1 {
            return Err(Error::user("SYNTAX_ERROR", "the database is named twice").at(database.at));
        }
        table.parts.insert(0, database);
    }
    Ok(Show::Columns(table))
}

fn describe(cursor: &mut Cursor<'_>) -> Result<Show> {
    for (word, is_output) in [("INPUT", false), ("OUTPUT", true)] {
        let mut ahead = cursor.clone();
        if ahead.take(&[word]) && !ahead.is_at_end() && !ahead.is_at_symbol('.') {
            let name = ahead.identifier("the name of a prepared statement")?;
            ahead.expect_end()?;
            *cursor = ahead;
            return Ok(Show::DescribePrepared { name, is_output });
        }
    }
    if (cursor.is_at(&["DATABASE"]) || cursor.is_at(&["SCHEMA"])) && cursor.rest().len() > 1 {
        return Err(Error::not_supported("DESCRIBE DATABASE is not supported")
            .with_hint(OF_DATABASES)
            .at(cursor.location()));
    }
    if cursor.is_at(&["FUNCTION"]) && cursor.rest().get(1).is_some_and(|next| !is_dot(&next.kind)) {
        cursor.take(&["FUNCTION"]);
        cursor.take(&["EXTENDED"]);
        let name = cursor.identifier("the name of a function")?;
        cursor.expect_end()?;
        return Ok(Show::Function(name));
    }
    let is_detailed = cursor.take(&["EXTENDED"]) || cursor.take(&["FORMATTED"]);
    if cursor.rest().len() > 1 && !cursor.rest().get(1).is_some_and(|next| is_dot(&next.kind)) {
        cursor.take(&["TABLE"]);
    }
    let table = cursor.object_name("the name of a table")?;
    let partition = if cursor.take(&["PARTITION"]) { Some(values(cursor)?) } else { None };
    let column = if cursor.is_at_end() { None } else { Some(cursor.identifier("the name of a column")?) };
    cursor.expect_end()?;
    Ok(Show::Describe { table, is_detailed, partition, column })
}

fn is_dot(kind: &super::lexer::TokenKind) -> bool {
    *kind == super::lexer::TokenKind::Symbol('.')
}
