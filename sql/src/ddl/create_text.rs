//! `SHOW CREATE TABLE` and `SHOW CREATE VIEW`: the statement that makes an entry again.
//!
//! Invariant: the text, run on a catalog without the entry, makes the same entry.

use headwater_engine::catalog::{Column, FileFormat, PartitionDiscovery, Properties, Table, TableKind};

use super::{
    create_table::{DISCOVERY_KEY, PURGE_KEY},
    qualify::qualified,
    storage::format_word,
};

/// What `ROW FORMAT DELIMITED` calls each property, in its order.
const DELIMITED: &[(&str, &str)] = &[
    ("field.delim", "FIELDS TERMINATED BY"),
    ("escape.delim", "ESCAPED BY"),
    ("collection.delim", "COLLECTION ITEMS TERMINATED BY"),
    ("mapkey.delim", "MAP KEYS TERMINATED BY"),
    ("line.delim", "LINES TERMINATED BY"),
    ("serialization.null.format", "NULL DEFINED AS"),
];

/// The lines of the statement.
pub(super) fn lines(table: &Table) -> Vec<String> {
    if let TableKind::View { sql, database } = &table.kind {
        let sql = qualified(sql, database);
        let name = format!("\"{}\".\"{}\"", double(&table.name.database), double(&table.name.table));
        let comment = table.comment.as_ref().map(|comment| format!(" COMMENT '{}'", comment.replace('\'', "''")));
        let head = format!("CREATE VIEW {name}{} AS", comment.unwrap_or_default());
        return std::iter::once(head).chain(sql.lines().map(|line| line.replace("${", "$${"))).collect();
    }
    let name = format!("{}.{}", backticks(&table.name.database), backticks(&table.name.table));
    let mut lines = vec![format!("CREATE EXTERNAL TABLE {name} (")];
    lines.extend(columns(&table.columns));
    if let Some(comment) = &table.comment {
        lines.push(format!("COMMENT {}", outside_properties(comment)));
    }
    if !table.partition_keys.is_empty() {
        lines.push("PARTITIONED BY (".to_owned());
        lines.extend(columns(&table.partition_keys));
    }
    lines.extend(storage(table));
    lines.extend(["LOCATION".to_owned(), format!("  {}", outside_properties(&table.location))]);
    let properties = properties(table);
    if !properties.is_empty() {
        lines.push("TBLPROPERTIES (".to_owned());
        lines.extend(pairs(&properties));
    }
    lines
}

fn properties(table: &Table) -> Properties {
    let mut properties = table.properties.clone();
    let by_form = table.storage.serde.is_none()
        && table.storage.input_format.is_none()
        && !is_delimited(table)
        && matches!(table.storage.format, FileFormat::Json | FileFormat::Csv | FileFormat::Raw);
    let is_discovered = table.discovery == PartitionDiscovery::Discovered;
    if is_discovered != by_form {
        properties.insert(DISCOVERY_KEY.to_owned(), is_discovered.to_string());
    }
    if table.kind == TableKind::Managed {
        properties.insert(PURGE_KEY.to_owned(), "true".to_owned());
    }
    properties
}

fn columns(columns: &[Column]) -> Vec<String> {
    let last = columns.len().saturating_sub(1);
    let line = |(index, column): (usize, &Column)| {
        let comment = column.comment.as_ref().map(|comment| format!(" COMMENT {}", outside_properties(comment)));
        let end = if index == last { ")" } else { "," };
        format!("  {} {}{}{end}", backticks(&column.name), type_text(&column.type_text), comment.unwrap_or_default())
    };
    columns.iter().enumerate().map(line).collect()
}

/// The type as the parser reads it back: names of fields that are not plain lower case are quoted.
fn type_text(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    // Whether each open bracket is that of a row; a name stands after its bracket and after each of its commas.
    let (mut open, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(['<', '>', ',', '(']) {
        let (before, mark) = (&rest[..at], &rest[at..=at]);
        match mark {
            "<" => open.push(before.trim_end().to_lowercase().ends_with("struct")),
            ">" => {
                open.pop();
            }
            _ => {}
        }
        let end = if mark == "(" { rest.find(')').map_or(rest.len(), |end| end + 1) } else { at + 1 };
        quoted.push_str(&rest[..end]);
        rest = &rest[end..];
        if matches!(mark, "<" | ",")
            && open.last() == Some(&true)
            && let Some((name, after)) = rest.split_once(':')
        {
            let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            quoted.push_str(&if is_plain { name.to_owned() } else { backticks(name) });
            quoted.push(':');
            rest = after;
        }
    }
    quoted + rest
}

fn is_delimited(table: &Table) -> bool {
    let storage = &table.storage;
    storage.serde.is_none()
        && matches!(storage.format, FileFormat::Text | FileFormat::Csv)
        && DELIMITED.iter().any(|(key, _)| storage.serde_properties.contains_key(*key))
}

fn storage(table: &Table) -> Vec<String> {
    let storage = &table.storage;
    let mut lines = Vec::new();
    let mut left = storage.serde_properties.clone();
    if let Some(serde) = &storage.serde {
        lines.extend(["ROW FORMAT SERDE".to_owned(), format!("  {}", literal(serde))]);
    } else if is_delimited(table) {
        lines.push("ROW FORMAT DELIMITED".to_owned());
        for (key, clause) in DELIMITED {
            if let Some(value) = left.remove(*key) {
                lines.push(format!("  {clause} {}", literal(&value)));
            }
        }
    }
    if !left.is_empty() {
        lines.push("WITH SERDEPROPERTIES (".to_owned());
        lines.extend(pairs(&left));
    }
    match (&storage.input_format, &storage.output_format) {
        (Some(input), Some(output)) => {
            lines.push(format!("STORED AS INPUTFORMAT {} OUTPUTFORMAT {}", literal(input), literal(output)));
        }
        _ if storage.serde.is_some() && storage.format != FileFormat::Parquet => {}
        _ => lines.push(format!("STORED AS {}", format_word(storage.format))),
    }
    lines
}

fn pairs(properties: &Properties) -> Vec<String> {
    let last = properties.len().saturating_sub(1);
    let line = |(index, (key, value)): (usize, (&String, &String))| {
        format!("  {}={}{}", literal(key), literal(value), if index == last { ")" } else { "," })
    };
    properties.iter().enumerate().map(line).collect()
}

fn backticks(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn double(name: &str) -> String {
    name.replace('"', "\"\"")
}

/// A literal where parameters are filled in, which this text is not to be.
fn outside_properties(text: &str) -> String {
    literal(text).replace("${", "$${")
}

/// A text in single quotes with Hive's escapes.
fn literal(text: &str) -> String {
    let mut quoted = String::from("'");
    for character in text.chars() {
        match character {
            '\'' => quoted.push_str("\\'"),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            control if control.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted + "'"
}
