//! Every function's example is run in a session; results are compared as a user sees them.

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{Float32Type, Float64Type},
    util::display::{ArrayFormatter, FormatOptions},
};
use futures::TryStreamExt;

use super::registry;
use crate::{
    kernels::render,
    session::{Outcome, Session, SessionConfig},
    types::Type,
};

/// The first value of the first row, as text; or the code of the error.
async fn answer(session: &Session, sql: &str) -> String {
    match value(session, sql).await {
        Ok(text) => text,
        Err(error) => format!("ERROR {}: {error}", error.code()),
    }
}

async fn value(session: &Session, sql: &str) -> headwater_engine::error::Result<String> {
    let statements = session.parse(sql)?;
    let Outcome::Rows { stream, .. } = session.execute(&statements[0]).await? else { panic!("rows are expected") };
    let of = Type::from_field(stream.schema().field(0));
    let batches: Vec<_> = stream.try_collect().await?;
    let column = batches[0].column(0);
    show(column, &of, 0)
}

/// A value as the reference shows it: `[1, 2]`, `{k=v}`.
fn show(column: &ArrayRef, of: &Type, row: usize) -> headwater_engine::error::Result<String> {
    let all = |values: &ArrayRef, of: &Type| -> headwater_engine::error::Result<Vec<String>> {
        (0..values.len()).map(|index| show(values, of, index)).collect()
    };
    if column.is_null(row) {
        return Ok("NULL".into());
    }
    Ok(match of {
        Type::Array(element) => format!("[{}]", all(&column.as_list::<i32>().value(row), element)?.join(", ")),
        Type::Map(key, value) => {
            let entries = column.as_map().value(row);
            let pairs = all(entries.column(0), key)?.into_iter().zip(all(entries.column(1), value)?);
            format!("{{{}}}", pairs.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", "))
        }
        Type::Row(fields) => {
            let columns = column.as_struct().columns().iter().zip(fields);
            let shown = columns.map(|(column, (_, of))| show(column, of, row));
            format!("[{}]", shown.collect::<headwater_engine::error::Result<Vec<_>>>()?.join(", "))
        }
        Type::Double => render::java_double(column.as_primitive::<Float64Type>().value(row)),
        Type::Real => render::java_real(column.as_primitive::<Float32Type>().value(row)),
        Type::Varbinary => ArrayFormatter::try_new(column, &FormatOptions::default())?.value(row).to_string(),
        of => render::texts(column, of)?[row].clone().unwrap_or_default(),
    })
}

#[tokio::test]
async fn every_example_answers_as_documented() {
    let state = tempfile::tempdir().unwrap();
    let session = Session::open(SessionConfig::in_directory(state.path().display().to_string())).await.unwrap();
    let mut wrong = Vec::new();
    for function in registry().unwrap().iter() {
        let given = answer(&session, function.example.statement).await;
        if given != function.example.result {
            wrong.push(format!("{}: wanted {}, got {given}", function.example.statement, function.example.result));
        }
    }
    for function in super::bound::all() {
        let given = answer(&session, function.example.statement).await;
        if given != function.example.result {
            wrong.push(format!("{}: wanted {}, got {given}", function.example.statement, function.example.result));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Answers of Trino 476.
const STANDARD_JSON: &[(&str, &str)] = &[
    (r#"json_value('{"a": 1}', 'lax $.b' DEFAULT 'x' ON EMPTY)"#, "x"),
    (r#"json_value('{"a": 5.7}', 'lax $.a')"#, "5.7E0"),
    (r#"json_value('{"a": 5.7}', 'lax $.a' RETURNING integer)"#, "6"),
    (r#"json_value('{"a": "x"}', 'lax $.a' RETURNING integer DEFAULT 7 ON ERROR)"#, "7"),
    (r#"json_value('{"a": [1, 2]}', 'lax $.a[*]')"#, "NULL"),
    (r#"json_value('[1,"a",null]', 'lax $[2].type()')"#, "null"),
    (r#"json_query('{"a": [1, 2]}', 'lax $.a[*]' WITH WRAPPER)"#, "[1,2]"),
    (r#"json_query('{"a": 1}', 'lax $.a' WITH CONDITIONAL ARRAY WRAPPER)"#, "[1]"),
    (r#"json_query('{"a": "x"}', 'lax $.a' OMIT QUOTES)"#, "x"),
    (r#"json_query('{}', 'lax $.a' EMPTY ARRAY ON EMPTY)"#, "[]"),
    (r#"json_query('[1,2,3,4]', 'lax $[last - 1, 0]' WITH WRAPPER)"#, "[3,1]"),
    (r#"json_query('[{"a":"abc"},{"b":1}]', 'lax $[*] ? (@.a starts with "a")' WITH WRAPPER)"#, r#"[{"a":"abc"}]"#),
    (r#"json_exists('{"a": 1}', 'strict $.b' TRUE ON ERROR)"#, "true"),
    (r#"json_exists('{"a": 1}', 'strict $.b' UNKNOWN ON ERROR)"#, "NULL"),
    ("json_object('a' : 1, KEY 'b' VALUE 'x')", r#"{"a":1,"b":"x"}"#),
    ("json_object('a' : NULL ABSENT ON NULL)", "{}"),
    ("json_object('a' : '[1]' FORMAT JSON, 'b' : json_array(1, 2))", r#"{"a":[1],"b":[1,2]}"#),
    ("json_array(1, NULL, true, 2.5e0)", "[1,true,2.5]"),
    ("json_array(NULL NULL ON NULL)", "[null]"),
    ("json_array()", "[]"),
];

#[tokio::test]
async fn standard_json_answers_as_in_trino() {
    let state = tempfile::tempdir().unwrap();
    let session = Session::open(SessionConfig::in_directory(state.path().display().to_string())).await.unwrap();
    let mut wrong = Vec::new();
    for (call, wanted) in STANDARD_JSON {
        let given = answer(&session, &format!("SELECT {call}")).await;
        if given != *wanted {
            wrong.push(format!("{call}: wanted {wanted}, got {given}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn maps_of_groups_keep_the_first_value_of_a_key() {
    let state = tempfile::tempdir().unwrap();
    let session = Session::open(SessionConfig::in_directory(state.path().display().to_string())).await.unwrap();
    let rows = "FROM (VALUES (1, MAP(ARRAY['a', 'b'], ARRAY[1, 2])), (2, NULL), (3, MAP(ARRAY['b', 'c'], ARRAY[9, 3]))) t(i, m)";
    assert_eq!(answer(&session, &format!("SELECT cardinality(map_union(m)) {rows}")).await, "3");
    assert_eq!(answer(&session, &format!("SELECT map_union(m)['c'] {rows}")).await, "3");
    assert_eq!(answer(&session, "SELECT histogram(x)[0e0] FROM (VALUES 0e0, -0e0, 1e0) t(x)").await, "2");
    let many = "SELECT cardinality(histogram(i)) FROM UNNEST(sequence(1, 9000)) t(i)";
    assert_eq!(answer(&session, many).await, "9000");
}
