//! What the binder names columns, what it refuses and where.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::{
    datasource::{empty::EmptyTable, provider_as_source},
    prelude::SessionContext,
    sql::sqlparser::{dialect::GenericDialect, parser::Parser},
};
use headwater_engine::error::{Error, Result};

use super::{BoundQuery, Environment, Relation, TableResolver, bind_query};
use crate::functions::library;

struct OneTable;

impl TableResolver for OneTable {
    fn table(&self, name: &[String]) -> Result<Option<Relation>> {
        let hidden = Field::new("$path", DataType::Utf8, true)
            .with_metadata([(crate::types::HIDDEN_KEY.to_owned(), "true".to_owned())].into());
        let fields = vec![Field::new("Id", DataType::Int64, true), Field::new("name", DataType::Utf8, true), hidden];
        let table = EmptyTable::new(Arc::new(Schema::new(fields)));
        let found = name.last().is_some_and(|last| last.eq_ignore_ascii_case("people"));
        Ok(found.then(|| Relation::Table(provider_as_source(Arc::new(table)))))
    }

    fn names(&self) -> Vec<String> {
        vec!["people".to_owned()]
    }
}

fn bind(sql: &str) -> Result<BoundQuery> {
    let query = Parser::new(&GenericDialect {}).try_with_sql(sql).unwrap().parse_query().unwrap();
    let state = SessionContext::new().state();
    bind_query(&query, Environment { tables: &OneTable, library: library()?, builtin: &state, zone: "UTC" })
}

fn columns(sql: &str) -> Vec<String> {
    bind(sql).unwrap().columns.into_iter().map(|column| format!("{} {}", column.name, column.data_type)).collect()
}

fn refused(sql: &str) -> Error {
    bind(sql).unwrap_err()
}

#[test]
fn columns_have_the_names_a_query_gives() {
    assert_eq!(
        columns("SELECT 1, id, ID AS x, id FROM people"),
        ["_col0 integer", "id bigint", "x bigint", "id bigint"]
    );
    assert_eq!(columns("SELECT * FROM people"), ["Id bigint", "name varchar"]);
    assert_eq!(columns("SELECT \"$path\" FROM people"), ["$path varchar"]);
}

#[test]
fn literals_have_trinos_types() {
    assert_eq!(
        columns("SELECT 1, 2147483648, 1.50, 1e0, 'ab'"),
        ["_col0 integer", "_col1 bigint", "_col2 decimal(3,2)", "_col3 double", "_col4 varchar(2)"]
    );
}

#[test]
fn errors_name_the_place_and_the_nearest_name() {
    let error = refused("SELECT nme FROM people");
    assert_eq!(error.code().0, "COLUMN_NOT_FOUND");
    assert_eq!(error.hint(), Some("did you mean \"name\"?"));
    assert_eq!(error.location().map(|at| (at.line, at.column)), Some((1, 8)));
    assert_eq!(refused("SELECT * FROM peple").hint(), Some("did you mean \"people\"?"));
}

#[test]
fn text_and_numbers_do_not_mix() {
    assert_eq!(refused("SELECT id = '1' FROM people").code().0, "TYPE_MISMATCH");
    assert_eq!(refused("SELECT name, count(*) FROM people").code().0, "EXPRESSION_NOT_AGGREGATE");
    assert_eq!(refused("SELECT id FROM people WHERE count(*) > 1").code().0, "EXPRESSION_NOT_SCALAR");
}
