//! Record batches as files of the checkpoint: Arrow IPC with LZ4-free plain buffers, whole files at a time.
//!
//! Invariant: what is read back equals what was written, batch by batch; a torn file is an error, never fewer rows.

use arrow::{
    array::{Int8Array, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
    ipc::{reader::FileReader, writer::FileWriter},
};
use bytes::Bytes;
use std::sync::Arc;

use crate::{
    error::{Error, Result},
    message::ChangeBatch,
};

/// Name of the column that holds row kinds in an outbox file.
pub const KIND: &str = "headwater_kind";

/// Encodes batches of one schema.
pub fn encode(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Bytes> {
    let mut bytes = Vec::new();
    let mut writer = FileWriter::try_new(&mut bytes, schema)?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    drop(writer);
    Ok(bytes.into())
}

/// Decodes a file of the checkpoint.
pub fn decode(path: &str, bytes: Bytes) -> Result<Vec<RecordBatch>> {
    let read = || -> Result<Vec<RecordBatch>> {
        let reader = FileReader::try_new(std::io::Cursor::new(bytes), None)?;
        Ok(reader.collect::<Result<Vec<_>, _>>()?)
    };
    read().map_err(|error| {
        Error::data("CHECKPOINT_CORRUPT", format!("checkpoint file \"{path}\" cannot be read: {}", error.message()))
            .with_hint(GO_BACK)
    })
}

/// What to do about a checkpoint that cannot be restored.
const GO_BACK: &str = "go back to an older checkpoint with --from-checkpoint EPOCH (headwater checkpoints JOB lists \
                       them), or restore the file";

/// The error that a file which a manifest names is not there.
pub fn missing(folder: &str, path: &str) -> Error {
    Error::data("CHECKPOINT_CORRUPT", format!("{folder} file \"{path}\" of the checkpoint is gone")).with_hint(GO_BACK)
}

/// The schema changes have in a file: a kind column in front.
pub fn change_schema(schema: &Schema) -> SchemaRef {
    let kind = Arc::new(Field::new(KIND, DataType::Int8, true));
    Arc::new(Schema::new(std::iter::once(kind).chain(schema.fields().iter().cloned()).collect::<Vec<_>>()))
}

/// Changes as rows of a file.
pub fn changes_to_rows(changes: &ChangeBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let kinds = changes.kinds.clone().unwrap_or_else(|| Int8Array::new_null(changes.num_rows()));
    let columns = std::iter::once(Arc::new(kinds) as _).chain(changes.rows.columns().iter().cloned()).collect();
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// Changes back from rows of a file.
pub fn rows_to_changes(rows: &RecordBatch) -> Result<ChangeBatch> {
    use arrow::array::{Array, AsArray};
    let kinds = rows.column(0).as_primitive_opt::<arrow::datatypes::Int8Type>().cloned();
    let kinds = kinds.ok_or_else(|| Error::internal("outbox file without its kind column"))?;
    let others: Vec<usize> = (1..rows.num_columns()).collect();
    let kinds = (kinds.null_count() < kinds.len()).then_some(kinds);
    Ok(ChangeBatch::new(rows.project(&others)?, kinds))
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn a_torn_file_is_an_error_that_names_it_and_the_way_out() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from(vec![1, 2]))]).unwrap();
        let whole = encode(&schema, std::slice::from_ref(&rows)).unwrap();
        assert_eq!(decode("j/state/x", whole.clone()).unwrap(), [rows]);
        for torn in [whole.slice(..whole.len() / 2), whole.slice(..whole.len() - 1), Bytes::new()] {
            let error = decode("j/state/x", torn).unwrap_err();
            assert_eq!(error.code().0, "CHECKPOINT_CORRUPT");
            assert!(error.message().contains("j/state/x") && error.hint().is_some_and(|h| h.contains("--from")));
        }
    }
}
