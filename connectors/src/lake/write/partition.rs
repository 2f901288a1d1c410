//! Which partition a row belongs to, and the folder that partition has.
//!
//! Invariant: a value is written as Hive spells it and read back by the lake's layout as the same value; NULL, the
//! empty text and the name of NULL's folder are one partition, `__HIVE_DEFAULT_PARTITION__`.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray, UInt32Array},
    compute::{CastOptions, cast_with_options, take_record_batch},
    datatypes::DataType,
    record_batch::RecordBatch,
};
use datafusion::scalar::ScalarValue;
use headwater_engine::{
    catalog::Column,
    error::{Error, Result},
};

use super::encode;
use crate::lake::{
    commit::record::join,
    layout::{NULL_FOLDER, Value, folder_name},
};

/// Bytes of a folder's name, on a disk and on servers that keep objects as files.
const NAME_BYTES_MAX: usize = 255;

/// The text of each key's value; `None` is NULL.
pub type Values = Vec<Option<String>>;

/// The partition keys of a target and the folders it has already.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// Path of the target's folder in its store.
    pub root: String,
    /// Names of the keys; their columns are the last ones of the rows.
    pub keys: Vec<String>,
    /// Partitions that are known: their values as this module spells them, and every folder they have; several where
    /// the values are spelled differently. New files go to the first.
    pub known: HashMap<Values, Vec<Known>>,
    /// Whether rows of other partitions are refused, because no reader would find them.
    pub only_known: bool,
    /// For each key of a projection the values that readers look for, or any but NULL.
    pub projected: Vec<Spellings>,
    /// Folders of known partitions that are not where the layout has them.
    pub taken: HashSet<String>,
}

/// The values that readers of a projected key look for.
#[derive(Debug, Clone)]
pub enum Spellings {
    /// Whatever a query names.
    Any,
    /// These: as this module spells them, to the text that folders have.
    Of(HashMap<String, String>),
}

impl Spellings {
    /// Those of a key's values; without any, whatever a query names.
    pub fn new(values: Option<&[Value]>) -> Result<Self> {
        let Some(values) = values else { return Ok(Self::Any) };
        let raw = values.iter().filter_map(|value| value.raw.clone());
        Ok(Self::Of(spell_typed(values)?.into_iter().flatten().zip(raw).collect()))
    }

    /// The text that the folder of a value has, if readers look for it.
    fn raw<'a>(&'a self, value: &'a str) -> Option<&'a str> {
        match self {
            Self::Any => Some(value),
            Self::Of(spellings) => spellings.get(value).map(String::as_str),
        }
    }
}

/// A folder of a partition that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its path in the store.
    pub folder: String,
    /// Columns its files were written with, when older than the table's.
    pub columns: Option<Vec<Column>>,
}

/// A partition as a catalog or a listing has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The raw text of its values.
    pub values: Values,
    /// Path of its folder, if it is not the one the layout gives.
    pub folder: Option<String>,
    /// Columns its files were written with, when older than the table's.
    pub columns: Option<Vec<Column>>,
}

impl Layout {
    /// A folder without partitions.
    pub fn flat(root: impl Into<String>) -> Self {
        Self { root: root.into(), ..Self::default() }
    }

    /// Adds partitions, their values in the types of the keys: `month=01` is then a partition of the number 1.
    pub fn know(&mut self, types: &[DataType], partitions: Vec<Found>) -> Result<()> {
        for Found { values: raw, folder, columns } in partitions {
            let values = spell(types, &raw)?;
            let usual = self.usual_folder(&raw);
            if folder.as_ref().is_some_and(|folder| *folder != usual) {
                self.taken.extend(folder.clone());
            }
            self.know_folder(values, Known { folder: folder.unwrap_or(usual), columns });
        }
        Ok(())
    }

    /// Adds a folder of a partition, its values as this module spells them.
    pub fn know_folder(&mut self, values: Values, known: Known) {
        let folders = self.known.entry(values).or_default();
        if !folders.contains(&known) {
            folders.push(known);
        }
    }

    /// Whether a catalog should be told of a partition.
    pub fn is_new(&self, values: &Values) -> bool {
        self.projected.is_empty() && !self.known.contains_key(values)
    }

    /// Path of the folder that gets a partition's new files: a known one, or what the layout gives.
    pub fn folder(&self, values: &Values) -> String {
        self.first(values).map_or_else(|| self.usual_folder(values), |known| known.folder.clone())
    }

    /// Paths of all folders that hold a partition's files.
    pub fn folders(&self, values: &Values) -> Vec<String> {
        match self.known.get(values) {
            Some(known) => known.iter().map(|known| known.folder.clone()).collect(),
            None => vec![self.usual_folder(values)],
        }
    }

    /// Columns of a partition's files, when they are not the table's.
    pub fn columns(&self, values: &Values) -> Option<&[Column]> {
        self.first(values)?.columns.as_deref()
    }

    fn first(&self, values: &Values) -> Option<&Known> {
        self.known.get(values)?.first()
    }

    fn usual_folder(&self, values: &[Option<String>]) -> String {
        let names = self.keys.iter().enumerate().zip(values).map(|((index, key), value)| {
            let value = value.as_deref();
            folder_name(key, value.and_then(|value| self.raw(index, value)).or(value))
        });
        names.fold(self.root.clone(), |folder, name| join(&folder, &name))
    }

    /// The text that folders have for a key's value, unless no reader looks for it.
    fn raw<'a>(&'a self, key: usize, value: &'a str) -> Option<&'a str> {
        self.projected.get(key).map_or(Some(value), |spellings| spellings.raw(value))
    }

    /// Whether readers look for a partition.
    fn is_projected(&self, values: &Values) -> bool {
        let is_found = |(key, value): (usize, &Option<String>)| {
            value.as_deref().is_some_and(|value| self.raw(key, value).is_some())
        };
        self.projected.is_empty() || values.iter().enumerate().all(is_found)
    }

    /// Refuses rows of a partition that no reader would find, or that readers would take for those of another one.
    pub fn check(&self, values: &Values) -> Result<()> {
        if self.known.contains_key(values) {
            return Ok(());
        }
        self.check_names(values)?;
        let is_projected = self.is_projected(values);
        if is_projected && !self.only_known && self.taken.is_empty() {
            return Ok(());
        }
        let name = || {
            let names = self.keys.iter().zip(values).map(|(key, value)| folder_name(key, value.as_deref()));
            names.collect::<Vec<_>>().join("/")
        };
        if self.only_known || !is_projected {
            let message = format!("partition {} is not in the table's projection", name());
            return Err(Error::user("INVALID_PARTITION_VALUE", message).with_hint(
                "rows there would not be found by queries; widen the range or the values of the projection",
            ));
        }
        if self.taken.contains(&self.usual_folder(values)) {
            let message = format!("the folder of partition {} is that of another partition", name());
            return Err(Error::user("HIVE_PATH_ALREADY_EXISTS", message)
                .with_hint("give it one of its own first: ALTER TABLE .. ADD PARTITION (..) LOCATION '..'"));
        }
        Ok(())
    }

    /// Refuses a partition whose folder no store can have: the rows of the others could then not be finished either.
    fn check_names(&self, values: &Values) -> Result<()> {
        for (key, value) in self.keys.iter().zip(values) {
            let name = folder_name(key, value.as_deref());
            if name.len() > NAME_BYTES_MAX {
                let begun: String = name.chars().take(40).collect();
                let message = format!(
                    "the folder \"{begun}..\" of a partition has a name of {} bytes; {NAME_BYTES_MAX} are allowed",
                    name.len()
                );
                return Err(Error::user("INVALID_PARTITION_VALUE", message)
                    .with_hint(format!("shorten the values of \"{key}\", or partition by another column")));
            }
        }
        Ok(())
    }

    /// The rows of each partition, as [`Layout::deal_all`], refused where [`Layout::check`] says so.
    pub fn deal(&self, rows: &RecordBatch) -> Result<Vec<(Values, RecordBatch)>> {
        let dealt = self.deal_all(rows)?;
        dealt.iter().try_for_each(|(values, _)| self.check(values))?;
        Ok(dealt)
    }

    /// The rows of each partition, without the key columns, in the order in which the partitions first appear.
    pub fn deal_all(&self, rows: &RecordBatch) -> Result<Vec<(Values, RecordBatch)>> {
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
        if let [(values, _)] = groups.as_slice() {
            return Ok(vec![(values.clone(), data)]);
        }
        let part = |(values, indices): (Values, Vec<u32>)| {
            Ok((values, take_record_batch(&data, &UInt32Array::from(indices))?))
        };
        groups.into_iter().map(part).collect()
    }
}

/// Raw values as this module spells values of the keys' types; one that is none of its type stays as it is.
pub fn spell(types: &[DataType], raw: &[Option<String>]) -> Result<Values> {
    raw.iter().zip(types).map(|(raw, data_type)| spelled(raw.as_deref(), data_type)).collect()
}

/// Typed values as this module spells them; texts are as they are.
pub fn spell_typed(values: &[Value]) -> Result<Values> {
    if values.is_empty() {
        return Ok(Vec::new());
    }
    let typed = ScalarValue::iter_to_array(values.iter().map(|value| value.typed.clone()))?;
    let texts = encode::as_text(&typed)?;
    let texts = texts.as_string::<i32>();
    let spelled = |row| texts.is_valid(row).then(|| texts.value(row)).filter(|text| not_null(text));
    Ok((0..texts.len()).map(|row| spelled(row).map(str::to_owned)).collect())
}

/// A text that is a value: NULL has two other spellings.
fn not_null(text: &str) -> bool {
    !text.is_empty() && text != NULL_FOLDER
}

fn spelled(raw: Option<&str>, data_type: &DataType) -> Result<Option<String>> {
    let Some(raw) = raw.filter(|raw| not_null(raw)) else { return Ok(None) };
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
    let at = |text: &&'a StringArray| text.is_valid(row).then(|| text.value(row)).filter(|text| not_null(text));
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
