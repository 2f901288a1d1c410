//! The statements of a script: one enum of ours, with sqlparser's AST inside where a statement holds a query.
//!
//! Invariant: a [`Statement`] is complete in itself: its text, its place in the script and its parsed form need no script.

use datafusion::sql::sqlparser::ast;
use headwater_engine::error::Location;

use super::{
    cursor::{Identifier, ObjectName},
    ddl::{Ddl, Show},
    stream_ddl::CreateStreamTable,
};

/// One statement of a script.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Its text, parameters filled in, without the semicolon.
    pub text: String,
    /// Where it starts in the script.
    pub at: Location,
    /// What it says.
    pub kind: StatementKind,
}

/// What a statement says.
#[derive(Debug, Clone)]
pub enum StatementKind {
    /// `SELECT ..`, `WITH ..`, `VALUES ..`.
    Query(Query),
    /// `INSERT INTO ..`, `INSERT OVERWRITE ..`.
    Insert(Insert),
    /// `CREATE TABLE .. AS ..`.
    CreateTableAs(CreateTableAs),
    /// `UNLOAD (..) TO ..`.
    Unload(Unload),
    /// `EXECUTE STATEMENT SET BEGIN .. END`: INSERTs that run as one job.
    StatementSet(Vec<Statement>),
    /// Flink's `CREATE [TEMPORARY] TABLE .. WITH (..)`: lives as long as the session.
    CreateStreamTable(Box<CreateStreamTable>),
    /// Databases, tables and views of the catalog.
    Ddl(Box<Ddl>),
    /// `SHOW ..` and `DESCRIBE ..`.
    Show(Show),
    /// `USE database`.
    Use(Identifier),
    /// `SET key = value`.
    Set {
        /// Key.
        key: Identifier,
        /// Value as text.
        value: String,
    },
    /// `RESET key`, or every setting.
    Reset(Option<Identifier>),
    /// `PREPARE name FROM ..`.
    Prepare {
        /// Name.
        name: Identifier,
        /// The text after FROM, with `?` for its parameters.
        text: String,
        /// Where that text starts.
        at: Location,
    },
    /// `EXECUTE name [USING ..]`.
    Execute {
        /// Name.
        name: Identifier,
        /// Text of each argument.
        arguments: Vec<String>,
    },
    /// `EXECUTE IMMEDIATE 'sql' [USING ..]`.
    ExecuteImmediate {
        /// The statement's text.
        text: String,
        /// Text of each argument.
        arguments: Vec<String>,
    },
    /// `DEALLOCATE PREPARE name`.
    Deallocate(Identifier),
    /// `EXPLAIN ..`.
    Explain(Box<Explain>),
}

/// A query.
#[derive(Debug, Clone)]
pub struct Query {
    /// Its AST; positions in it are those of the script.
    pub body: Box<ast::Query>,
    /// `EMIT CHANGES`: follow unbounded tables until interrupted.
    pub emit_changes: bool,
}

/// `INSERT INTO name [(columns)] query`.
#[derive(Debug, Clone)]
pub struct Insert {
    /// Target.
    pub table: ObjectName,
    /// Columns named, in the order of the query's; empty for all.
    pub columns: Vec<Identifier>,
    /// Static partition values of `PARTITION (k = 'v')`.
    pub partition: Vec<(Identifier, String)>,
    /// `INSERT OVERWRITE`: replaces the partitions it writes.
    pub overwrite: bool,
    /// Rows to insert.
    pub query: Box<ast::Query>,
    /// Text of the query.
    pub query_text: String,
}

/// `CREATE TABLE name [WITH (..)] AS query [WITH [NO] DATA]`.
#[derive(Debug, Clone)]
pub struct CreateTableAs {
    /// New table.
    pub table: ObjectName,
    /// Names for the columns, in the order of the query's; empty for its own.
    pub columns: Vec<Identifier>,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// `COMMENT`.
    pub comment: Option<String>,
    /// `WITH (..)`.
    pub options: Vec<WithOption>,
    /// Rows of the table.
    pub query: Box<ast::Query>,
    /// Text of the query.
    pub query_text: String,
    /// Not `WITH NO DATA`.
    pub with_data: bool,
}

/// `UNLOAD (query) TO 'location' [WITH (..)]`.
#[derive(Debug, Clone)]
pub struct Unload {
    /// Rows to write.
    pub query: Box<ast::Query>,
    /// Text of the query.
    pub query_text: String,
    /// Folder, which must be empty.
    pub location: String,
    /// Where the location stands.
    pub location_at: Location,
    /// `WITH (..)`.
    pub options: Vec<WithOption>,
}

/// `name = value` in a `WITH` of CTAS or UNLOAD.
#[derive(Debug, Clone, PartialEq)]
pub struct WithOption {
    /// Name, as written.
    pub name: Identifier,
    /// Value.
    pub value: OptionValue,
}

/// The value of an option.
#[derive(Debug, Clone, PartialEq)]
pub enum OptionValue {
    /// `'text'`.
    Text(String),
    /// A number, as written.
    Number(String),
    /// `true` or `false`.
    Boolean(bool),
    /// `ARRAY['a', 'b']`.
    List(Vec<String>),
}

/// `EXPLAIN [ANALYZE [VERBOSE]] [(TYPE .., FORMAT ..)] statement`.
#[derive(Debug, Clone)]
pub struct Explain {
    /// Run it and show what each part did.
    pub analyze: bool,
    /// `VERBOSE`.
    pub verbose: bool,
    /// Which plan.
    pub kind: ExplainKind,
    /// How it is written.
    pub format: ExplainFormat,
    /// The statement explained.
    pub statement: Statement,
    /// Whether it takes the place of the statement where nothing may run, and was not written.
    pub is_instead: bool,
}

/// `TYPE` of an EXPLAIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExplainKind {
    /// The logical plan.
    Logical,
    /// The plan as it runs.
    #[default]
    Distributed,
    /// Whether the statement is valid.
    Validate,
    /// What it reads and writes.
    Io,
}

/// `FORMAT` of an EXPLAIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExplainFormat {
    /// Indented text.
    #[default]
    Text,
    /// JSON.
    Json,
    /// A graph for `dot`.
    Graphviz,
}
