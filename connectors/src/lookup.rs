//! The options of a table that is looked up, under Flink's names.
//!
//! Invariant: a cache always has a bound.

use headwater_engine::{
    connector::{LookupCache, PartialCache},
    error::Result,
};

use crate::options::Options;

/// Rows of a partial cache unless the table says otherwise.
const ROWS_DEFAULT: u64 = 10_000;
/// Rows of a partial cache, at most.
const ROWS_MAX: u64 = 50_000_000;

#[derive(Clone, Copy)]
enum Kind {
    None,
    Partial,
    Full,
}

/// Takes the `lookup.*` options of a table.
pub(crate) fn cache(options: &mut Options) -> Result<LookupCache> {
    const ROWS: &str = "lookup.partial-cache.max-rows";
    options.accept(&["lookup.async", "lookup.max-retries", "lookup.full-cache.reload-strategy"]);
    let kinds = [("NONE", Kind::None), ("PARTIAL", Kind::Partial), ("FULL", Kind::Full)];
    let kind = options.choice("lookup.cache", &kinds)?.unwrap_or(Kind::None);
    let rows = options.number(ROWS)?.unwrap_or(ROWS_DEFAULT);
    if rows == 0 || rows > ROWS_MAX {
        return Err(options.invalid(ROWS, &rows.to_string(), &format!("a number from 1 to {ROWS_MAX}")));
    }
    let partial = PartialCache {
        rows_max: rows as usize,
        expire_after_write: options.duration("lookup.partial-cache.expire-after-write")?,
        expire_after_access: options.duration("lookup.partial-cache.expire-after-access")?,
        keeps_missing: options.flag("lookup.partial-cache.cache-missing-key")?.unwrap_or(true),
    };
    let reload = options.duration("lookup.full-cache.periodic-reload.interval")?;
    Ok(match kind {
        Kind::None => LookupCache::None,
        Kind::Partial => LookupCache::Partial(partial),
        Kind::Full => LookupCache::Full(reload.filter(|every| !every.is_zero())),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parsed(pairs: &[(&str, &str)]) -> Result<LookupCache> {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let mut options = Options::new("t", &pairs.collect());
        let cache = cache(&mut options)?;
        options.finish()?;
        Ok(cache)
    }

    #[test]
    fn a_partial_cache_is_bounded_and_nothing_is_kept_unless_asked_for() -> Result<()> {
        assert_eq!(parsed(&[])?, LookupCache::None);
        let LookupCache::Partial(partial) = parsed(&[("lookup.cache", "partial")])? else { panic!("a partial cache") };
        assert_eq!((partial.rows_max, partial.expire_after_write, partial.keeps_missing), (10_000, None, true));
        let full = [("lookup.cache", "FULL"), ("lookup.full-cache.periodic-reload.interval", "5 min")];
        assert_eq!(parsed(&full)?, LookupCache::Full(Some(Duration::from_secs(300))));
        assert!(parsed(&[("lookup.partial-cache.max-rows", "0")]).unwrap_err().message().contains("from 1 to"));
        assert!(parsed(&[("lookup.cash", "NONE")]).unwrap_err().hint().unwrap_or_default().contains("lookup.cache"));
        Ok(())
    }
}
