//! Flink's `CREATE TABLE`: columns, metadata, computed columns, watermark, key and options of a table of the run.
//!
//! Invariant: parsing checks the shape only; names within expressions and the options are resolved when the table is
//! used, by the connector that knows them.

mod like;

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast;
use headwater_engine::error::{Error, Location, Result};

pub use self::like::{Kept, Like};
use super::{
    cursor::{Cursor, Identifier, ObjectName},
    data_type::ColumnType,
};

/// `CREATE [TEMPORARY] TABLE name (..) [PARTITIONED BY (..)] WITH (..) [LIKE ..]`.
#[derive(Debug, Clone)]
pub struct CreateStreamTable {
    /// Name.
    pub name: ObjectName,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// Columns in order; none: a connection, which tables are like and nothing reads or writes.
    pub columns: Vec<StreamColumn>,
    /// `WATERMARK FOR .. AS ..`.
    pub watermark: Option<Watermark>,
    /// `PRIMARY KEY (..) NOT ENFORCED`.
    pub primary_key: Vec<Identifier>,
    /// `COMMENT`.
    pub comment: Option<String>,
    /// `PARTITIONED BY (..)`.
    pub partitioned_by: Vec<Identifier>,
    /// `WITH (..)`.
    pub options: Vec<TableOption>,
    /// `LIKE ..`: what else it has.
    pub like: Option<Like>,
}

impl CreateStreamTable {
    /// The value of an option.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.iter().find(|option| option.key == key).map(|option| option.value.as_str())
    }
}

/// A column.
#[derive(Debug, Clone)]
pub struct StreamColumn {
    /// Name; compared without regard to case.
    pub name: Identifier,
    /// Where its values come from.
    pub kind: StreamColumnKind,
    /// `COMMENT`.
    pub comment: Option<String>,
}

/// Where a column's values come from.
#[derive(Debug, Clone)]
pub enum StreamColumnKind {
    /// The record's payload.
    Physical {
        /// Type.
        data_type: DataType,
        /// The type as the catalog would keep it.
        type_text: String,
        /// Not `NOT NULL`.
        is_nullable: bool,
    },
    /// `METADATA [FROM 'key'] [VIRTUAL]`: what the connector knows of the record.
    Metadata {
        /// Type.
        data_type: DataType,
        /// The connector's name of it, if not the column's.
        key: Option<String>,
        /// Not written by an INSERT.
        is_virtual: bool,
    },
    /// `AS expression`.
    Computed {
        /// Expression over the other columns.
        expression: Box<ast::Expr>,
        /// Its text.
        text: String,
    },
}

/// `WATERMARK FOR column AS expression`.
#[derive(Debug, Clone)]
pub struct Watermark {
    /// The event time column.
    pub column: Identifier,
    /// The watermark a row gives.
    pub expression: ast::Expr,
    /// Its text.
    pub text: String,
}

/// `'key' = 'value'`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableOption {
    /// Key.
    pub key: String,
    /// Value; `${env:..}` and `${file:..}` in it are not resolved.
    pub value: String,
    /// Where the key stands.
    pub at: Location,
}

/// Parses what follows `CREATE [TEMPORARY] TABLE`.
pub(super) fn create_table(cursor: &mut Cursor<'_>) -> Result<CreateStreamTable> {
    let if_not_exists = cursor.take(&["IF", "NOT", "EXISTS"]);
    let name = cursor.object_name("the name of a table")?;
    let mut table = CreateStreamTable {
        name,
        if_not_exists,
        columns: Vec::new(),
        watermark: None,
        primary_key: Vec::new(),
        comment: None,
        partitioned_by: Vec::new(),
        options: Vec::new(),
        like: None,
    };
    // Without columns it is like another table, or a connection that others are like.
    let has_columns = cursor.is_at_symbol('(') || !(cursor.is_at(&["WITH"]) || cursor.is_at(&["LIKE"]));
    if has_columns {
        elements(cursor, &mut table)?;
    }
    if cursor.take(&["COMMENT"]) {
        table.comment = Some(cursor.text("a comment")?);
    }
    if cursor.take(&["PARTITIONED", "BY"]) {
        table.partitioned_by = cursor.list(|cursor| cursor.identifier("the name of a column"))?;
    }
    if cursor.is_at_end() {
        return Err(cursor.expected("WITH").with_hint(
            "for files write CREATE EXTERNAL TABLE .. LOCATION '..' or CREATE TABLE .. AS SELECT, for a stream WITH ('connector' = '..')",
        ));
    }
    if !cursor.is_at(&["LIKE"]) {
        cursor.expect(&["WITH"])?;
        table.options = cursor.list(table_option)?;
    }
    table.like = like::parse(cursor)?;
    cursor.expect_end()?;
    if !table.columns.is_empty() && table.like.is_none() {
        check(&table)?;
    }
    Ok(table)
}

fn elements(cursor: &mut Cursor<'_>, table: &mut CreateStreamTable) -> Result<()> {
    let mut inside = {
        let tokens = cursor.parenthesised()?;
        cursor.over(tokens)
    };
    loop {
        element(&mut inside, table)?;
        if !inside.take_symbol(',') {
            return inside.expect_end();
        }
    }
}

fn element(cursor: &mut Cursor<'_>, table: &mut CreateStreamTable) -> Result<()> {
    let at = cursor.location();
    if cursor.take(&["WATERMARK", "FOR"]) {
        if table.watermark.is_some() {
            return Err(Error::user("SYNTAX_ERROR", "a table has one watermark").at(at));
        }
        let column = cursor.identifier("the event time column")?;
        cursor.expect(&["AS"])?;
        let (expression, text) = expression(cursor)?;
        table.watermark = Some(Watermark { column, expression, text });
    } else if cursor.take(&["CONSTRAINT"]) {
        cursor.identifier("the name of a constraint")?;
        primary_key(cursor, table)?;
    } else if cursor.is_at(&["PRIMARY", "KEY"]) {
        primary_key(cursor, table)?;
    } else {
        let column = column(cursor, table)?;
        table.columns.push(column);
    }
    Ok(())
}

fn primary_key(cursor: &mut Cursor<'_>, table: &mut CreateStreamTable) -> Result<()> {
    let at = cursor.location();
    cursor.expect(&["PRIMARY", "KEY"])?;
    if !table.primary_key.is_empty() {
        return Err(Error::user("SYNTAX_ERROR", "a table has one primary key").at(at));
    }
    table.primary_key = cursor.list(|cursor| cursor.identifier("the name of a column"))?;
    not_enforced(cursor)
}

fn not_enforced(cursor: &mut Cursor<'_>) -> Result<()> {
    if cursor.take(&["NOT", "ENFORCED"]) {
        return Ok(());
    }
    Err(cursor
        .expected("NOT ENFORCED")
        .with_hint("Headwater does not check keys of outside systems: write PRIMARY KEY (..) NOT ENFORCED"))
}

fn column(cursor: &mut Cursor<'_>, table: &mut CreateStreamTable) -> Result<StreamColumn> {
    let name = cursor.identifier("the name of a column")?;
    let kind = if cursor.take(&["AS"]) {
        let (expression, text) = expression(cursor)?;
        return Ok(StreamColumn {
            name,
            kind: StreamColumnKind::Computed { expression: Box::new(expression), text },
            comment: None,
        });
    } else {
        let column_type = ColumnType::parse(cursor)?;
        let data_type = column_type.arrow()?;
        let mut is_nullable = true;
        if cursor.take(&["NOT", "NULL"]) {
            is_nullable = false;
        } else {
            cursor.take(&["NULL"]);
        }
        if cursor.take(&["METADATA"]) {
            let key = if cursor.take(&["FROM"]) { Some(cursor.text("the name of the metadata")?) } else { None };
            StreamColumnKind::Metadata { data_type, key, is_virtual: cursor.take(&["VIRTUAL"]) }
        } else {
            if cursor.take(&["PRIMARY", "KEY"]) {
                not_enforced(cursor)?;
                table.primary_key.push(name.clone());
            }
            StreamColumnKind::Physical { data_type, type_text: column_type.text(), is_nullable }
        }
    };
    let comment = if cursor.take(&["COMMENT"]) { Some(cursor.text("a comment")?) } else { None };
    Ok(StreamColumn { name, kind, comment })
}

/// The expression up to the next comma outside parentheses.
fn expression(cursor: &mut Cursor<'_>) -> Result<(ast::Expr, String)> {
    let rest = cursor.rest();
    let mut ahead = cursor.clone();
    ahead.until_at_depth_zero(|cursor| cursor.is_at_symbol(','));
    let length = rest.len() - ahead.rest().len();
    let tokens = &rest[..length];
    let parsed = cursor.expression(tokens)?;
    cursor.skip(length);
    Ok((parsed, cursor.text_of(tokens).to_owned()))
}

fn table_option(cursor: &mut Cursor<'_>) -> Result<TableOption> {
    let at = cursor.location();
    let key = cursor.text("an option in quotes")?;
    cursor.expect_symbol('=')?;
    let value = cursor.text("a value in quotes")?;
    Ok(TableOption { key, value, at })
}

/// Whether names are given once, and those in clauses are columns.
pub(crate) fn check(table: &CreateStreamTable) -> Result<()> {
    for (index, column) in table.columns.iter().enumerate() {
        let is_same = |other: &StreamColumn| other.name.value.eq_ignore_ascii_case(&column.name.value);
        if table.columns[..index].iter().any(is_same) {
            let message = format!("column \"{}\" is named twice", column.name.value);
            return Err(Error::user("DUPLICATE_COLUMN_NAME", message).at(column.name.at));
        }
    }
    for (index, option) in table.options.iter().enumerate() {
        if table.options[..index].iter().any(|other| other.key == option.key) {
            return Err(
                Error::user("DUPLICATE_PROPERTY", format!("option \"{}\" is given twice", option.key)).at(option.at)
            );
        }
    }
    let mut named: Vec<&Identifier> = table.primary_key.iter().chain(&table.partitioned_by).collect();
    named.extend(table.watermark.iter().map(|watermark| &watermark.column));
    for name in named {
        let is_it = |column: &StreamColumn| column.name.value.eq_ignore_ascii_case(&name.value);
        if !table.columns.iter().any(is_it) {
            let error =
                Error::user("COLUMN_NOT_FOUND", format!("column \"{}\" is not declared", name.value)).at(name.at);
            let known = table.columns.iter().map(|column| column.name.value.as_str());
            return Err(crate::diagnostics::did_you_mean(error, &name.value, known));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
