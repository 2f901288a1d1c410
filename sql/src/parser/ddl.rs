//! The statements about the catalog: databases, tables, partitions and views, as Athena spells them.
//!
//! Invariant: nothing here is resolved; names and values are as written, with their places.

use std::cmp::Ordering;

use datafusion::sql::sqlparser::ast;
use headwater_engine::{catalog::Column, error::Location};

use super::cursor::{Identifier, ObjectName};

/// Key-value texts in the order written.
pub type Pairs = Vec<(String, String)>;

/// A statement about the catalog.
#[derive(Debug, Clone)]
pub enum Ddl {
    /// `CREATE DATABASE | SCHEMA`.
    CreateDatabase(CreateDatabase),
    /// `DROP DATABASE | SCHEMA`.
    DropDatabase {
        /// Name.
        name: Identifier,
        /// `IF EXISTS`.
        if_exists: bool,
        /// `CASCADE`: its tables too.
        cascade: bool,
    },
    /// `ALTER DATABASE | SCHEMA .. SET DBPROPERTIES (..)`.
    AlterDatabase {
        /// Name.
        name: Identifier,
        /// Properties to set.
        properties: Pairs,
    },
    /// `CREATE EXTERNAL TABLE`.
    CreateTable(CreateTable),
    /// `DROP TABLE`.
    DropTable {
        /// Name.
        name: ObjectName,
        /// `IF EXISTS`.
        if_exists: bool,
    },
    /// `ALTER TABLE`.
    AlterTable {
        /// Name.
        name: ObjectName,
        /// What changes.
        change: TableChange,
    },
    /// `MSCK REPAIR TABLE`.
    RepairTable(ObjectName),
    /// `CREATE [OR REPLACE] VIEW`.
    CreateView(CreateView),
    /// `DROP VIEW`.
    DropView {
        /// Name.
        name: ObjectName,
        /// `IF EXISTS`.
        if_exists: bool,
    },
}

/// `CREATE DATABASE [IF NOT EXISTS] name [COMMENT ..] [LOCATION ..] [WITH DBPROPERTIES (..)]`.
#[derive(Debug, Clone)]
pub struct CreateDatabase {
    /// Name.
    pub name: Identifier,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// `COMMENT`.
    pub comment: Option<String>,
    /// `LOCATION`.
    pub location: Option<String>,
    /// `WITH DBPROPERTIES`.
    pub properties: Pairs,
}

/// `CREATE EXTERNAL TABLE`.
#[derive(Debug, Clone)]
pub struct CreateTable {
    /// Name.
    pub name: ObjectName,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// Columns; empty when they are to be inferred.
    pub columns: Vec<Column>,
    /// `COMMENT`.
    pub comment: Option<String>,
    /// `PARTITIONED BY`; an empty type text where none was written.
    pub partition_keys: Vec<Column>,
    /// `ROW FORMAT`.
    pub row_format: Option<RowFormat>,
    /// `STORED AS`.
    pub stored_as: Option<StoredAs>,
    /// `WITH SERDEPROPERTIES`.
    pub serde_properties: Pairs,
    /// `LOCATION`.
    pub location: Option<String>,
    /// Where the location stands, or the end of the statement.
    pub location_at: Location,
    /// `TBLPROPERTIES`.
    pub properties: Pairs,
}

/// `ROW FORMAT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowFormat {
    /// `SERDE 'class'`, and where the class stands.
    Serde(String, Location),
    /// `DELIMITED ..`: what it says, under Hive's property names.
    Delimited(Pairs),
}

/// `STORED AS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredAs {
    /// `PARQUET`, `TEXTFILE`, ..: the word in upper case, and where it stands.
    Format(String, Location),
    /// `INPUTFORMAT 'class' OUTPUTFORMAT 'class'`.
    Classes {
        /// Input format class.
        input: String,
        /// Output format class.
        output: String,
        /// Where the first stands.
        at: Location,
    },
}

/// What an `ALTER TABLE` changes.
#[derive(Debug, Clone)]
pub enum TableChange {
    /// `ADD [IF NOT EXISTS] PARTITION (..) [LOCATION ..] ..`.
    AddPartitions {
        /// `IF NOT EXISTS`.
        if_not_exists: bool,
        /// The partitions.
        partitions: Vec<PartitionSpec>,
    },
    /// `DROP [IF EXISTS] PARTITION (..), ..`.
    DropPartitions {
        /// `IF EXISTS`.
        if_exists: bool,
        /// The partitions; one that names only some keys stands for all that match.
        partitions: Vec<PartitionSpec>,
    },
    /// `PARTITION (..) RENAME TO PARTITION (..)`.
    RenamePartition {
        /// Which.
        from: PartitionSpec,
        /// To what.
        to: PartitionSpec,
    },
    /// `ADD COLUMNS (..)`.
    AddColumns(Vec<Column>),
    /// `REPLACE COLUMNS (..)`.
    ReplaceColumns(Vec<Column>),
    /// `CHANGE [COLUMN] old new type [COMMENT ..] [FIRST | AFTER ..]`.
    ChangeColumn {
        /// Name so far.
        old: Identifier,
        /// The column from now on.
        new: Column,
        /// Where it goes, if elsewhere.
        place: Option<ColumnPlace>,
    },
    /// `DROP COLUMN name`.
    DropColumn(Identifier),
    /// `[PARTITION (..)] SET LOCATION '..'`.
    SetLocation {
        /// Of one partition only.
        partition: Option<PartitionSpec>,
        /// New folder.
        location: String,
    },
    /// `SET TBLPROPERTIES (..)`.
    SetProperties(Pairs),
    /// `UNSET TBLPROPERTIES (..)`.
    UnsetProperties(Vec<String>),
}

/// Where a changed column goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnPlace {
    /// Before all others.
    First,
    /// After this one.
    After(Identifier),
}

/// `PARTITION (key = value, ..) [LOCATION '..']`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionSpec {
    /// Key and value; `None` is NULL.
    pub values: Vec<(Identifier, Option<String>)>,
    /// Key, comparison and value, of partitions to drop.
    pub bounds: Vec<(Identifier, Bound, String)>,
    /// Folder of its files.
    pub location: Option<String>,
}

/// How a partition's value compares with another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
    /// `<>`
    Other,
}

impl Bound {
    /// Whether it holds of a value that compares so with the bound.
    pub fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Less => ordering.is_lt(),
            Self::AtMost => ordering.is_le(),
            Self::More => ordering.is_gt(),
            Self::AtLeast => ordering.is_ge(),
            Self::Other => ordering.is_ne(),
        }
    }

    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
            Self::Other => "<>",
        }
    }
}

/// `CREATE [OR REPLACE] VIEW [IF NOT EXISTS] name [COMMENT ..] AS query`.
#[derive(Debug, Clone)]
pub struct CreateView {
    /// Name.
    pub name: ObjectName,
    /// `OR REPLACE`.
    pub or_replace: bool,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// Names for the columns, in the order of the query's; empty for its own.
    pub columns: Vec<Identifier>,
    /// `COMMENT`.
    pub comment: Option<String>,
    /// The query.
    pub query: Box<ast::Query>,
    /// Its text.
    pub query_text: String,
    /// Whether it lives as long as the session only.
    pub is_temporary: bool,
}

/// `SHOW ..` and `DESCRIBE ..`.
#[derive(Debug, Clone)]
pub enum Show {
    /// `SHOW DATABASES | SCHEMAS [LIKE 'pattern']`.
    Databases {
        /// Names to show.
        pattern: Option<Pattern>,
    },
    /// `SHOW TABLES [IN database] ['pattern']`.
    Tables {
        /// Database, if not the one in use.
        database: Option<Identifier>,
        /// Names to show.
        pattern: Option<Pattern>,
    },
    /// `SHOW VIEWS [IN database] ['pattern']`.
    Views {
        /// Database, if not the one in use.
        database: Option<Identifier>,
        /// Names to show.
        pattern: Option<Pattern>,
    },
    /// `SHOW COLUMNS {FROM | IN} [database.]table`.
    Columns(ObjectName),
    /// `SHOW PARTITIONS table`.
    Partitions {
        /// Table.
        table: ObjectName,
        /// Only those with these values.
        filter: Option<PartitionSpec>,
    },
    /// `SHOW CREATE TABLE table`.
    CreateTable(ObjectName),
    /// `SHOW CREATE VIEW view`.
    CreateView(ObjectName),
    /// `SHOW TBLPROPERTIES table [('key')]`.
    TableProperties {
        /// Table.
        table: ObjectName,
        /// One key only.
        key: Option<String>,
    },
    /// `SHOW FUNCTIONS [LIKE 'pattern']`.
    Functions {
        /// Names to show.
        pattern: Option<Pattern>,
    },
    /// `DESCRIBE FUNCTION name`.
    Function(Identifier),
    /// `SHOW SETTINGS`, `SHOW SESSION`.
    Settings {
        /// Keys to show.
        pattern: Option<Pattern>,
    },
    /// `SHOW CATALOGS`.
    Catalogs,
    /// `DESCRIBE [EXTENDED | FORMATTED] table [PARTITION (..)] [column]`.
    Describe {
        /// Table.
        table: ObjectName,
        /// With the details of the entry.
        is_detailed: bool,
        /// One partition of it.
        partition: Option<PartitionSpec>,
        /// One column of it.
        column: Option<Identifier>,
    },
    /// `DESCRIBE INPUT name`, `DESCRIBE OUTPUT name`: of a prepared statement.
    DescribePrepared {
        /// Name of the prepared statement.
        name: Identifier,
        /// Its output columns, not its parameters.
        is_output: bool,
    },
}

/// Which names to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// `LIKE 'a%'`: `%` and `_`.
    Like(String),
    /// `'a.*|b*'`: a regular expression in which `*` alone stands for any text.
    Regex(String),
}
