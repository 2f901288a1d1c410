//! State that is on local disk: layers of increments by bucket, and rows that wait until their bucket is read back.
//!
//! Invariant: the state of a bucket is its rows in the layers of each table, in order; `fresh` are those of them that no
//! checkpoint holds, unless `replaces` says that a checkpoint needs them all.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, Int8Array, RecordBatch},
    datatypes::{DataType, Field, Int8Type, Schema, SchemaRef},
};

use super::{
    batch_of,
    files::{self, Folder, Layer, LayerWriter, blocking, mark_buckets},
};
use crate::{
    error::{Error, Result},
    message::ChangeBatch,
    operator::{Observation, OperatorContext},
    state::{StateWriter, TableIncrement, key_group_field},
    time::Watermark,
};

/// Layers a table may have before all its state is written again, if that is not much more than what was written since.
const LAYERS_MIN: usize = 8;
/// Layers a table may have before all its state is written again.
const LAYERS_MAX: usize = 32;

/// The layers of one state table.
#[derive(Debug, Default)]
struct Table {
    layers: Vec<Layer>,
    fresh: Layer,
    /// Panes below this are gone.
    alive_from: i64,
}

impl Table {
    fn push(&mut self, layer: Layer, replaces: bool) {
        if replaces {
            self.layers.clear();
            self.fresh.clear();
        }
        self.fresh.extend(layer.iter().cloned());
        if !layer.is_empty() {
            self.layers.push(layer);
        }
    }

    fn forget_panes(&mut self, alive_from: i64) {
        self.alive_from = self.alive_from.max(alive_from);
        let from = self.alive_from;
        self.layers.iter_mut().for_each(|layer| layer.retain(|file| file.last_pane >= from));
        self.layers.retain(|layer| !layer.is_empty());
        self.fresh.retain(|file| file.last_pane >= from);
    }

    fn wants_rewrite(&self) -> bool {
        let Some((first, later)) = self.layers.split_first() else { return false };
        let (base, since) = (files::bytes(std::slice::from_ref(first)), files::bytes(later));
        later.len() >= LAYERS_MAX || (later.len() >= LAYERS_MIN && since >= base / 2)
    }
}

/// What is known of a bucket that is on disk.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bucket {
    pub(super) observed: Observation,
    /// Event time from which a watermark changes it.
    pub(super) next_event: Option<i64>,
}

/// What one bucket says at a barrier: increments of its tables.
pub(super) type Increments = Vec<TableIncrement>;

/// What was read back for a bucket.
#[derive(Debug)]
pub(super) struct ReadBack {
    pub(super) state: Vec<(String, Vec<RecordBatch>)>,
    pub(super) waiting: Vec<(usize, ChangeBatch)>,
}

#[derive(Debug)]
pub(super) struct OnDisk {
    folder: Folder,
    pub(super) groups: Range<u16>,
    tables: BTreeMap<&'static str, Table>,
    pub(super) buckets: Vec<Bucket>,
    replaces: bool,
    /// Schemas of the inputs, once rows came.
    inputs: Vec<Option<SchemaRef>>,
    /// Rows in memory on their way to disk, each with its key group in front.
    arrived: Vec<(usize, RecordBatch)>,
    pub(super) arrived_bytes: usize,
    /// Rows on disk that wait for their bucket, by input.
    waiting: Vec<Vec<Layer>>,
    pub(super) is_waiting: Vec<bool>,
    pub(super) written: u64,
    /// The watermark up to which every bucket has been called.
    pub(super) done: Watermark,
}

impl OnDisk {
    pub(super) fn new(context: &OperatorContext, tables: &[&'static str], done: Watermark) -> Self {
        let buckets = context.key_groups.len();
        let table = |name: &&'static str| (*name, Table { alive_from: i64::MIN, ..Table::default() });
        Self {
            folder: Folder::new(&context.spill),
            groups: context.key_groups.clone(),
            tables: tables.iter().map(table).collect(),
            buckets: vec![Bucket::default(); buckets],
            replaces: false,
            inputs: Vec::new(),
            arrived: Vec::new(),
            arrived_bytes: 0,
            waiting: Vec::new(),
            is_waiting: vec![false; buckets],
            written: 0,
            done,
        }
    }

    /// Takes rows in that wait for their bucket; `groups` are their key groups.
    pub(super) fn take(&mut self, input: usize, groups: ArrayRef, changes: &ChangeBatch) -> Result<()> {
        if self.inputs.len() <= input {
            self.inputs.resize(input + 1, None);
            self.waiting.resize(input + 1, Vec::new());
        }
        let schema = self.inputs[input].get_or_insert_with(|| changes.rows.schema());
        let kinds = changes.kinds.clone().unwrap_or_else(|| Int8Array::from_value(0, changes.num_rows()));
        let columns = [groups, Arc::new(kinds)].into_iter().chain(changes.rows.columns().iter().cloned()).collect();
        let rows = batch_of(&waiting_schema(schema), columns, changes.num_rows())?;
        self.arrived_bytes += rows.get_array_memory_size();
        self.arrived.push((input, rows));
        Ok(())
    }

    /// Moves the rows that arrived to disk.
    pub(super) async fn flush(&mut self) -> Result<()> {
        let arrived = std::mem::take(&mut self.arrived);
        self.arrived_bytes = 0;
        for input in 0..self.inputs.len() {
            let of_input = arrived.iter().filter(|(of, _)| *of == input).map(|(_, rows)| rows.clone());
            let rows: Vec<RecordBatch> = of_input.collect();
            if rows.is_empty() {
                continue;
            }
            let layer = self.write_layer(rows, i64::MAX).await?;
            mark_buckets(&layer, &mut self.is_waiting);
            self.waiting[input].push(layer);
        }
        Ok(())
    }

    async fn write_layer(&mut self, batches: Vec<RecordBatch>, last_pane: i64) -> Result<Layer> {
        let (mut writer, groups) = (LayerWriter::new(&self.folder), self.groups.clone());
        let work = move || {
            writer.write_sorted(&batches, &groups, last_pane)?;
            writer.finish()
        };
        let layer = blocking(work).await?;
        self.written += files::bytes(std::slice::from_ref(&layer));
        Ok(layer)
    }

    /// Takes over state that was in memory. `saved` if a checkpoint holds it, and only it.
    pub(super) async fn add(&mut self, increments: Increments, saved: bool) -> Result<()> {
        for increment in increments {
            let layer = self.write_layer(increment.batches, increment.last_pane).await?;
            let table = self.tables.get_mut(increment.table).ok_or_else(|| unknown(increment.table))?;
            table.push(layer, increment.whole);
            table.forget_panes(increment.alive_from);
            if saved {
                table.fresh.clear();
            }
        }
        self.replaces |= !saved;
        Ok(())
    }

    /// Writers for what a turn over the buckets changes.
    pub(super) fn writers(&self) -> BTreeMap<&'static str, LayerWriter> {
        self.tables.keys().map(|table| (*table, LayerWriter::new(&self.folder))).collect()
    }

    /// Takes over what a turn over the buckets has written.
    pub(super) fn finish(&mut self, turned: Turned, replaces: bool) -> Result<()> {
        for (name, (layer, alive_from)) in turned {
            let table = self.tables.get_mut(name).ok_or_else(|| unknown(name))?;
            self.written += files::bytes(std::slice::from_ref(&layer));
            table.push(layer, replaces);
            table.forget_panes(alive_from);
        }
        self.replaces |= replaces;
        self.waiting.iter_mut().for_each(Vec::clear);
        self.is_waiting.fill(false);
        Ok(())
    }

    /// Whether so much was written that a turn should write everything again.
    pub(super) fn wants_rewrite(&self) -> bool {
        self.tables.values().any(Table::wants_rewrite)
    }

    /// Reads a bucket and the rows that wait for it.
    pub(super) async fn read(&self, bucket: usize) -> Result<ReadBack> {
        let tables: Vec<(String, Vec<Layer>)> =
            self.tables.iter().map(|(name, table)| ((*name).to_owned(), table.layers.clone())).collect();
        let inputs: Vec<(Option<SchemaRef>, Vec<Layer>)> =
            self.inputs.iter().cloned().zip(self.waiting.iter().cloned()).collect();
        let work = move || {
            let read = |(name, layers): (String, Vec<Layer>)| Ok((name, files::read(&layers, bucket)?));
            let state = tables.into_iter().map(read).collect::<Result<Vec<_>>>()?;
            let mut waiting = Vec::new();
            for (input, (schema, layers)) in inputs.into_iter().enumerate() {
                let Some(schema) = schema else { continue };
                for rows in files::read(&layers, bucket)? {
                    waiting.push((input, changes_of(&rows, &schema)?));
                }
            }
            Ok(ReadBack { state, waiting })
        };
        blocking(work).await
    }

    /// Whether rows wait for anything.
    pub(super) fn has_waiting(&self) -> bool {
        !self.arrived.is_empty() || self.is_waiting.contains(&true)
    }

    /// Hands the files that the checkpoint does not have to the writer.
    pub(super) fn snapshot(&mut self, state: &mut StateWriter) -> Result<()> {
        if self.has_waiting() {
            return Err(Error::internal("rows wait on disk at a barrier"));
        }
        let whole = state.wants_whole() || std::mem::take(&mut self.replaces);
        for (name, table) in &mut self.tables {
            let fresh = std::mem::take(&mut table.fresh);
            let files = if whole { table.layers.iter().flatten().cloned().collect() } else { fresh };
            let files = files.iter().map(|file| (file.path.clone(), file.last_pane)).collect();
            state.write_files(name, whole, files, table.alive_from);
        }
        Ok(())
    }
}

/// What a turn over the buckets has written by table, and which panes are gone.
pub(super) type Turned = BTreeMap<&'static str, (Layer, i64)>;

fn unknown(table: &str) -> Error {
    Error::internal(format!("an operator wrote the state table \"{table}\" which it does not have"))
}

/// Rows on disk: key group, kind, the columns of the input.
fn waiting_schema(input: &Schema) -> SchemaRef {
    let kind = Arc::new(Field::new("headwater_kind", DataType::Int8, false));
    let columns = input.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true)));
    Arc::new(Schema::new([key_group_field(), kind].into_iter().chain(columns).collect::<Vec<_>>()))
}

fn changes_of(rows: &RecordBatch, input: &SchemaRef) -> Result<ChangeBatch> {
    let kinds = rows.column(1).as_primitive_opt::<Int8Type>().cloned();
    let kinds = kinds.ok_or_else(|| Error::internal("waiting rows without their kind"))?;
    let kinds = kinds.values().iter().any(|kind| *kind != 0).then_some(kinds);
    Ok(ChangeBatch::new(batch_of(input, rows.columns()[2..].to_vec(), rows.num_rows())?, kinds))
}
