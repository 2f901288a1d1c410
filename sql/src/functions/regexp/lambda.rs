//! `regexp_replace` with a lambda of the groups.
//!
//! Invariant: the lambda is evaluated once over the matches of all rows.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, ListBuilder, StringBuilder, UInt32Array},
    datatypes::{DataType, Field},
};
use headwater_engine::error::{Error, Result};

use super::{
    super::{
        Callable, Example, Family, Function,
        lambda::{ArgumentType, Higher, HigherArgument},
        signature::list_of,
    },
    pattern::Cached,
};

/// `regexp_replace(varchar, varchar, function(array(varchar), varchar))`
#[derive(Debug)]
struct Replace;

/// The entry of the library; the binder takes it where the third argument is a lambda.
pub fn function() -> Function {
    Function {
        name: "regexp_replace$lambda",
        aliases: &[],
        family: Family::Regexp,
        signatures: vec!["regexp_replace(varchar, varchar, function(array(varchar), varchar)) -> varchar"],
        summary: "a text with what matches replaced by a lambda of the groups",
        example: Example { statement: "SELECT regexp_replace('ab', '(a)', x -> upper(x[1]))", result: "Ab" },
        callable: Callable::Higher(Arc::new(Replace)),
    }
}

impl Higher for Replace {
    fn name(&self) -> &'static str {
        "regexp_replace"
    }

    fn coerce(&self, arguments: &[ArgumentType]) -> Result<Vec<ArgumentType>> {
        let text = |argument: &ArgumentType| matches!(argument, ArgumentType::Value(DataType::Utf8 | DataType::Null));
        match arguments {
            [a, b, lambda @ ArgumentType::Lambda(1, _)] if text(a) && text(b) => {
                Ok(vec![ArgumentType::Value(DataType::Utf8), ArgumentType::Value(DataType::Utf8), lambda.clone()])
            }
            _ => Err(Error::user("FUNCTION_NOT_FOUND", "unexpected parameters for function regexp_replace")),
        }
    }

    fn parameters(&self, _index: usize, _arguments: &[ArgumentType]) -> Result<Vec<DataType>> {
        Ok(vec![list_of(DataType::Utf8)])
    }

    fn lambda_result(&self, _index: usize, _arguments: &[ArgumentType]) -> Option<DataType> {
        Some(DataType::Utf8)
    }

    fn result(&self, _arguments: &[ArgumentType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke(&self, arguments: &[HigherArgument<'_>], rows: usize, _result: &DataType) -> Result<ArrayRef> {
        let [texts, patterns, lambda] = arguments else {
            return Err(Error::internal("regexp_replace takes three arguments"));
        };
        let (texts, patterns) = (texts.value()?.as_string::<i32>(), patterns.value()?.as_string::<i32>());
        let mut cached = Cached::default();
        let mut groups = ListBuilder::new(StringBuilder::new()).with_field(Field::new("item", DataType::Utf8, true));
        let (mut owners, mut places) = (Vec::new(), Vec::new());
        for row in 0..rows {
            if texts.is_null(row) || patterns.is_null(row) {
                continue;
            }
            let text = texts.value(row);
            cached.get(patterns.value(row))?.each(text, |found| {
                for group in found.iter().skip(1) {
                    groups.values().append_option(group.map(|(start, end)| &text[start..end]));
                }
                groups.append(true);
                owners.push(row as u32);
                places.push(found.first().copied().flatten().unwrap_or_default());
                Ok(())
            })?;
        }
        let elements: ArrayRef = Arc::new(groups.finish());
        let made = lambda.lambda()?.evaluate(&[elements], &UInt32Array::from(owners.clone()))?;
        let made = made.as_string::<i32>();
        let mut out = StringBuilder::new();
        let mut next = 0;
        for row in 0..rows {
            if texts.is_null(row) || patterns.is_null(row) {
                out.append_null();
                continue;
            }
            let (text, mut last, mut built, mut valid) = (texts.value(row), 0, String::new(), true);
            while owners.get(next) == Some(&(row as u32)) {
                let (start, end) = places.get(next).copied().unwrap_or_default();
                built.push_str(&text[last..start]);
                valid &= made.is_valid(next);
                built.push_str(made.value(next));
                last = end;
                next += 1;
            }
            built.push_str(&text[last..]);
            out.append_option(valid.then_some(built));
        }
        Ok(Arc::new(out.finish()))
    }
}
