//! The options of a DynamoDB table, under Flink's names.
//!
//! Invariant: everything is checked here, before a client exists.

use std::collections::BTreeMap;

use headwater_engine::{
    connector::{LookupCache, TableSpec},
    error::{Error, Result},
};

use crate::{aws::AwsOptions, lookup, options::Options};

/// Items of one BatchWriteItem, the service's limit,
const BATCH_ITEMS_MAX: u64 = 25;
/// and of one transaction, of which one is the check of who holds the job.
const TRANSACTION_ITEMS_MAX: u64 = 100 - 1;
/// Segments of a parallel scan, the service's limit.
const SEGMENTS_MAX: u64 = 1_000_000;

/// `sink.fencing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fencing {
    /// The job's log is asked before each batch.
    Check,
    /// Each item carries a version, and each write is conditional on it.
    Item,
    /// Writes are transactions that check who holds the job, in `sink.fencing.table-name`.
    Transaction,
}

impl Fencing {
    const NAMES: [(&'static str, Self); 3] =
        [("check", Self::Check), ("item", Self::Item), ("transaction", Self::Transaction)];

    /// Bytes of one request, below the service's limit by what it counts beside items.
    pub(super) fn request_bytes(self) -> usize {
        match self {
            Self::Check | Self::Item => 15 << 20,
            Self::Transaction => 3 << 20,
        }
    }
}

/// Kind of a set attribute, of `sink.attribute-types`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetKind {
    Strings,
    Numbers,
    Binaries,
}

/// All options of a table, both directions.
#[derive(Debug, Clone)]
pub(super) struct DynamoOptions {
    pub(super) table: String,
    pub(super) table_name: String,
    pub(super) aws: AwsOptions,
    /// `sink.ignore-nulls`: NULL is no attribute (default), else it is the attribute NULL.
    pub(super) ignore_nulls: bool,
    /// `sink.fail-on-error`: a row that cannot be written ends the job (default: it is in `"t$rejected"`).
    pub(super) fail_on_error: bool,
    /// `sink.batch.max-size`.
    pub(super) batch_items: usize,
    /// `sink.requests.max-inflight`.
    pub(super) in_flight: usize,
    /// `sink.requests.max-buffered`: writes that are merged by key before they are sent.
    pub(super) buffered_items: usize,
    /// `sink.flush-buffer.size`.
    pub(super) buffered_bytes: usize,
    /// `sink.fencing`, where the table says.
    pub(super) fencing: Option<Fencing>,
    /// `sink.fencing.table-name`, of `transaction` alone.
    pub(super) fencing_table: Option<String>,
    /// `sink.attribute-types`.
    pub(super) sets: BTreeMap<String, SetKind>,
    /// `scan.segments`: requests of a scan that run at a time.
    pub(super) segments: Option<usize>,
    /// `scan.consistent-read`.
    pub(super) consistent_read: bool,
    /// `lookup.*`.
    pub(super) lookup: LookupCache,
}

impl DynamoOptions {
    pub(super) fn parse(table: &TableSpec) -> Result<Self> {
        let mut options = Options::new(&table.name, &table.options);
        options.accept(&["connector", "sink.flush-buffer.timeout", "format"]);
        let table_name = options.required("table-name")?;
        let aws = AwsOptions::parse(&mut options)?;
        let fencing = options.choice("sink.fencing", &Fencing::NAMES)?;
        let fencing_table = fencing_table(&mut options, &table.name, fencing)?;
        if fencing_table.as_ref() == Some(&table_name) {
            return Err(options.invalid("sink.fencing.table-name", &table_name, "another table than 'table-name'"));
        }
        let most = if fencing_table.is_some() { TRANSACTION_ITEMS_MAX } else { BATCH_ITEMS_MAX };
        let batch_items = options.bounded("sink.batch.max-size", most)?.unwrap_or(most) as usize;
        let parsed = Self {
            table: table.name.clone(),
            table_name,
            aws,
            fail_on_error: options.flag("sink.fail-on-error")?.unwrap_or(false),
            ignore_nulls: options.flag("sink.ignore-nulls")?.unwrap_or(true),
            batch_items,
            in_flight: options.bounded("sink.requests.max-inflight", 1000)?.unwrap_or(50) as usize,
            buffered_items: options.bounded("sink.requests.max-buffered", 1 << 20)?.unwrap_or(10_000) as usize,
            buffered_bytes: options.size("sink.flush-buffer.size")?.unwrap_or(16 << 20) as usize,
            fencing,
            fencing_table,
            sets: sets(&mut options, table)?,
            segments: options.bounded("scan.segments", SEGMENTS_MAX)?.map(|segments| segments as usize),
            consistent_read: options.flag("scan.consistent-read")?.unwrap_or(false),
            lookup: lookup::cache(&mut options)?,
        };
        options.finish()?;
        Ok(parsed)
    }
}

/// `sink.fencing.table-name`, which `'sink.fencing' = 'transaction'` needs and nothing else has.
fn fencing_table(options: &mut Options, table: &str, fencing: Option<Fencing>) -> Result<Option<String>> {
    const KEY: &str = "sink.fencing.table-name";
    match (fencing == Some(Fencing::Transaction), options.text(KEY)) {
        (true, None) => {
            let message = format!("table \"{table}\": 'sink.fencing' = 'transaction' needs the option '{KEY}'");
            Err(Error::user("INVALID_TABLE_PROPERTY", message)
                .with_hint("name a DynamoDB table with a partition key of type S, which holds who may write"))
        }
        (false, Some(name)) => Err(options.invalid(KEY, &name, "given with 'sink.fencing' = 'transaction' alone")),
        (_, name) => Ok(name),
    }
}

/// `sink.attribute-types` = `tags:SS,sizes:NS`.
fn sets(options: &mut Options, table: &TableSpec) -> Result<BTreeMap<String, SetKind>> {
    const KEY: &str = "sink.attribute-types";
    let Some(text) = options.text(KEY) else { return Ok(BTreeMap::new()) };
    let mut sets = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let kind = part.rsplit_once(':').and_then(|(name, kind)| {
            let kind = match kind.trim() {
                "SS" => SetKind::Strings,
                "NS" => SetKind::Numbers,
                "BS" => SetKind::Binaries,
                _ => return None,
            };
            Some((name.trim(), kind))
        });
        let Some((name, kind)) = kind else {
            return Err(options.invalid(KEY, &text, "a list such as 'tags:SS,sizes:NS,hashes:BS'"));
        };
        let Some(field) = table.schema.fields().iter().find(|field| field.name().eq_ignore_ascii_case(name)) else {
            return Err(Error::user(
                "COLUMN_NOT_FOUND",
                format!("table \"{}\": option '{KEY}' names the column \"{name}\", which is not declared", table.name),
            ));
        };
        sets.insert(field.name().clone(), kind);
    }
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn parsed(pairs: &[(&str, &str)]) -> Result<DynamoOptions> {
        let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
        let schema = Arc::new(Schema::new(vec![Field::new("tags", list, true)]));
        DynamoOptions::parse(&TableSpec::new("t", schema, pairs.iter().copied()))
    }

    #[test]
    fn defaults_are_the_services_limits() -> Result<()> {
        let options = parsed(&[("table-name", "Orders"), ("sink.attribute-types", "TAGS:SS")])?;
        assert_eq!((options.batch_items, options.ignore_nulls), (25, true));
        assert_eq!(options.sets.get("tags"), Some(&SetKind::Strings));
        Ok(())
    }

    #[test]
    fn wrong_options_are_refused_by_name() {
        let message = |pairs: &[(&str, &str)]| parsed(pairs).unwrap_err().message().to_owned();
        assert!(message(&[]).contains("needs the option 'table-name'"));
        assert!(message(&[("table-name", "t"), ("sink.batch.max-size", "26")]).contains("from 1 to 25"));
        assert!(message(&[("table-name", "t"), ("sink.attribute-types", "tags:XS")]).contains("tags:SS"));
        assert!(message(&[("table-name", "t"), ("sink.attribute-types", "nope:SS")]).contains("\"nope\""));
        assert!(message(&[("table-name", "t"), ("sink.ignore-null", "true")]).contains("unknown option"));
        let by_transaction = [("table-name", "t"), ("sink.fencing", "transaction")];
        assert!(message(&by_transaction).contains("needs the option 'sink.fencing.table-name'"));
        let alone = [("table-name", "t"), ("sink.fencing.table-name", "f")];
        assert!(message(&alone).contains("'sink.fencing' = 'transaction' alone"));
    }
}
