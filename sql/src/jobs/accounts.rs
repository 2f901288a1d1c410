//! `"t$rejected"` and `"t$late"` of jobs, read from their newest checkpoints by any process.
//!
//! Invariant: rows are those of published epochs that are retained; nothing is read twice.

use std::sync::Arc;

use arrow::{
    array::{RecordBatch, RecordBatchOptions, new_null_array},
    compute::{can_cast_types, cast},
    datatypes::{Field, Schema, SchemaRef},
};
use datafusion::{catalog::TableProvider, datasource::MemTable};
use headwater_engine::{
    checkpoint::manifest::{Manifest, SourceState},
    error::{Error, Result},
    inspect,
};

use super::Jobs;
use crate::{diagnostics::Classify, lower::table::StreamTable, session::Session};

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
        ([(_, manifest, key)], schema) => {
            let manifest = Arc::new((*manifest).clone());
            let batches = inspect::accounting_rows(&jobs.store, &manifest, key).await?;
            let schemas = batches.iter().rev().map(|batch| batch.schema());
            let Some(schema) = schema.into_iter().chain(schemas).reduce(|all, other| with_columns(&all, &other)) else {
                return Ok(None);
            };
            (batches, schema)
        }
        ([], Some(schema)) => (Vec::new(), schema),
        ([], None) => return Ok(None),
        (several, _) => {
            let names: Vec<&str> = several.iter().map(|(job, ..)| *job).collect();
            let message = format!("several jobs have a table \"{name}\": {}", names.join(", "));
            return Err(Error::user("AMBIGUOUS_NAME", message).with_hint("name one with --job"));
        }
    };
    let rows = batches.iter().map(|batch| in_columns(&schema, batch)).collect::<Result<Vec<_>>>()?;
    Ok(Some(Arc::new(MemTable::try_new(schema, vec![rows]).classify()?)))
}

/// `"t$rejected"` or `"t$late"`, with these columns and no row, of a table that some job reads or writes by this name.
pub(crate) async fn nothing_kept(
    session: &Session,
    table: &str,
    schema: SchemaRef,
) -> Result<Option<Arc<dyn TableProvider>>> {
    let jobs = Jobs::read(session).await?;
    let wanted = session.config().job.as_deref();
    let is_wanted = |job: &str| wanted.is_none_or(|wanted| wanted == job);
    let is_written =
        |node: &String| node.split_once("/sink-").is_some_and(|(name, _)| name.eq_ignore_ascii_case(table));
    let is_known = jobs.manifests().filter(|(job, _)| is_wanted(job)).any(|(_, manifest)| {
        manifest.sources.values().any(|state| state.table.eq_ignore_ascii_case(table))
            || manifest.sinks.keys().any(is_written)
    });
    let nothing = || MemTable::try_new(schema, vec![Vec::new()]).classify();
    Ok(if is_known { Some(Arc::new(nothing()?)) } else { None })
}

/// Whether some job reads or writes a table where it is declared to be.
pub(crate) async fn is_of_job(session: &Session, table: &StreamTable) -> Result<bool> {
    let source = table.connector.source(&table.spec).ok().map(|source| source.to_string());
    let sink = table.connector.sink(&table.spec).ok().map(|sink| sink.destination());
    let is_source = |state: &SourceState| {
        state.table.eq_ignore_ascii_case(&table.name) && source.as_ref().is_some_and(|source| *source == state.origin)
    };
    let jobs = Jobs::read(session).await?;
    Ok(jobs.manifests().any(|(_, manifest)| {
        manifest.sources.values().any(is_source)
            || manifest.sinks.values().any(|state| state.destination.is_some() && state.destination == sink)
    }))
}

/// The columns of a schema, then those that another has besides. Segments of an older table may have other columns.
fn with_columns(schema: &SchemaRef, other: &SchemaRef) -> SchemaRef {
    let is_new = |field: &&Arc<Field>| place(schema, field.name()).is_none();
    let fields = schema.fields().iter().chain(other.fields().iter().filter(is_new));
    Arc::new(Schema::new(fields.map(|field| Arc::new(field.as_ref().clone().with_nullable(true))).collect::<Vec<_>>()))
}

fn place(schema: &Schema, name: &str) -> Option<usize> {
    schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name))
}

/// Rows in these columns, by name: NULL where they have no such column, or a value that the column's type today has not.
fn in_columns(schema: &SchemaRef, rows: &RecordBatch) -> Result<RecordBatch> {
    let there = rows.schema();
    let columns = schema.fields().iter().map(|field| match place(&there, field.name()) {
        Some(index) if rows.column(index).data_type() == field.data_type() => Ok(Arc::clone(rows.column(index))),
        Some(index) if can_cast_types(rows.column(index).data_type(), field.data_type()) => {
            Ok(cast(rows.column(index), field.data_type())?)
        }
        Some(_) | None => Ok(new_null_array(field.data_type(), rows.num_rows())),
    });
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns.collect::<Result<_>>()?, &options)?)
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{ArrayRef, AsArray, Int64Array, StringArray},
        datatypes::{DataType, Int64Type},
    };

    use super::*;

    #[test]
    fn rows_of_an_older_table_are_shown_by_name() {
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        let new: SchemaRef = Arc::new(Schema::new(vec![field("id", DataType::Int64), field("v", DataType::Int64)]));
        let old: SchemaRef = Arc::new(Schema::new(vec![field("gone", DataType::Utf8), field("ID", DataType::Utf8)]));
        let all = with_columns(&new, &old);
        assert_eq!(all.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["id", "v", "gone"]);
        let text = |values: [&str; 2]| Arc::new(StringArray::from_iter_values(values)) as ArrayRef;
        let rows = RecordBatch::try_new(old, vec![text(["a", "b"]), text(["7", "x"])]).unwrap();
        let shown = in_columns(&all, &rows).unwrap();
        let ids: Vec<Option<i64>> = shown.column(0).as_primitive::<Int64Type>().iter().collect();
        assert_eq!(ids, [Some(7), None]);
        assert_eq!(shown.column(1).null_count(), 2);
        assert_eq!(shown.column(2).as_string::<i32>().value(1), "b");
        let values =
            RecordBatch::try_new(new, vec![Arc::new(Int64Array::from(vec![1])), Arc::new(Int64Array::from(vec![2]))]);
        assert_eq!(in_columns(&all, &values.unwrap()).unwrap().column(2).null_count(), 1);
    }
}
