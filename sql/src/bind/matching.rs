//! MATCH_RECOGNIZE: its clause as a node of the plan. The parser hands it over as a subquery (see its rewriting).
//!
//! Invariant: an expression of the clause refers to slots only: values of rows of a match that the operator knows.

use std::{cell::RefCell, sync::Arc};

use arrow::datatypes::{Field as ArrowField, Schema};
use datafusion::{
    logical_expr::{Expr, Extension, LogicalPlan, SortExpr},
    sql::sqlparser::ast,
};
use headwater_engine::error::{Error, Result};

use super::{
    Binder, Bound, Value, aggregates, at,
    ctes::Ctes,
    scope::{Context, Field, Scope},
    select::subquery_of,
};
use crate::{
    matching::{
        Aggregate, Anchor, Computed, MatchNode, MatchSpec, Output, RowsPerMatch, Skip, Slot, SlotKind,
        pattern::{self, Pattern},
    },
    types::Type,
};

mod calls;
mod header;

/// What expressions of one clause share.
#[derive(Debug)]
pub(crate) struct Matching {
    /// Labels of the pattern, in the order of their numbers.
    pub(crate) labels: Vec<String>,
    /// Names for several labels.
    pub(crate) subsets: Vec<(String, Vec<u16>)>,
    pub(crate) aggregates: RefCell<Vec<Aggregate>>,
    /// Slots of the expression being bound, by the columns that stand for them.
    pub(crate) slots: RefCell<Vec<(String, Slot)>>,
    /// Subqueries, computed beside the input under these names.
    pub(crate) constants: RefCell<Vec<(Expr, String)>>,
    /// The columns that stand for the classifier and the match number within aggregates.
    pub(crate) classifier: String,
    pub(crate) number: String,
}

/// Labels that an expression refers to; none: rows of any label.
pub(crate) type Labels = Vec<u16>;

/// The place in a clause that an expression stands at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Here<'c> {
    pub(crate) of: &'c Matching,
    /// In DEFINE, else in MEASURES.
    pub(crate) define: bool,
    pub(crate) anchor: Anchor,
    pub(crate) offset: usize,
    pub(crate) physical: i64,
    /// Under FINAL.
    pub(crate) whole: bool,
    pub(crate) inside: Within,
    /// The labels that were referred to inside.
    pub(crate) used: Option<&'c RefCell<Vec<Labels>>>,
}

/// Which call an expression of a clause is an argument of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Within {
    /// None.
    Nothing,
    /// FIRST or LAST.
    Logical,
    /// PREV or NEXT.
    Physical,
    /// An aggregate.
    Aggregate,
}

impl Matching {
    /// The labels a name stands for.
    pub(crate) fn labels_of(&self, name: &ast::Ident) -> Option<Labels> {
        let wanted = if name.quote_style.is_some() { name.value.clone() } else { name.value.to_uppercase() };
        match self.labels.iter().position(|label| *label == wanted) {
            Some(label) => Some(vec![label as u16]),
            None => self.subsets.iter().find(|(subset, _)| *subset == wanted).map(|(_, labels)| labels.clone()),
        }
    }
}

/// The call that carries a clause's texts, if a query is a rewritten MATCH_RECOGNIZE.
pub(crate) fn carrier(query: &ast::Query) -> Option<(&ast::Select, &ast::Function)> {
    let ast::SetExpr::Select(select) = query.body.as_ref() else { return None };
    match select.projection.first()? {
        ast::SelectItem::UnnamedExpr(ast::Expr::Function(function))
            if function.name.to_string() == "\"$match_recognize\"" =>
        {
            Some((select, function))
        }
        _ => None,
    }
}

impl Binder<'_> {
    /// Binds a clause.
    pub(crate) fn match_recognize(
        &self,
        query: &ast::Query,
        (select, function): (&ast::Select, &ast::Function),
        outer: Option<&Context<'_>>,
        ctes: &Ctes,
    ) -> Result<Bound> {
        let input = self.from(&select.from, outer, ctes)?;
        let header = header::Header::of(function)?;
        let pattern = pattern::parse(&header.pattern)?;
        let mut labels = Vec::new();
        pattern.labels(&mut labels);
        let subsets = header.subsets(&labels)?;
        let keys = self.match_keys(select, &input.scope, ctes)?;
        let order = self.match_order(query, &input.scope, ctes)?;
        let matching = Matching {
            labels,
            subsets,
            aggregates: RefCell::default(),
            slots: RefCell::default(),
            constants: RefCell::default(),
            classifier: self.column(Some("classifier"), &Type::VARCHAR),
            number: self.column(Some("number"), &Type::Bigint),
        };
        let mut plain = input.scope.clone();
        plain.fields.iter_mut().for_each(|field| field.qualifier.clear());
        let count = header.measures.min(select.projection.len() - 1);
        let (measures, defines) = select.projection[1..].split_at(count);
        let defines = self.defines(defines, &matching, &plain, ctes)?;
        let measures = self.measures(measures, &matching, &plain, ctes)?;
        let (rows, skip) = (header.rows()?, header.skip(&matching)?);
        let unmatched = matches!(rows, RowsPerMatch::All { unmatched: true, .. });
        if unmatched && pattern.any(&|part| matches!(part, Pattern::Exclude(_))) {
            return Err(Error::user(
                "INVALID_ROW_PATTERN",
                "pattern exclusion is not allowed when ALL ROWS PER MATCH WITH UNMATCHED ROWS is specified",
            ));
        }
        let (output, fields) = self.match_output(&input.scope, (&keys, &order), &measures, rows)?;
        let program = pattern.compile(&matching.labels)?;
        let spec = MatchSpec {
            labels: matching.labels.iter().map(|label| label.as_str().into()).collect(),
            program,
            defines,
            measures: measures.into_iter().map(|(_, computed, _)| computed).collect(),
            aggregates: matching.aggregates.into_inner(),
            output,
            rows,
            skip,
            text: header.pattern,
        };
        let plan = self.with_constants(input, matching.constants.into_inner())?;
        let arrow: Vec<ArrowField> =
            fields.iter().map(|field| ArrowField::new(&field.column, field.data_type.to_arrow(), true)).collect();
        let keys = keys.iter().map(Field::expr).collect();
        let order = order.into_iter().map(|(_, sort)| sort).collect();
        let node = MatchNode::try_new(plan, keys, order, Arc::new(spec), &Arc::new(Schema::new(arrow)))?;
        Ok(Bound { plan: LogicalPlan::Extension(Extension { node: Arc::new(node) }), scope: Scope { fields } })
    }

    fn with_constants(&self, input: Bound, constants: Vec<(Expr, String)>) -> Result<LogicalPlan> {
        if constants.is_empty() {
            return Ok(input.plan);
        }
        let mut exprs: Vec<Expr> = input.scope.fields.iter().map(Field::expr).collect();
        exprs.extend(constants.into_iter().map(|(expr, name)| expr.alias(name)));
        self.project(input.plan, exprs)
    }

    fn match_column(&self, node: &ast::Expr, scope: &Scope, ctes: &Ctes, clause: &str) -> Result<Field> {
        if !matches!(node, ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_)) {
            let message = format!("{clause} of MATCH_RECOGNIZE takes columns only");
            return at(Err(Error::user("INVALID_COLUMN_REFERENCE", message)), node);
        }
        let value = self.expr(node, &Context::new(scope, None, ctes, clause))?;
        let found = match &value.expr {
            Expr::Column(column) => scope.fields.iter().find(|field| field.column == column.name),
            _ => None,
        };
        let message = format!("{clause} of MATCH_RECOGNIZE takes columns only");
        at(found.cloned().ok_or_else(|| Error::user("INVALID_COLUMN_REFERENCE", message)), node)
    }

    fn match_keys(&self, select: &ast::Select, scope: &Scope, ctes: &Ctes) -> Result<Vec<Field>> {
        let ast::GroupByExpr::Expressions(nodes, _) = &select.group_by else { return Ok(Vec::new()) };
        let mut keys = Vec::with_capacity(nodes.len());
        for node in nodes {
            let key = self.match_column(node, scope, ctes, "PARTITION BY")?;
            if !key.data_type.is_comparable() {
                let message = format!("{} is not comparable, and cannot be used in PARTITION BY", key.data_type);
                return at(Err(Error::user("TYPE_MISMATCH", message)), node);
            }
            keys.push(key);
        }
        Ok(keys)
    }

    fn match_order(&self, query: &ast::Query, scope: &Scope, ctes: &Ctes) -> Result<Vec<(Field, SortExpr)>> {
        let mut order = Vec::new();
        for one in super::query::order_items(query)? {
            let field = self.match_column(&one.expr, scope, ctes, "ORDER BY")?;
            at(aggregates::sortable(&field.value()), &one.expr)?;
            let sort = aggregates::sort(field.expr(), &one.options);
            order.push((field, sort));
        }
        Ok(order)
    }

    fn defines(
        &self,
        items: &[ast::SelectItem],
        matching: &Matching,
        scope: &Scope,
        ctes: &Ctes,
    ) -> Result<Vec<Option<Computed>>> {
        let mut defines: Vec<Option<Computed>> = matching.labels.iter().map(|_| None).collect();
        for item in items {
            let ast::SelectItem::ExprWithAlias { expr, alias } = item else {
                return Err(Error::internal("a condition of DEFINE has a label"));
            };
            let invalid = |message: String| at(Err(Error::user("INVALID_LABEL", message)), expr);
            let Some(label) = matching.labels.iter().position(|label| *label == alias.value) else {
                return invalid(format!("defined variable {} is not a primary pattern variable", alias.value));
            };
            if defines[label].is_some() {
                return invalid(format!("pattern variable {} is defined twice", alias.value));
            }
            let (value, slots) = self.match_expr(expr, (matching, true), scope, ctes)?;
            if value.data_type != Type::Boolean {
                let message = format!("expression defining a label must be boolean, not {}", value.data_type);
                return at(Err(Error::user("TYPE_MISMATCH", message)), expr);
            }
            defines[label] = Some(at(self.computed(&value, slots, matching), expr)?);
        }
        Ok(defines)
    }

    fn measures(
        &self,
        items: &[ast::SelectItem],
        matching: &Matching,
        scope: &Scope,
        ctes: &Ctes,
    ) -> Result<Vec<(String, Computed, Type)>> {
        items
            .iter()
            .map(|item| {
                let ast::SelectItem::ExprWithAlias { expr, alias } = item else {
                    return Err(Error::internal("a measure has a name"));
                };
                let (value, slots) = self.match_expr(expr, (matching, false), scope, ctes)?;
                let computed = at(self.computed(&value, slots, matching), expr)?;
                Ok((alias.value.clone(), computed, value.data_type))
            })
            .collect()
    }

    /// Binds an expression of the clause to slots.
    fn match_expr(
        &self,
        node: &ast::Expr,
        (matching, define): (&Matching, bool),
        scope: &Scope,
        ctes: &Ctes,
    ) -> Result<(Value, Vec<(String, Slot)>)> {
        let here = Here {
            of: matching,
            define,
            anchor: Anchor::Last,
            offset: 0,
            physical: 0,
            whole: false,
            inside: Within::Nothing,
            used: None,
        };
        let place = if define { "DEFINE" } else { "MEASURES" };
        let context = Context { matching: Some(&here), ..Context::new(scope, None, ctes, place) };
        let value = self.expr(node, &context)?;
        Ok((value, matching.slots.take()))
    }

    /// Compiles an expression over its slots; subqueries become columns of the input.
    fn computed(&self, value: &Value, slots: Vec<(String, Slot)>, matching: &Matching) -> Result<Computed> {
        let names: Vec<String> = slots.iter().map(|(name, _)| name.clone()).collect();
        let (body, captures) = self.close(&value.expr, &names)?;
        let mut slots: Vec<Slot> = slots.into_iter().map(|(_, slot)| slot).collect();
        for (capture, field) in captures.into_iter().zip(body.inputs.fields().iter().skip(names.len())) {
            let plain = match subquery_of(&capture) {
                Some(subquery) => subquery.outer_ref_columns.is_empty() && !matches!(capture, Expr::InSubquery(_)),
                None => false,
            };
            if !plain {
                return Err(Error::not_supported("this subquery is not supported in MATCH_RECOGNIZE")
                    .with_hint("join what it gives to the rows before matching"));
            }
            let name = field.name().clone();
            let data_type = self.column_type(&name)?;
            matching.constants.borrow_mut().push((capture, name.clone()));
            slots.push(Slot { kind: SlotKind::Constant(name), data_type });
        }
        Ok(Computed { body, slots })
    }

    /// The columns of the result, and what they are called.
    fn match_output(
        &self,
        scope: &Scope,
        (keys, order): (&[Field], &[(Field, SortExpr)]),
        measures: &[(String, Computed, Type)],
        rows: RowsPerMatch,
    ) -> Result<(Vec<Output>, Vec<Field>)> {
        let all = rows != RowsPerMatch::One;
        let mut inputs: Vec<&Field> = keys.iter().collect();
        if all {
            inputs.extend(order.iter().map(|(field, _)| field));
        }
        let rest: Vec<&Field> = scope
            .fields
            .iter()
            .filter(|field| all && !field.hidden && !inputs.iter().any(|known| known.column == field.column))
            .collect();
        let (mut output, mut fields) = (Vec::new(), Vec::new());
        let mut add = |made: Output, name: Option<String>, data_type: &Type| {
            output.push(made);
            let column = self.column(name.as_deref(), data_type);
            let data_type = data_type.clone();
            fields.push(Field { qualifier: Vec::new(), name, column, data_type, hidden: false });
        };
        for field in inputs {
            add(Output::Input(field.column.clone()), field.name.clone(), &field.data_type);
        }
        for (index, (name, _, data_type)) in measures.iter().enumerate() {
            add(Output::Measure(index), Some(name.clone()), data_type);
        }
        for field in rest {
            add(Output::Input(field.column.clone()), field.name.clone(), &field.data_type);
        }
        if fields.is_empty() {
            return Err(Error::user("TABLE_HAS_NO_COLUMNS", "pattern recognition output table has no columns"));
        }
        Ok((output, fields))
    }
}

/// Where a search goes on, by the labels of a clause.
fn skip_to(first: bool, label: &ast::Ident, matching: &Matching) -> Result<Skip> {
    match matching.labels_of(label) {
        Some(labels) => Ok(Skip::To(first, labels)),
        None => {
            Err(Error::user("INVALID_LABEL", format!("{} is not a primary or union pattern variable", label.value)))
        }
    }
}
