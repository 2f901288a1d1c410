//! What a user sees of an error: code, place, message, and what to do; and DataFusion's errors in our words.
//!
//! Invariant: an error of ours passes unchanged; one of DataFusion's gets Trino's code, and its names a suggestion.

use datafusion::{common::SchemaError, error::DataFusionError};
use headwater_engine::error::{Error, ErrorKind, Location, Result};

/// An error as it is printed: `error[CODE] line:col: message`, then the hint on its own line. Before the line stands the
/// file, if several were given.
pub fn render(error: &Error) -> String {
    let place = match (error.file(), error.location()) {
        (Some(file), Some(Location { line, column })) => format!(" {file}:{line}:{column}"),
        (None, Some(Location { line, column })) => format!(" {line}:{column}"),
        (_, None) => String::new(),
    };
    let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    format!("error[{}]{place}: {error}{hint}", error.code())
}

/// The known name closest to the one given, if any is close.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    known
        .into_iter()
        .filter_map(|candidate| likeness(&name, &candidate.to_lowercase()).map(|likeness| (likeness, candidate)))
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, candidate)| candidate)
}

/// Whether a name is another one with a letter or two wrong.
pub fn is_slip(name: &str, known: &str) -> bool {
    strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()) <= 2
}

/// How alike two names are, if enough for one to be a slip for the other.
fn likeness(name: &str, candidate: &str) -> Option<f64> {
    let slips = strsim::damerau_levenshtein(name, candidate);
    let likeness = strsim::jaro_winkler(name, candidate);
    (slips <= 1 + name.len() / 5 && slips < name.len() || likeness > 0.85).then_some(likeness)
}

/// Adds "did you mean" to an error about a name, if a known one is close.
#[must_use]
pub fn did_you_mean<'a>(error: Error, name: &str, known: impl IntoIterator<Item = &'a str>) -> Error {
    match nearest(name, known) {
        Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
        None => error,
    }
}

/// DataFusion's error with Trino's code and our wording.
pub fn classify(error: DataFusionError) -> Error {
    if let Some(ours) = Error::find_in(&error) {
        return ours.duplicate();
    }
    let at = error
        .diagnostic()
        .and_then(|diagnostic| diagnostic.span)
        .map(|span| Location { line: span.start.line, column: span.start.column });
    let classified = from_root(error.find_root(), &error);
    match at {
        Some(at) if at.line > 0 => classified.at(at),
        _ => classified,
    }
}

fn from_root(root: &DataFusionError, whole: &DataFusionError) -> Error {
    match root {
        DataFusionError::SchemaError(error, _) => from_schema_error(error),
        DataFusionError::Plan(message) => from_plan_error(message),
        DataFusionError::SQL(error, _) => Error::user("SYNTAX_ERROR", error.to_string()),
        DataFusionError::NotImplemented(message) => Error::not_supported(first_line(message)),
        DataFusionError::Execution(message) => from_execution_error(message),
        DataFusionError::ArrowError(error, _) => from_arrow_error(error),
        DataFusionError::IoError(error) => {
            // Files of the tables have errors of their own: this is the disk for rows that do not fit into memory.
            let error = Error::from(std::io::Error::new(error.kind(), error.to_string()));
            error.with_hint("rows that do not fit into memory are kept in the folder spill/ of --local-state")
        }
        DataFusionError::ResourcesExhausted(message) => {
            Error::new(ErrorKind::Limit, "EXCEEDED_MEMORY_LIMIT", first_line(message))
                .with_hint("raise 'memory.limit', or let the query keep fewer rows in memory")
        }
        DataFusionError::Internal(message) => Error::internal(first_line(message)),
        _ => Error::internal(first_line(&whole.to_string())),
    }
}

fn from_schema_error(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let found = Error::user("COLUMN_NOT_FOUND", format!("column \"{}\" cannot be resolved", field.name));
            did_you_mean(found, &field.name, valid_fields.iter().map(|valid| valid.name.as_str()))
        }
        SchemaError::AmbiguousReference { field } => {
            Error::user("AMBIGUOUS_NAME", format!("column \"{}\" is ambiguous", field.name))
                .with_hint("put the table's name or alias in front of it")
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            Error::user("DUPLICATE_COLUMN_NAME", format!("column \"{name}\" appears twice"))
        }
    }
}

fn from_plan_error(message: &str) -> Error {
    let text = first_line(message);
    let lower = text.to_lowercase();
    if lower.starts_with("table '") && lower.ends_with("not found") {
        return Error::user("TABLE_NOT_FOUND", text.replace('\'', "\""));
    }
    if lower.starts_with("invalid function") {
        let name = text.split('\'').nth(1).unwrap_or(&text).to_owned();
        let error = Error::user("FUNCTION_NOT_FOUND", format!("function \"{name}\" is not known"));
        return match message.split("Did you mean '").nth(1).and_then(|rest| rest.split('\'').next()) {
            Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
            None => error,
        };
    }
    let code = match () {
        () if lower.contains("type_coercion") || lower.contains("coerce") || lower.contains("cannot infer common") => {
            "TYPE_MISMATCH"
        }
        () if lower.contains("must appear in the group by") => "EXPRESSION_NOT_AGGREGATE",
        () => "GENERIC_USER_ERROR",
    };
    Error::user(code, text)
}

fn from_execution_error(message: &str) -> Error {
    let text = first_line(message);
    let lower = text.to_lowercase();
    if lower.contains("divide by zero") {
        return division_by_zero();
    }
    Error::user("GENERIC_USER_ERROR", text)
}

fn from_arrow_error(error: &arrow::error::ArrowError) -> Error {
    use arrow::error::ArrowError;
    match error {
        ArrowError::DivideByZero => division_by_zero(),
        ArrowError::ArithmeticOverflow(message) => Error::user("NUMERIC_VALUE_OUT_OF_RANGE", message.clone()),
        ArrowError::CastError(message) => Error::user("INVALID_CAST_ARGUMENT", message.clone()),
        ArrowError::ParseError(message) => Error::data("INVALID_CAST_ARGUMENT", message.clone()),
        ArrowError::ExternalError(source) => match source.downcast_ref::<Error>() {
            Some(ours) => ours.duplicate(),
            None => Error::internal(source.to_string()),
        },
        other => Error::internal(other.to_string()),
    }
}

fn division_by_zero() -> Error {
    Error::user("DIVISION_BY_ZERO", "division by zero").with_hint("nullif(divisor, 0) makes it NULL instead")
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

/// Turns DataFusion's errors into ours where they leave a plan.
pub trait Classify<T> {
    /// The same result with a classified error.
    fn classify(self) -> Result<T>;
}

impl<T> Classify<T> for Result<T, DataFusionError> {
    fn classify(self) -> Result<T> {
        self.map_err(classify)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_print_code_place_message_and_hint() {
        let error = Error::user("COLUMN_NOT_FOUND", "column \"x\" cannot be resolved")
            .at(Location { line: 1, column: 8 })
            .with_hint("did you mean \"y\"?");
        assert_eq!(
            render(&error),
            "error[COLUMN_NOT_FOUND] 1:8: column \"x\" cannot be resolved\nhint: did you mean \"y\"?"
        );
    }

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        assert_eq!(nearest("tiem", ["time", "name"]), Some("time"));
        assert_eq!(nearest("zzz", ["time", "name"]), None);
    }

    #[test]
    fn ours_comes_out_of_the_layers_unchanged() {
        let inner = DataFusionError::from(Error::data("HIVE_BAD_DATA", "row 3"));
        let wrapped = DataFusionError::Context("scan".into(), Box::new(inner));
        assert_eq!(classify(wrapped).code().0, "HIVE_BAD_DATA");
    }
}
