//! Calls that fit a signature and that Trino refuses all the same.
//!
//! Invariant: nothing is refused here that a running Trino accepts.

use arrow::datatypes::DataType;
use datafusion::logical_expr::ScalarUDF;
use headwater_engine::error::{Error, Result};

use super::calls::arrow_types;
use crate::{functions::scalar::ScalarFunction, types::Type};

/// Refuses what a function's signature allows and Trino does not.
pub(crate) fn refuse_by_types(name: &str, given: &[Type]) -> Result<()> {
    let unknown = |of: &Type| matches!(of, Type::Array(element) if **element == Type::Unknown);
    let too_long = |of: Option<&Type>, most: u32| match of {
        Some(Type::Varchar(length)) => length.is_none_or(|length| length > most),
        _ => false,
    };
    match (name, given) {
        ("concat" | "map_concat", [_]) => {
            Err(Error::user("INVALID_FUNCTION_ARGUMENT", format!("there must be two or more arguments of {name}")))
        }
        ("concat", [a @ Type::Array(_), b @ Type::Array(_)]) if unknown(a) != unknown(b) => {
            Err(super::expr::ambiguous(name))
        }
        ("array_sort" | "array_max" | "array_min", [Type::Array(element), ..]) if !element.is_orderable() => {
            Err(Error::user("FUNCTION_NOT_FOUND", format!("{name} needs elements with an order, not {element}")))
        }
        ("array_join", [Type::Array(element), ..])
            if matches!(**element, Type::Array(_) | Type::Map(..) | Type::Row(_)) =>
        {
            Err(Error::user("OPERATOR_NOT_FOUND", format!("array_join needs elements that are text, not {element}")))
        }
        ("codepoint", _) if too_long(given.first(), 1) => {
            Err(Error::user("FUNCTION_NOT_FOUND", format!("codepoint takes a varchar(1), not {}", given[0])))
        }
        ("word_stem", _) if too_long(given.get(1), 2) => {
            Err(Error::user("FUNCTION_NOT_FOUND", "the language of word_stem is a varchar(2)"))
        }
        _ => Ok(()),
    }
}

/// Refuses a call with NULLs that fits several overloads of which none is the most specific.
pub(crate) fn refuse_ambiguous(udf: &ScalarUDF, given: &[Type]) -> Result<()> {
    let Some(function) = udf.inner().as_ref().downcast_ref::<ScalarFunction>() else { return Ok(()) };
    let types = arrow_types(given);
    let fitting: Vec<(Vec<Type>, Option<DataType>)> = function
        .overloads()
        .iter()
        .filter_map(|overload| {
            let applied = overload.signature.apply(&types)?;
            let result = overload.signature.result_type(&applied.bindings);
            Some((applied.arguments.iter().map(Type::from_arrow).collect(), result))
        })
        .collect();
    let reaches = |a: &Type, b: &Type| crate::types::coerces(a, b) || a.is_integer() && matches!(b, Type::Decimal(..));
    let covers = |a: &[Type], b: &[Type]| a.iter().zip(b).all(|(a, b)| reaches(a, b));
    let specific = fitting.iter().any(|(one, _)| fitting.iter().all(|(other, _)| covers(one, other)));
    let same_result = fitting.iter().all(|(_, result)| *result == fitting[0].1) && udf.name() != "json_extract_scalar";
    if fitting.len() < 2 || specific || same_result {
        return Ok(());
    }
    Err(super::expr::ambiguous(udf.name()))
}

/// The result type with the length that text has at most, where a signature of Trino's says it.
pub(crate) fn measured(name: &str, given: &[Type], result: Type) -> Type {
    let length = |index: usize| match given.get(index) {
        Some(Type::Varchar(length)) => *length,
        _ => None,
    };
    let most = match (name, given.len()) {
        (
            "lower"
            | "upper"
            | "reverse"
            | "trim"
            | "ltrim"
            | "rtrim"
            | "substr"
            | "split"
            | "split_part"
            | "json_extract_scalar"
            | "regexp_extract"
            | "regexp_extract_all"
            | "regexp_split"
            | "url_extract_host"
            | "url_extract_path"
            | "url_extract_query"
            | "url_extract_fragment"
            | "url_extract_protocol"
            | "url_extract_parameter",
            _,
        )
        | ("replace", 2) => length(0),
        ("replace", 3) => {
            length(0).zip(length(2)).and_then(|(text, with)| with.checked_mul(text + 1)?.checked_add(text))
        }
        _ => None,
    };
    match (&result, most) {
        (Type::Varchar(None), Some(most)) => Type::Varchar(Some(most)),
        (Type::Array(element), Some(most)) if **element == Type::VARCHAR => Type::array(Type::Varchar(Some(most))),
        _ => result,
    }
}
