//! The Avro schema of a table's columns, as Flink derives it: so that topics written by either are read by the other.
//!
//! Invariant: a column that may be NULL is a union whose first member is null.

use apache_avro::Schema;
use arrow::datatypes::{DataType, Field, Fields, SchemaRef, TimeUnit};
use headwater_engine::error::{Error, Result};
use serde_json::{Value, json};

/// The record that rows with these columns are. With `legacy_timestamps` a TIMESTAMP is an instant, else a local time.
pub(super) fn of_rows(columns: &SchemaRef, legacy_timestamps: bool) -> Result<Schema> {
    let record = record(columns.fields(), "record", legacy_timestamps)?;
    let text = record.to_string();
    Schema::parse_str(&text).map_err(|error| {
        Error::not_supported(format!("the columns cannot be written as Avro: {error}"))
            .with_hint("names in Avro have letters, digits and underscores")
    })
}

fn record(fields: &Fields, name: &str, legacy: bool) -> Result<Value> {
    let of_field = |field: &std::sync::Arc<Field>| {
        let inner = data_type(field, &format!("{name}_{}", field.name()), legacy)?;
        let field_type = if field.is_nullable() { json!(["null", inner]) } else { inner };
        let mut object = json!({"name": field.name(), "type": field_type});
        if field.is_nullable() {
            object["default"] = Value::Null;
        }
        Ok(object)
    };
    let fields = fields.iter().map(of_field).collect::<Result<Vec<_>>>()?;
    let mut record = json!({"type": "record", "name": name, "fields": fields});
    if name == "record" {
        record["namespace"] = json!("org.apache.flink.avro.generated");
    }
    Ok(record)
}

fn data_type(field: &Field, name: &str, legacy: bool) -> Result<Value> {
    let nullable = |field: &Field, inner: Value| if field.is_nullable() { json!(["null", inner]) } else { inner };
    Ok(match field.data_type() {
        DataType::Boolean => json!("boolean"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => json!("int"),
        DataType::Int64 => json!("long"),
        DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => json!("string"),
        DataType::Binary => json!("bytes"),
        DataType::FixedSizeBinary(16) => json!({"type": "string", "logicalType": "uuid"}),
        DataType::Decimal128(precision, scale) => {
            json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
        }
        DataType::Date32 => json!({"type": "int", "logicalType": "date"}),
        DataType::Time32(_) => json!({"type": "int", "logicalType": "time-millis"}),
        DataType::Time64(_) => json!({"type": "long", "logicalType": "time-micros"}),
        DataType::Timestamp(unit, zone) => {
            let digits = match unit {
                TimeUnit::Second | TimeUnit::Millisecond => "millis",
                TimeUnit::Microsecond | TimeUnit::Nanosecond => "micros",
            };
            let local = if zone.is_none() && !legacy { "local-" } else { "" };
            json!({"type": "long", "logicalType": format!("{local}timestamp-{digits}")})
        }
        DataType::List(item) => {
            let inner = data_type(item, name, legacy)?;
            json!({"type": "array", "items": nullable(item, inner)})
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else {
                return Err(Error::internal("map entries are a pair"));
            };
            if pair[0].data_type() != &DataType::Utf8 {
                return Err(Error::not_supported(format!("column \"{}\": Avro maps have text as keys", field.name())));
            }
            let inner = data_type(&pair[1], name, legacy)?;
            json!({"type": "map", "values": nullable(&pair[1], inner)})
        }
        DataType::Struct(fields) => record(fields, name, legacy)?,
        other => {
            return Err(Error::not_supported(format!("column \"{}\": Avro has no type for {other}", field.name()))
                .with_hint("CAST it to VARCHAR"));
        }
    })
}
