//! Which partition a row belongs to, and the folder that partition has.
//!
//! Invariant: a value is written as Hive spells it and read back by the lake's layout as the same value; NULL and the
//! empty text are one partition, `__HIVE_DEFAULT_PARTITION__`.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray, UInt32Array},
    compute::{CastOptions, cast_with_options, take_record_batch},
    datatypes::DataType,
    record_batch::RecordBatch,
};
use headwater_engine::error::{Error, Result};

use super::encode;
use crate::lake::{commit::record::join, layout::folder_name};

/// The text of each key's value; `None` is NULL.
pub type Values = Vec<Option<String>>;

/// The partition keys of a target and the folders it has already.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// Path of the target's folder in its store.
    pub root: String,
    /// Names of the keys; their columns are the last ones of the rows.
    pub keys: Vec<String>,
    /// Partitions that are registered: their values as this module spells them, to their folder and registered values.
    pub known: HashMap<Values, Known>,
    /// Whether rows of other partitions are refused, because no reader would find them.
    pub only_known: bool,
}

/// A partition that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Path of its folder in the store.
    pub folder: String,
}

impl Layout {
    /// A folder without partitions.
    pub fn flat(root: impl Into<String>) -> Self {
        Self { root: root.into(), ..Self::default() }
    }

    /// Adds registered partitions: the raw text of their values, in the types of the keys, and their folders if they are
    /// not those the layout gives. `month=01` is then the partition of the number 1.
    pub fn know(&mut self, types: &[DataType], partitions: Vec<(Values, Option<String>)>) -> Result<()> {
        for (raw, folder) in partitions {
            let values = raw.iter().zip(types).map(|(raw, data_type)| spelled(raw.as_deref(), data_type));
            let values: Values = values.collect::<Result<_>>()?;
            let names = self.keys.iter().zip(&raw).map(|(key, raw)| folder_name(key, raw.as_deref()));
            let folder = folder.unwrap_or_else(|| names.fold(self.root.clone(), |folder, name| join(&folder, &name)));
            self.known.insert(values, Known { folder });
        }
        Ok(())
    }

    /// Path of a partition's folder: the registered one, or what the layout gives.
    pub fn folder(&self, values: &Values) -> String {
        if let Some(known) = self.known.get(values) {
            return known.folder.clone();
        }
        let names = self.keys.iter().zip(values).map(|(key, value)| folder_name(key, value.as_deref()));
        names.fold(self.root.clone(), |folder, name| join(&folder, &name))
    }

    fn check_known(&self, groups: &[(Values, Vec<u32>)]) -> Result<()> {
        let unknown = groups.iter().find(|(values, _)| self.only_known && !self.known.contains_key(values));
        let Some((values, _)) = unknown else { return Ok(()) };
        let names = self.keys.iter().zip(values).map(|(key, value)| folder_name(key, value.as_deref()));
        let names = names.collect::<Vec<_>>().join("/");
        Err(Error::user("INVALID_PARTITION_VALUE", format!("partition {names} is not in the table's projection"))
            .with_hint("rows there would not be found by queries; widen the range or the values of the projection"))
    }

    /// The rows of each partition, without the key columns, in the order in which the partitions first appear.
    pub fn deal(&self, rows: &RecordBatch) -> Result<Vec<(Values, RecordBatch)>> {
        let files = rows.num_columns().checked_sub(self.keys.len());
        let files = files.ok_or_else(|| Error::internal("rows without their partition keys"))?;
        let data = rows.project(&(0..files).collect::<Vec<_>>())?;
        if rows.num_rows() == 0 {
            return Ok(Vec::new());
        }
        if self.keys.is_empty() {
            return Ok(vec![(Vec::new(), data)]);
        }
        let texts: Vec<ArrayRef> = rows.columns()[files..].iter().map(text_of).collect::<Result<_>>()?;
        let texts: Vec<&StringArray> = texts.iter().map(|text| text.as_string::<i32>()).collect();
        let groups = group(&texts, rows.num_rows());
        self.check_known(&groups)?;
        if let [(values, _)] = groups.as_slice() {
            return Ok(vec![(values.clone(), data)]);
        }
        let part = |(values, indices): (Values, Vec<u32>)| {
            Ok((values, take_record_batch(&data, &UInt32Array::from(indices))?))
        };
        groups.into_iter().map(part).collect()
    }
}

/// A raw value as this module spells values of its type; one that is none of the type stays as it is.
fn spelled(raw: Option<&str>, data_type: &DataType) -> Result<Option<String>> {
    let Some(raw) = raw.filter(|raw| !raw.is_empty()) else { return Ok(None) };
    let text: ArrayRef = Arc::new(StringArray::from(vec![raw]));
    let typed = cast_with_options(&text, data_type, &CastOptions { safe: true, ..CastOptions::default() })?;
    let text = encode::as_text(&typed)?;
    let text = text.as_string::<i32>();
    Ok(Some(if text.is_valid(0) { text.value(0).to_owned() } else { raw.to_owned() }))
}

/// A key column as texts; timestamps without a needless fraction.
fn text_of(column: &ArrayRef) -> Result<ArrayRef> {
    if column.data_type().is_nested() || matches!(column.data_type(), DataType::Binary) {
        return Err(Error::not_supported(format!("a partition key cannot be of type {}", column.data_type())));
    }
    encode::as_text(column)
}

fn value<'a>(texts: &[&'a StringArray], row: usize) -> Vec<Option<&'a str>> {
    let at = |text: &&'a StringArray| text.is_valid(row).then(|| text.value(row)).filter(|text| !text.is_empty());
    texts.iter().map(at).collect()
}

/// Rows by their values; a run of equal rows is looked up once.
fn group(texts: &[&StringArray], rows: usize) -> Vec<(Values, Vec<u32>)> {
    let mut groups: Vec<(Values, Vec<u32>)> = Vec::new();
    let mut by_value: HashMap<Vec<Option<&str>>, usize> = HashMap::new();
    let mut last: Option<(Vec<Option<&str>>, usize)> = None;
    for row in 0..rows {
        let values = value(texts, row);
        let index = match &last {
            Some((previous, index)) if *previous == values => *index,
            _ => *by_value.entry(values.clone()).or_insert_with(|| {
                groups.push((values.iter().map(|value| value.map(str::to_owned)).collect(), Vec::new()));
                groups.len() - 1
            }),
        };
        groups[index].1.push(u32::try_from(row).unwrap_or(u32::MAX));
        last = Some((values, index));
    }
    groups
}
