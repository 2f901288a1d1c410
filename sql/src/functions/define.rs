//! Definitions of functions as the family files write them.
//!
//! Invariant: a definition without a signature, a summary or an example does not build.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::logical_expr::{ScalarUDF, Volatility};
use headwater_engine::error::{Error, Result};

use super::{
    Callable, Example, Family, Function,
    scalar::{Kernel, Overload, ResultType, ScalarFunction},
    signature::Signature,
};

/// A scalar function being written down.
#[derive(Debug)]
pub struct Definition {
    name: &'static str,
    aliases: &'static [&'static str],
    family: Family,
    summary: &'static str,
    example: Option<Example>,
    overloads: Vec<(&'static str, Option<ResultType>, KernelBox)>,
    volatility: Volatility,
    is_clock: bool,
}

struct KernelBox(Kernel);

impl std::fmt::Debug for KernelBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("kernel")
    }
}

/// Starts a scalar function.
pub fn scalar(family: Family, name: &'static str, summary: &'static str) -> Definition {
    Definition {
        name,
        aliases: &[],
        family,
        summary,
        example: None,
        overloads: Vec::new(),
        volatility: Volatility::Immutable,
        is_clock: false,
    }
}

impl Definition {
    /// Other names of the function.
    #[must_use]
    pub fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// A signature and its kernel.
    #[must_use]
    pub fn on(mut self, signature: &'static str, kernel: Kernel) -> Self {
        self.overloads.push((signature, None, KernelBox(kernel)));
        self
    }

    /// A signature whose result type is decided by a function.
    #[must_use]
    pub fn on_typed(mut self, signature: &'static str, result: ResultType, kernel: Kernel) -> Self {
        self.overloads.push((signature, Some(result), KernelBox(kernel)));
        self
    }

    /// Each row gets a value of its own (random numbers), or a value fixed per query (the session's).
    #[must_use]
    pub fn volatility(mut self, volatility: Volatility) -> Self {
        self.volatility = volatility;
        self
    }

    /// The value is fixed per query, and per batch of a job.
    #[must_use]
    pub fn of_the_clock(mut self) -> Self {
        self.is_clock = true;
        // To a planner that does not know the query's time.
        self.volatility(Volatility::Volatile)
    }

    /// A statement and what it answers; ends the definition.
    #[must_use]
    pub fn example(mut self, statement: &'static str, result: &'static str) -> Self {
        self.example = Some(Example { statement, result });
        self
    }

    /// The function.
    pub fn build(self) -> Result<Function> {
        let name = self.name;
        let example = self.example.ok_or_else(|| Error::internal(format!("function {name} has no example")))?;
        let signatures = self.overloads.iter().map(|(text, ..)| *text).collect();
        let overloads = self
            .overloads
            .into_iter()
            .map(|(text, result, kernel)| Ok(Overload { signature: Signature::parse(text)?, result, kernel: kernel.0 }))
            .collect::<Result<Vec<_>>>()?;
        let function = ScalarFunction::new(name, self.aliases, overloads, self.volatility, self.is_clock);
        let shared = Arc::new(function.clone());
        Ok(Function {
            name,
            aliases: self.aliases,
            family: self.family,
            signatures,
            summary: self.summary,
            example,
            callable: Callable::Scalar(shared, Arc::new(ScalarUDF::new_from_impl(function))),
        })
    }
}

/// Builds the definitions of a family.
pub fn build(definitions: Vec<Definition>) -> Result<Vec<Function>> {
    definitions.into_iter().map(Definition::build).collect()
}

/// The result has the type of the first argument.
pub fn like_first(typing: &super::scalar::Typing<'_>) -> Result<DataType> {
    like(typing, 0)
}

/// The result has the type of the second argument.
pub fn like_second(typing: &super::scalar::Typing<'_>) -> Result<DataType> {
    like(typing, 1)
}

/// The result has the type of the third argument.
pub fn like_third(typing: &super::scalar::Typing<'_>) -> Result<DataType> {
    like(typing, 2)
}

fn like(typing: &super::scalar::Typing<'_>, index: usize) -> Result<DataType> {
    let given = typing.arguments.get(index).cloned();
    given.ok_or_else(|| Error::internal(format!("argument {index} decides the type and is missing")))
}
