//! Settings of Flink that a file written for it may begin with: which of them mean nothing here, which hold for one
//! value, and what to write in place of the others.
//!
//! Invariant: a setting is taken only if the results are those that it asks for.

/// What becomes of a setting of Flink's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It says how work is done there, or how results are shown: taken, without effect.
    Tunes,
    /// These values are what is done here anyway; the hint is for others.
    Only(&'static [&'static str], &'static str),
    /// What to do instead.
    Instead(&'static str),
}

use Verdict::{Instead, Only, Tunes};

/// By name; one that ends in a dot stands for all that begin so. The first that fits counts.
const KNOWN: &[(&str, Verdict)] = &[
    ("execution.runtime-mode", Only(&["streaming", "automatic"], "a script whose inputs end is a batch: leave it out")),
    (
        "execution.checkpointing.mode",
        Only(&["exactly_once", "exactly-once"], "'sink.delivery-guarantee' of a table says it"),
    ),
    ("execution.checkpointing.dir", Instead("run --state URL says where checkpoints are")),
    (
        "execution.checkpointing.savepoint-dir",
        Instead("savepoints are kept with the checkpoints: jobs savepoint JOB NAME"),
    ),
    ("execution.checkpointing.", Tunes),
    ("execution.savepoint.path", Instead("run --from-checkpoint EPOCH|NAME goes back")),
    ("execution.state-recovery.path", Instead("run --from-checkpoint EPOCH|NAME goes back")),
    ("execution.", Tunes),
    ("state.checkpoints.dir", Instead("run --state URL says where checkpoints are")),
    ("state.savepoints.dir", Instead("savepoints are kept with the checkpoints: jobs savepoint JOB NAME")),
    ("state.", Tunes),
    ("restart-strategy", Instead("a job starts again by itself after failures outside of it: leave it out")),
    ("restart-strategy.", Instead("a job starts again by itself after failures outside of it: leave it out")),
    ("pipeline.auto-watermark-interval", Tunes),
    ("pipeline.object-reuse", Tunes),
    ("pipeline.operator-chaining", Tunes),
    ("pipeline.operator-chaining.", Tunes),
    ("pipeline.max-parallelism", Only(&["128"], "keys are in 128 groups, always")),
    ("table.local-time-zone", Only(&["utc", "etc/utc", "gmt"], "times are in UTC; AT TIME ZONE shows them in another")),
    ("table.dml-sync", Tunes),
    ("table.sql-dialect", Only(&["default"], "statements are Trino's, tables of streams Flink's")),
    ("table.exec.mini-batch.", Tunes),
    ("table.exec.async-lookup.", Tunes),
    ("table.exec.resource.", Tunes),
    ("table.exec.spill-compression.", Tunes),
    ("table.exec.disabled-operators", Tunes),
    ("table.exec.window-agg.buffer-size-limit", Tunes),
    ("table.exec.sink.keyed-shuffle", Tunes),
    (
        "table.exec.sink.upsert-materialize",
        Only(&["auto", "force"], "rows of one key are put in order where they need it"),
    ),
    (
        "table.exec.sink.not-null-enforcer",
        Only(&["drop"], "a row without a value is kept in \"t$rejected\", and the job goes on"),
    ),
    ("table.exec.sink.type-length-enforcer", Instead("a text that is too long is kept in \"t$rejected\"")),
    (
        "table.exec.source.cdc-events-duplicate",
        Only(&["false"], "'format' = 'dynamodb-cdc' alone knows changes that come again"),
    ),
    ("table.exec.deduplicate.", Tunes),
    ("table.exec.rank.", Tunes),
    ("table.exec.simplify-operator-name-enabled", Tunes),
    ("table.exec.legacy-cast-behaviour", Only(&["disabled"], "a cast that fails is an error; TRY_CAST gives NULL")),
    ("table.exec.uid.", Tunes),
    (
        "table.exec.emit.",
        Instead("windows fire once, when the watermark reaches their end; CUMULATE gives earlier results"),
    ),
    ("table.optimizer.", Tunes),
    ("table.plan.", Tunes),
    ("sql-client.", Tunes),
    ("taskmanager.", Tunes),
    ("jobmanager.", Tunes),
    ("parallelism.", Tunes),
];

/// What becomes of a setting that is not ours.
pub(super) fn verdict(key: &str) -> Option<Verdict> {
    let fits = |known: &str| if known.ends_with('.') { key.starts_with(known) } else { key == known };
    KNOWN.iter().find(|(known, _)| fits(known)).map(|(_, verdict)| *verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_rule_comes_first() {
        assert_eq!(verdict("table.exec.mini-batch.enabled"), Some(Tunes));
        assert!(matches!(verdict("state.checkpoints.dir"), Some(Instead(_))));
        assert_eq!(verdict("state.backend.type"), Some(Tunes));
        assert!(matches!(verdict("execution.checkpointing.mode"), Some(Only(..))));
        assert_eq!(verdict("table.exec.unheard-of"), None);
    }
}
