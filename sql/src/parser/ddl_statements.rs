//! Parsers of the statements about databases, partitions and views, and of `ALTER TABLE`.
//!
//! Invariant: what Athena does not do on Hive tables is refused by name.

use headwater_engine::error::{Error, Result};

use super::{
    create_table::{column, columns},
    cursor::{Cursor, Identifier, ObjectName},
    ddl::{Bound, ColumnPlace, CreateDatabase, CreateView, Ddl, Pairs, PartitionSpec, TableChange},
    lexer::TokenKind,
    statement::StatementKind,
};

fn ddl(ddl: Ddl) -> Result<StatementKind> {
    Ok(StatementKind::Ddl(Box::new(ddl)))
}

/// `('key' = 'value', ..)`.
pub(super) fn pairs(cursor: &mut Cursor<'_>) -> Result<Pairs> {
    let start = cursor.clone();
    let pairs = cursor.list(|cursor| {
        let key = cursor.text("a key in quotes")?;
        cursor.expect_symbol('=')?;
        Ok((key, cursor.text("a value in quotes")?))
    })?;
    for (index, (key, _)) in pairs.iter().enumerate() {
        if pairs[..index].iter().any(|(other, _)| other == key) {
            let message = format!("property \"{key}\" is given twice");
            return Err(Error::user("DUPLICATE_PROPERTY", message).at(start.location()));
        }
    }
    Ok(pairs)
}

/// What follows `CREATE DATABASE`.
pub(super) fn create_database(cursor: &mut Cursor<'_>) -> Result<StatementKind> {
    let if_not_exists = cursor.take(&["IF", "NOT", "EXISTS"]);
    let name = database_name(cursor)?;
    let mut database = CreateDatabase { name, if_not_exists, comment: None, location: None, properties: Pairs::new() };
    loop {
        if cursor.take(&["COMMENT"]) {
            database.comment = Some(cursor.text("a comment")?);
        } else if cursor.take(&["LOCATION"]) {
            database.location = Some(cursor.text("a location in quotes")?);
        } else if cursor.take(&["WITH", "DBPROPERTIES"]) {
            database.properties = pairs(cursor)?;
        } else {
            break;
        }
    }
    cursor.expect_end()?;
    ddl(Ddl::CreateDatabase(database))
}

fn database_name(cursor: &mut Cursor<'_>) -> Result<Identifier> {
    let mut name = cursor.object_name("the name of a database")?;
    match name.parts.pop() {
        Some(database) if name.parts.len() < 2 => Ok(database),
        _ => Err(cursor.error("a database is named by one part")),
    }
}

/// `CREATE VIEW`, after VIEW.
pub(super) fn create_view(cursor: &mut Cursor<'_>, or_replace: bool, is_temporary: bool) -> Result<StatementKind> {
    let if_not_exists = cursor.take(&["IF", "NOT", "EXISTS"]);
    let name = cursor.object_name("the name of a view")?;
    let mut names = Vec::new();
    if cursor.is_at_symbol('(') {
        names = cursor.list(|cursor| {
            let name = cursor.identifier("the name of a column")?;
            if cursor.take(&["COMMENT"]) {
                cursor.text("a comment")?;
            }
            Ok(name)
        })?;
    }
    let comment = if cursor.take(&["COMMENT"]) { Some(cursor.text("a comment")?) } else { None };
    cursor.expect(&["AS"])?;
    let (query, query_text) = (cursor.query(cursor.rest())?, cursor.text_of(cursor.rest()).to_owned());
    ddl(Ddl::CreateView(CreateView {
        name,
        or_replace,
        if_not_exists,
        columns: names,
        comment,
        query,
        query_text,
        is_temporary,
    }))
}

/// `DROP ..`.
pub(super) fn drop(cursor: &mut Cursor<'_>) -> Result<StatementKind> {
    let start = cursor.clone();
    cursor.expect(&["DROP"])?;
    if cursor.take(&["DATABASE"]) || cursor.take(&["SCHEMA"]) {
        let if_exists = cursor.take(&["IF", "EXISTS"]);
        let name = database_name(cursor)?;
        let cascade = cursor.take(&["CASCADE"]);
        if !cascade {
            cursor.take(&["RESTRICT"]);
        }
        cursor.expect_end()?;
        return ddl(Ddl::DropDatabase { name, if_exists, cascade });
    }
    cursor.take(&["TEMPORARY"]);
    let is_view = cursor.take(&["VIEW"]);
    if is_view || cursor.take(&["TABLE"]) {
        let if_exists = cursor.take(&["IF", "EXISTS"]);
        let name = cursor.object_name(if is_view { "the name of a view" } else { "the name of a table" })?;
        cursor.take(&["PURGE"]);
        cursor.expect_end()?;
        return ddl(if is_view { Ddl::DropView { name, if_exists } } else { Ddl::DropTable { name, if_exists } });
    }
    match cursor.word_ahead(0).as_deref() {
        Some(word @ ("FUNCTION" | "ROLE" | "CATALOG" | "MATERIALIZED" | "INDEX" | "MACRO")) => {
            Err(Error::not_supported(format!("DROP {word} is not supported"))
                .with_hint("there is none: tables, views and databases can be dropped")
                .at(start.location()))
        }
        _ => Err(cursor.expected("TABLE, VIEW, DATABASE or SCHEMA")),
    }
}

/// `MSCK REPAIR TABLE name`.
pub(super) fn repair(cursor: &mut Cursor<'_>) -> Result<StatementKind> {
    cursor.expect(&["MSCK"])?;
    cursor.expect(&["REPAIR", "TABLE"])?;
    let name = cursor.object_name("the name of a table")?;
    cursor.expect_end()?;
    ddl(Ddl::RepairTable(name))
}

/// `ALTER ..`.
pub(super) fn alter(cursor: &mut Cursor<'_>) -> Result<StatementKind> {
    let start = cursor.clone();
    cursor.expect(&["ALTER"])?;
    if cursor.take(&["DATABASE"]) || cursor.take(&["SCHEMA"]) {
        let name = database_name(cursor)?;
        for words in [&["SET", "LOCATION"][..], &["SET", "MANAGEDLOCATION"], &["SET", "OWNER"], &["RENAME", "TO"]] {
            if cursor.is_at(words) {
                let message = format!("ALTER DATABASE .. {} is not supported", words.join(" "));
                return Err(Error::not_supported(message)
                    .with_hint("create another database, and its tables over the same files")
                    .at(cursor.location()));
            }
        }
        cursor.expect(&["SET", "DBPROPERTIES"])?;
        let properties = pairs(cursor)?;
        cursor.expect_end()?;
        return ddl(Ddl::AlterDatabase { name, properties });
    }
    if cursor.is_at(&["VIEW"]) {
        return Err(Error::not_supported("ALTER VIEW is not supported")
            .with_hint("use CREATE OR REPLACE VIEW")
            .at(start.location()));
    }
    if cursor.is_at(&["INDEX"]) {
        return Err(Error::not_supported("ALTER INDEX is not supported")
            .with_hint("there are no indexes: PARTITIONED BY prunes what a query reads")
            .at(start.location()));
    }
    cursor.expect(&["TABLE"])?;
    let name = cursor.object_name("the name of a table")?;
    if cursor.take(&["RECOVER", "PARTITIONS"]) {
        cursor.expect_end()?;
        return ddl(Ddl::RepairTable(name));
    }
    refuse_change(cursor)?;
    let change = table_change(cursor)?;
    cursor.expect_end()?;
    ddl(Ddl::AlterTable { name, change })
}

fn table_change(cursor: &mut Cursor<'_>) -> Result<TableChange> {
    if cursor.take(&["ADD", "COLUMNS"]) || cursor.is_at(&["ADD", "COLUMN"]) {
        return add_columns(cursor);
    }
    if cursor.take(&["ADD"]) {
        return add_partitions(cursor);
    }
    if cursor.take(&["DROP", "COLUMN"]) {
        return Ok(TableChange::DropColumn(cursor.identifier("the name of a column")?));
    }
    if cursor.take(&["DROP"]) {
        return drop_partitions(cursor);
    }
    if cursor.take(&["REPLACE", "COLUMNS"]) {
        return Ok(TableChange::ReplaceColumns(columns(cursor)?));
    }
    if cursor.take(&["CHANGE"]) {
        cursor.take(&["COLUMN"]);
        return change_column(cursor);
    }
    if cursor.take(&["SET", "TBLPROPERTIES"]) {
        return Ok(TableChange::SetProperties(pairs(cursor)?));
    }
    if cursor.take(&["UNSET", "TBLPROPERTIES"]) {
        cursor.take(&["IF", "EXISTS"]);
        return Ok(TableChange::UnsetProperties(cursor.list(|cursor| cursor.text("a key in quotes"))?));
    }
    if cursor.take(&["SET", "LOCATION"]) {
        return Ok(TableChange::SetLocation { partition: None, location: cursor.text("a location in quotes")? });
    }
    if cursor.take(&["PARTITION"]) {
        let from = values(cursor)?;
        if cursor.take(&["RENAME", "TO", "PARTITION"]) {
            return Ok(TableChange::RenamePartition { from, to: values(cursor)? });
        }
        refuse_change(cursor)?;
        for words in [&["CHANGE"][..], &["ADD", "COLUMNS"], &["REPLACE", "COLUMNS"]] {
            if cursor.is_at(words) {
                let message = format!("{} of one partition is not supported", words.join(" "));
                return Err(Error::not_supported(message)
                    .with_hint("change the table's columns: older files are read as these by name, CSV by place")
                    .at(cursor.location()));
            }
        }
        cursor.expect(&["SET", "LOCATION"])?;
        return Ok(TableChange::SetLocation { partition: Some(from), location: cursor.text("a location in quotes")? });
    }
    Err(cursor.expected(
        "ADD PARTITION, DROP PARTITION, ADD COLUMNS, REPLACE COLUMNS, CHANGE COLUMN, SET LOCATION or SET TBLPROPERTIES",
    ))
}

fn refuse_change(cursor: &Cursor<'_>) -> Result<()> {
    for (words, instead) in [
        (&["RENAME", "TO"][..], "create the table under its new name over the same location, then drop the old entry"),
        (&["RENAME", "COLUMN"], "use CHANGE COLUMN old new type"),
        (&["SET", "SERDEPROPERTIES"], "create the table again with the SerDe properties; its files stay"),
        (&["SET", "SERDE"], "create the table again with the SerDe; its files stay"),
        (&["SET", "FILEFORMAT"], "create the table again with STORED AS; its files stay"),
        (&["CLUSTERED", "BY"], "buckets are not supported; partition with PARTITIONED BY"),
        (&["EXCHANGE"], "register the folder with ADD PARTITION .. LOCATION"),
        (&["TOUCH"], "there are no hooks to touch"),
        (&["COMPACT"], "rewrite the partition with INSERT OVERWRITE"),
        (&["CONCATENATE"], "rewrite the partition with INSERT OVERWRITE"),
        (&["ARCHIVE"], "there are no archives; move the files and register the folder with ADD PARTITION .. LOCATION"),
        (&["UNARCHIVE"], "there are no archives"),
        (&["NOT", "CLUSTERED"], "there are no buckets"),
        (&["NOT", "SORTED"], "there are no buckets"),
        (&["NOT", "SKEWED"], "there are no skewed tables"),
        (&["NOT", "STORED"], "there are no skewed tables"),
        (&["SKEWED", "BY"], "partition with PARTITIONED BY"),
        (&["SET", "SKEWED"], "partition with PARTITIONED BY"),
        (&["ALTER", "COLUMN"], "use CHANGE COLUMN old new type"),
        (&["SET", "OWNER"], "access is that of the credentials in use"),
        (&["SET", "PROPERTIES"], "use SET TBLPROPERTIES ('key' = 'value')"),
        (&["EXECUTE"], "there are no table procedures; rewrite a partition with INSERT OVERWRITE"),
        (&["ENABLE"], "access is that of the credentials in use"),
        (&["DISABLE"], "access is that of the credentials in use"),
    ] {
        if cursor.is_at(words) {
            let message = format!("ALTER TABLE .. {} is not supported", words.join(" "));
            return Err(Error::not_supported(message).with_hint(instead).at(cursor.location()));
        }
    }
    Ok(())
}

fn add_columns(cursor: &mut Cursor<'_>) -> Result<TableChange> {
    if cursor.take(&["ADD", "COLUMN"]) {
        if cursor.is_at_symbol('(') {
            return Ok(TableChange::AddColumns(columns(cursor)?));
        }
        return Ok(TableChange::AddColumns(vec![column(cursor)?]));
    }
    let added = columns(cursor)?;
    cursor.take(&["CASCADE"]);
    Ok(TableChange::AddColumns(added))
}

fn change_column(cursor: &mut Cursor<'_>) -> Result<TableChange> {
    let old = cursor.identifier("the name of a column")?;
    let new = column(cursor)?;
    let place = if cursor.take(&["FIRST"]) {
        Some(ColumnPlace::First)
    } else if cursor.take(&["AFTER"]) {
        Some(ColumnPlace::After(cursor.identifier("the name of a column")?))
    } else {
        None
    };
    cursor.take(&["CASCADE"]);
    Ok(TableChange::ChangeColumn { old, new, place })
}

fn add_partitions(cursor: &mut Cursor<'_>) -> Result<TableChange> {
    let if_not_exists = cursor.take(&["IF", "NOT", "EXISTS"]);
    let mut partitions = Vec::new();
    cursor.expect(&["PARTITION"])?;
    loop {
        let mut partition = values(cursor)?;
        if cursor.take(&["LOCATION"]) {
            partition.location = Some(cursor.text("a location in quotes")?);
        }
        partitions.push(partition);
        cursor.take_symbol(',');
        if !cursor.take(&["PARTITION"]) {
            return Ok(TableChange::AddPartitions { if_not_exists, partitions });
        }
    }
}

fn drop_partitions(cursor: &mut Cursor<'_>) -> Result<TableChange> {
    let if_exists = cursor.take(&["IF", "EXISTS"]);
    let mut partitions = Vec::new();
    loop {
        cursor.expect(&["PARTITION"])?;
        partitions.push(bounds(cursor)?);
        if !cursor.take_symbol(',') {
            cursor.take(&["PURGE"]);
            return Ok(TableChange::DropPartitions { if_exists, partitions });
        }
    }
}

/// `(key = value, ..)`.
pub(super) fn values(cursor: &mut Cursor<'_>) -> Result<PartitionSpec> {
    Ok(PartitionSpec { values: cursor.list(partition_value)?, bounds: Vec::new(), location: None })
}

/// `(key = value, key > value, ..)`.
fn bounds(cursor: &mut Cursor<'_>) -> Result<PartitionSpec> {
    let mut spec = PartitionSpec::default();
    let parts = cursor.list(|cursor| {
        let key = cursor.identifier("a partition key")?;
        let bound = bound(cursor);
        if bound.is_none() {
            cursor.expect_symbol('=')?;
        }
        Ok((key, bound, key_value(cursor)?))
    })?;
    for (key, bound, value) in parts {
        match (bound, value) {
            (None, value) => spec.values.push((key, value)),
            (Some(bound), Some(value)) => spec.bounds.push((key, bound, value)),
            (Some(_), None) => {
                return Err(Error::user("SYNTAX_ERROR", "NULL is neither more nor less than another value").at(key.at));
            }
        }
    }
    Ok(spec)
}

fn bound(cursor: &mut Cursor<'_>) -> Option<Bound> {
    let symbols = [('<', '='), ('>', '='), ('<', '>'), ('!', '=')];
    let bounds = [Bound::AtMost, Bound::AtLeast, Bound::Other, Bound::Other];
    for ((first, second), bound) in symbols.into_iter().zip(bounds) {
        let mut ahead = cursor.clone();
        if ahead.take_symbol(first) && ahead.take_symbol(second) {
            *cursor = ahead;
            return Some(bound);
        }
    }
    match () {
        () if cursor.take_symbol('<') => Some(Bound::Less),
        () if cursor.take_symbol('>') => Some(Bound::More),
        () => None,
    }
}

/// `key = value`; the value is a text, a number, true, false, NULL or a date.
pub(super) fn partition_value(cursor: &mut Cursor<'_>) -> Result<(Identifier, Option<String>)> {
    let key = cursor.identifier("a partition key")?;
    cursor.expect_symbol('=')?;
    Ok((key, key_value(cursor)?))
}

fn key_value(cursor: &mut Cursor<'_>) -> Result<Option<String>> {
    for word in ["TRUE", "FALSE"] {
        if cursor.take(&[word]) {
            return Ok(Some(word.to_lowercase()));
        }
    }
    if cursor.take(&["NULL"]) {
        return Ok(None);
    }
    let is_typed = |kind: &TokenKind| *kind == TokenKind::Text;
    if cursor.rest().get(1).is_some_and(|token| is_typed(&token.kind)) && !cursor.take(&["DATE"]) {
        cursor.take(&["TIMESTAMP"]);
    }
    let value =
        if cursor.is_at_number() { cursor.number("a value")? } else { cursor.text("a value in quotes or a number")? };
    Ok(Some(value))
}

/// A table's name alone, to the end.
pub(super) fn table_to_end(cursor: &mut Cursor<'_>) -> Result<ObjectName> {
    let name = cursor.object_name("the name of a table")?;
    cursor.expect_end()?;
    Ok(name)
}
