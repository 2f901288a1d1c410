//! The first words of a statement decide who parses the rest.
//!
//! Invariant: what Headwater does not do is refused here by name, with what to use instead.

use datafusion::sql::sqlparser::ast;
use headwater_engine::error::{Error, Result};

use super::{
    create_table,
    cursor::{Cursor, Identifier},
    ddl_statements,
    lexer::{Token, TokenKind},
    session_statements, show, split,
    statement::{CreateTableAs, Insert, OptionValue, Query, Statement, StatementKind, Unload, WithOption},
    stream_ddl,
};

/// Parses one statement.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let (at, text) = (cursor.location(), cursor.text_of(cursor.rest()).to_owned());
    Ok(Statement { text, at, kind: kind(cursor)? })
}

fn kind(cursor: &mut Cursor<'_>) -> Result<StatementKind> {
    let Some(word) = cursor.word_ahead(0) else {
        return if cursor.is_at_symbol('(') { query(cursor) } else { Err(cursor.expected("a statement")) };
    };
    match word.as_str() {
        "WITH" if cursor.is_at(&["WITH", "FUNCTION"]) && cursor.word_ahead(2).is_some_and(|name| name != "AS") => {
            Err(no_functions(cursor, "WITH FUNCTION"))
        }
        "USING" if cursor.is_at(&["USING", "EXTERNAL", "FUNCTION"]) => {
            Err(no_functions(cursor, "USING EXTERNAL FUNCTION"))
        }
        "SELECT" | "WITH" | "VALUES" | "TABLE" => query(cursor),
        "INSERT" => insert(cursor),
        "UNLOAD" => unload(cursor),
        "CREATE" => create(cursor),
        "DROP" => ddl_statements::drop(cursor),
        "ALTER" => ddl_statements::alter(cursor),
        "MSCK" => ddl_statements::repair(cursor),
        "SHOW" | "DESCRIBE" | "DESC" => show::parse(cursor).map(StatementKind::Show),
        "USE" => session_statements::use_database(cursor),
        "SET" => session_statements::set(cursor),
        "RESET" => session_statements::reset(cursor),
        "PREPARE" => session_statements::prepare(cursor),
        "EXECUTE" if cursor.is_at(&["EXECUTE", "STATEMENT", "SET"]) => statement_set(cursor),
        "BEGIN" if cursor.is_at(&["BEGIN", "STATEMENT", "SET"]) => statement_set(cursor),
        "EXECUTE" => session_statements::execute(cursor),
        "DEALLOCATE" => session_statements::deallocate(cursor),
        "EXPLAIN" => session_statements::explain(cursor),
        _ => Err(unsupported(cursor, &word)),
    }
}

/// Statements by their first word, and what to use instead.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("MERGE", "write the merged rows with INSERT OVERWRITE, or into a new table with CREATE TABLE AS"),
    (
        "DELETE",
        "write the rows to keep with INSERT OVERWRITE, or drop whole partitions with ALTER TABLE .. DROP PARTITION",
    ),
    ("UPDATE", "write the changed rows with INSERT OVERWRITE"),
    ("TRUNCATE", "drop the partitions with ALTER TABLE .. DROP PARTITION, or drop the table and remove its files"),
    ("OPTIMIZE", "it compacts Iceberg tables; rewrite a partition with INSERT OVERWRITE"),
    ("VACUUM", "it cleans Iceberg tables; Headwater leaves no files behind"),
    ("ANALYZE", "Headwater takes statistics from the files; use EXPLAIN ANALYZE to see what a query read"),
    ("REFRESH", "listings see new files without it"),
    ("CALL", "there are no procedures"),
    ("GRANT", "access is that of the credentials in use"),
    ("REVOKE", "access is that of the credentials in use"),
    ("COMMIT", "every statement is atomic by itself"),
    ("ROLLBACK", "every statement is atomic by itself"),
    ("START", "every statement is atomic by itself"),
    (
        "BEGIN",
        "every statement is atomic by itself; several INSERTs run as one job in EXECUTE STATEMENT SET BEGIN .. END",
    ),
    ("COPY", "use UNLOAD (query) TO 's3://..' to write files, and INSERT INTO to load them"),
    ("LOAD", "make a table over the files with CREATE EXTERNAL TABLE"),
    (
        "EXPORT",
        "use UNLOAD (query) TO 's3://..', or copy the table's files and the statement that SHOW CREATE TABLE prints",
    ),
    ("IMPORT", "make a table over the files with CREATE EXTERNAL TABLE"),
    ("LOCK", "every statement is atomic by itself, and several may write one table at a time"),
    ("UNLOCK", "every statement is atomic by itself, and several may write one table at a time"),
    ("DFS", "list, copy and delete files with the tools of their store"),
    ("RELOAD", "functions are built in: SHOW FUNCTIONS lists them"),
    ("DENY", "access is that of the credentials in use"),
    ("COMMENT", "give the comment in CREATE TABLE, or set it with ALTER TABLE .. SET TBLPROPERTIES ('comment' = '..')"),
];

const STATEMENTS: &[&str] = &[
    "SELECT",
    "WITH",
    "VALUES",
    "INSERT",
    "UNLOAD",
    "CREATE",
    "DROP",
    "ALTER",
    "MSCK",
    "SHOW",
    "DESCRIBE",
    "USE",
    "SET",
    "RESET",
    "PREPARE",
    "EXECUTE",
    "DEALLOCATE",
    "EXPLAIN",
];

fn unsupported(cursor: &Cursor<'_>, word: &str) -> Error {
    match UNSUPPORTED.iter().find(|(first, _)| *first == word) {
        Some((_, instead)) => {
            Error::not_supported(format!("{word} is not supported")).with_hint(*instead).at(cursor.location())
        }
        None => crate::diagnostics::did_you_mean(cursor.expected("a statement"), word, STATEMENTS.iter().copied()),
    }
}

fn no_functions(cursor: &Cursor<'_>, what: &str) -> Error {
    Error::not_supported(format!("{what} is not supported"))
        .with_hint(
            "write the expression in its place, in a query of WITH, or in a view; SHOW FUNCTIONS lists what there is",
        )
        .at(cursor.location())
}

fn query(cursor: &mut Cursor<'_>) -> Result<StatementKind> {
    let mut tokens = cursor.rest();
    let mut emit_changes = false;
    if let [before @ .., emit, changes] = tokens {
        let is = |token: &Token, word| cursor.over(std::slice::from_ref(token)).is_at(&[word]);
        if is(emit, "EMIT") && is(changes, "CHANGES") {
            (tokens, emit_changes) = (before, true);
        }
    }
    Ok(StatementKind::Query(Query { body: cursor.query(tokens)?, emit_changes }))
}

fn rest_as_query(cursor: &Cursor<'_>) -> Result<(Box<ast::Query>, String)> {
    let tokens = cursor.rest();
    Ok((cursor.query(tokens)?, cursor.text_of(tokens).to_owned()))
}

/// Whether a parenthesis opens a query here, not a list of names.
fn is_at_query(cursor: &Cursor<'_>) -> bool {
    let mut ahead = cursor.clone();
    while ahead.take_symbol('(') {}
    ["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|word| ahead.is_at(&[word]))
}

fn insert(cursor: &mut Cursor<'_>) -> Result<StatementKind> {
    cursor.expect(&["INSERT"])?;
    let overwrite = cursor.take(&["OVERWRITE"]);
    if !cursor.take(&["INTO"]) && !overwrite {
        return Err(cursor.expected("INTO or OVERWRITE"));
    }
    cursor.take(&["TABLE"]);
    let table = cursor.object_name("the name of a table")?;
    let mut partition = Vec::new();
    if cursor.take(&["PARTITION"]) {
        partition = cursor.list(ddl_statements::partition_value)?.into_iter().collect();
    }
    let partition: Vec<(Identifier, String)> =
        partition.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect();
    let mut columns = Vec::new();
    if cursor.is_at_symbol('(') && !is_at_query(cursor) {
        columns = cursor.list(|cursor| cursor.identifier("the name of a column"))?;
    }
    let (query, query_text) = rest_as_query(cursor)?;
    Ok(StatementKind::Insert(Insert { table, columns, partition, overwrite, query, query_text }))
}

fn unload(cursor: &mut Cursor<'_>) -> Result<StatementKind> {
    cursor.expect(&["UNLOAD"])?;
    let tokens = cursor.parenthesised()?;
    cursor.expect(&["TO"])?;
    let location_at = cursor.location();
    let location = cursor.text("a location in quotes")?;
    let options = with_options(cursor)?;
    cursor.expect_end()?;
    let (query, query_text) = (cursor.query(tokens)?, cursor.text_of(tokens).to_owned());
    Ok(StatementKind::Unload(Unload { query, query_text, location, location_at, options }))
}

fn with_options(cursor: &mut Cursor<'_>) -> Result<Vec<WithOption>> {
    if !cursor.take(&["WITH"]) {
        return Ok(Vec::new());
    }
    let options = cursor.list(|cursor| {
        let name = cursor.identifier("the name of an option").or_else(|error| {
            let at = cursor.location();
            match cursor.text("the name of an option") {
                Ok(value) => Ok(Identifier { value, is_quoted: true, at }),
                Err(_) => Err(error),
            }
        })?;
        cursor.expect_symbol('=')?;
        Ok(WithOption { name, value: option_value(cursor)? })
    })?;
    for (index, option) in options.iter().enumerate() {
        if options[..index].iter().any(|other| other.name.value.eq_ignore_ascii_case(&option.name.value)) {
            let message = format!("option \"{}\" is given twice", option.name.value);
            return Err(Error::user("DUPLICATE_PROPERTY", message).at(option.name.at));
        }
    }
    Ok(options)
}

fn option_value(cursor: &mut Cursor<'_>) -> Result<OptionValue> {
    if cursor.take(&["TRUE"]) {
        return Ok(OptionValue::Boolean(true));
    }
    if cursor.take(&["FALSE"]) {
        return Ok(OptionValue::Boolean(false));
    }
    if cursor.is_at_number() {
        return cursor.number("a number").map(OptionValue::Number);
    }
    if !cursor.take(&["ARRAY"]) {
        return cursor.text("a text, a number, true, false or ARRAY['..']").map(OptionValue::Text);
    }
    cursor.expect_symbol('[')?;
    let mut items = Vec::new();
    while !cursor.is_at_symbol(']') {
        items.push(cursor.text("a text")?);
        if !cursor.take_symbol(',') {
            break;
        }
    }
    cursor.expect_symbol(']')?;
    Ok(OptionValue::List(items))
}

fn create(cursor: &mut Cursor<'_>) -> Result<StatementKind> {
    let start = cursor.clone();
    cursor.expect(&["CREATE"])?;
    if cursor.take(&["EXTERNAL", "TABLE"]) {
        return create_table::parse(cursor);
    }
    if cursor.take(&["DATABASE"]) || cursor.take(&["SCHEMA"]) {
        return ddl_statements::create_database(cursor);
    }
    let or_replace = cursor.take(&["OR", "REPLACE"]);
    let is_temporary = cursor.take(&["TEMPORARY"]) || cursor.take(&["TEMP"]);
    if cursor.take(&["VIEW"]) {
        return ddl_statements::create_view(cursor, or_replace, is_temporary);
    }
    if cursor.take(&["TABLE"]) && !or_replace {
        return plain_table(cursor, is_temporary);
    }
    for (words, instead) in [
        (&["FUNCTION"][..], "functions are built in: SHOW FUNCTIONS lists them"),
        (&["MATERIALIZED", "VIEW"], "use CREATE TABLE AS, or a job that keeps a table up to date: headwater run"),
        (&["CATALOG"], "there is one catalog: choose it with --catalog"),
        (&["ROLE"], "access is that of the credentials in use"),
        (&["INDEX"], "partition the table: PARTITIONED BY prunes what a query reads"),
        (&["MACRO"], "use a view"),
        (&["TABLE"], "drop the table first, or use INSERT OVERWRITE to replace its rows"),
    ] {
        if cursor.take(words) || or_replace && words == ["TABLE"] {
            let name = words.join(" ");
            let message = format!("CREATE {}{name} is not supported", if or_replace { "OR REPLACE " } else { "" });
            return Err(Error::not_supported(message).with_hint(instead).at(start.location()));
        }
    }
    Err(cursor.expected("EXTERNAL TABLE, TABLE, VIEW, DATABASE or SCHEMA"))
}

/// `CREATE TABLE` without EXTERNAL: a query's rows, or a table of the run; anything else is Iceberg in Athena.
fn plain_table(cursor: &mut Cursor<'_>, is_temporary: bool) -> Result<StatementKind> {
    let mut ahead = cursor.clone();
    let hive = ["STORED", "ROW", "LOCATION", "TBLPROPERTIES", "CLUSTERED"];
    if !is_temporary && ahead.until_at_depth_zero(|at| at.is_at(&["AS"]) && !at.is_at(&["AS", "INPUTFORMAT"])).is_some()
    {
        let mut stored = cursor.clone();
        let is_hive = stored.until_at_depth_zero(|at| at.is_at(&["STORED"])).is_some();
        if !is_hive || stored.rest().len() < ahead.rest().len() {
            return create_table_as(cursor);
        }
    }
    let mut ahead = cursor.clone();
    if ahead.until_at_depth_zero(|at| hive.iter().any(|word| at.is_at(&[word]))).is_some() {
        let text = cursor.text_of(cursor.rest()).to_uppercase();
        let what = if text.contains("ICEBERG") { "a table of type ICEBERG" } else { "CREATE TABLE with a location" };
        return Err(Error::not_supported(format!("{what} is not supported"))
            .with_hint("write CREATE EXTERNAL TABLE for files that exist, or CREATE TABLE .. AS SELECT for new ones")
            .at(cursor.location()));
    }
    Ok(StatementKind::CreateStreamTable(Box::new(stream_ddl::create_table(cursor)?)))
}

fn create_table_as(cursor: &mut Cursor<'_>) -> Result<StatementKind> {
    let if_not_exists = cursor.take(&["IF", "NOT", "EXISTS"]);
    let table = cursor.object_name("the name of a table")?;
    let mut columns = Vec::new();
    if cursor.is_at_symbol('(') {
        columns = cursor.list(|cursor| cursor.identifier("the name of a column"))?;
    }
    let comment = if cursor.take(&["COMMENT"]) { Some(cursor.text("a comment")?) } else { None };
    let options = with_options(cursor)?;
    cursor.expect(&["AS"])?;
    let mut tokens = cursor.rest();
    let mut with_data = true;
    let ends_with = |tokens: &[Token], words: &[&str]| {
        tokens.len() > words.len() && {
            let tail = &tokens[tokens.len() - words.len()..];
            tail.iter().all(|token| token.kind == TokenKind::Word) && cursor.over(tail).is_at(words)
        }
    };
    for (words, has_data) in [(&["WITH", "NO", "DATA"][..], false), (&["WITH", "DATA"], true)] {
        if ends_with(tokens, words) {
            (tokens, with_data) = (&tokens[..tokens.len() - words.len()], has_data);
        }
    }
    let (query, query_text) = (cursor.query(tokens)?, cursor.text_of(tokens).to_owned());
    Ok(StatementKind::CreateTableAs(CreateTableAs {
        table,
        columns,
        if_not_exists,
        comment,
        options,
        query,
        query_text,
        with_data,
    }))
}

fn statement_set(cursor: &mut Cursor<'_>) -> Result<StatementKind> {
    let start = cursor.clone();
    if cursor.take(&["EXECUTE", "STATEMENT", "SET"]) {
        cursor.expect(&["BEGIN"])?;
    } else {
        cursor.expect(&["BEGIN", "STATEMENT", "SET"])?;
        cursor.expect_symbol(';')?;
    }
    let Some((end, inside)) = cursor.rest().split_last() else { return Err(cursor.expected("INSERT")) };
    if !cursor.over(std::slice::from_ref(end)).is_at(&["END"]) {
        return Err(start.error("the statement set is never closed").with_hint("end it with END;"));
    }
    let mut statements = Vec::new();
    for piece in split(cursor.script(), inside) {
        let statement = parse(&mut cursor.over(piece))?;
        if !matches!(statement.kind, StatementKind::Insert(_)) {
            return Err(Error::user("SYNTAX_ERROR", "a statement set holds INSERTs only").at(statement.at));
        }
        statements.push(statement);
    }
    if statements.is_empty() {
        return Err(start.error("the statement set holds no INSERT"));
    }
    Ok(StatementKind::StatementSet(statements))
}
