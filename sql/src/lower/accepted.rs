//! Options of Flink that say how work is done there, not what comes of it: read, checked, and of no further use.
//!
//! Invariant: an option that would change rows, or which rows there are, is none of these.

use headwater_connectors::options::Options;
use headwater_engine::error::{Error, Result};

/// Their names, for tables of every connector.
pub(crate) const ACCEPTED: [&str; 8] = [
    "scan.parallelism",
    "sink.parallelism",
    "sink.buffer-flush.max-rows",
    "sink.buffer-flush.interval",
    "sink.shuffle-by-partition.enable",
    "scan.watermark.emit.strategy",
    "scan.watermark.alignment.group",
    "scan.watermark.alignment.update-interval",
];

/// Checks their values.
pub(super) fn take(options: &mut Options) -> Result<()> {
    options.number("scan.parallelism")?;
    options.number("sink.parallelism")?;
    options.number("sink.buffer-flush.max-rows")?;
    options.duration("sink.buffer-flush.interval")?;
    options.flag("sink.shuffle-by-partition.enable")?;
    options.choice("scan.watermark.emit.strategy", &[("on-periodic", ()), ("on-event", ())])?;
    let group = options.text("scan.watermark.alignment.group");
    let every = options.duration("scan.watermark.alignment.update-interval")?;
    let drift = options.duration("scan.watermark.alignment.max-drift")?;
    if drift.is_none() && (group.is_some() || every.is_some()) {
        return Err(Error::user("INVALID_TABLE_PROPERTY", "alignment without 'scan.watermark.alignment.max-drift'")
            .with_hint("say how far splits may be apart"));
    }
    Ok(())
}
