//! What a query means: from its syntax to a plan, by Trino's rules.
//!
//! ```text
//!  Query --ctes--> set operations --select--> relations -> filter -> aggregate -> having -> windows -> project -> sort
//!                                   \--expr--> expressions, coerced as Trino does, so that DataFusion changes nothing
//! ```
//!
//! Inside a plan every column has a name of its own (`name#7`), so that duplicates and unnamed columns are no problem;
//! a query's own names are beside its plan, in [`BoundQuery`].
//!
//! Invariant: an expression leaves the binder with every operand of the type its operator takes.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    sync::Arc,
};

use arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef};
use datafusion::{
    common::{Column, ScalarValue},
    execution::FunctionRegistry,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableSource},
    sql::sqlparser::ast,
};
use headwater_engine::error::{Error, Location, Result};

use crate::{
    functions::Registry,
    kernels::{self, Op},
    types::{self, Type},
};

mod aggregates;
mod calls;
mod chains;
mod composed;
mod conditions;
mod ctes;
mod expr;
pub(crate) mod flink;
mod foreign;
mod framed;
mod group_windows;
mod json_table;
mod lambdas;
mod lateral;
mod literals;
pub mod loaded;
mod marks;
mod matching;
mod operators;
mod overloads;
mod query;
mod relations;
mod reserved;
mod samples;
mod scope;
mod select;
mod setops;
mod subqueries;
mod unnest;
mod window_tables;
mod windows;
mod zones;

pub(crate) use select::subquery_of;

use ctes::Ctes;
use scope::{Context, Scope};

/// What a name in FROM stands for.
#[derive(Clone)]
pub enum Relation {
    /// A table.
    Table(Arc<dyn TableSource>),
    /// A view, by its query.
    View(Box<ast::Query>),
    /// A plan, whose columns have the names users know.
    Plan(Box<LogicalPlan>),
}

impl std::fmt::Debug for Relation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Table(source) => write!(f, "Table({:?})", source.schema().fields().len()),
            Self::View(query) => write!(f, "View({query})"),
            Self::Plan(plan) => write!(f, "Plan({})", plan.display()),
        }
    }
}

/// Finds tables and views; whatever has to be awaited was loaded before.
pub trait TableResolver {
    /// The relation of a name of one to three parts, if there is one. An error says more than "no such table".
    fn table(&self, name: &[String]) -> Result<Option<Relation>>;

    /// The relation a table function gives for its arguments (`read_json('..')`), if there is such a function.
    fn function(&self, _name: &str, _arguments: &[ast::FunctionArg]) -> Result<Option<Relation>> {
        Ok(None)
    }

    /// Names to suggest.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A column of a query's result.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputColumn {
    /// Its name; `_colN` where the query gives none.
    pub name: String,
    /// Whether the query gives it a name.
    pub is_named: bool,
    /// Its type.
    pub data_type: Type,
}

/// A query's plan and the names and types of its columns, which may repeat.
#[derive(Debug, Clone)]
pub struct BoundQuery {
    /// The plan; its column names are internal.
    pub plan: LogicalPlan,
    /// The columns in order.
    pub columns: Vec<OutputColumn>,
}

impl BoundQuery {
    /// The schema users see; two columns may have one name.
    pub fn schema(&self) -> SchemaRef {
        let fields: Vec<ArrowField> =
            self.columns.iter().map(|column| column.data_type.to_field(&column.name)).collect();
        Arc::new(Schema::new(fields))
    }

    /// The plan with the query's own names, where those differ from each other.
    pub fn named(self) -> Result<LogicalPlan> {
        let mut seen = std::collections::HashSet::new();
        let mut exprs = Vec::with_capacity(self.columns.len());
        for (column, (qualifier, field)) in self.columns.iter().zip(self.plan.schema().iter()) {
            if !seen.insert(column.name.as_str()) {
                return Err(Error::user(
                    "DUPLICATE_COLUMN_NAME",
                    format!("column name \"{}\" is given twice", column.name),
                )
                .with_hint("give one of them another name with AS"));
            }
            exprs.push(Expr::Column(Column::new(qualifier.cloned(), field.name())).alias(column.name.clone()));
        }
        Ok(LogicalPlanBuilder::from(self.plan).project(exprs)?.build()?)
    }
}

/// What the binder needs to know of its session.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// Tables and views.
    pub tables: &'a dyn TableResolver,
    /// The function library.
    pub library: &'a Registry,
    /// DataFusion's functions, for aggregates and windows that mean the same in Trino.
    pub builtin: &'a dyn FunctionRegistry,
    /// The session's time zone.
    pub zone: &'a str,
}

impl std::fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("zone", &self.zone).finish_non_exhaustive()
    }
}

/// Binds a query.
pub fn bind_query(query: &ast::Query, environment: Environment<'_>) -> Result<BoundQuery> {
    let binder = Binder { environment, types: RefCell::default(), next: Cell::new(0), depth: Cell::new(0) };
    let bound = binder.query(query, None, &Ctes::default())?;
    let visible: Vec<_> = bound.scope.fields.iter().filter(|field| !field.hidden).collect();
    let columns = visible
        .iter()
        .enumerate()
        .map(|(index, field)| OutputColumn {
            name: field.name.clone().unwrap_or_else(|| format!("_col{index}")),
            is_named: field.name.is_some(),
            data_type: field.data_type.clone(),
        })
        .collect();
    let exprs: Vec<Expr> = visible.iter().map(|field| field.expr()).collect();
    let plan = if exprs.len() == bound.plan.schema().fields().len() {
        bound.plan
    } else {
        LogicalPlanBuilder::from(bound.plan).project(exprs)?.build()?
    };
    Ok(BoundQuery { plan, columns })
}

/// Binds an expression over the columns of one table, as computed columns, watermarks and defaults need it.
/// The expression refers to the table's columns by their own names.
pub fn bind_expression(expr: &ast::Expr, table: &Schema, environment: Environment<'_>) -> Result<(Expr, Type)> {
    let binder = Binder { environment, types: RefCell::default(), next: Cell::new(0), depth: Cell::new(0) };
    let mut scope = Scope::default();
    for field in table.fields() {
        let data_type = Type::from_field(field);
        binder.types.borrow_mut().insert(field.name().clone(), data_type.clone());
        scope.fields.push(scope::Field {
            qualifier: Vec::new(),
            name: Some(field.name().clone()),
            column: field.name().clone(),
            data_type,
            hidden: false,
        });
    }
    let bound = binder.expr(expr, &Context::new(&scope, None, &Ctes::default(), "an expression"))?;
    let bound = match bound.data_type {
        // A table's column has one zone.
        Type::ZonedEach(p) => binder.convert(bound, &Type::TimestampTz(p, environment.zone.into()))?,
        _ => bound,
    };
    Ok((bound.expr, bound.data_type))
}

/// A bound relation: its plan and what its columns are called.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) plan: LogicalPlan,
    pub(crate) scope: Scope,
}

/// A bound expression.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub(crate) expr: Expr,
    pub(crate) data_type: Type,
}

impl Value {
    pub(crate) fn new(expr: Expr, data_type: Type) -> Self {
        Self { expr, data_type }
    }

    fn null(data_type: Type) -> Result<Self> {
        Ok(Self::new(Expr::Literal(ScalarValue::try_from(&data_type.to_arrow())?, None), data_type))
    }
}

/// Binds one statement.
pub(crate) struct Binder<'a> {
    pub(crate) environment: Environment<'a>,
    /// Types of the columns made so far, by their internal names.
    types: RefCell<HashMap<String, Type>>,
    next: Cell<usize>,
    depth: Cell<usize>,
}

/// How deep expressions and queries may nest.
pub(crate) const DEPTH_MAX: usize = 200;

impl Binder<'_> {
    /// A new internal name for a column of a type.
    pub(crate) fn column(&self, name: Option<&str>, data_type: &Type) -> String {
        let id = self.next.get();
        self.next.set(id + 1);
        let column = format!("{}#{id}", name.unwrap_or(""));
        self.types.borrow_mut().insert(column.clone(), data_type.clone());
        column
    }

    /// Type of an internal column.
    pub(crate) fn column_type(&self, column: &str) -> Result<Type> {
        let known = self.types.borrow().get(column).cloned();
        known.ok_or_else(|| Error::internal(format!("column {column} was never made")))
    }

    pub(crate) fn nested<T>(&self, bind: impl FnOnce() -> Result<T>) -> Result<T> {
        let depth = self.depth.get();
        if depth >= DEPTH_MAX {
            return Err(Error::user("EXCEEDED_NESTING_DEPTH", format!("the statement nests deeper than {DEPTH_MAX}")));
        }
        self.depth.set(depth + 1);
        let result = bind();
        self.depth.set(depth);
        result
    }

    /// Casts without being asked, where Trino does.
    pub(crate) fn coerce(&self, value: Value, to: &Type) -> Result<Value> {
        if !types::coerces(&value.data_type, to) {
            return Err(Error::user("TYPE_MISMATCH", format!("expected {to}, found {}", value.data_type)));
        }
        self.convert(value, to)
    }

    /// Casts between types of which one coerces to the other.
    pub(crate) fn convert(&self, value: Value, to: &Type) -> Result<Value> {
        if value.data_type == *to {
            return Ok(value);
        }
        if value.data_type == Type::Unknown {
            let folded = if matches!(value.expr, Expr::Literal(..)) {
                return Value::null(to.clone());
            } else {
                Expr::Cast(datafusion::logical_expr::Cast::new(Box::new(value.expr), to.to_arrow()))
            };
            return Ok(Value::new(folded, to.clone()));
        }
        if value.data_type.to_arrow() == to.to_arrow() && !matches!(to, Type::Char(_)) {
            return Ok(Value::new(value.expr, to.clone()));
        }
        if let Type::ZonedEach(p) = to {
            return self.with_own_zones(value, *p);
        }
        if let (Type::ZonedEach(p), Type::TimestampTz(..)) = (&value.data_type, to) {
            let instant = Type::TimestampTz(*p, "UTC".into());
            let value = Value::new(kernels::call(Op::Field(0), vec![value.expr], instant.clone()), instant);
            return self.convert(value, to);
        }
        if let (Type::Timestamp(_) | Type::Date, Type::TimestampTz(p, zone)) = (&value.data_type, to)
            && zone.as_ref() != self.environment.zone
        {
            // A wall clock without a zone is one of the session's zone, whatever zone it is shown in.
            let instant = self.cast(value, &Type::TimestampTz(*p, self.environment.zone.into()), false)?;
            return self.convert(instant, to);
        }
        let plain = match (&value.data_type, to) {
            (from, to) if from.is_integer() => to.is_numeric(),
            (Type::Real, Type::Double) | (Type::Date, Type::Timestamp(_)) => true,
            (Type::Decimal(p, s), Type::Decimal(q, t)) => {
                i16::from(*q) - i16::from(*t) >= i16::from(*p) - i16::from(*s) && t >= s
            }
            _ => false,
        };
        if plain {
            return Ok(Value::new(self.plain_cast(value.expr, to)?, to.clone()));
        }
        let op = Op::Cast { from: value.data_type, to: to.clone(), safe: false };
        Ok(Value::new(kernels::call(op, vec![value.expr], to.clone()), to.clone()))
    }

    fn plain_cast(&self, expr: Expr, to: &Type) -> Result<Expr> {
        let wanted = to.to_arrow();
        if let Expr::Literal(value, _) = &expr {
            return Ok(Expr::Literal(value.cast_to(&wanted)?, None));
        }
        Ok(Expr::Cast(datafusion::logical_expr::Cast::new(Box::new(expr), wanted)))
    }

    /// Window calls over a plan, each under its name.
    pub(crate) fn windows(&self, plan: LogicalPlan, calls: Vec<(Expr, String)>) -> Result<LogicalPlan> {
        let before: Vec<Column> = plan.schema().columns();
        let mut prepared: Vec<Expr> = before.iter().cloned().map(Expr::Column).collect();
        let mut own = Vec::with_capacity(calls.len());
        let mut names: Vec<(String, String)> = Vec::with_capacity(calls.len());
        let mut alike: Vec<(Expr, String)> = Vec::new();
        for (expr, name) in calls {
            let expr = self.beside(expr, &mut prepared)?;
            let shown = expr.schema_name().to_string();
            // What a call reads of a row, and casts, are not in the name that DataFusion gives it.
            if names.iter().any(|(known, _)| *known == shown) {
                alike.push((expr.clone(), name.clone()));
                names.push((name.clone(), name));
            } else {
                names.push((shown, name));
            }
            own.push(expr);
        }
        let groups = datafusion::logical_expr::utils::group_window_expr_by_sort_keys(own)?;
        let mut plan = if prepared.len() > before.len() { self.project(plan, prepared)? } else { plan };
        for (_, group) in groups {
            let group = group.into_iter().map(|expr| match alike.iter().find(|(known, _)| *known == expr) {
                Some((_, name)) => expr.alias(name.clone()),
                None => expr,
            });
            plan = LogicalPlanBuilder::from(plan).window(group)?.build()?;
        }
        let mut exprs: Vec<Expr> = before.into_iter().map(Expr::Column).collect();
        exprs.extend(names.into_iter().map(|(made, name)| column(&made).alias(name)));
        self.project(plan, exprs)
    }

    /// A projection that gives columns new internal names.
    pub(crate) fn project(&self, plan: LogicalPlan, exprs: Vec<Expr>) -> Result<LogicalPlan> {
        Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
    }
}

/// A reference to an internal column.
pub(crate) fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

/// A literal.
pub(crate) fn literal(value: ScalarValue) -> Expr {
    Expr::Literal(value, None)
}

/// The place of a piece of syntax, if the parser kept it.
pub(crate) fn place(node: &impl ast::Spanned) -> Option<Location> {
    let start = node.span().start;
    (start.line > 0).then_some(Location { line: start.line, column: start.column })
}

/// Adds a place to an error.
pub(crate) fn at<T>(result: Result<T>, node: &impl ast::Spanned) -> Result<T> {
    result.map_err(|error| match place(node) {
        Some(location) => error.at(location),
        None => error,
    })
}

/// Adds "did you mean" for the nearest of some names.
pub(crate) fn suggest<'n>(error: Error, wanted: &str, names: impl Iterator<Item = &'n str>) -> Error {
    let wanted = wanted.to_lowercase();
    let nearest = names
        .map(|name| (strsim::damerau_levenshtein(&wanted, &name.to_lowercase()), name))
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((distance, name)) if distance <= 1 + wanted.chars().count() / 4 && distance > 0 => {
            error.with_hint(format!("did you mean \"{name}\"?"))
        }
        _ => error,
    }
}

/// The Arrow schema of internal columns.
pub(crate) fn arrow_field(name: &str, data_type: &Type) -> (String, DataType) {
    (name.to_owned(), data_type.to_arrow())
}

#[cfg(test)]
mod tests;
