//! Change records of a DynamoDB table as rows: as events, or as the changelog of the table.
//!
//! | mode | columns |
//! |---|---|
//! | `changelog` | attributes; INSERT and MODIFY upsert, REMOVE deletes |
//! | `events` | `new_image`, `old_image`, `keys` as ROWs (NULL when absent); what else is known of the record by its name |
//!
//! Invariant: a record becomes one row, or one refusal that says why.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray, UInt32Array},
    compute::take,
    datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit},
    record_batch::{RecordBatch, RecordBatchOptions},
};
use aws_sdk_dynamodb::types::AttributeValue;
use headwater_engine::{
    connector::{ChangelogMode, MetadataColumn},
    error::{Error, Result},
    message::{ChangeBatch, RowKind},
};

use super::{
    decode::{DecodedItems, ItemDecoder, Misfits},
    size::Item,
};

/// `scan.mode`, `dynamodb-cdc.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeMode {
    /// The table's current state: upserts and deletes.
    Changelog,
    /// One row a change.
    Events,
}

impl ChangeMode {
    /// The names of the modes.
    pub(crate) const NAMES: [(&'static str, Self); 2] = [("changelog", Self::Changelog), ("events", Self::Events)];

    /// What the rows do.
    pub(crate) fn changelog(self) -> ChangelogMode {
        match self {
            Self::Changelog => ChangelogMode::Upsert,
            Self::Events => ChangelogMode::Append,
        }
    }
}

/// The column that names a change; NULL where its carrier does not.
pub(crate) const CHANGE_ID: &str = "headwater_change";
/// The column that orders the changes of an item, as text.
pub(crate) const CHANGE_ORDER: &str = "headwater_order";

/// What happened to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Insert,
    Modify,
    Remove,
}

impl Event {
    /// The event of a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Insert, Self::Modify, Self::Remove].into_iter().find(|event| event.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Modify => "MODIFY",
            Self::Remove => "REMOVE",
        }
    }
}

/// One change record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) id: String,
    pub(crate) event: Event,
    pub(crate) sequence: Option<String>,
    /// Microseconds since 1970.
    pub(crate) created_us: Option<i64>,
    pub(crate) keys: Item,
    pub(crate) new_image: Option<Item>,
    pub(crate) old_image: Option<Item>,
    pub(crate) size_bytes: Option<i64>,
    pub(crate) user_identity: Option<String>,
    pub(crate) shard: Option<Arc<str>>,
}

impl Change {
    /// Its place among the changes of its item: by sequence number, which is text of up to 40 digits, else by time.
    fn order(&self) -> Option<String> {
        let of_sequence = self.sequence.as_ref().map(|sequence| format!("{:03}:{sequence}", sequence.len()));
        of_sequence.or_else(|| self.created_us.map(|micros| format!("{:020}", micros.max(0))))
    }
}

/// What `METADATA FROM` may name over a change stream.
pub(super) fn metadata_columns() -> Vec<MetadataColumn> {
    let column = |key, data_type| MetadataColumn { key, data_type, writable: false };
    vec![
        column("event-id", DataType::Utf8),
        column("event-name", DataType::Utf8),
        column("sequence-number", DataType::Utf8),
        column("timestamp", DataType::Timestamp(TimeUnit::Millisecond, None)),
        column("shard-id", DataType::Utf8),
        column("size-bytes", DataType::Int64),
        column("user-identity", DataType::Utf8),
    ]
}

fn metadata(key: &str, changes: &[&Change]) -> Result<ArrayRef> {
    let texts = |of: &dyn Fn(&Change) -> Option<String>| {
        Arc::new(changes.iter().map(|change| of(change)).collect::<StringArray>()) as ArrayRef
    };
    Ok(match key {
        "event-id" => texts(&|change| Some(change.id.clone())),
        "event-name" => texts(&|change| Some(change.event.name().to_owned())),
        "sequence-number" => texts(&|change| change.sequence.clone()),
        "shard-id" => texts(&|change| change.shard.as_deref().map(ToOwned::to_owned)),
        "user-identity" => texts(&|change| change.user_identity.clone()),
        "size-bytes" => Arc::new(changes.iter().map(|change| change.size_bytes).collect::<Int64Array>()),
        "timestamp" => {
            let millis = changes.iter().map(|change| change.created_us.map(|micros| micros.div_euclid(1000)));
            Arc::new(millis.collect::<TimestampMillisecondArray>())
        }
        other => return Err(Error::internal(format!("no metadata \"{other}\" of a change record"))),
    })
}

/// Makes rows of change records.
#[derive(Debug)]
pub(crate) struct ChangeDecoder {
    mode: ChangeMode,
    schema: SchemaRef,
    /// For each column its place among the decoded ones, or the metadata it is.
    columns: Vec<Place>,
    items: ItemDecoder,
}

#[derive(Debug)]
enum Place {
    Decoded(usize),
    Id,
    Order,
    Metadata(String),
}

/// Rows, and what could not be one.
#[derive(Debug)]
pub(crate) struct DecodedChanges {
    pub(crate) rows: ChangeBatch,
    /// For each row the index of its record.
    pub(crate) kept: Vec<u32>,
    pub(crate) misfits: Misfits,
}

impl ChangeDecoder {
    /// A decoder into `schema`, of which these columns are metadata (index, key).
    pub(crate) fn new(mode: ChangeMode, schema: SchemaRef, given: &[(usize, String)]) -> Result<Self> {
        let (mut columns, mut decoded) = (Vec::new(), Vec::new());
        for (index, field) in schema.fields().iter().enumerate() {
            let key = given.iter().find(|(at, _)| *at == index).map(|(_, key)| key.clone());
            let key = key.or_else(|| (mode == ChangeMode::Events).then(|| event_column(field)).flatten());
            columns.push(match key {
                Some(key) => Place::Metadata(key),
                None if field.name() == CHANGE_ORDER => Place::Order,
                None if field.name() == CHANGE_ID => Place::Id,
                None => {
                    decoded.push(Arc::clone(field));
                    Place::Decoded(decoded.len() - 1)
                }
            });
        }
        if mode == ChangeMode::Events {
            decoded.iter().try_for_each(|field| check_event_column(field))?;
        }
        let items = ItemDecoder::new(Arc::new(Schema::new(Fields::from(decoded))))?;
        Ok(Self { mode, schema, columns, items })
    }

    /// Rows of records, in their order.
    pub(crate) fn decode(&self, changes: &[Change]) -> Result<DecodedChanges> {
        let mut misfits = Misfits::new();
        let mut items = Vec::with_capacity(changes.len());
        for (index, change) in changes.iter().enumerate() {
            items.push(match self.item(change) {
                Ok(item) => Some(item),
                Err(reason) => {
                    misfits.insert(index, reason);
                    None
                }
            });
        }
        let decoded = self.items.decode(&items.iter().map(Option::as_ref).collect::<Vec<_>>())?;
        let DecodedItems { rows, kept, misfits: wrong } = decoded;
        misfits.extend(wrong.into_iter().filter(|(index, _)| items[*index].is_some()));
        // Rows that decoded, without those of records that are no item.
        let places: UInt32Array =
            (0..kept.len()).filter(|row| items[kept[*row] as usize].is_some()).map(|row| row as u32).collect();
        let kept: Vec<u32> = places.values().iter().map(|row| kept[*row as usize]).collect();
        let records: Vec<&Change> = kept.iter().map(|index| &changes[*index as usize]).collect();
        let mut columns = Vec::with_capacity(self.columns.len());
        for place in &self.columns {
            columns.push(match place {
                Place::Decoded(at) => take(rows.column(*at), &places, None)?,
                Place::Id => {
                    let named = |change: &&Change| Some(change.id.clone()).filter(|id| !id.is_empty());
                    Arc::new(records.iter().map(named).collect::<StringArray>())
                }
                Place::Order => Arc::new(records.iter().map(|change| change.order()).collect::<StringArray>()),
                Place::Metadata(key) => metadata(key, &records)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(kept.len()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        let kinds = (self.mode == ChangeMode::Changelog).then(|| records.iter().map(|change| kind(change)).collect());
        Ok(DecodedChanges { rows: ChangeBatch::new(rows, kinds), kept, misfits })
    }

    /// The attributes a record's columns are taken from.
    fn item(&self, change: &Change) -> std::result::Result<Item, String> {
        if self.mode == ChangeMode::Events {
            let map = |item: &Item| AttributeValue::M(item.clone());
            let parts = [
                ("new_image", change.new_image.as_ref().map(map)),
                ("old_image", change.old_image.as_ref().map(map)),
                ("keys", Some(map(&change.keys))),
            ];
            return Ok(parts.into_iter().filter_map(|(name, part)| Some((name.to_owned(), part?))).collect());
        }
        match (change.event, &change.new_image) {
            (Event::Remove, _) => {
                let mut item = change.old_image.clone().unwrap_or_default();
                item.extend(change.keys.clone());
                Ok(item)
            }
            (_, Some(image)) => Ok(image.clone()),
            (event, None) => Err(format!("{} without its new image", event.name())),
        }
    }
}

fn kind(change: &Change) -> i8 {
    match change.event {
        Event::Remove => RowKind::Delete as i8,
        Event::Insert | Event::Modify => RowKind::UpdateAfter as i8,
    }
}

/// The metadata that a plain column of events is, by its name: `event_name` is `event-name`.
fn event_column(field: &Field) -> Option<String> {
    let key = field.name().to_lowercase().replace('_', "-");
    let known = metadata_columns().into_iter().find(|column| column.key == key && key != "timestamp")?;
    (known.data_type == *field.data_type()).then_some(key)
}

fn check_event_column(field: &Field) -> Result<()> {
    const PARTS: [&str; 3] = ["new_image", "old_image", "keys"];
    if PARTS.iter().any(|part| part.eq_ignore_ascii_case(field.name())) {
        return Ok(());
    }
    let message = format!("column \"{}\" of change events", field.name());
    Err(Error::user("COLUMN_NOT_FOUND", message).with_hint(
        "declare new_image, old_image and keys as ROW, MAP or JSON and the rest as METADATA; or read as a changelog",
    ))
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;

    use super::*;
    use crate::dynamodb::attributes::item_of_json;

    fn item(json: &str) -> Item {
        item_of_json(serde_json::from_str(json).unwrap()).unwrap()
    }

    fn change(event: Event, new: Option<&str>, old: Option<&str>) -> Change {
        Change {
            id: "e1".into(),
            event,
            sequence: Some("100".into()),
            created_us: Some(1_705_732_562_000_000),
            keys: item(r#"{"orderid":{"S":"1"}}"#),
            new_image: new.map(item),
            old_image: old.map(item),
            size_bytes: Some(60),
            user_identity: None,
            shard: None,
        }
    }

    fn order(quantity: &str) -> String {
        format!(r#"{{"orderid":{{"S":"1"}},"quantity":{{"N":"{quantity}"}}}}"#)
    }

    #[test]
    fn a_changelog_upserts_and_deletes() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("orderid", DataType::Utf8, true),
            Field::new("quantity", DataType::Int64, true),
        ]));
        let decoder = ChangeDecoder::new(ChangeMode::Changelog, schema, &[]).unwrap();
        let changes = [
            change(Event::Insert, Some(&order("5")), None),
            change(Event::Modify, None, Some(&order("5"))),
            change(Event::Modify, Some(&order("six")), None),
            change(Event::Remove, None, None),
        ];
        let decoded = decoder.decode(&changes).unwrap();
        assert_eq!(decoded.kept, [0, 3]);
        assert_eq!((decoded.rows.kind(0), decoded.rows.kind(1)), (RowKind::UpdateAfter, RowKind::Delete));
        assert_eq!(decoded.misfits[&1], "MODIFY without its new image");
        assert!(decoded.misfits[&2].contains("\"quantity\" is no Int64"));
        let expected = "\
+---------+----------+
| orderid | quantity |
+---------+----------+
| 1       | 5        |
| 1       |          |
+---------+----------+";
        assert_eq!(pretty_format_batches(&[decoded.rows.rows]).unwrap().to_string(), expected);
    }

    #[test]
    fn changes_are_ordered_by_sequence_numbers_of_any_length_else_by_time() {
        let of = |sequence: Option<&str>, created_us| {
            let change = change(Event::Insert, None, None);
            Change { sequence: sequence.map(ToOwned::to_owned), created_us, ..change }.order()
        };
        assert!(of(Some("99"), None) < of(Some("100"), None));
        assert!(of(None, Some(9)) < of(None, Some(10)) && of(None, None).is_none());
        let fields = vec![Field::new("orderid", DataType::Utf8, true), Field::new(CHANGE_ORDER, DataType::Utf8, true)];
        let decoder = ChangeDecoder::new(ChangeMode::Changelog, Arc::new(Schema::new(fields)), &[]).unwrap();
        let decoded = decoder.decode(&[change(Event::Remove, None, None)]).unwrap();
        assert_eq!(decoded.rows.rows.column(1).as_ref(), &StringArray::from(vec!["003:100"]));
    }

    #[test]
    fn events_have_images_and_what_is_known_of_the_record() {
        let image = DataType::Struct(Fields::from(vec![Field::new("quantity", DataType::Int64, true)]));
        let schema = Arc::new(Schema::new(vec![
            Field::new("event_name", DataType::Utf8, true),
            Field::new("new_image", image.clone(), true),
            Field::new("old_image", image, true),
            Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        ]));
        let decoder = ChangeDecoder::new(ChangeMode::Events, schema, &[(3, "timestamp".to_owned())]).unwrap();
        let changes = [change(Event::Modify, Some(&order("6")), Some(&order("5"))), change(Event::Remove, None, None)];
        let decoded = decoder.decode(&changes).unwrap();
        assert!(decoded.rows.kinds.is_none());
        let expected = "\
+------------+---------------+---------------+---------------------+
| event_name | new_image     | old_image     | at                  |
+------------+---------------+---------------+---------------------+
| MODIFY     | {quantity: 6} | {quantity: 5} | 2024-01-20T06:36:02 |
| REMOVE     |               |               | 2024-01-20T06:36:02 |
+------------+---------------+---------------+---------------------+";
        assert_eq!(pretty_format_batches(&[decoded.rows.rows]).unwrap().to_string(), expected);
    }
}
