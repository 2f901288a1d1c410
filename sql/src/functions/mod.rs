//! The function library: Trino's functions by name, with their documentation and what computes them.
//!
//! ```text
//!  signature text --parse--> overloads --choose (by type, with coercion)--> kernel over Arrow arrays
//! ```
//!
//! Invariant: what a name means is decided here alone. A DataFusion function that differs from Trino's is replaced
//! under its name; one without a Trino counterpart is not in the registry.

use std::{collections::HashMap, sync::Arc};

use datafusion::{
    execution::FunctionRegistry,
    logical_expr::{AggregateUDF, ScalarUDF, WindowUDF},
    prelude::SessionContext,
};
use headwater_engine::error::Result;

pub mod array;
pub mod binary;
pub mod bound;
pub mod coercion;
pub mod color;
pub mod column;
pub mod datetime;
pub mod define;
pub mod higher;
pub mod json;
pub mod kernel;
pub mod lambda;
pub mod map;
pub mod math;
pub mod nested;
pub mod regexp;
pub mod scalar;
pub mod session;
pub mod signature;
pub mod sketch;
mod spooky;
pub mod string;
pub mod url;

use scalar::ScalarFunction;

/// The family of a function, which is also the chapter of the reference it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// JSON text and paths.
    Json,
    /// Dates, times, zones and intervals.
    DateTime,
    /// Text.
    String,
    /// Regular expressions.
    Regexp,
    /// URLs.
    Url,
    /// Bytes, encodings and hashes.
    Binary,
    /// Numbers.
    Math,
    /// Types, comparison and the session.
    Conditional,
    /// Arrays.
    Array,
    /// Maps.
    Map,
    /// Functions that take lambdas.
    Lambda,
    /// Aggregates.
    Aggregate,
    /// Window functions.
    Window,
}

/// What computes a function.
#[derive(Debug, Clone)]
pub enum Callable {
    /// A value of each row.
    Scalar(Arc<ScalarFunction>, Arc<ScalarUDF>),
    /// A value of a group.
    Aggregate(Arc<AggregateUDF>),
    /// A value of a row among others.
    Window(Arc<WindowUDF>),
    /// A value of each row, of arguments with lambdas among them; made for each call by the binder.
    Higher(Arc<dyn lambda::Higher>),
}

/// A statement and what it answers.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// The statement.
    pub statement: &'static str,
    /// Its one value, as text.
    pub result: &'static str,
}

/// A function of the library.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its name, in lower case.
    pub name: &'static str,
    /// Other names of it.
    pub aliases: &'static [&'static str],
    /// Where it stands in the reference.
    pub family: Family,
    /// Its signatures.
    pub signatures: Vec<&'static str>,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// How it is used.
    pub example: Example,
    /// What computes it.
    pub callable: Callable,
}

/// All functions by name and alias.
#[derive(Debug, Clone)]
pub struct Registry {
    functions: Vec<Arc<Function>>,
    by_name: HashMap<&'static str, usize>,
}

impl Registry {
    /// The function of a name, which is compared without case.
    pub fn get(&self, name: &str) -> Option<&Arc<Function>> {
        let index = match self.by_name.get(name) {
            Some(index) => index,
            None => self.by_name.get(name.to_lowercase().as_str())?,
        };
        self.functions.get(*index)
    }

    /// All functions, in the order of the reference.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Function>> {
        self.functions.iter()
    }

    /// Makes the library's functions known to a DataFusion session, in place of its own of the same names.
    pub fn register(&self, context: &SessionContext) -> Result<()> {
        let state = context.state_ref();
        let mut state = state.write();
        for function in &self.functions {
            match &function.callable {
                Callable::Scalar(_, udf) => drop(state.register_udf(udf.clone())?),
                Callable::Aggregate(udaf) => drop(state.register_udaf(udaf.clone())?),
                Callable::Window(udwf) => drop(state.register_udwf(udwf.clone())?),
                Callable::Higher(_) => {}
            }
        }
        Ok(())
    }
}

/// The families, in the order of the reference.
const FAMILIES: &[fn() -> Result<Vec<Function>>] = &[
    json::functions,
    datetime::functions,
    math::functions,
    regexp::functions,
    string::functions,
    array::functions,
    map::functions,
    higher::functions,
    binary::functions,
    url::functions,
    sketch::functions,
    color::functions,
    session::functions,
];

/// The one registry of the process: it never changes once built.
pub fn library() -> Result<&'static Registry> {
    static LIBRARY: std::sync::LazyLock<Result<Registry>> = std::sync::LazyLock::new(registry);
    LIBRARY.as_ref().map_err(headwater_engine::error::Error::duplicate)
}

/// Builds the registry.
pub fn registry() -> Result<Registry> {
    let mut functions: Vec<Arc<Function>> = Vec::new();
    for family in FAMILIES {
        functions.extend(family()?.into_iter().map(Arc::new));
    }
    let mut by_name = HashMap::new();
    for (index, function) in functions.iter().enumerate() {
        by_name.insert(function.name, index);
        by_name.extend(function.aliases.iter().map(|&alias| (alias, index)));
    }
    Ok(Registry { functions, by_name })
}

#[cfg(test)]
mod tests;
