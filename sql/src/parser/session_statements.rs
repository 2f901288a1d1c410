//! Parsers of the statements about the session itself: databases in use, settings, prepared statements, plans.
//!
//! Invariant: a statement within another one is parsed with it, so that its mistakes are found before anything runs.

use headwater_engine::error::{Error, Result};

use super::{
    cursor::{Cursor, Identifier},
    statement::{Explain, ExplainFormat, ExplainKind, StatementKind},
    statements::parse,
};

/// `USE database`.
pub(super) fn use_database(cursor: &mut Cursor<'_>) -> Result<StatementKind> {
    cursor.expect(&["USE"])?;
    if !cursor.is_at(&["DATABASE"]) || cursor.word_ahead(1).is_some() {
        cursor.take(&["DATABASE"]);
    }
    let mut name = cursor.object_name("the name of a database")?;
    cursor.expect_end()?;
    match name.parts.pop() {
        Some(database) if name.parts.len() < 2 => Ok(StatementKind::Use(database)),
        _ => Err(cursor.error("a database is named by one part")),
    }
}

fn setting_key(cursor: &mut Cursor<'_>) -> Result<Identifier> {
    let at = cursor.location();
    if cursor.is_at_text() {
        return Ok(Identifier { value: cursor.text("a setting")?, is_quoted: true, at });
    }
    let rest = cursor.rest();
    let mut ahead = cursor.clone();
    ahead.until_at_depth_zero(|cursor| cursor.is_at_symbol('='));
    let length = rest.len() - ahead.rest().len();
    if length == 0 {
        return Err(cursor.expected("a setting"));
    }
    cursor.skip(length);
    Ok(Identifier { value: cursor.text_of(&rest[..length]).to_owned(), is_quoted: false, at })
}

/// `SET key = value`.
pub(super) fn set(cursor: &mut Cursor<'_>) -> Result<StatementKind> {
    cursor.expect(&["SET"])?;
    cursor.take(&["SESSION"]);
    let key = setting_key(cursor)?;
    if !cursor.take_symbol('=') {
        return Err(cursor
            .expected("\"=\" and a value")
            .with_hint("write SET 'key' = 'value'; SHOW SETTINGS lists the keys"));
    }
    let value = if cursor.is_at_text() {
        cursor.text("a value")?
    } else {
        let tokens = cursor.rest();
        if tokens.is_empty() {
            return Err(cursor.expected("a value"));
        }
        cursor.skip(tokens.len());
        cursor.text_of(tokens).to_owned()
    };
    cursor.expect_end()?;
    Ok(StatementKind::Set { key, value })
}

/// `RESET [key | ALL]`.
pub(super) fn reset(cursor: &mut Cursor<'_>) -> Result<StatementKind> {
    cursor.expect(&["RESET"])?;
    cursor.take(&["SESSION"]);
    if cursor.is_at_end() || cursor.take(&["ALL"]) {
        cursor.expect_end()?;
        return Ok(StatementKind::Reset(None));
    }
    let key = setting_key(cursor)?;
    cursor.expect_end()?;
    Ok(StatementKind::Reset(Some(key)))
}

/// `PREPARE name FROM statement`.
pub(super) fn prepare(cursor: &mut Cursor<'_>) -> Result<StatementKind> {
    cursor.expect(&["PREPARE"])?;
    let name = cursor.identifier("a name for the statement")?;
    cursor.expect(&["FROM"])?;
    let at = cursor.location();
    let text = cursor.text_of(cursor.rest()).to_owned();
    let prepared = parse(cursor)?;
    if matches!(
        prepared.kind,
        StatementKind::Prepare { .. } | StatementKind::Execute { .. } | StatementKind::Deallocate(_)
    ) {
        return Err(Error::user("SYNTAX_ERROR", "a statement about prepared statements cannot be prepared").at(at));
    }
    Ok(StatementKind::Prepare { name, text, at })
}

/// `EXECUTE name [USING ..]`, `EXECUTE IMMEDIATE 'sql' [USING ..]`.
pub(super) fn execute(cursor: &mut Cursor<'_>) -> Result<StatementKind> {
    cursor.expect(&["EXECUTE"])?;
    if cursor.take(&["IMMEDIATE"]) {
        let text = cursor.text("a statement in quotes")?;
        return Ok(StatementKind::ExecuteImmediate { text, arguments: arguments(cursor)? });
    }
    let name = cursor.identifier("the name of a prepared statement")?;
    Ok(StatementKind::Execute { name, arguments: arguments(cursor)? })
}

/// The texts after USING, separated by commas.
fn arguments(cursor: &mut Cursor<'_>) -> Result<Vec<String>> {
    let mut arguments = Vec::new();
    if !cursor.take(&["USING"]) {
        cursor.expect_end()?;
        return Ok(arguments);
    }
    loop {
        let rest = cursor.rest();
        let found = cursor.until_at_depth_zero(|cursor| cursor.is_at_symbol(','));
        let tokens = &rest[..rest.len() - cursor.rest().len()];
        cursor.expression(tokens)?;
        let text = cursor.text_of(tokens);
        arguments.push(if tokens.len() == 1 { text.to_owned() } else { format!("({text})") });
        if found.is_none() {
            return Ok(arguments);
        }
        cursor.skip(1);
    }
}

/// `DEALLOCATE PREPARE name`.
pub(super) fn deallocate(cursor: &mut Cursor<'_>) -> Result<StatementKind> {
    cursor.expect(&["DEALLOCATE"])?;
    cursor.expect(&["PREPARE"])?;
    let name = cursor.identifier("the name of a prepared statement")?;
    cursor.expect_end()?;
    Ok(StatementKind::Deallocate(name))
}

/// `EXPLAIN [ANALYZE [VERBOSE]] [(TYPE .., FORMAT ..)] statement`.
pub(super) fn explain(cursor: &mut Cursor<'_>) -> Result<StatementKind> {
    cursor.expect(&["EXPLAIN"])?;
    let analyze = cursor.take(&["ANALYZE"]);
    let verbose = cursor.take(&["VERBOSE"]);
    let (mut kind, mut format) = (None, ExplainFormat::default());
    let mut ahead = cursor.clone();
    if ahead.take_symbol('(') && (ahead.is_at(&["TYPE"]) || ahead.is_at(&["FORMAT"])) {
        cursor.list(|cursor| explain_option(cursor, &mut kind, &mut format))?;
    }
    let statement = parse(cursor)?;
    // Of the two plans only this one has that form.
    let implied = if format == ExplainFormat::Json { ExplainKind::Logical } else { ExplainKind::default() };
    let kind = kind.unwrap_or(implied);
    Ok(StatementKind::Explain(Box::new(Explain { analyze, verbose, kind, format, statement, is_instead: false })))
}

fn explain_option(cursor: &mut Cursor<'_>, kind: &mut Option<ExplainKind>, format: &mut ExplainFormat) -> Result<()> {
    if cursor.take(&["TYPE"]) {
        *kind = Some(match cursor.word_ahead(0).as_deref() {
            Some("LOGICAL") => ExplainKind::Logical,
            Some("DISTRIBUTED") => ExplainKind::Distributed,
            Some("VALIDATE") => ExplainKind::Validate,
            Some("IO") => ExplainKind::Io,
            _ => return Err(cursor.expected("LOGICAL, DISTRIBUTED, VALIDATE or IO")),
        });
    } else {
        cursor.expect(&["FORMAT"])?;
        *format = match cursor.word_ahead(0).as_deref() {
            Some("TEXT") => ExplainFormat::Text,
            Some("JSON") => ExplainFormat::Json,
            Some("GRAPHVIZ") => ExplainFormat::Graphviz,
            _ => return Err(cursor.expected("TEXT, JSON or GRAPHVIZ")),
        };
    }
    cursor.skip(1);
    Ok(())
}
