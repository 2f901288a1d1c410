//! JSON functions over text: extraction by path, parsing to canonical form, arrays.
//!
//! Invariant: a `json` value is canonical text; functions that take `varchar` read any JSON text and answer NULL for
//! what is not JSON, except `json_parse`, which refuses it.

use std::sync::Arc;

use arrow::array::ArrayRef;
use headwater_engine::error::Result;

use self::{
    array::{Wanted, contains, write_element},
    canonical::{Keys, canonical, write_value},
    path::{Path, Scalar, array_length, scalar_at, size},
    scan::{Kind, Scanner},
};
use super::{
    Family, Function,
    column::{Bool, Compiled, F64, I64, Json, Read, Str, Text, ToBool, ToI64},
    define::{Definition, build, scalar},
    kernel::{invalid, text1, text2, value1, value2, value2_with},
    scalar::{Call, Kernel},
};

pub mod array;
pub mod canonical;
pub mod path;
pub mod scan;
pub mod standard;

/// The family's functions.
pub(super) fn functions() -> Result<Vec<Function>> {
    let mut all = vec![
        json_extract(),
        json_extract_scalar(),
        json_parse(),
        json_format(),
        json_size(),
        json_array_length(),
        json_array_get(),
        json_array_contains(),
        is_json_scalar(),
    ];
    all.extend(standard::definitions());
    build(all)
}

fn json(name: &'static str, summary: &'static str) -> Definition {
    scalar(Family::Json, name, summary)
}

/// A kernel of a document and a path that writes what it finds.
fn by_path<R: for<'a> Read<Item<'a> = &'a str>>(
    write: impl Fn(&mut Scanner<'_>, &mut Text, &mut String) -> Option<()> + Send + Sync + 'static,
) -> Kernel {
    Arc::new(move |call: &Call<'_>| -> Result<ArrayRef> {
        let (documents, paths) = (call.column::<R>(0)?, call.column::<Str>(1)?);
        let mut out = Text::new(call.rows, call.result);
        let (mut path, mut scratch) = (Compiled::default(), String::new());
        for row in 0..call.rows {
            if documents.is_null(row) || paths.is_null(row) {
                out.end(false);
                continue;
            }
            let path: &mut Path = path.get(paths.get(row), Path::parse)?;
            let mut scanner = Scanner::new(documents.get(row));
            let found = path.find(&mut scanner).and_then(|()| write(&mut scanner, &mut out, &mut scratch));
            out.end(found.is_some());
        }
        out.finish()
    })
}

fn write_json(scanner: &mut Scanner<'_>, out: &mut Text, scratch: &mut String) -> Option<()> {
    scratch.clear();
    write_value(scanner, Keys::AsWritten, scratch)?;
    out.push_str(scratch);
    Some(())
}

fn write_scalar(scanner: &mut Scanner<'_>, out: &mut Text, _scratch: &mut String) -> Option<()> {
    match scalar_at(scanner)? {
        Scalar::Plain(text) => out.push_str(text),
        Scalar::String(string) => out.push_str(&string.decode()),
    }
    Some(())
}

fn json_extract() -> Definition {
    json("json_extract", "the JSON value at a path of a JSON document; NULL if there is none")
        .on("json_extract(varchar, varchar) -> json", by_path::<Str>(write_json))
        .on("json_extract(json, varchar) -> json", by_path::<Json>(write_json))
        .example(r#"SELECT json_extract('{"a": [1, {"b": 2}]}', '$.a[1]')"#, r#"{"b":2}"#)
}

fn json_extract_scalar() -> Definition {
    json("json_extract_scalar", "the string, number or truth value at a path, as text; NULL for anything else")
        .on("json_extract_scalar(varchar, varchar) -> varchar", by_path::<Str>(write_scalar))
        .on("json_extract_scalar(json, varchar) -> varchar", by_path::<Json>(write_scalar))
        .example(r#"SELECT json_extract_scalar('{"user": {"id": 7}}', '$.user.id')"#, "7")
}

fn json_parse() -> Definition {
    json("json_parse", "the JSON value a text stands for; an error if it is not JSON")
        .on(
            "json_parse(varchar) -> json",
            text1::<Str>(|text, out| {
                let parsed =
                    canonical(text).ok_or_else(|| invalid(format!("cannot convert value to JSON: '{text}'")))?;
                out.push_str(&parsed);
                Ok(true)
            }),
        )
        .example(r#"SELECT json_parse('{"b": 1, "a": 2.50}')"#, r#"{"a":2.5,"b":1}"#)
}

fn json_format() -> Definition {
    json("json_format", "the text of a JSON value")
        .on(
            "json_format(json) -> varchar",
            text1::<Json>(|text, out| {
                out.push_str(text);
                Ok(true)
            }),
        )
        .example(r#"SELECT json_format(json_parse('[1, 2]'))"#, "[1,2]")
}

fn json_size() -> Definition {
    fn kernel<R: for<'a> Read<Item<'a> = &'a str>>() -> Kernel {
        value2_with::<R, Str, ToI64, Compiled<Path>>(|path, text, at| Ok(size(text, path.get(at, Path::parse)?)))
    }
    json("json_size", "the number of members of the array or object at a path; 0 for a scalar")
        .on("json_size(varchar, varchar) -> bigint", kernel::<Str>())
        .on("json_size(json, varchar) -> bigint", kernel::<Json>())
        .example(r#"SELECT json_size('{"x": {"a": 1, "b": 2}}', '$.x')"#, "2")
}

fn json_array_length() -> Definition {
    fn kernel<R: for<'a> Read<Item<'a> = &'a str>>() -> Kernel {
        value1::<R, ToI64>(|text| Ok(array_length(text)))
    }
    json("json_array_length", "the number of elements of a JSON array; NULL if it is not one")
        .on("json_array_length(varchar) -> bigint", kernel::<Str>())
        .on("json_array_length(json) -> bigint", kernel::<Json>())
        .example("SELECT json_array_length('[1, 2, 3]')", "3")
}

fn json_array_get() -> Definition {
    fn kernel<R: for<'a> Read<Item<'a> = &'a str>>() -> Kernel {
        text2::<R, I64>(|text, index, out| {
            let mut element = String::new();
            let found = write_element(text, index, &mut element);
            if found {
                out.push_str(&element);
            }
            Ok(found)
        })
    }
    json("json_array_get", "the element of a JSON array, from 0; a negative index counts from the end")
        .on("json_array_get(varchar, bigint) -> json", kernel::<Str>())
        .on("json_array_get(json, bigint) -> json", kernel::<Json>())
        .example("SELECT json_array_get('[1, [2, 3]]', 1)", "[2,3]")
}

fn json_array_contains() -> Definition {
    fn bools<R: for<'a> Read<Item<'a> = &'a str>>() -> Kernel {
        value2::<R, Bool, ToBool>(|text, value| Ok(contains(text, Wanted::Bool(value))))
    }
    fn bigints<R: for<'a> Read<Item<'a> = &'a str>>() -> Kernel {
        value2::<R, I64, ToBool>(|text, value| Ok(contains(text, Wanted::Integer(value))))
    }
    fn doubles<R: for<'a> Read<Item<'a> = &'a str>>() -> Kernel {
        value2::<R, F64, ToBool>(|text, value| Ok(contains(text, Wanted::Double(value))))
    }
    fn texts<R: for<'a> Read<Item<'a> = &'a str>>() -> Kernel {
        value2::<R, Str, ToBool>(|text, value| Ok(contains(text, Wanted::Text(value))))
    }
    json("json_array_contains", "whether a JSON array holds a value")
        .on("json_array_contains(varchar, boolean) -> boolean", bools::<Str>())
        .on("json_array_contains(varchar, bigint) -> boolean", bigints::<Str>())
        .on("json_array_contains(varchar, double) -> boolean", doubles::<Str>())
        .on("json_array_contains(varchar, varchar) -> boolean", texts::<Str>())
        .on("json_array_contains(json, boolean) -> boolean", bools::<Json>())
        .on("json_array_contains(json, bigint) -> boolean", bigints::<Json>())
        .on("json_array_contains(json, double) -> boolean", doubles::<Json>())
        .on("json_array_contains(json, varchar) -> boolean", texts::<Json>())
        .example("SELECT json_array_contains('[1, 2, 3]', 2)", "true")
}

fn is_json_scalar() -> Definition {
    fn kernel<R: for<'a> Read<Item<'a> = &'a str>>() -> Kernel {
        value1::<R, ToBool>(|text| {
            let mut scanner = Scanner::new(text);
            let kind = scanner.skip().filter(|_| scanner.at_end());
            let kind = kind.ok_or_else(|| invalid(format!("invalid JSON value: {text}")))?;
            Ok(Some(!matches!(kind, Kind::Array | Kind::Object)))
        })
    }
    json("is_json_scalar", "whether JSON text is a string, number, truth value or null")
        .on("is_json_scalar(varchar) -> boolean", kernel::<Str>())
        .on("is_json_scalar(json) -> boolean", kernel::<Json>())
        .example("SELECT is_json_scalar('[1]')", "false")
}
