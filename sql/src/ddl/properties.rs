//! Table properties, judged when they are declared.
//!
//! Invariant: a table that is registered can be opened; a name that is a slip for one of ours is refused, any other is
//! kept, as Athena keeps what it does not know.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use headwater_connectors::lake::{provider::LakeTable, write::known::projection_of};
use headwater_engine::{
    catalog::Table,
    error::{Error, Result},
};

use crate::{lower::lake_time, session::Session, write::limits_of};

/// Properties that mean something, here or to the tools around Athena.
const KNOWN: [&str; 30] = [
    "coercion",
    "compression",
    "compressiontype",
    "compression.level",
    "csv.escape-character",
    "csv.field-delimiter",
    "csv.fields-min",
    "csv.header",
    "csv.quote-character",
    "json.path",
    "json.timestamp-format.standard",
    "json.timestamp-unit",
    "malformed",
    "parquet.compress",
    "parquet.compression",
    "partition.discovery",
    "projection.enabled",
    "scan.watermark.alignment.max-drift",
    "scan.watermark.idle-timeout",
    "scan.watermark.max-ahead",
    "sink.rolling-policy.file-size",
    "skip.footer.line.count",
    "skip.header.line.count",
    "source.monitor-interval",
    "source.overwritten",
    "storage.location.template",
    "watermark.allowed-lateness",
    "watermark.column",
    "watermark.delay",
    "write.compression",
];
/// Letters by which a slip differs from what was meant.
const SLIPS_MAX: usize = 2;
/// Shorter names are too much alike to call one a slip for another.
const SLIP_LENGTH_MIN: usize = 7;

/// Refuses what the table could not be read with.
pub(super) fn check(session: &Session, table: &Table) -> Result<()> {
    for key in table.properties.keys().map(|key| key.to_lowercase()) {
        let slip = |known: &&&str| strsim::damerau_levenshtein(&key, known) <= SLIPS_MAX;
        if KNOWN.contains(&key.as_str()) || key.len() < SLIP_LENGTH_MIN {
            continue;
        }
        if let Some(meant) = KNOWN.iter().find(slip) {
            return Err(Error::user("INVALID_TABLE_PROPERTY", format!("property \"{key}\" is not known"))
                .with_hint(format!("did you mean \"{meant}\"?")));
        }
    }
    session.stores().check(&table.properties)?;
    projection_of(table)?;
    limits_of(table)?;
    let table = Arc::new(Table::clone(table));
    let rows = LakeTable::new(Arc::clone(&table), Arc::clone(session.catalog()), Arc::clone(session.stores()))?;
    lake_time(session, &table, &rows.schema()).map(drop)
}
