//! Names in scope, and how a name finds its column.
//!
//! Invariant: names are compared without case, in quotes too; two columns that fit make the name ambiguous.

use std::cell::RefCell;

use datafusion::{common::Column, logical_expr::Expr, sql::sqlparser::ast::Ident};
use headwater_engine::error::{Error, Location, Result};

use super::{Binder, Value, ctes::Ctes, marks::Laterals, suggest};
use crate::{
    kernels::{self, Op},
    types::Type,
};

/// A column in scope.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// The relation's name: its alias, or catalog, schema and table.
    pub(crate) qualifier: Vec<String>,
    pub(crate) name: Option<String>,
    /// Its internal name in the plan.
    pub(crate) column: String,
    pub(crate) data_type: Type,
    /// Not part of `*`.
    pub(crate) hidden: bool,
}

impl Field {
    pub(crate) fn expr(&self) -> Expr {
        Expr::Column(Column::new_unqualified(&self.column))
    }

    pub(crate) fn value(&self) -> Value {
        Value::new(self.expr(), self.data_type.clone())
    }

    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.name.as_deref().is_some_and(|own| own.to_lowercase() == name.to_lowercase())
    }

    /// Whether the relation may be written as these parts.
    pub(crate) fn is_of(&self, parts: &[Ident]) -> bool {
        parts.len() <= self.qualifier.len()
            && self
                .qualifier
                .iter()
                .rev()
                .zip(parts.iter().rev())
                .all(|(own, part)| own.to_lowercase() == part.value.to_lowercase())
    }
}

/// The columns of a relation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    pub(crate) fields: Vec<Field>,
}

/// Aggregates, groupings and window calls found while expressions are bound.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// Call, column and type of each aggregate.
    pub(crate) aggregates: Vec<(Expr, String, Type)>,
    /// Call, column and type of each window function.
    pub(crate) windows: Vec<(Expr, String, Type)>,
    /// Arguments and column of each `grouping(..)`.
    pub(crate) groupings: Vec<(Vec<Expr>, String)>,
}

/// Where an expression stands.
#[derive(Clone, Copy)]
pub(crate) struct Context<'c> {
    pub(crate) scope: &'c Scope,
    /// The query around, whose columns a subquery may use.
    pub(crate) outer: Option<&'c Context<'c>>,
    pub(crate) ctes: &'c Ctes,
    /// Lambda parameters, innermost last.
    pub(crate) parameters: &'c [Field],
    /// Names of the select list that ORDER BY may use.
    pub(crate) aliases: &'c [(String, Value)],
    /// Where aggregates and windows go; `None` where there may be none.
    pub(crate) collected: Option<&'c RefCell<Collected>>,
    /// Where subqueries go that have to be joined to the rows.
    pub(crate) laterals: Option<&'c Laterals>,
    /// Named windows.
    pub(crate) windows: &'c [(String, datafusion::sql::sqlparser::ast::WindowSpec)],
    /// Whether this is inside an aggregate's or a window function's arguments.
    pub(crate) inside: Inside,
    /// What the user calls this place.
    pub(crate) place: &'c str,
    /// Whether the expression is part of a filter, where DataFusion plans subqueries as joins.
    pub(crate) filter: bool,
    /// Whether it is one of the conditions that all must hold there, so that NULL means the same as false.
    pub(crate) conjunct: bool,
    /// The place within MATCH_RECOGNIZE.
    pub(crate) matching: Option<&'c super::matching::Here<'c>>,
}

/// Which call an expression is an argument of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inside {
    /// None.
    Nothing,
    /// An aggregate.
    Aggregate,
    /// A window function.
    Window,
}

impl<'c> Context<'c> {
    pub(crate) fn new(scope: &'c Scope, outer: Option<&'c Context<'c>>, ctes: &'c Ctes, place: &'c str) -> Self {
        Self {
            scope,
            outer,
            ctes,
            parameters: &[],
            aliases: &[],
            collected: None,
            laterals: None,
            windows: &[],
            inside: Inside::Nothing,
            place,
            filter: false,
            conjunct: false,
            matching: None,
        }
    }

    pub(crate) fn filtering(mut self) -> Self {
        (self.filter, self.conjunct) = (true, true);
        self
    }

    pub(crate) fn joining(mut self, laterals: &'c Laterals) -> Self {
        self.laterals = Some(laterals);
        self
    }

    pub(crate) fn collecting(mut self, collected: &'c RefCell<Collected>) -> Self {
        self.collected = Some(collected);
        self
    }
}

/// Where a name was found.
struct Found<'c> {
    field: &'c Field,
    is_outer: bool,
}

impl Binder<'_> {
    /// A name of one part.
    pub(crate) fn identifier(&self, ident: &Ident, context: &Context<'_>) -> Result<Value> {
        self.compound(std::slice::from_ref(ident), context)
    }

    /// A name of several parts: a column, with or without its relation, then fields of rows.
    pub(crate) fn compound(&self, parts: &[Ident], context: &Context<'_>) -> Result<Value> {
        if let Some(here) = context.matching {
            return self.matched_column(parts, here, context);
        }
        if let [only] = parts
            && let Some(value) = alias(only, context)?
        {
            return Ok(value);
        }
        let Some((found, used)) = find_prefix(parts, context)? else {
            return Err(not_found(parts, context));
        };
        let mut value = found.field.value();
        if found.is_outer {
            let field = found.field.data_type.to_field(&found.field.column);
            value.expr = Expr::OuterReferenceColumn(field.into(), Column::new_unqualified(&found.field.column));
        }
        for part in parts.iter().skip(used) {
            value = self.dereference(value, part)?;
        }
        Ok(value)
    }

    /// `row.field`
    pub(crate) fn dereference(&self, value: Value, name: &Ident) -> Result<Value> {
        let Type::Row(fields) = &value.data_type else {
            return Err(located(
                Error::user("TYPE_MISMATCH", format!("expression is of type {}, which has no fields", value.data_type)),
                name,
            ));
        };
        let wanted = name.value.to_lowercase();
        let mut fits = fields
            .iter()
            .enumerate()
            .filter(|(_, (own, _))| own.as_deref().is_some_and(|own| own.to_lowercase() == wanted));
        let (Some((index, (_, inner))), another) = (fits.next(), fits.next()) else {
            let error = Error::user("INVALID_COLUMN_REFERENCE", format!("row has no field \"{}\"", name.value));
            let names = fields.iter().filter_map(|(own, _)| own.as_deref());
            return Err(located(suggest(error, &name.value, names), name));
        };
        if another.is_some() {
            return Err(located(Error::user("AMBIGUOUS_NAME", format!("row has two fields \"{}\"", name.value)), name));
        }
        let inner = inner.clone();
        Ok(Value::new(kernels::call(Op::Field(index), vec![value.expr], inner.clone()), inner))
    }
}

fn alias(ident: &Ident, context: &Context<'_>) -> Result<Option<Value>> {
    let wanted = ident.value.to_lowercase();
    let mut fits = context.aliases.iter().filter(|(name, _)| name.to_lowercase() == wanted).map(|(_, value)| value);
    let Some(first) = fits.next() else { return Ok(None) };
    if fits.next().is_some() {
        return Err(located(Error::user("AMBIGUOUS_NAME", format!("column \"{}\" is ambiguous", ident.value)), ident));
    }
    Ok(Some(first.clone()))
}

/// The longest prefix of the parts that names a column, and how many parts it took.
fn find_prefix<'c>(parts: &[Ident], context: &Context<'c>) -> Result<Option<(Found<'c>, usize)>> {
    if let Some(first) = parts.first()
        && let Some(field) = context.parameters.iter().rev().find(|field| field.is_named(&first.value))
    {
        return Ok(Some((Found { field, is_outer: false }, 1)));
    }
    let mut next = Some(context);
    let mut is_outer = false;
    while let Some(context) = next {
        for used in (1..=parts.len()).rev() {
            let Some((name, qualifier)) = parts[..used].split_last() else { continue };
            let mut fits = context
                .scope
                .fields
                .iter()
                .filter(|field| field.is_named(&name.value) && (qualifier.is_empty() || field.is_of(qualifier)));
            let Some(field) = fits.next() else { continue };
            if fits.next().is_some() {
                return Err(located(
                    Error::user("AMBIGUOUS_NAME", format!("column \"{}\" is ambiguous", name.value)),
                    name,
                ));
            }
            return Ok(Some((Found { field, is_outer }, used)));
        }
        next = context.outer;
        is_outer = true;
    }
    Ok(None)
}

fn not_found(parts: &[Ident], context: &Context<'_>) -> Error {
    let written = parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join(".");
    let error = Error::user("COLUMN_NOT_FOUND", format!("column \"{written}\" cannot be resolved"));
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return error };
    if let Some(reserved) = parts.iter().find_map(|part| super::reserved::check(part).err()) {
        return reserved;
    }
    let names = context.scope.fields.iter().filter_map(|field| field.name.as_deref());
    located(suggest(error, &last.value, names), first)
}

/// Adds the place of a name.
pub(crate) fn located(error: Error, ident: &Ident) -> Error {
    let start = ident.span.start;
    if start.line == 0 { error } else { error.at(Location { line: start.line, column: start.column }) }
}
