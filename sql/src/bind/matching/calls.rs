//! Columns and calls within MATCH_RECOGNIZE: navigation, classifier, match number, aggregates.
//!
//! Invariant: what one navigation or aggregate takes in is of rows with the same labels.

use std::{cell::RefCell, sync::Arc};

use arrow::{
    compute::SortOptions,
    datatypes::{Field as ArrowField, Schema},
};
use datafusion::{
    common::ScalarValue,
    logical_expr::{Expr, expr::NullTreatment},
    physical_expr::{
        PhysicalExpr, PhysicalSortExpr,
        aggregate::AggregateExprBuilder,
        expressions::{Column, lit},
    },
    sql::sqlparser::ast::{self, FunctionArg, FunctionArgExpr, FunctionArguments},
};
use headwater_engine::error::{Error, Result};

use super::{Here, Labels, Within};
use crate::{
    bind::{
        Binder, Value, column,
        scope::{Collected, Context},
    },
    functions::lambda::Closed,
    matching::{Aggregate, Anchor, Navigation, Slot, SlotKind},
    types::Type,
};

fn invalid_nesting(name: &str) -> Error {
    Error::user("INVALID_NAVIGATION_NESTING", format!("cannot nest {name} pattern navigation function here"))
}

fn arguments(function: &ast::Function) -> &[FunctionArg] {
    match &function.args {
        FunctionArguments::List(list) => &list.args,
        _ => &[],
    }
}

fn name_of(function: &ast::Function) -> String {
    function
        .name
        .0
        .last()
        .and_then(ast::ObjectNamePart::as_ident)
        .map(|ident| ident.value.to_lowercase())
        .unwrap_or_default()
}

fn plain_argument(argument: Option<&FunctionArg>) -> Option<&ast::Expr> {
    match argument {
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(node))) => Some(node),
        _ => None,
    }
}

/// The label and the call of `count(A.*)`: without its argument.
fn labelled_star(function: &ast::Function) -> Option<(ast::Ident, ast::Function)> {
    let [FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(name))] = arguments(function) else { return None };
    let label = name.0.last().and_then(ast::ObjectNamePart::as_ident)?.clone();
    let mut call = function.clone();
    if let FunctionArguments::List(list) = &mut call.args {
        list.args.clear();
    }
    Some((label, call))
}

impl Binder<'_> {
    /// A column of the input, at the row this place means.
    pub(crate) fn matched_column(&self, parts: &[ast::Ident], here: &Here<'_>, context: &Context<'_>) -> Result<Value> {
        let mut labels = Labels::new();
        let mut rest = parts;
        if let [first, after @ ..] = parts
            && !after.is_empty()
            && let Some(known) = here.of.labels_of(first)
        {
            (labels, rest) = (known, after);
        }
        let plain = Context { matching: None, outer: None, ..*context };
        let value = self.compound(rest, &plain)?;
        if let Some(used) = here.used {
            used.borrow_mut().push(labels.clone());
        }
        if here.inside == Within::Aggregate {
            return Ok(value);
        }
        // A field of a row is taken from the slot of the whole row.
        let expr = crate::bind::select::replace(value.expr, &|node| match node {
            Expr::Column(found) => {
                let kind = SlotKind::Column(found.name.clone(), self.navigation(here, labels.clone()));
                self.column_type(&found.name).ok().map(|data_type| column(&self.slot(here, kind, data_type)))
            }
            _ => None,
        })?;
        Ok(Value::new(expr, value.data_type))
    }

    fn navigation(&self, here: &Here<'_>, labels: Labels) -> Navigation {
        Navigation { labels, anchor: here.anchor, offset: here.offset, physical: here.physical, whole: here.whole }
    }

    /// The column that stands for a slot.
    fn slot(&self, here: &Here<'_>, kind: SlotKind, data_type: Type) -> String {
        let mut slots = here.of.slots.borrow_mut();
        if let Some((name, _)) = slots.iter().find(|(_, slot)| slot.kind == kind) {
            return name.clone();
        }
        let name = self.column(Some("slot"), &data_type);
        slots.push((name.clone(), Slot { kind, data_type }));
        name
    }

    /// A call that means something of its own in the clause; `None`: an ordinary function.
    pub(crate) fn matched_call(
        &self,
        function: &ast::Function,
        here: &Here<'_>,
        context: &Context<'_>,
    ) -> Result<Option<Value>> {
        let name = name_of(function);
        if function.over.is_some() {
            return Err(Error::user("NESTED_WINDOW", "cannot nest window functions inside pattern recognition"));
        }
        if arguments(function).iter().any(|arg| matches!(plain_argument(Some(arg)), Some(ast::Expr::Lambda(_)))) {
            return Err(Error::not_supported("lambdas in pattern recognition are not supported"));
        }
        Ok(Some(match name.as_str() {
            "$final" | "$running" => self.processed(function, name == "$final", here, context)?,
            "first" | "last" => self.first_or_last(function, name == "first", here, context)?,
            "prev" | "next" => self.prev_or_next(function, name == "next", here, context)?,
            "classifier" => self.classifier(function, here)?,
            "match_number" if !arguments(function).is_empty() => {
                return Err(Error::user("INVALID_FUNCTION_ARGUMENT", "MATCH_NUMBER takes no arguments"));
            }
            "match_number" if here.inside == Within::Aggregate => Value::new(column(&here.of.number), Type::Bigint),
            "match_number" => Value::new(column(&self.slot(here, SlotKind::MatchNumber, Type::Bigint)), Type::Bigint),
            _ if self.is_aggregate(&name) => self.matched_aggregate(function, here, context)?,
            _ => return Ok(None),
        }))
    }

    fn processed(
        &self,
        function: &ast::Function,
        whole: bool,
        here: &Here<'_>,
        context: &Context<'_>,
    ) -> Result<Value> {
        let Some(ast::Expr::Function(call)) = plain_argument(arguments(function).first()) else {
            return Err(Error::internal("FINAL and RUNNING stand before a call"));
        };
        let name = name_of(call);
        let refused = |message: String| Err(Error::user("INVALID_PROCESSING_MODE", message));
        if !matches!(name.as_str(), "first" | "last") && !self.is_aggregate(&name) {
            return refused(format!("FINAL and RUNNING are not supported with {name}"));
        }
        if whole && here.define {
            return refused("FINAL semantics is not supported in DEFINE clause".into());
        }
        let inner = Here { whole, ..*here };
        let value = self.matched_call(call, &inner, &Context { matching: Some(&inner), ..*context })?;
        value.ok_or_else(|| Error::internal("FINAL and RUNNING stand before an aggregate"))
    }

    /// The distance of a navigation: a literal.
    fn distance(&self, function: &ast::Function, default: usize) -> Result<usize> {
        let invalid = |message: &str| Error::user("INVALID_FUNCTION_ARGUMENT", message.to_owned());
        match arguments(function) {
            [_] => Ok(default),
            [_, second] => {
                let node = plain_argument(Some(second));
                if let Some(ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr }) = node
                    && super::super::query::ordinal(expr).is_some()
                {
                    let message = "a pattern navigation function's offset must not be negative";
                    return Err(Error::user("NUMERIC_VALUE_OUT_OF_RANGE", message));
                }
                let offset =
                    node.and_then(super::super::query::ordinal).and_then(|offset| usize::try_from(offset).ok());
                offset.ok_or_else(|| invalid("a pattern navigation function's offset must be a number written out"))
            }
            _ => Err(invalid("a pattern navigation function takes one or two arguments")),
        }
    }

    fn first_or_last(
        &self,
        function: &ast::Function,
        first: bool,
        here: &Here<'_>,
        context: &Context<'_>,
    ) -> Result<Value> {
        if here.inside != Within::Nothing {
            return Err(invalid_nesting(if first { "FIRST" } else { "LAST" }));
        }
        let offset = self.distance(function, 0)?;
        let anchor = if first { Anchor::First } else { Anchor::Last };
        // As in Trino, FIRST finds rows after the current one too.
        let inner = Here { anchor, offset, inside: Within::Logical, whole: here.whole || first, ..*here };
        self.navigated(function, inner, context)
    }

    fn prev_or_next(
        &self,
        function: &ast::Function,
        next: bool,
        here: &Here<'_>,
        context: &Context<'_>,
    ) -> Result<Value> {
        if here.inside != Within::Nothing {
            return Err(invalid_nesting(if next { "NEXT" } else { "PREV" }));
        }
        let distance = self.distance(function, 1)? as i64;
        let physical = if next { distance } else { -distance };
        if let Some(ast::Expr::Function(call)) = plain_argument(arguments(function).first()) {
            let name = name_of(call);
            if matches!(name.as_str(), "first" | "last" | "$final" | "$running") {
                let inner = Here { physical, ..*here };
                let context = Context { matching: Some(&inner), ..*context };
                let value = self.matched_call(call, &inner, &context)?;
                return value.ok_or_else(|| Error::internal("FIRST and LAST give a value"));
            }
        }
        self.navigated(function, Here { physical, inside: Within::Physical, ..*here }, context)
    }

    fn navigated(&self, function: &ast::Function, inner: Here<'_>, context: &Context<'_>) -> Result<Value> {
        let Some(node) = plain_argument(arguments(function).first()) else {
            return Err(Error::user("INVALID_FUNCTION_ARGUMENT", "a pattern navigation function takes an expression"));
        };
        let used = RefCell::new(Vec::new());
        let inner = Here { used: Some(&used), ..inner };
        let value = self.expr(node, &Context { matching: Some(&inner), ..*context })?;
        let used = used.into_inner();
        if used.is_empty() {
            let message = "a pattern navigation function must contain at least one column reference or CLASSIFIER()";
            return Err(Error::user("INVALID_ARGUMENTS", message));
        }
        same_labels(used)?;
        Ok(value)
    }

    fn classifier(&self, function: &ast::Function, here: &Here<'_>) -> Result<Value> {
        let invalid = |message: &str| Err(Error::user("INVALID_FUNCTION_ARGUMENT", message.to_owned()));
        let labels = match arguments(function) {
            [] => Labels::new(),
            [one] => match plain_argument(Some(one)) {
                Some(ast::Expr::Identifier(name)) => match here.of.labels_of(name) {
                    Some(labels) => labels,
                    None => return invalid("the argument of CLASSIFIER must be a primary or union pattern variable"),
                },
                _ => return Err(Error::user("TYPE_MISMATCH", "CLASSIFIER takes a pattern variable")),
            },
            _ => return invalid("CLASSIFIER takes no or one argument"),
        };
        if let Some(used) = here.used {
            used.borrow_mut().push(labels.clone());
        }
        if here.inside == Within::Aggregate {
            return Ok(Value::new(column(&here.of.classifier), Type::VARCHAR));
        }
        let kind = SlotKind::Classifier(self.navigation(here, labels));
        Ok(Value::new(column(&self.slot(here, kind, Type::VARCHAR)), Type::VARCHAR))
    }

    fn matched_aggregate(&self, function: &ast::Function, here: &Here<'_>, context: &Context<'_>) -> Result<Value> {
        let name = name_of(function);
        if here.inside != Within::Nothing {
            let message = format!("cannot nest aggregation {name} here");
            return Err(Error::user("NESTED_AGGREGATION", message));
        }
        let clauses = match &function.args {
            FunctionArguments::List(list) => {
                list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct) || !list.clauses.is_empty()
            }
            _ => false,
        };
        if clauses || function.filter.is_some() || !function.within_group.is_empty() {
            let message = "DISTINCT, ORDER BY and FILTER are not supported for aggregates in pattern recognition";
            return Err(Error::not_supported(message).with_hint("use CASE inside the call"));
        }
        let (used, collected) = (RefCell::new(Vec::new()), RefCell::new(Collected::default()));
        let inner = Here { inside: Within::Aggregate, used: Some(&used), ..*here };
        let context = Context { matching: Some(&inner), collected: Some(&collected), ..*context };
        let value = match labelled_star(function) {
            Some((label, call)) => {
                let Some(labels) = here.of.labels_of(&label) else {
                    let message = format!("{} is not a primary or union pattern variable", label.value);
                    return Err(Error::user("COLUMN_NOT_FOUND", message));
                };
                used.borrow_mut().push(labels);
                self.plain_call(&call, &context)?
            }
            None => self.plain_call(function, &context)?,
        };
        let labels = same_labels(used.into_inner())?;
        for (expr, name, data_type) in collected.into_inner().aggregates {
            let aggregate = self.physical_aggregate(&expr, here)?;
            let mut known = here.of.aggregates.borrow_mut();
            known.push(aggregate);
            let kind = SlotKind::Aggregate(known.len() - 1, labels.clone(), here.whole);
            here.of.slots.borrow_mut().push((name, Slot { kind, data_type }));
        }
        Ok(value)
    }

    fn physical_aggregate(&self, expr: &Expr, here: &Here<'_>) -> Result<Aggregate> {
        let Expr::AggregateFunction(call) = expr else {
            return Err(Error::internal("an aggregate of MATCH_RECOGNIZE is not one"));
        };
        let parameters = [here.of.classifier.clone(), here.of.number.clone()];
        let close = |expr: &Expr| -> Result<Closed> {
            let (closed, captures) = self.close(expr, &parameters)?;
            if captures.iter().all(|capture| matches!(capture, Expr::Column(_))) {
                return Ok(closed);
            }
            Err(Error::not_supported("a subquery in an aggregate of MATCH_RECOGNIZE is not supported"))
        };
        let params = &call.params;
        let keys = params.order_by.iter().map(|sort| &sort.expr);
        let inputs = params.args.iter().chain(keys).map(close).collect::<Result<Vec<_>>>()?;
        let fields = inputs
            .iter()
            .enumerate()
            .map(|(index, input)| Ok(ArrowField::new(format!("i{index}"), input.body.data_type(&input.inputs)?, true)))
            .collect::<Result<Vec<_>>>()?;
        let named = |index: usize| Arc::new(Column::new(&format!("i{index}"), index)) as Arc<dyn PhysicalExpr>;
        let args = params
            .args
            .iter()
            .enumerate()
            .map(|(index, arg)| match arg {
                Expr::Literal(value, _) => lit(ScalarValue::clone(value)),
                _ => named(index),
            })
            .collect();
        let sorts = params.order_by.iter().enumerate().map(|(index, sort)| {
            let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
            PhysicalSortExpr::new(named(params.args.len() + index), options)
        });
        let function = AggregateExprBuilder::new(Arc::clone(&call.func), args)
            .schema(Arc::new(Schema::new(fields)))
            .alias(expr.to_string())
            .order_by(sorts.collect())
            .with_distinct(params.distinct)
            .with_ignore_nulls(params.null_treatment == Some(NullTreatment::IgnoreNulls))
            .build()?;
        let filter = params.filter.as_deref().map(close).transpose()?;
        Ok(Aggregate { function: Arc::new(function), inputs, filter, text: expr.to_string() })
    }
}

/// The labels that all references have in common.
fn same_labels(used: Vec<Labels>) -> Result<Labels> {
    let mut used = used.into_iter();
    let Some(first) = used.next() else { return Ok(Labels::new()) };
    if used.all(|other| other == first) {
        return Ok(first);
    }
    Err(Error::user("INVALID_ARGUMENTS", "all column references of a pattern function must have the same label"))
}
