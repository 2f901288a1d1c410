//! A DynamoDB table in a query that ends: a parallel Scan, or Query and GetItem where the key is given.
//!
//! `WHERE post_id = 'a'` becomes a Query, and with the sort key too a GetItem; an IN list of keys becomes one request for
//! each of its values, up to a limit, some of them at a time. Filters stay above the scan, so that what is read here may always be more.
//!
//! Invariant: every request and every byte of the items fetched is counted in the statement's [`ScanStats`].

use std::{collections::HashMap, fmt, sync::Arc};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use aws_sdk_dynamodb::{Client, types::AttributeValue};
use datafusion::{
    catalog::{Session, TableProvider},
    common::ScalarValue,
    error::Result as PlanResult,
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableType, expr::InList},
    physical_plan::{ExecutionPlan, stream::RecordBatchReceiverStream},
};
use headwater_engine::{
    connector::TableSpec,
    error::{Error, Result},
    graph::Malformed,
    time::SystemClock,
};

use super::{
    SERVICE,
    decode::ItemDecoder,
    encode::ItemEncoder,
    keys::{self, Description},
    options::DynamoOptions,
    pages::{Pages, Part},
};
use crate::{
    lake::stats::ScanStats,
    leaf::{Leaf, LeafExec},
};

/// Keys of IN lists that are asked for one by one, at most.
const KEYS_MAX: usize = 100;
/// Keys that are asked for at a time.
const KEYS_AT_ONCE: usize = 16;
/// Segments of a table whose size is not known, and bytes of a segment otherwise.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Segments read at a time unless the table says otherwise, at most.
const SEGMENTS_MAX: u64 = 32;
/// What to do about an item that is no row.
pub(super) const MISFIT_HINT: &str =
    "declare the column as VARCHAR or JSON, which take every attribute, or leave such items out: 'malformed' = 'skip'";
/// Pages that wait between a request and the query.
const PAGES_AHEAD: usize = 2;

/// A table that can be queried.
#[derive(Debug, Clone)]
pub(super) struct DynamoTable {
    options: DynamoOptions,
    spec: TableSpec,
    malformed: Malformed,
}

impl DynamoTable {
    pub(super) fn new(spec: &TableSpec, malformed: Malformed) -> Result<Self> {
        let options = DynamoOptions::parse(spec)?;
        ItemDecoder::new(Arc::clone(&spec.schema))?;
        Ok(Self { options, spec: spec.clone(), malformed })
    }

    /// The requests a query needs.
    fn parts(&self, description: &Description, filters: &[Expr]) -> Result<Vec<Part>> {
        let key_columns = description.columns(&self.options.table, &self.spec.schema, &self.spec.primary_key)?;
        let mut given = Vec::new();
        for (key, column) in description.keys.iter().zip(&key_columns) {
            match self.values(*column, &key.kind, filters)? {
                Some(values) => {
                    let can_be = |value: &AttributeValue| description.key_of_one(key, value);
                    given.push((key.name.clone(), values.into_iter().filter(can_be).collect::<Vec<_>>()));
                }
                None => break,
            }
        }
        let mut given = given.into_iter();
        let partitions = match given.next() {
            Some(values) => values,
            None => {
                let wanted = (description.bytes / SEGMENT_BYTES).clamp(1, SEGMENTS_MAX) as usize;
                let of = self.options.segments.unwrap_or(wanted);
                return Ok((0..of).map(|index| Part::Segment { index, of }).collect());
            }
        };
        let (name, values) = partitions;
        // Too many pairs of keys are too many requests: partitions are read whole then.
        let sort = given.next().filter(|(_, sorts)| values.len() * sorts.len() <= KEYS_MAX);
        let mut parts = Vec::new();
        for value in values {
            match &sort {
                None if description.keys.len() == 1 => {
                    parts.push(Part::Item(HashMap::from([(name.clone(), value)])));
                }
                None => parts.push(Part::Partition { name: name.clone(), value }),
                Some((sort_name, sorts)) => parts.extend(sorts.iter().map(|sort| {
                    Part::Item(HashMap::from([(name.clone(), value.clone()), (sort_name.clone(), sort.clone())]))
                })),
            }
        }
        Ok(parts)
    }

    /// The values a column may have by these filters, as attributes of this kind; `None` when they do not say, or when
    /// other attributes too are read as such a value.
    fn values(&self, column: usize, kind: &str, filters: &[Expr]) -> Result<Option<Vec<AttributeValue>>> {
        let field = self.spec.schema.field(column);
        if !keys::is_spelt_one_way(field.data_type(), kind) {
            return Ok(None);
        }
        let Some(literals) = filters.iter().find_map(|filter| equal_to(filter, field.name())) else {
            return Ok(None);
        };
        let schema: SchemaRef = Arc::new(self.spec.schema.project(&[column])?);
        let encoder = ItemEncoder::new(&schema, vec!["k".to_owned()], &Default::default(), true)?;
        let mut values: Vec<AttributeValue> = Vec::new();
        for literal in literals {
            let Ok(literal) = literal.cast_to(field.data_type()) else { return Ok(None) };
            let rows = arrow::record_batch::RecordBatch::try_new(Arc::clone(&schema), vec![literal.to_array()?])?;
            let Ok(mut item) = encoder.item(&rows, 0) else { return Ok(None) };
            match item.remove("k") {
                Some(value) if !values.contains(&value) => values.push(value),
                _ => {}
            }
        }
        Ok((values.len() <= KEYS_MAX).then_some(values))
    }

    /// Where items are left out, all columns decide which, so that every query of the table leaves out the same ones.
    fn decoder(&self, schema: SchemaRef) -> Result<ItemDecoder> {
        let decoder = ItemDecoder::new(schema)?;
        Ok(if self.malformed == Malformed::Reject { decoder.judging(&self.spec.schema) } else { decoder })
    }

    fn names(&self, filter: &Expr) -> bool {
        self.spec.schema.fields().iter().any(|field| equal_to(filter, field.name()).is_some())
    }
}

/// The literals that a filter says a column is equal to one of.
fn equal_to(filter: &Expr, column: &str) -> Option<Vec<ScalarValue>> {
    let is_column = |expr: &Expr| matches!(expr, Expr::Column(found) if found.name == column);
    let literal = |expr: &Expr| match expr {
        Expr::Literal(value, _) if !value.is_null() => Some(value.clone()),
        _ => None,
    };
    match filter {
        Expr::BinaryExpr(binary) if binary.op == Operator::Eq => {
            let (left, right) = (binary.left.as_ref(), binary.right.as_ref());
            let value = if is_column(left) { literal(right) } else { literal(left).filter(|_| is_column(right)) };
            value.map(|value| vec![value])
        }
        Expr::BinaryExpr(binary) if binary.op == Operator::Or => {
            let mut values = equal_to(&binary.left, column)?;
            values.extend(equal_to(&binary.right, column)?);
            Some(values)
        }
        Expr::InList(InList { expr, list, negated: false }) if is_column(expr) => list.iter().map(literal).collect(),
        _ => None,
    }
}

#[async_trait]
impl TableProvider for DynamoTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.spec.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match self.names(filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let stats = state.config().get_extension::<ScanStats>().unwrap_or_default();
        let client = Client::new(&self.options.aws.connect(&[SERVICE]).await?);
        let description = keys::describe(&client, &self.options.table_name).await?;
        let parts = self.parts(&description, filters)?;
        ScanStats::add(&stats.bytes_stored, description.bytes);
        let all: Vec<usize> = (0..self.spec.schema.fields().len()).collect();
        let schema: SchemaRef = Arc::new(self.spec.schema.project(projection.unwrap_or(&all))?);
        let pages = Pages {
            client,
            table: self.options.table_name.clone(),
            consistent: self.options.consistent_read,
            attributes: Vec::new(),
            clock: Arc::new(SystemClock),
        };
        let decoder = self.decoder(Arc::clone(&schema))?;
        let scan = Scan { pages, decoder, malformed: self.malformed, limit, stats };
        let partitions = lanes(&parts);
        Ok(Arc::new(LeafExec::new(Parts { scan: Arc::new(scan), parts }, schema, partitions)))
    }
}

/// How many parts are read at a time: all segments of a scan, and some of many keys.
fn lanes(parts: &[Part]) -> usize {
    let are_keys = !matches!(parts.first(), Some(Part::Segment { .. }));
    if are_keys { parts.len().clamp(1, KEYS_AT_ONCE) } else { parts.len() }
}

/// What every part of a scan needs to know.
#[derive(Debug)]
struct Scan {
    pages: Pages,
    decoder: ItemDecoder,
    malformed: Malformed,
    limit: Option<usize>,
    stats: Arc<ScanStats>,
}

impl Scan {
    async fn read(
        &self,
        part: &Part,
        rows: &tokio::sync::mpsc::Sender<PlanResult<arrow::array::RecordBatch>>,
    ) -> Result<()> {
        let mut left = self.limit.unwrap_or(usize::MAX);
        let mut from = None;
        loop {
            let limit = self.limit.and_then(|_| i32::try_from(left).ok());
            let page = self.pages.page(part, from.as_ref(), limit).await?;
            ScanStats::add(&self.stats.bytes_scanned, page.bytes);
            ScanStats::add(&self.stats.files_read, 1);
            ScanStats::add(&self.stats.files_total, 1);
            ScanStats::add(&self.stats.rows_read, page.items.len() as u64);
            let decoded = self.decoder.decode(&page.items.iter().map(Some).collect::<Vec<_>>())?;
            if self.malformed == Malformed::Reject {
                ScanStats::add(&self.stats.rows_rejected, decoded.misfits.len() as u64);
            } else if let Some(reason) = decoded.misfits.values().next() {
                let message = format!("an item of the DynamoDB table \"{}\": {reason}", self.pages.table);
                return Err(Error::data("TYPE_MISMATCH", message).with_hint(MISFIT_HINT));
            }
            left = left.saturating_sub(decoded.rows.num_rows());
            if decoded.rows.num_rows() > 0 && rows.send(Ok(decoded.rows)).await.is_err() {
                return Ok(());
            }
            from = page.next;
            if from.is_none() || left == 0 {
                return Ok(());
            }
        }
    }
}

/// Parts of a table, each a partition of the plan.
#[derive(Debug)]
struct Parts {
    scan: Arc<Scan>,
    parts: Vec<Part>,
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.parts.first() {
            None => "nothing".to_owned(),
            Some(Part::Segment { of, .. }) => format!("Scan in {of} segments"),
            Some(Part::Partition { name, .. }) => format!("Query by \"{name}\", {} keys", self.parts.len()),
            Some(Part::Item(_)) => format!("GetItem, {} keys", self.parts.len()),
        };
        write!(f, "table={}, {what}", self.scan.pages.table)
    }
}

impl Leaf for Parts {
    fn name(&self) -> &'static str {
        "DynamoScanExec"
    }

    fn read(&self, partition: usize, schema: &SchemaRef, _: &TaskContext) -> PlanResult<SendableRecordBatchStream> {
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(schema), PAGES_AHEAD);
        let (scan, rows) = (Arc::clone(&self.scan), builder.tx());
        let parts: Vec<Part> = self.parts.iter().skip(partition).step_by(lanes(&self.parts)).cloned().collect();
        builder.spawn(async move {
            for part in parts {
                scan.read(&part, &rows).await?;
            }
            Ok(())
        });
        Ok(builder.build())
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn table() -> DynamoTable {
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        let fields = vec![field("post_id", DataType::Utf8), field("w", DataType::Int64), field("n", DataType::Int64)];
        let spec = TableSpec::new("t", Arc::new(Schema::new(fields)), [("table-name", "T")]);
        DynamoTable::new(&spec, Malformed::Fail).unwrap()
    }

    fn parts(filters: &[Expr]) -> Vec<Part> {
        let key = |name: &str, kind: &str| keys::KeyAttribute { name: name.into(), kind: kind.into() };
        let keys = vec![key("post_id", "S"), key("w", "N")];
        table().parts(&Description { keys, bytes: 100 << 20, stream_arn: None }, filters).unwrap()
    }

    #[test]
    fn a_key_becomes_a_request_and_anything_else_a_scan() {
        let s = |text: &str| AttributeValue::S(text.to_owned());
        let by_post = |value: &str| Part::Partition { name: "post_id".into(), value: s(value) };
        assert_eq!(parts(&[col("post_id").eq(lit("a"))]), [by_post("a")]);
        let both = parts(&[col("w").eq(lit(5_i32)), lit("a").eq(col("post_id"))]);
        let key = HashMap::from([("post_id".to_owned(), s("a")), ("w".to_owned(), AttributeValue::N("5".to_owned()))]);
        assert_eq!(both, [Part::Item(key)]);
        let list = col("post_id").in_list(vec![lit("a"), lit("b"), lit("a")], false);
        assert_eq!(parts(&[list]), [by_post("a"), by_post("b")]);
        let either = col("post_id").eq(lit("a")).or(lit("b").eq(col("post_id")));
        assert_eq!(parts(&[either]), [by_post("a"), by_post("b")]);
        let none: &[Part] = &[];
        assert_eq!(parts(&[col("post_id").eq(lit(""))]), none, "no item has an empty key");
        let many = |column, count: i32| col(column).in_list((0..count).map(lit).collect(), false);
        let posts = || (0..20).map(|post| lit(format!("p{post}"))).collect();
        let few = parts(&[col("post_id").in_list(posts(), false), many("w", 5)]);
        assert!(few.len() == 100 && matches!(few[0], Part::Item(_)) && lanes(&few) == KEYS_AT_ONCE);
        let too_many = parts(&[col("post_id").in_list(posts(), false), many("w", 6)]);
        assert!(too_many.len() == 20 && matches!(too_many[0], Part::Partition { .. }));
        for scanned in [col("w").eq(lit(5_i32)), col("post_id").gt(lit("a")), col("n").eq(lit(1_i32))] {
            let segments = parts(&[scanned]);
            assert_eq!((segments.len(), lanes(&segments)), (6, 6), "one segment for each 16 MB");
        }
    }
}
