//! UNNEST of arrays and maps, several at once, WITH ORDINALITY, alone and in joins.
//!
//! Invariant: all arguments are zipped into one array of rows first, so that one unnesting does for every form.

use datafusion::{
    common::{Column, UnnestOptions},
    logical_expr::{Expr, LogicalPlanBuilder},
    sql::sqlparser::ast,
};
use headwater_engine::error::{Error, Result};

use super::{
    Binder, Bound, at, column,
    ctes::Ctes,
    scope::{Context, Field, Scope, located},
};
use crate::{
    kernels::{self, Op, nested::ZipShape},
    types::Type,
};

impl Binder<'_> {
    /// Unnests arrays beside the rows of `left`; when `optional`, a row without elements stays, with NULLs.
    pub(crate) fn unnest(
        &self,
        left: Bound,
        nodes: &[ast::Expr],
        ordinality: bool,
        alias: Option<&ast::TableAlias>,
        (optional, outer, ctes): (bool, Option<&Context<'_>>, &Ctes),
    ) -> Result<Bound> {
        let context = Context::new(&left.scope, outer, ctes, "UNNEST");
        let mut inputs = Vec::new();
        let mut args = Vec::new();
        let mut made: Vec<(Option<String>, Type)> = Vec::new();
        for node in nodes {
            let value = self.expr(node, &context)?;
            made.extend(at(element_types(&value.data_type), node)?);
            inputs.push(value.data_type.clone());
            args.push(value.expr);
        }
        if ordinality {
            made.push((Some("ordinality".into()), Type::Bigint));
        }
        let element = Type::Row(made.iter().map(|(_, data_type)| (None, data_type.clone())).collect());
        let list = Type::array(element.clone());
        let zipped = kernels::call(Op::Zip(ZipShape { inputs, ordinality, outer: optional }), args, list.clone());
        let name = self.column(Some("unnest"), &element);
        let mut exprs: Vec<Expr> = left.scope.fields.iter().map(Field::expr).collect();
        exprs.push(zipped.alias(name.clone()));
        let plan = self.project(left.plan, exprs)?;
        let options = UnnestOptions::new().with_preserve_nulls(false);
        let plan = LogicalPlanBuilder::from(plan)
            .unnest_columns_with_options(vec![Column::new_unqualified(&name)], options)?
            .build()?;
        let mut fields = left.scope.fields;
        let own = self.unnested_fields(&made, alias)?;
        let mut exprs: Vec<Expr> = fields.iter().map(Field::expr).collect();
        for (index, field) in own.iter().enumerate() {
            let part = kernels::call(Op::Field(index), vec![column(&name)], field.data_type.clone());
            exprs.push(part.alias(field.column.clone()));
        }
        fields.extend(own);
        Ok(Bound { plan: self.project(plan, exprs)?, scope: Scope { fields } })
    }

    fn unnested_fields(&self, made: &[(Option<String>, Type)], alias: Option<&ast::TableAlias>) -> Result<Vec<Field>> {
        let names: Vec<&ast::Ident> =
            alias.iter().flat_map(|alias| alias.columns.iter().map(|column| &column.name)).collect();
        if let Some(alias) = alias.filter(|_| !names.is_empty() && names.len() != made.len()) {
            let message = format!(
                "column alias list has {} entries but '{}' has {} columns available",
                names.len(),
                alias.name.value,
                made.len()
            );
            return Err(located(Error::user("MISMATCHED_COLUMN_ALIASES", message), &alias.name));
        }
        let qualifier: Vec<String> = alias.iter().map(|alias| alias.name.value.to_lowercase()).collect();
        Ok(made
            .iter()
            .enumerate()
            .map(|(index, (own, data_type))| {
                let name = names.get(index).map(|ident| ident.value.clone()).or_else(|| own.clone());
                Field {
                    qualifier: qualifier.clone(),
                    column: self.column(name.as_deref(), data_type),
                    name,
                    data_type: data_type.clone(),
                    hidden: false,
                }
            })
            .collect())
    }
}

/// Names and types of the columns one argument becomes.
fn element_types(of: &Type) -> Result<Vec<(Option<String>, Type)>> {
    match of {
        Type::Array(element) => match element.as_ref() {
            Type::Row(fields) => {
                Ok(fields.iter().map(|(name, inner)| (name.as_deref().map(str::to_owned), inner.clone())).collect())
            }
            other => Ok(vec![(None, other.clone())]),
        },
        Type::Map(key, value) => Ok(vec![(None, (**key).clone()), (None, (**value).clone())]),
        other => Err(Error::user("INVALID_FUNCTION_ARGUMENT", format!("cannot unnest type: {other}"))),
    }
}
