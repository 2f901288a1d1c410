//! `"t$rejected"` and `"t$late"` of jobs, read from their newest checkpoints by any process.
//!
//! Invariant: rows are those of published epochs that are retained; nothing is read twice.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::{catalog::TableProvider, datasource::MemTable};
use headwater_engine::{
    checkpoint::manifest::Manifest,
    error::{Error, Result},
    inspect,
};

use super::Jobs;
use crate::{diagnostics::Classify, session::Session};

/// The rows jobs keep under this name, `"t$rejected"` or `"t$late"`; `None` if no job has any and no schema is known.
pub(crate) async fn accounting_table(
    session: &Session,
    name: &str,
    schema: Option<SchemaRef>,
) -> Result<Option<Arc<dyn TableProvider>>> {
    let jobs = Jobs::read(session).await?;
    let wanted = session.config().job.as_deref();
    if let Some(job) = wanted {
        jobs.job(job)?;
    }
    let of_name = |manifest: &Manifest| manifest.segments.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
    let found: Vec<_> = jobs
        .manifests()
        .filter(|(job, _)| wanted.is_none_or(|wanted| wanted == *job))
        .filter_map(|(job, manifest)| Some((job, manifest, of_name(manifest)?)))
        .collect();
    let (batches, schema) = match (found.as_slice(), schema) {
        ([(_, manifest, key)], _) => {
            let manifest = Arc::new((*manifest).clone());
            let batches = inspect::accounting_rows(&jobs.store, &manifest, key).await?;
            let Some(first) = batches.first().map(|batch| batch.schema()) else { return Ok(None) };
            (batches, first)
        }
        ([], Some(schema)) => (Vec::new(), schema),
        ([], None) => return Ok(None),
        (several, _) => {
            let names: Vec<&str> = several.iter().map(|(job, ..)| *job).collect();
            let message = format!("several jobs have a table \"{name}\": {}", names.join(", "));
            return Err(Error::user("AMBIGUOUS_NAME", message).with_hint("name one with --job"));
        }
    };
    // A query that changed may have left segments with other columns; they stay out.
    let same = batches.into_iter().filter(|batch| batch.schema() == schema).collect();
    Ok(Some(Arc::new(MemTable::try_new(schema, vec![same]).classify()?)))
}
