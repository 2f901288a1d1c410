//! Operators that follow one another: `a + b - c ..`, `a || b || ..`.
//!
//! Invariant: a chain is bound without a call for each of its links, and what is computed of many stands no deeper in one
//! another than planning can bear.

use datafusion::sql::sqlparser::ast;
use headwater_engine::error::{Error, Result};

use super::{Binder, DEPTH_MAX, Value, at, scope::Context};
use crate::{kernels::Arithmetic, types::Type};

impl Binder<'_> {
    /// `a + b - c ..`, from the left, however long it is.
    pub(crate) fn chained(&self, node: &ast::Expr, context: &Context<'_>) -> Result<Value> {
        let (mut links, mut first): (Vec<Link<'_>>, _) = (Vec::new(), node);
        while let ast::Expr::BinaryOp { left, op, right } = first
            && let Some(computation) = computation(op)
        {
            links.push((first, computation, right.as_ref()));
            first = left;
        }
        let mut value = self.expr(first, context)?;
        let mut bound = Vec::new();
        if links.len() > IN_A_LINE_MAX {
            bound = links.iter().rev().map(|(.., right)| self.expr(right, context)).collect::<Result<Vec<_>>>()?;
            if is_text(&value, &links, &bound) {
                bound.insert(0, value);
                return self.concat_texts(bound);
            }
        }
        if links.len() > DEPTH_MAX {
            return Err(too_long(&links));
        }
        let mut bound = bound.into_iter();
        for (whole, computation, right) in links.into_iter().rev() {
            let right = bound.next().map_or_else(|| self.expr(right, context), Ok)?;
            let made = match computation {
                Computation::Arithmetic(kind) => self.arithmetic(kind, value, right),
                Computation::Concat => self.concat(value, right),
            };
            value = at(made, whole)?;
        }
        Ok(value)
    }

    /// Texts joined, as a tree that is no deeper than it must be.
    fn concat_texts(&self, mut texts: Vec<Value>) -> Result<Value> {
        let later = texts.split_off(texts.len() / 2);
        match (texts.len(), later.len()) {
            (0, _) => later.into_iter().next().ok_or_else(|| Error::internal("a text is missing")),
            _ => self.concat(self.concat_texts(texts)?, self.concat_texts(later)?),
        }
    }
}

/// Operators of a chain that stand in one another; of joined texts more are a tree that is less deep.
const IN_A_LINE_MAX: usize = 16;

/// Whether a chain joins texts, or bytes, which are the same in whatever order they are joined.
fn is_text(first: &Value, links: &[Link<'_>], rights: &[Value]) -> bool {
    let all = |is: fn(&Type) -> bool| is(&first.data_type) && rights.iter().all(|right| is(&right.data_type));
    links.iter().all(|(_, computation, _)| matches!(computation, Computation::Concat))
        && (all(|of| matches!(of, Type::Varchar(_)))
            || all(|of| matches!(of, Type::Char(_)))
            || all(|of| matches!(of, Type::Varbinary)))
}

fn too_long(links: &[Link<'_>]) -> Error {
    let concat = links.iter().all(|(_, computation, _)| matches!(computation, Computation::Concat));
    let (what, hint) = match concat {
        true => ("'||'", "join an array of them with array_join, or arrays with flatten"),
        false => ("arithmetic", "add up an array with reduce, or rows with sum"),
    };
    let message = format!("more than {DEPTH_MAX} operators of {what} follow one another");
    Error::user("EXCEEDED_NESTING_DEPTH", message).with_hint(hint)
}

/// An operator of a chain: its node, what it computes and its right side.
type Link<'n> = (&'n ast::Expr, Computation, &'n ast::Expr);

/// What an operator computes of its two sides.
pub(crate) enum Computation {
    Arithmetic(Arithmetic),
    Concat,
}

/// What an operator computes, if it is no comparison.
pub(crate) fn computation(op: &ast::BinaryOperator) -> Option<Computation> {
    use ast::BinaryOperator as B;
    Some(Computation::Arithmetic(match op {
        B::Plus => Arithmetic::Add,
        B::Minus => Arithmetic::Subtract,
        B::Multiply => Arithmetic::Multiply,
        B::Divide => Arithmetic::Divide,
        B::Modulo => Arithmetic::Modulus,
        B::StringConcat => return Some(Computation::Concat),
        _ => return None,
    }))
}
