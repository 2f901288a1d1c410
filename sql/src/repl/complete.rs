//! Completion: keywords, functions, tables, columns of the tables named so far, and paths inside quotes.
//!
//! Invariant: nothing is looked up before the first Tab, and a catalog that does not answer only shortens the list.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use super::{LazySession, commands::HELP, words::KEYWORDS};
use crate::{
    functions::{bound, library},
    parser::lexer::{TokenKind, tokens},
    session::Session,
};
use headwater_engine::{catalog::TableName, error::Result};
use reedline::{Completer, CompletionResult, Span, Suggestion};

/// Suggestions shown at most.
const SUGGESTIONS_MAX: usize = 200;

/// Completes SQL against a session.
#[derive(Debug)]
pub(super) struct SqlCompleter {
    session: Arc<LazySession>,
}

impl SqlCompleter {
    /// A completer that opens the session when it is first asked.
    pub(super) fn new(session: Arc<LazySession>) -> Self {
        Self { session }
    }
}

impl Completer for SqlCompleter {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        let place = place(line, pos);
        let (start, values) = match &place {
            Place::Command { start, typed } => (*start, starting_with(typed, command_names())),
            Place::Path { start, typed } => (*start, paths(typed)),
            Place::Word { start, typed } => {
                let names = self.names(line).unwrap_or_default();
                (*start, words(typed, names, expected(&line[..*start])))
            }
        };
        let suggestion = |value: String| Suggestion { value, span: Span::new(start, pos), ..Suggestion::default() };
        CompletionResult::fresh(values.into_iter().take(SUGGESTIONS_MAX).map(suggestion).collect::<Vec<_>>())
    }
}

impl SqlCompleter {
    /// The names known for a line; on a runtime of our own, because statements may hold the others.
    fn names(&self, line: &str) -> Result<Names> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { Ok(names(&self.session.get().await?, line).await) })
    }
}

/// Names that a catalog and the library know.
#[derive(Debug, Default)]
struct Names {
    /// Columns of the tables named in the line.
    columns: BTreeSet<String>,
    /// Databases, and tables of the one in use and of those named.
    relations: BTreeSet<String>,
    functions: BTreeSet<String>,
}

/// What may stand where something is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// A table, view or database.
    Relation,
    /// Part of a name.
    Part,
    /// Anything.
    Any,
}

/// Words that a table follows.
const BEFORE_TABLES: [&str; 9] = ["FROM", "JOIN", "INTO", "TABLE", "DESCRIBE", "DESC", "OVERWRITE", "VIEW", "USE"];

/// What the text before a word says of it.
fn expected(before: &str) -> Expected {
    if before.starts_with(r"\d ") {
        return Expected::Relation;
    }
    let known = tokens(before).or_else(|open| tokens(&before[..open.start])).unwrap_or_default();
    let Some(last) = known.last() else { return Expected::Any };
    let text = &before[last.range()];
    match last.kind {
        TokenKind::Symbol('.') => Expected::Part,
        TokenKind::Word if BEFORE_TABLES.iter().any(|word| text.eq_ignore_ascii_case(word)) => Expected::Relation,
        _ => Expected::Any,
    }
}

/// What is being typed.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    /// A backslash command.
    Command { start: usize, typed: &'a str },
    /// A path: inside single quotes, or after a command that takes a file.
    Path { start: usize, typed: &'a str },
    /// A word of SQL.
    Word { start: usize, typed: &'a str },
}

fn place(line: &str, pos: usize) -> Place<'_> {
    let before = &line[..pos];
    if before.starts_with('\\') {
        return match before.split_once(' ') {
            Some((r"\i" | r"\o", path)) => Place::Path { start: pos - path.len(), typed: path },
            Some((_, word)) => Place::Word { start: pos - word.len(), typed: word },
            None => Place::Command { start: 0, typed: before },
        };
    }
    match tokens(before) {
        Err(open) if before[open.start..].starts_with('\'') => {
            let start = open.start + 1;
            Place::Path { start, typed: &before[start..] }
        }
        _ => {
            let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
            let start = before.char_indices().rev().take_while(|(_, c)| is_part(*c)).last().map_or(pos, |(i, _)| i);
            Place::Word { start, typed: &before[start..] }
        }
    }
}

fn command_names() -> impl Iterator<Item = String> {
    HELP.iter().map(|(usage, _)| usage.split(' ').next().unwrap_or(usage).to_owned())
}

fn starting_with(typed: &str, known: impl Iterator<Item = String>) -> Vec<String> {
    known.filter(|word| word.to_lowercase().starts_with(&typed.to_lowercase())).collect()
}

/// The likeliest first: columns, tables, keywords in the case of what was typed, functions.
fn words(typed: &str, names: Names, expected: Expected) -> Vec<String> {
    let lower = typed.chars().next().is_some_and(char::is_lowercase);
    let keywords = KEYWORDS.iter().map(|word| if lower { word.to_lowercase() } else { (*word).to_owned() });
    let Names { columns, relations, functions } = names;
    match expected {
        Expected::Relation => starting_with(typed, relations.into_iter().chain(FILES.map(str::to_owned))),
        Expected::Part => starting_with(typed, columns.into_iter().chain(relations)),
        Expected::Any => {
            let mut found = starting_with(typed, columns.into_iter().chain(relations));
            found.extend(starting_with(typed, keywords));
            found.extend(starting_with(typed, functions.into_iter()));
            found
        }
    }
}

/// Functions that stand for a table.
const FILES: [&str; 3] = ["read_csv", "read_json", "read_parquet"];

/// Databases, tables, the columns of tables that the line names, and functions.
async fn names(session: &Session, line: &str) -> Names {
    let (mut columns, mut relations) = (BTreeSet::new(), BTreeSet::new());
    let catalog = session.catalog();
    for database in catalog.databases().await.unwrap_or_default() {
        relations.insert(database.name);
    }
    let database = session.database();
    for table in catalog.tables(&database).await.unwrap_or_default() {
        relations.insert(table.name.table.clone());
    }
    relations.extend(session.run_tables().read().keys().map(|name| name.table.clone()));
    for word in quoted_or_plain_words(line) {
        let (database, table) = word.split_once('.').unwrap_or((&database, &word));
        if let Ok(Some(table)) = catalog.table(&TableName::new(database, table)).await {
            columns.extend(table.columns.iter().chain(&table.partition_keys).map(|column| column.name.clone()));
        }
        let of = word.split('.').next().unwrap_or(&word);
        for table in catalog.tables(of).await.unwrap_or_default() {
            relations.insert(table.name.table.clone());
        }
    }
    Names { columns, relations, functions: function_names() }
}

/// The functions that SHOW FUNCTIONS lists.
fn function_names() -> BTreeSet<String> {
    let mut names: BTreeSet<String> = bound::all().map(|function| function.name.to_owned()).collect();
    if let Ok(library) = library() {
        let listed = library.iter().filter(|function| !function.name.contains('$'));
        names.extend(
            listed
                .flat_map(|function| std::iter::once(&function.name).chain(function.aliases))
                .map(|name| (*name).to_owned()),
        );
    }
    names
}

/// Names in the line, with those joined by a dot as one.
fn quoted_or_plain_words(line: &str) -> Vec<String> {
    let known = tokens(line).or_else(|open| tokens(&line[..open.start])).unwrap_or_default();
    let mut found: Vec<String> = Vec::new();
    let mut after_dot = false;
    for token in known {
        let text = line[token.range()].trim_matches(['"', '`']);
        match token.kind {
            TokenKind::Word | TokenKind::Quoted(_) => {
                match found.last_mut() {
                    Some(last) if after_dot => *last = format!("{last}.{text}"),
                    _ => found.push(text.to_owned()),
                }
                after_dot = false;
            }
            TokenKind::Symbol(symbol) => after_dot = symbol == '.',
            TokenKind::Text | TokenKind::Number | TokenKind::Parameter => after_dot = false,
        }
    }
    found
}

/// Local files and folders that begin with what was typed.
fn paths(typed: &str) -> Vec<String> {
    let (folder, name) = typed.rsplit_once('/').map_or(("", typed), |(folder, name)| (folder, name));
    let listed = match typed.rfind('/') {
        Some(0) => Path::new("/"),
        Some(_) => Path::new(folder.strip_prefix("file://").unwrap_or(folder)),
        None => Path::new("."),
    };
    let Ok(entries) = fs::read_dir(listed) else { return Vec::new() };
    let mut found: Vec<String> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let file = entry.file_name().into_string().ok()?;
            let hidden = file.starts_with('.') && !name.starts_with('.');
            if hidden || !file.starts_with(name) {
                return None;
            }
            let slash = if entry.path().is_dir() { "/" } else { "" };
            Some(format!("{}{file}{slash}", &typed[..typed.len() - name.len()]))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_recognised() {
        assert_eq!(place("SELECT na", 9), Place::Word { start: 7, typed: "na" });
        assert_eq!(place("SELECT t.na", 11), Place::Word { start: 9, typed: "na" });
        assert_eq!(place("LOCATION './da", 14), Place::Path { start: 10, typed: "./da" });
        assert_eq!(place(r"\i que", 6), Place::Path { start: 3, typed: "que" });
        assert_eq!(place(r"\ti", 3), Place::Command { start: 0, typed: r"\ti" });
        assert_eq!(place("SELECT 'a', ", 12), Place::Word { start: 12, typed: "" });
    }

    #[test]
    fn words_come_in_the_case_that_is_typed() {
        let names = |column: &str| Names { columns: BTreeSet::from([column.to_owned()]), ..Names::default() };
        assert_eq!(words("sel", Names::default(), Expected::Any), ["select"]);
        assert_eq!(words("SEL", names("selling"), Expected::Any), ["selling", "SELECT"]);
    }

    #[test]
    fn after_from_come_tables_and_before_it_what_trino_has() {
        assert_eq!(expected("SELECT a FROM "), Expected::Relation);
        assert_eq!(expected(r"\d "), Expected::Relation);
        assert_eq!(expected("SELECT t."), Expected::Part);
        assert_eq!(expected("SELECT "), Expected::Any);
        let names = || Names {
            columns: BTreeSet::from(["day".to_owned()]),
            relations: BTreeSet::from(["days".to_owned()]),
            functions: function_names(),
        };
        assert_eq!(words("day", names(), Expected::Relation), ["days"]);
        let any = words("day", names(), Expected::Any);
        assert_eq!(any[..3], ["day", "days", "day"], "column, table, keyword");
        assert!(any.contains(&"day_of_week".to_owned()), "{any:?}");
        assert_eq!(words("array_pop", names(), Expected::Any), Vec::<String>::new());
    }

    #[test]
    fn names_joined_by_a_dot_are_one() {
        assert_eq!(quoted_or_plain_words("from \"a\".b, c 'open"), ["from", "a.b", "c"]);
    }

    #[test]
    fn paths_keep_what_was_typed_and_mark_folders() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        fs::write(folder.path().join("day.sql"), "").unwrap();
        fs::write(folder.path().join(".hidden"), "").unwrap();
        let typed = format!("{}/da", folder.path().display());
        assert_eq!(paths(&typed), [format!("{typed}ta/"), format!("{typed}y.sql")]);
        assert_eq!(paths(&format!("{}/", folder.path().display())).len(), 2);
    }
}
