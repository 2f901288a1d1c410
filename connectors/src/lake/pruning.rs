//! Which partitions a query needs, from what is known of them so far.
//!
//! Invariant: a partition is left out only if no row of it can pass the filters: keys that are not known yet, and
//! columns of the files, count as "anything". Filters over keys alone are decided exactly once all keys are known.

use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt64Array},
    datatypes::{FieldRef, Schema, SchemaRef},
};
use datafusion::{
    catalog::Session,
    common::{Column, DFSchema, pruning::PruningStatistics},
    error::Result,
    logical_expr::Expr,
    physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder},
    physical_plan::PhysicalExpr,
    scalar::ScalarValue,
};

use super::listing::Pattern;

/// What is known of a candidate: for each constant column its value, or `None` while it is not known.
pub type Known = Vec<Option<ScalarValue>>;

/// The filters of one scan, as far as they speak of columns that are constant in a file: keys and hidden columns.
#[derive(Debug, Clone)]
pub struct FileFilter {
    constants: SchemaRef,
    exact: Vec<Arc<dyn PhysicalExpr>>,
    pruning: Vec<PruningPredicate>,
    filters: Vec<Expr>,
    only: Option<Pattern>,
}

impl FileFilter {
    /// No filter: everything passes.
    pub fn none(constants: Vec<FieldRef>) -> Self {
        Self {
            constants: Arc::new(Schema::new(constants)),
            exact: Vec::new(),
            pruning: Vec::new(),
            filters: Vec::new(),
            only: None,
        }
    }

    /// Filters over `table`, of whose columns `constants` are the ones that every file has one value of.
    pub fn new(state: &dyn Session, filters: &[Expr], table: &SchemaRef, constants: Vec<FieldRef>) -> Result<Self> {
        let names: HashSet<String> = constants.iter().map(|field| field.name().clone()).collect();
        let constants = Arc::new(Schema::new(constants));
        let (mut exact, mut pruning) = (Vec::new(), Vec::new());
        let whole = DFSchema::try_from(Arc::clone(table))?;
        let known = DFSchema::try_from(Arc::clone(&constants))?;
        for filter in filters {
            let columns = filter.column_refs();
            if columns.iter().any(|column| names.contains(&column.name)) {
                let predicate = state.create_physical_expr(filter.clone(), &whole)?;
                pruning.extend(
                    PruningPredicateBuilder::new().with_file_schema(Arc::clone(table)).try_build(predicate).ok(),
                );
            }
            if columns.iter().all(|column| names.contains(&column.name)) {
                exact.push(state.create_physical_expr(filter.clone(), &known)?);
            }
        }
        pruning.retain(|predicate| !predicate.always_true());
        Ok(Self { constants, exact, pruning, filters: filters.to_vec(), only: None })
    }

    /// The same for files that a pattern means.
    #[must_use]
    pub fn of_files(self, only: Option<Pattern>) -> Self {
        Self { only, ..self }
    }

    /// Which files are meant, if not all.
    pub fn only(&self) -> Option<&Pattern> {
        self.only.as_ref()
    }

    /// The filters as they were given.
    pub fn filters(&self) -> &[Expr] {
        &self.filters
    }

    /// Whether there is nothing to decide.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.pruning.is_empty()
    }

    /// For each candidate whether it may hold rows that pass.
    pub fn may_match(&self, candidates: &[Known]) -> Result<Vec<bool>> {
        let mut keep = vec![true; candidates.len()];
        if candidates.is_empty() {
            return Ok(keep);
        }
        let facts = Facts { schema: &self.constants, candidates };
        for predicate in &self.pruning {
            for (kept, possible) in keep.iter_mut().zip(predicate.prune(&facts)?) {
                *kept &= possible;
            }
        }
        Ok(keep)
    }

    /// For each candidate with all values known whether its rows pass the filters over constants.
    pub fn matches(&self, candidates: &[Vec<ScalarValue>]) -> Result<Vec<bool>> {
        let mut keep = vec![true; candidates.len()];
        if candidates.is_empty() || self.exact.is_empty() {
            return Ok(keep);
        }
        let columns = (0..self.constants.fields().len())
            .map(|index| ScalarValue::iter_to_array(candidates.iter().map(|values| values[index].clone())))
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(candidates.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.constants), columns, &options)?;
        for filter in &self.exact {
            let passes = filter.evaluate(&batch)?.into_array(candidates.len())?;
            if let Some(passes) = passes.as_any().downcast_ref::<BooleanArray>() {
                for (index, kept) in keep.iter_mut().enumerate() {
                    *kept &= passes.is_valid(index) && passes.value(index);
                }
            }
        }
        Ok(keep)
    }
}

/// Filters of which a row has to pass one, as far as they speak of partition keys.
#[derive(Debug, Clone)]
pub struct AnyFilter {
    schema: SchemaRef,
    any: Vec<PruningPredicate>,
}

impl AnyFilter {
    /// Filters over the columns of `schema`, if some partition may be left out by them.
    pub fn new(filters: &[Arc<dyn PhysicalExpr>], schema: &SchemaRef) -> Option<Self> {
        let predicate = |filter: &Arc<dyn PhysicalExpr>| {
            let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema));
            builder.try_build(Arc::clone(filter)).ok().filter(|predicate| !predicate.always_true())
        };
        let any = filters.iter().map(predicate).collect::<Option<Vec<_>>>()?;
        (!any.is_empty()).then(|| Self { schema: Arc::clone(schema), any })
    }

    /// Whether a partition with these keys may hold a row that passes one.
    pub fn may_match<'a>(&self, keys: impl IntoIterator<Item = (&'a str, &'a ScalarValue)>) -> Result<bool> {
        let mut known: Known = vec![None; self.schema.fields().len()];
        for (name, value) in keys {
            let column = self.schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name));
            if let Some(index) = column {
                known[index] = value.cast_to(self.schema.field(index).data_type()).ok();
            }
        }
        let facts = Facts { schema: &self.schema, candidates: &[known] };
        for predicate in &self.any {
            if predicate.prune(&facts)?.first().is_none_or(|possible| *possible) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Known values as the smallest and largest of a container that holds one value.
struct Facts<'a> {
    schema: &'a Schema,
    candidates: &'a [Known],
}

impl Facts<'_> {
    fn values(&self, column: &Column) -> Option<ArrayRef> {
        let index = self.schema.index_of(&column.name).ok()?;
        let null = ScalarValue::try_from(self.schema.field(index).data_type()).ok()?;
        let values = self.candidates.iter().map(|known| known[index].clone().unwrap_or_else(|| null.clone()));
        ScalarValue::iter_to_array(values).ok()
    }
}

impl PruningStatistics for Facts<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column)
    }

    fn num_containers(&self) -> usize {
        self.candidates.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let index = self.schema.index_of(&column.name).ok()?;
        let counts = self.candidates.iter().map(|known| known[index].as_ref().map(|value| u64::from(value.is_null())));
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from(vec![1; self.candidates.len()])))
    }

    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        let index = self.schema.index_of(&column.name).ok()?;
        let contained = self
            .candidates
            .iter()
            .map(|known| known[index].as_ref().filter(|value| !value.is_null()).map(|value| values.contains(value)));
        Some(contained.collect())
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};
    use datafusion::prelude::{SessionContext, col, lit};

    use super::*;

    fn filter(filters: &[Expr]) -> Result<FileFilter> {
        let year = Arc::new(Field::new("year", DataType::Int32, true));
        let name = Arc::new(Field::new("name", DataType::Utf8, true));
        let x = Arc::new(Field::new("x", DataType::Int64, true));
        let table = Arc::new(Schema::new(vec![x, Arc::clone(&year), Arc::clone(&name)]));
        FileFilter::new(&SessionContext::new().state(), filters, &table, vec![year, name])
    }

    fn year(value: impl Into<Option<i32>>) -> Known {
        vec![Some(ScalarValue::Int32(value.into())), None]
    }

    #[test]
    fn prunes_with_part_of_the_keys_known() -> Result<()> {
        let candidates = [year(2023), year(2024), year(None)];
        for (filters, kept) in [
            (vec![col("year").eq(lit(2024))], [false, true, false]),
            (vec![col("year").gt(lit(2023)).and(col("name").eq(lit("a")))], [false, true, false]),
            (vec![col("year").eq(lit(2024)).or(col("name").eq(lit("a")))], [true, true, true]),
            (vec![col("year").in_list(vec![lit(2023), lit(1999)], false)], [true, false, false]),
            (
                vec![col("year").eq(lit(2023)).and(col("x").gt(lit(1i64))).or(col("year").gt(lit(2030)))],
                [true, false, false],
            ),
            (vec![col("x").gt(lit(1i64))], [true, true, true]),
            (vec![col("year").not_eq(lit(2023))], [false, true, false]),
        ] {
            assert_eq!(filter(&filters)?.may_match(&candidates)?, kept, "{filters:?}");
        }
        Ok(())
    }

    #[test]
    fn prunes_text_by_prefix() -> Result<()> {
        let name = |value: &str| vec![None, Some(ScalarValue::from(value))];
        let found = filter(&[col("name").like(lit("vis%"))])?.may_match(&[name("visit"), name("end")])?;
        assert_eq!(found, [true, false]);
        Ok(())
    }

    #[test]
    fn decides_exactly_once_all_is_known() -> Result<()> {
        let all = |year: Option<i32>, name: &str| vec![ScalarValue::Int32(year), ScalarValue::from(name)];
        let candidates = [all(Some(2024), "a"), all(Some(2024), "bb"), all(None, "a")];
        let parity = (col("year") % lit(2)).eq(lit(0));
        assert_eq!(filter(&[parity])?.matches(&candidates)?, [true, true, false]);
        assert_eq!(filter(&[col("year").is_null()])?.matches(&candidates)?, [false, false, true]);
        Ok(())
    }
}
