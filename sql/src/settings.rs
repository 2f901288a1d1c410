//! Settings: what `SET 'key' = 'value'`, `--config` and `headwater.toml` can say.
//!
//! Invariant: every setting is one documented field with its default; an unknown key is refused with the nearest one.

use std::{collections::BTreeMap, time::Duration};

use headwater_engine::error::{Error, Result};

use crate::diagnostics::{did_you_mean, is_slip};

mod flink;
mod value;

use flink::Verdict;
pub use value::{ByteCount, SettingValue};

/// A setting as `SHOW SETTINGS` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingRow {
    /// Key.
    pub key: String,
    /// Value now.
    pub value: String,
    /// Value unless set.
    pub default: String,
    /// What it means.
    pub meaning: String,
}

macro_rules! settings {
    ($($(#[doc = $meaning:literal])+ $field:ident: $kind:ty = $key:literal, $default:expr;)+) => {
        /// The settings of a session.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Settings {
            $($(#[doc = $meaning])+ pub $field: $kind,)+
            /// `s3.bucket.<name>.<key>`: one of the `s3` settings for one bucket.
            pub buckets: BTreeMap<String, String>,
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($field: $default,)+ buckets: BTreeMap::new() }
            }
        }

        /// Every key.
        pub const KEYS: &[&str] = &[$($key),+];

        impl Settings {
            fn set_known(&mut self, key: &str, value: &str) -> Option<Result<(), String>> {
                match key {
                    $($key => Some(<$kind>::parse(value).map(|parsed| self.$field = parsed)),)+
                    _ => None,
                }
            }

            /// Every setting with its value, default and meaning.
            pub fn rows(&self) -> Vec<SettingRow> {
                let default = Self::default();
                let mut rows = vec![$(SettingRow {
                    key: $key.to_owned(),
                    value: self.$field.show(),
                    default: default.$field.show(),
                    meaning: [$($meaning),+].concat().trim().to_owned(),
                }),+];
                rows.extend(self.buckets.iter().map(|(key, value)| SettingRow {
                    key: key.clone(),
                    value: value.clone(),
                    default: String::new(),
                    meaning: "This S3 setting for one bucket.".to_owned(),
                }));
                rows
            }
        }
    };
}

settings! {
    /// Parallel slices of a query or job; unless set, the number of cores.
    parallelism: Option<usize> = "parallelism", None;
    /// Memory of all queries of the process, or of a job; over it they spill or slow down. Unless set, 1 GB for a job, and not limited for queries.
    memory_limit: Option<ByteCount> = "memory.limit", None;
    /// Name of a job, unless run --job says it; unless set, that of its last file.
    pipeline_name: Option<String> = "pipeline.name", None;
    /// Time between two checkpoints of a job.
    checkpoint_interval: Duration = "checkpoint.interval", Duration::from_secs(10);
    /// Checkpoints of a job that are kept, beside its savepoints.
    checkpoint_retained: usize = "checkpoint.retained", 3;
    /// How long state of a key without a window is kept after its last change; 0 is for ever.
    state_ttl: Duration = "table.exec.state.ttl", Duration::ZERO;
    /// How often a job reads the tables again that it joins as lookups; 0 is only at its start.
    lookup_refresh: Duration = "lookup.full-cache.periodic-reload.interval", Duration::ZERO;
    /// How long a split that is caught up may be silent before it no longer holds back windows; 0 is never.
    idle_timeout: Duration = "table.exec.source.idle-timeout", Duration::ZERO;
    /// How long rejected and late rows of a job are kept.
    rejected_retention: Duration = "rejected.retention", Duration::from_secs(7 * 24 * 3600);
    /// Rejected rows a second above which a source task of a job reads more slowly; unless set, it never does.
    rejected_max_rate: Option<usize> = "rejected.max-rate", None;
    /// Filter while Parquet is decoded: for wide results of a filter that keeps few rows.
    parquet_pushdown_filters: bool = "parquet.pushdown-filters", false;
    /// A query that would scan more bytes is refused before it reads; unless set, not limited.
    max_scan: Option<ByteCount> = "max-scan", None;
    /// A statement that runs longer is stopped; 0 is never.
    timeout: Duration = "timeout", Duration::ZERO;
    /// Warnings make the exit code 1.
    strict: bool = "strict", false;
    /// Endpoint of S3, such as http://localhost:9000; unless set, from the environment, else AWS.
    s3_endpoint: Option<String> = "s3.endpoint", None;
    /// Region of S3; unless set, from the AWS chain.
    s3_region: Option<String> = "s3.region", None;
    /// Bucket in the path, not in the host name; unless set, when there is an endpoint.
    s3_path_style: Option<bool> = "s3.path-style", None;
    /// Read public buckets without credentials.
    s3_unsigned: bool = "s3.unsigned", false;
    /// Encryption of what is written: AES256 or aws:kms.
    s3_sse: Option<String> = "s3.sse", None;
    /// Key of that encryption, with aws:kms.
    s3_sse_kms_key_id: Option<String> = "s3.sse.kms-key-id", None;
    /// Time one request to S3 may take.
    s3_timeout: Duration = "s3.timeout", Duration::from_secs(60);
    /// How often a failed request to S3 is tried again.
    s3_retries: u32 = "s3.retries", 5;
}

/// Flink's names of settings that we call otherwise.
const ALIASES: &[(&str, &str)] = &[
    ("execution.checkpointing.interval", "checkpoint.interval"),
    ("state.checkpoints.num-retained", "checkpoint.retained"),
    ("parallelism.default", "parallelism"),
    ("table.exec.resource.default-parallelism", "parallelism"),
];

/// What can be set for one bucket, after `s3.bucket.<name>.`.
const BUCKET_KEYS: &[&str] =
    &["endpoint", "region", "path-style", "unsigned", "sse", "sse.kms-key-id", "timeout", "retries"];

/// Times whose number alone would be taken for seconds by some and for milliseconds, as Flink takes it, by others.
const SECONDS_OR_MILLISECONDS: &[&str] = &["timeout", "s3.timeout"];

/// Our name of a setting.
fn ours(key: String) -> String {
    ALIASES.iter().find(|(theirs, _)| *theirs == key).map_or(key, |(_, ours)| (*ours).to_owned())
}

fn is_bare(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_digit()) && value.bytes().any(|byte| byte != b'0')
}

impl Settings {
    /// Sets one by its key.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let key = key.trim().to_lowercase();
        if let Some(rest) = key.strip_prefix("s3.bucket.") {
            return self.set_for_bucket(&key, rest, value);
        }
        let key = ours(key);
        if SECONDS_OR_MILLISECONDS.contains(&key.as_str()) && is_bare(value.trim()) {
            return Err(invalid(&key, value, "a time with its unit, such as 10 s"));
        }
        match self.set_known(&key, value.trim()) {
            Some(Ok(())) => Ok(()),
            Some(Err(expected)) => Err(invalid(&key, value, &expected)),
            None => flinks(&key, value.trim()),
        }
    }

    fn set_for_bucket(&mut self, key: &str, rest: &str, value: &str) -> Result<()> {
        let Some(known) = BUCKET_KEYS.iter().find(|known| rest.ends_with(&format!(".{known}"))) else {
            return Err(Error::user("INVALID_SESSION_PROPERTY", format!("setting \"{key}\" does not exist"))
                .with_hint(format!("for one bucket there are {}", BUCKET_KEYS.join(", "))));
        };
        let (mut scratch, shared) = (Self::default(), format!("s3.{known}"));
        if SECONDS_OR_MILLISECONDS.contains(&shared.as_str()) && is_bare(value.trim()) {
            return Err(invalid(key, value, "a time with its unit, such as 10 s"));
        }
        if let Some(Err(expected)) = scratch.set_known(&shared, value.trim()) {
            return Err(invalid(key, value, &expected));
        }
        let shown = scratch.rows().into_iter().find(|row| row.key == shared).map(|row| row.value);
        self.buckets.insert(key.to_owned(), shown.unwrap_or_default());
        Ok(())
    }

    /// Puts one back to its default, or all.
    pub fn reset(&mut self, key: Option<&str>) -> Result<()> {
        let default = Self::default();
        let Some(key) = key.map(|key| ours(key.trim().to_lowercase())) else {
            *self = default;
            return Ok(());
        };
        if self.buckets.remove(&key).is_some() {
            return Ok(());
        }
        let known = default.rows().into_iter().find(|row| row.key == key);
        match known {
            Some(row) => self.set(&key, &row.default),
            None => Err(unknown(&key)),
        }
    }

    /// The settings in a `headwater.toml`: `key = value`, nested tables joined by dots.
    pub fn pairs_of_toml(text: &str) -> Result<Vec<(String, String)>> {
        let table: toml::Table = text.parse().map_err(|error| {
            Error::user("INVALID_CONFIGURATION", format!("the configuration cannot be read: {error}"))
        })?;
        let mut pairs = Vec::new();
        flatten(String::new(), &table, &mut pairs);
        let mut scratch = Self::default();
        for (key, value) in &pairs {
            scratch.set(key, value)?;
        }
        Ok(pairs)
    }

    /// The settings for S3 that differ from their defaults, by key.
    pub fn s3_options(&self) -> BTreeMap<String, String> {
        let is_set = |row: &SettingRow| row.key.starts_with("s3.") && row.value != row.default;
        self.rows().into_iter().filter(is_set).map(|row| (row.key, row.value)).collect()
    }
}

fn flatten(prefix: String, table: &toml::Table, pairs: &mut Vec<(String, String)>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(inner) => flatten(key, inner, pairs),
            toml::Value::String(text) => pairs.push((key, text.clone())),
            other => pairs.push((key, other.to_string())),
        }
    }
}

fn invalid(key: &str, value: &str, expected: &str) -> Error {
    Error::user("INVALID_SESSION_PROPERTY", format!("setting \"{key}\" cannot be \"{}\"", value.trim()))
        .with_hint(format!("it takes {expected}"))
}

/// A setting that only Flink has.
fn flinks(key: &str, value: &str) -> Result<()> {
    let error = Error::user("INVALID_SESSION_PROPERTY", format!("setting \"{key}\" cannot be \"{value}\""));
    match flink::verdict(key) {
        Some(Verdict::Tunes) if ALIASES.iter().any(|(known, _)| is_slip(key, known)) => Err(unknown(key)),
        Some(Verdict::Tunes) => Ok(()),
        Some(Verdict::Only(values, _)) if values.contains(&value.to_lowercase().as_str()) => Ok(()),
        Some(Verdict::Only(_, hint)) => Err(error.with_hint(hint)),
        Some(Verdict::Instead(hint)) => Err(Error::not_supported(format!("setting \"{key}\"")).with_hint(hint)),
        None => Err(unknown(key)),
    }
}

fn unknown(key: &str) -> Error {
    let error = Error::user("INVALID_SESSION_PROPERTY", format!("setting \"{key}\" does not exist"));
    let error = did_you_mean(error, key, KEYS.iter().copied().chain(ALIASES.iter().map(|(flinks, _)| *flinks)));
    if error.hint().is_some() { error } else { error.with_hint("SHOW SETTINGS lists them") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_set_shown_and_reset() -> Result<()> {
        let mut settings = Settings::default();
        settings.set("Checkpoint.Interval", "1 min")?;
        settings.set("memory.limit", "512 MB")?;
        settings.set("s3.path-style", "true")?;
        assert_eq!(settings.checkpoint_interval, Duration::from_secs(60));
        assert_eq!(settings.memory_limit, Some(ByteCount(512 << 20)));
        let row = settings.rows().into_iter().find(|row| row.key == "memory.limit").unwrap();
        assert_eq!((row.value.as_str(), row.default.as_str()), ("512 MB", ""));
        assert_eq!(settings.s3_options(), BTreeMap::from([("s3.path-style".into(), "true".into())]));
        for key in KEYS {
            settings.reset(Some(key))?;
        }
        assert_eq!(settings, Settings::default());
        Ok(())
    }

    #[test]
    fn unknown_keys_and_wrong_values_say_what_to_do() {
        let mut settings = Settings::default();
        let error = settings.set("checkpoint.intervall", "1 s").unwrap_err();
        assert_eq!(error.hint(), Some("did you mean \"checkpoint.interval\"?"));
        settings.set("execution.checkpointing.interval", "7 s").unwrap();
        assert_eq!(settings.checkpoint_interval, Duration::from_secs(7));
        settings.set("pipeline.name", "x").unwrap();
        assert_eq!(settings.pipeline_name.as_deref(), Some("x"));
        settings.set("table.exec.mini-batch.enabled", "true").unwrap();
        settings.set("execution.runtime-mode", "STREAMING").unwrap();
        let error = settings.set("table.local-time-zone", "Europe/Berlin").unwrap_err();
        assert!(error.hint().unwrap().contains("UTC"));
        assert!(settings.set("state.checkpoints.dir", "s3://x").unwrap_err().hint().unwrap().contains("--state"));
        let error = settings.set("timeout", "5").unwrap_err();
        assert_eq!(error.hint(), Some("it takes a time with its unit, such as 10 s"));
        settings.set("timeout", "0").unwrap();
        settings.set("checkpoint.interval", "5000").unwrap();
        let error = settings.set("parallelism", "0").unwrap_err();
        assert_eq!(error.message(), "setting \"parallelism\" cannot be \"0\"");
        let error = settings.set("s3.bucket.logs.regio", "x").unwrap_err();
        assert!(error.hint().unwrap().contains("region"));
    }

    #[test]
    fn one_bucket_has_settings_of_its_own() -> Result<()> {
        let mut settings = Settings::default();
        settings.set("s3.bucket.my.logs.endpoint", "http://localhost:1")?;
        assert_eq!(
            settings.s3_options().get("s3.bucket.my.logs.endpoint").map(String::as_str),
            Some("http://localhost:1")
        );
        assert!(settings.set("s3.bucket.my.logs.retries", "many").is_err());
        settings.set("s3.bucket.my.logs.Timeout", "2 minutes")?;
        settings.set("s3.bucket.my.logs.retries", "0")?;
        let options = settings.s3_options();
        assert_eq!(options["s3.bucket.my.logs.timeout"], "2 min", "as the stores read it");
        assert_eq!(options["s3.bucket.my.logs.retries"], "0");
        Ok(())
    }

    #[test]
    fn the_configuration_file_has_the_same_keys() -> Result<()> {
        let pairs = Settings::pairs_of_toml("parallelism = 3\n[s3]\nendpoint = 'http://x'\npath-style = true\n")?;
        assert_eq!(pairs.len(), 3);
        assert!(pairs.contains(&("s3.path-style".into(), "true".into())));
        assert!(Settings::pairs_of_toml("paralelism = 3").is_err());
        Ok(())
    }
}
