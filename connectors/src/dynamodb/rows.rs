//! Rows of a changelog as writes of items.
//!
//! Invariant: an update's old value is no write, since the new value has its key and replaces the whole item.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, BooleanArray, Int8Array},
    compute::{filter, filter_record_batch},
    datatypes::SchemaRef,
    record_batch::RecordBatch,
};
use headwater_engine::{
    connector::RefusedRow,
    error::{Error, Result},
    message::{ChangeBatch, RowKind},
};

use super::{
    encode::ItemEncoder,
    keys::{Description, KeyId},
    options::DynamoOptions,
    size::{self, Item},
};

/// What happens to one item.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// It becomes this.
    Put(Item),
    /// It goes; these are its key's attributes.
    Delete(Item),
}

/// One write with the row it came from.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) key: KeyId,
    pub(super) action: Action,
    pub(super) bytes: usize,
    pub(super) rows: RecordBatch,
    pub(super) row: usize,
}

impl Write {
    /// The row, refused for a reason.
    pub(super) fn refused(&self, reason: &str) -> Result<RefusedRow> {
        RefusedRow::of(&self.rows, self.row, reason)
    }
}

/// Makes writes of rows of one schema.
#[derive(Debug, Clone)]
pub(super) struct RowWrites {
    description: Arc<Description>,
    items: ItemEncoder,
    keys: ItemEncoder,
}

impl RowWrites {
    /// For rows of a schema; fails if a column has no attribute, or the keys do not agree with the table's.
    pub(super) fn new(
        options: &DynamoOptions,
        primary_key: &[String],
        description: Arc<Description>,
        schema: &SchemaRef,
    ) -> Result<Self> {
        let key_columns = description.columns(&options.table, schema, primary_key)?;
        let names = description.attribute_names(schema, &key_columns);
        let items = ItemEncoder::new(schema, names, &options.sets, options.ignore_nulls)?;
        description.check_types(&options.table, &items, &key_columns)?;
        let keys = items.only(&key_columns);
        Ok(Self { description, items, keys })
    }

    /// The write of a row, nothing for an old value, or why there cannot be one.
    pub(super) fn write(
        &self,
        changes: &ChangeBatch,
        row: usize,
    ) -> std::result::Result<Option<(KeyId, Action)>, String> {
        match changes.kind(row) {
            RowKind::UpdateBefore => Ok(None),
            RowKind::Delete => {
                let (key, id) = self.description.key_of(&self.keys.item(&changes.rows, row)?)?;
                Ok(Some((id, Action::Delete(key))))
            }
            RowKind::Insert | RowKind::UpdateAfter => {
                let item = self.items.item(&changes.rows, row)?;
                let (_, id) = self.description.key_of(&item)?;
                match size::refusal(&item) {
                    None => Ok(Some((id, Action::Put(item)))),
                    Some(reason) => Err(format!("{reason} ({})", self.description.key_text(&item))),
                }
            }
        }
    }

    /// All writes of a batch, in order; what cannot be written goes to `refused`.
    pub(super) fn writes(&self, changes: &ChangeBatch, refused: &mut Vec<RefusedRow>) -> Result<Vec<Write>> {
        let mut writes = Vec::with_capacity(changes.num_rows());
        for row in 0..changes.num_rows() {
            match self.write(changes, row) {
                Ok(None) => {}
                Ok(Some((key, action))) => {
                    let bytes = match &action {
                        Action::Put(item) | Action::Delete(item) => size::item_bytes(item),
                    };
                    writes.push(Write { key, action, bytes, rows: changes.rows.clone(), row });
                }
                Err(reason) => refused.push(RefusedRow::of(&changes.rows, row, reason)?),
            }
        }
        Ok(writes)
    }

    /// The rows that can be written, and those that cannot.
    pub(super) fn checked(&self, changes: ChangeBatch) -> Result<(ChangeBatch, Vec<RefusedRow>)> {
        let (mut kept, mut refused) = (Vec::with_capacity(changes.num_rows()), Vec::new());
        for row in 0..changes.num_rows() {
            match self.write(&changes, row) {
                Ok(write) => kept.push(write.is_some()),
                Err(reason) => {
                    kept.push(false);
                    refused.push(RefusedRow::of(&changes.rows, row, reason)?);
                }
            }
        }
        if kept.iter().all(|kept| *kept) {
            return Ok((changes, refused));
        }
        let kept = BooleanArray::from(kept);
        let rows = filter_record_batch(&changes.rows, &kept)?;
        let kinds = changes.kinds.as_ref().map(|kinds| kept_kinds(kinds, &kept)).transpose()?;
        Ok((ChangeBatch::new(rows, kinds), refused))
    }
}

fn kept_kinds(kinds: &Int8Array, kept: &BooleanArray) -> Result<Int8Array> {
    let kinds = filter(kinds as &dyn Array, kept)?;
    kinds.as_primitive_opt().cloned().ok_or_else(|| Error::internal("row kinds are no longer numbers"))
}
