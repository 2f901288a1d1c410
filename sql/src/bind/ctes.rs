//! Common table expressions in scope.
//!
//! Invariant: an inner WITH hides an outer one of the same name, and a table of the catalog.

use std::rc::Rc;

use datafusion::sql::sqlparser::ast;

use super::Bound;

/// What a name of WITH stands for.
#[derive(Debug, Clone)]
pub(crate) enum Meaning {
    /// A query, bound anew at each use, in the scope it was written in.
    Query { query: Box<ast::Query>, columns: Vec<ast::Ident>, scope: Ctes },
    /// A plan: a recursive query, or the working table within it.
    Plan(Box<Bound>),
}

#[derive(Debug)]
struct Entry {
    name: String,
    meaning: Meaning,
    before: Ctes,
}

/// The expressions in scope, innermost first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ctes(Option<Rc<Entry>>);

impl Ctes {
    /// These and one more.
    pub(crate) fn with(&self, name: &str, meaning: Meaning) -> Self {
        Self(Some(Rc::new(Entry { name: name.to_lowercase(), meaning, before: self.clone() })))
    }

    /// The meaning of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&Meaning> {
        let wanted = name.to_lowercase();
        let mut next = self;
        while let Some(entry) = &next.0 {
            if entry.name == wanted {
                return Some(&entry.meaning);
            }
            next = &entry.before;
        }
        None
    }

    /// Names to suggest.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut next = self;
        while let Some(entry) = &next.0 {
            names.push(entry.name.clone());
            next = &entry.before;
        }
        names
    }
}
