//! The JSON functions of the SQL standard: `JSON_EXISTS`, `JSON_VALUE`, `JSON_QUERY`, `JSON_OBJECT`, `JSON_ARRAY`.
//!
//! Their syntax (`DEFAULT 0 ON EMPTY`, `KEY 'a' VALUE 1`) is the parser's affair; it makes plain calls of these, in
//! which every choice is an argument.
//!
//! Invariant: the plain functions are named `$json_..`, which no query can write without quotes.

use super::super::{
    Family,
    define::{Definition, scalar},
    kernel::whole,
};

mod construct;
pub mod evaluate;
pub mod path;
mod query;

/// The functions.
pub(super) fn definitions() -> Vec<Definition> {
    let json = |name, summary| scalar(Family::Json, name, summary);
    vec![
        json("$json_exists", "whether a standard JSON path finds anything")
            .on("$json_exists(varchar, varchar, varchar) -> boolean", whole(query::exists))
            .example(r#"SELECT "$json_exists"('{"a": 1}', 'lax $.a', 'false')"#, "true"),
        json("$json_value", "the scalar a standard JSON path finds, as text")
            .on(
                "$json_value(varchar, varchar, varchar, varchar, varchar, varchar, varchar) -> varchar",
                whole(query::value),
            )
            .example(
                r#"SELECT "$json_value"('{"a": [1, 7]}', 'lax $.a[last]', 'text', 'null', NULL, 'null', NULL)"#,
                "7",
            ),
        json("$json_query", "the JSON a standard JSON path finds, as text")
            .on("$json_query(varchar, varchar, varchar, varchar, varchar, varchar) -> varchar", whole(query::query))
            .example(
                r#"SELECT "$json_query"('{"a": [1, 7]}', 'lax $.a[*] ? (@ > 1)', 'always', 'keep', 'null', 'null')"#,
                "[7]",
            ),
        json("$json_rows", "the items a standard JSON path finds, as rows of JSON text, place and a number given")
            .on(
                "$json_rows(varchar, varchar, varchar, bigint) -> array(row(varchar, bigint, bigint))",
                whole(query::rows),
            )
            .example(r#"SELECT cardinality("$json_rows"('[5, 7]', 'lax $[*]', 'empty', 0))"#, "2"),
        json("$json_item", "the JSON text of an SQL value")
            .on("$json_item(T) -> json", whole(construct::item))
            .example(r#"SELECT "$json_item"('a')"#, r#""a""#),
        json("$json_text", "JSON text, checked")
            .on("$json_text(varchar) -> json", whole(construct::formatted))
            .example(r#"SELECT "$json_text"('[1, 2]')"#, "[1,2]"),
        json("$json_array", "a JSON array of elements")
            .on("$json_array(varchar, array(json)) -> varchar", whole(construct::array))
            .example(r#"SELECT "$json_array"('null', ARRAY["$json_item"('a'), "$json_item"(1)])"#, r#"["a",1]"#),
        json("$json_object", "a JSON object of keys and values")
            .on("$json_object(varchar, varchar, array(varchar), array(json)) -> varchar", whole(construct::object))
            .example(r#"SELECT "$json_object"('null', '', ARRAY['a'], ARRAY["$json_item"(1)])"#, r#"{"a":1}"#),
    ]
}
