//! `CREATE EXTERNAL TABLE`: Athena's clauses, in any order, and our short form without columns.
//!
//! Invariant: each clause appears once; what it means is decided when the statement runs.

use headwater_engine::{catalog::Column, error::Result};

use super::{
    cursor::Cursor,
    data_type::ColumnType,
    ddl::{CreateTable, Ddl, Pairs, RowFormat, StoredAs},
    ddl_statements::pairs,
    statement::StatementKind,
};

/// Parses what follows `CREATE EXTERNAL TABLE`.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<StatementKind> {
    let if_not_exists = cursor.take(&["IF", "NOT", "EXISTS"]);
    let name = cursor.object_name("the name of a table")?;
    let columns = if cursor.is_at_symbol('(') { columns(cursor)? } else { Vec::new() };
    let mut table = CreateTable {
        name,
        if_not_exists,
        columns,
        comment: None,
        partition_keys: Vec::new(),
        row_format: None,
        stored_as: None,
        serde_properties: Pairs::new(),
        location: None,
        location_at: cursor.location(),
        properties: Pairs::new(),
    };
    let mut seen = Vec::new();
    while !cursor.is_at_end() {
        let start = cursor.clone();
        let name = clause(cursor, &mut table)?;
        if seen.contains(&name) {
            return Err(start.error(format!("{name} is given twice")));
        }
        seen.push(name);
    }
    if table.location.is_none() {
        table.location_at = cursor.location();
    }
    Ok(StatementKind::Ddl(Box::new(Ddl::CreateTable(table))))
}

/// Columns between parentheses: name, type, comment.
pub(super) fn columns(cursor: &mut Cursor<'_>) -> Result<Vec<Column>> {
    cursor.list(column)
}

/// One column.
pub(super) fn column(cursor: &mut Cursor<'_>) -> Result<Column> {
    let name = column_name(cursor)?;
    let type_text = ColumnType::parse(cursor)?.text();
    let comment = if cursor.take(&["COMMENT"]) { Some(cursor.text("a comment")?) } else { None };
    Ok(Column { name, type_text, comment })
}

fn column_name(cursor: &mut Cursor<'_>) -> Result<String> {
    let name = cursor.identifier("the name of a column")?;
    Ok(if name.is_quoted { name.value } else { name.value.to_lowercase() })
}

/// A partition key; the short form may leave out its type.
fn partition_key(cursor: &mut Cursor<'_>) -> Result<Column> {
    let mut ahead = cursor.clone();
    let name = column_name(&mut ahead)?;
    if ahead.is_at_symbol(',') || ahead.is_at_symbol(')') {
        *cursor = ahead;
        return Ok(Column { name, type_text: String::new(), comment: None });
    }
    column(cursor)
}

fn clause(cursor: &mut Cursor<'_>, table: &mut CreateTable) -> Result<&'static str> {
    if cursor.take(&["COMMENT"]) {
        table.comment = Some(cursor.text("a comment")?);
        return Ok("COMMENT");
    }
    if cursor.take(&["PARTITIONED", "BY"]) {
        table.partition_keys = cursor.list(partition_key)?;
        return Ok("PARTITIONED BY");
    }
    if cursor.take(&["ROW", "FORMAT"]) {
        table.row_format = Some(row_format(cursor, table)?);
        return Ok("ROW FORMAT");
    }
    if cursor.take(&["WITH", "SERDEPROPERTIES"]) {
        table.serde_properties = pairs(cursor)?;
        return Ok("WITH SERDEPROPERTIES");
    }
    if cursor.take(&["STORED", "AS"]) {
        table.stored_as = Some(stored_as(cursor)?);
        return Ok("STORED AS");
    }
    if cursor.take(&["LOCATION"]) {
        table.location_at = cursor.location();
        table.location = Some(cursor.text("a location in quotes")?);
        return Ok("LOCATION");
    }
    if cursor.take(&["TBLPROPERTIES"]) {
        table.properties = pairs(cursor)?;
        return Ok("TBLPROPERTIES");
    }
    refuse(cursor)?;
    Err(cursor
        .expected("COMMENT, PARTITIONED BY, ROW FORMAT, WITH SERDEPROPERTIES, STORED AS, LOCATION or TBLPROPERTIES"))
}

fn refuse(cursor: &Cursor<'_>) -> Result<()> {
    use headwater_engine::error::Error;
    for (words, instead) in [
        (&["CLUSTERED", "BY"][..], "leave the buckets out, the files are read the same; partition with PARTITIONED BY"),
        (&["SKEWED", "BY"], "leave it out, the files are read the same"),
        (&["STORED", "BY"], "use STORED AS PARQUET, JSON, CSV or TEXTFILE"),
        (&["LIKE"], "take the statement that SHOW CREATE TABLE prints and change its name"),
        (&["AS"], "write CREATE TABLE .. AS SELECT, without EXTERNAL"),
    ] {
        if cursor.is_at(words) {
            let message = format!("{} is not supported", words.join(" "));
            return Err(Error::not_supported(message).with_hint(instead).at(cursor.location()));
        }
    }
    Ok(())
}

fn row_format(cursor: &mut Cursor<'_>, table: &mut CreateTable) -> Result<RowFormat> {
    if cursor.take(&["SERDE"]) {
        let at = cursor.location();
        let class = cursor.text("a SerDe class in quotes")?;
        if cursor.take(&["WITH", "SERDEPROPERTIES"]) {
            table.serde_properties = pairs(cursor)?;
        }
        return Ok(RowFormat::Serde(class, at));
    }
    cursor.expect(&["DELIMITED"])?;
    let mut says = Pairs::new();
    loop {
        let key = if cursor.take(&["FIELDS", "TERMINATED", "BY"]) {
            "field.delim"
        } else if cursor.take(&["ESCAPED", "BY"]) {
            "escape.delim"
        } else if cursor.take(&["COLLECTION", "ITEMS", "TERMINATED", "BY"]) {
            "collection.delim"
        } else if cursor.take(&["MAP", "KEYS", "TERMINATED", "BY"]) {
            "mapkey.delim"
        } else if cursor.take(&["LINES", "TERMINATED", "BY"]) {
            "line.delim"
        } else if cursor.take(&["NULL", "DEFINED", "AS"]) {
            "serialization.null.format"
        } else {
            return Ok(RowFormat::Delimited(says));
        };
        says.push((key.to_owned(), cursor.text("a delimiter in quotes")?));
    }
}

fn stored_as(cursor: &mut Cursor<'_>) -> Result<StoredAs> {
    let at = cursor.location();
    if cursor.take(&["INPUTFORMAT"]) {
        let input = cursor.text("an input format class in quotes")?;
        cursor.expect(&["OUTPUTFORMAT"])?;
        let output = cursor.text("an output format class in quotes")?;
        return Ok(StoredAs::Classes { input, output, at });
    }
    Ok(StoredAs::Format(cursor.identifier("a file format")?.value.to_uppercase(), at))
}
