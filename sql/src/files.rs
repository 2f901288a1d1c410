//! Files read without DDL: `read_json('..')`, `read_csv('..')`, `read_parquet('..')`.
//!
//! Invariant: what a path means is decided here: a folder with everything below it, a pattern, or one file; the rest is
//! the lake's, with columns inferred as for a table whose DDL leaves them out.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast;
use headwater_connectors::lake::{
    format::{Malformed, ReadFormat},
    listing::{Pattern, SPECIAL},
    provider::LakeTable,
    stores::{Place, store_error},
};
use headwater_engine::{
    catalog::{Column, FileFormat, PartitionDiscovery, Properties, Storage, Table, TableKind, TableName},
    error::{Error, Result},
};
use object_store::ObjectStoreExt;

use crate::{
    ddl::infer,
    diagnostics::did_you_mean,
    parser::{StatementKind, ddl::Ddl},
    session::Session,
};

/// The table functions that read files, and the formats they read.
pub(crate) const FUNCTIONS: [(&str, FileFormat); 3] =
    [("read_json", FileFormat::Json), ("read_csv", FileFormat::Csv), ("read_parquet", FileFormat::Parquet)];

/// What a call may say beside the path: its name, the formats that have it, and the table property it is.
const OPTIONS: [(&str, &[FileFormat], &str); 11] = [
    ("columns", &[FileFormat::Json, FileFormat::Csv, FileFormat::Parquet], COLUMNS),
    ("malformed", &[FileFormat::Json, FileFormat::Csv], "malformed"),
    ("coercion", &[FileFormat::Json], "coercion"),
    ("records", &[FileFormat::Json], "json.path"),
    ("timestamp_format", &[FileFormat::Json], "json.timestamp-format.standard"),
    ("timestamp_unit", &[FileFormat::Json], "json.timestamp-unit"),
    ("header", &[FileFormat::Csv], "csv.header"),
    ("delimiter", &[FileFormat::Csv], "csv.field-delimiter"),
    ("quote", &[FileFormat::Csv], "csv.quote-character"),
    ("escape", &[FileFormat::Csv], "csv.escape-character"),
    ("skip", &[FileFormat::Csv], "skip.header.line.count"),
];
/// The option that is no property: the columns, as DDL has them.
const COLUMNS: &str = "columns";

/// What a call of one of the functions says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Call {
    path: String,
    /// Table properties, and the columns.
    options: Properties,
}

impl Call {
    /// The call with these arguments: `('path', option => value, ..)`.
    pub(crate) fn of(function: &str, arguments: &[ast::FunctionArg]) -> Result<Self> {
        let refused = |message: String| {
            Error::user("INVALID_FUNCTION_ARGUMENT", message)
                .with_hint(format!("write {function}('folder/*', {} => ..)", options_of(function).join(" => .., ")))
        };
        let (mut path, mut options) = (None, Properties::new());
        for argument in arguments {
            match argument {
                ast::FunctionArg::Unnamed(value) if path.is_none() => {
                    let is_text = matches!(value, ast::FunctionArgExpr::Expr(ast::Expr::Value(value)) if value.value.clone().into_string().is_some());
                    path = literal(value).filter(|_| is_text);
                    if path.is_none() {
                        return Err(refused(format!("the path of {function} is a text, not {value}")));
                    }
                }
                ast::FunctionArg::Unnamed(_) => return Err(refused(format!("{function} takes one path or pattern"))),
                ast::FunctionArg::Named { name, arg, .. } => {
                    let option = name.value.to_lowercase();
                    let property = property_of(function, &option).ok_or_else(|| {
                        let error = refused(format!("{function} has no option \"{option}\""));
                        did_you_mean(error, &option, options_of(function))
                    })?;
                    let value = literal(arg)
                        .ok_or_else(|| refused(format!("{option} of {function} is a literal, not {arg}")))?;
                    if options.insert(property.to_owned(), value).is_some() {
                        return Err(refused(format!("{option} is given twice")));
                    }
                }
                ast::FunctionArg::ExprNamed { .. } => {
                    return Err(refused(format!("{argument} is no argument of {function}")));
                }
            }
        }
        match path {
            Some(path) if !path.trim().is_empty() => Ok(Self { path, options }),
            Some(_) => Err(refused(format!("the path of {function} is empty"))),
            None => Err(refused(format!("{function} takes one path or pattern"))),
        }
    }

    /// The call as the name of a table.
    pub(crate) fn to_text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::internal(format!("a call has no text: {error}")))
    }

    fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| Error::internal(format!("\"{text}\" is no call: {error}")))
    }
}

fn formats_of(function: &str) -> Option<FileFormat> {
    FUNCTIONS.iter().find(|(name, _)| *name == function).map(|(_, format)| *format)
}

fn options_of(function: &str) -> Vec<&'static str> {
    let format = formats_of(function);
    let has = |formats: &[FileFormat]| format.is_some_and(|format| formats.contains(&format));
    OPTIONS.iter().filter(|(_, formats, _)| has(formats)).map(|(option, ..)| *option).collect()
}

fn property_of(function: &str, option: &str) -> Option<&'static str> {
    let known = options_of(function);
    OPTIONS.iter().find(|(name, ..)| *name == option && known.contains(name)).map(|(_, _, property)| *property)
}

fn literal(argument: &ast::FunctionArgExpr) -> Option<String> {
    let ast::FunctionArgExpr::Expr(ast::Expr::Value(value)) = argument else { return None };
    match &value.value {
        ast::Value::Number(number, _) => Some(number.clone()),
        ast::Value::Boolean(value) => Some(value.to_string()),
        other => other.clone().into_string(),
    }
}

/// The files that a call means, as a table.
pub(crate) async fn read(session: &Session, function: &str, call: &str) -> Result<LakeTable> {
    let Call { path, mut options } = Call::parse(call)?;
    let Some(format) = formats_of(function) else {
        return Err(Error::internal(format!("table function \"{function}\" reads no files")));
    };
    let whole = session.stores().resolve(&path, &Properties::new()).await?;
    let is_pattern = path.contains(SPECIAL);
    let is_file = !is_pattern && !path.ends_with('/') && exists(&whole).await?;
    let only = (is_pattern || is_file).then(|| Pattern::new(whole.path.as_ref()));
    let folder = if only.is_some() { folder_of(&path) } else { &path };
    let has_folders = path[folder.len()..].contains('/') || only.is_none();
    let columns = options.remove(COLUMNS).map(|text| columns(session, &text)).transpose()?.unwrap_or_default();
    let mut table = Table {
        name: TableName::new("default", function),
        kind: TableKind::External,
        columns,
        partition_keys: Vec::new(),
        storage: Storage {
            format,
            serde: None,
            serde_properties: Properties::new(),
            input_format: None,
            output_format: None,
        },
        location: if folder.is_empty() { "./".to_owned() } else { folder.to_owned() },
        discovery: if has_folders { PartitionDiscovery::Discovered } else { PartitionDiscovery::Registered },
        properties: options,
        comment: None,
        version: 0,
    };
    // What is wrong with an option is said before the files are looked at.
    ReadFormat::of(&table, Malformed::of(&table)?)?;
    infer::fill_in(session, &mut table, only.as_ref()).await.map_err(|error| nothing_there(error, &path))?;
    let table = LakeTable::new(Arc::new(table), Arc::clone(session.catalog()), Arc::clone(session.stores()))?;
    Ok(match only {
        Some(only) => table.of_files(only),
        None => table,
    })
}

/// Columns as DDL has them: `a bigint, b array<string>`.
fn columns(session: &Session, text: &str) -> Result<Vec<Column>> {
    let wrong = |why: &str| {
        Error::user("INVALID_FUNCTION_ARGUMENT", format!("\"{text}\" are no columns: {why}"))
            .with_hint("write columns => 'a bigint, b array<string>'")
    };
    let declared = session.parse(&format!("CREATE EXTERNAL TABLE t (\n{text}\n) LOCATION 'x'"));
    let declared = declared.map_err(|error| wrong(error.message()))?;
    match declared.into_iter().next().map(|statement| statement.kind) {
        Some(StatementKind::Ddl(ddl)) => match *ddl {
            Ddl::CreateTable(table) => Ok(table.columns),
            _ => Err(wrong("they are something else")),
        },
        _ => Err(wrong("they are something else")),
    }
}

/// What stands before the first part with a special character, else before the file's name.
fn folder_of(path: &str) -> &str {
    let fixed = path.find(SPECIAL).map_or(path, |at| &path[..at]);
    fixed.rfind('/').map_or("", |at| &path[..=at])
}

/// Whether there is a file of the name of a place.
pub(crate) async fn exists(place: &Place) -> Result<bool> {
    match place.store.head(&place.path).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(store_error(&place.to_string(), error)),
    }
}

fn nothing_there(error: Error, path: &str) -> Error {
    if error.code().0 != "INVALID_TABLE_PROPERTY" {
        return error;
    }
    Error::user("FILE_NOT_FOUND", format!("no file with rows is meant by \"{path}\""))
        .with_hint("name a file, a folder or a pattern such as 'data/*.json.gz', where ** stands for folders")
}
