//! Names of operators' calls in a plan: what is written of calls that stand in one another, or a number.
//!
//! Planning asks for the name of every part of an expression many times; of a long chain each would be long.
//!
//! Invariant: a name takes no longer to make for a deep call than for a shallow one, and calls that differ differ in it.

use std::hash::{DefaultHasher, Hash, Hasher};

use datafusion::{
    common::tree_node::{TreeNode, TreeNodeRecursion},
    logical_expr::Expr,
};

use super::{Op, OpCall};

/// Calls in one another whose names are written out.
const WRITTEN_DEPTH_MAX: usize = 8;

/// How many calls stand in one another in a call, and its number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    depth: usize,
    id: u64,
}

impl Place {
    pub(super) fn of(op: &Op, args: &[Expr]) -> Self {
        let mut hasher = DefaultHasher::new();
        op.hash(&mut hasher);
        let mut depth = 0;
        for arg in args {
            match place_of(arg) {
                Some(place) => place.id.hash(&mut hasher),
                None => arg.hash(&mut hasher),
            }
            let _ = arg.apply(|node| {
                let Some(place) = place_of(node) else { return Ok(TreeNodeRecursion::Continue) };
                depth = depth.max(place.depth);
                Ok(TreeNodeRecursion::Jump)
            });
        }
        Self { depth: depth + 1, id: hasher.finish() }
    }

    /// The name of a call with these arguments.
    pub(super) fn name(self, op: &str, args: &[Expr]) -> String {
        if self.depth > WRITTEN_DEPTH_MAX {
            return format!("{op}#{:x}", self.id);
        }
        let args: Vec<String> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        format!("{op}({})", args.join(","))
    }
}

fn place_of(expr: &Expr) -> Option<Place> {
    let Expr::ScalarFunction(function) = expr else { return None };
    function.func.inner().as_ref().downcast_ref::<OpCall>().map(|call| call.place)
}
