//! Avro's values, schemas and framing, both ways.

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use arrow::{
    array::{
        ArrayRef, AsArray, BinaryArray, Decimal128Array, Int32Array, Int64Array, ListArray, MapBuilder, StringArray,
        StringBuilder, StructArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    },
    datatypes::{DataType, Field, Fields, Int64Type, Schema as Columns, TimeUnit},
};

use super::*;
use crate::options::Options;

fn given_plain(columns: &SchemaRef) -> Avro {
    let mut options = Options::new("t", &Default::default());
    Avro::plain(&mut Given { options: &mut options, prefix: "" }, columns).unwrap()
}

fn every_type() -> RecordBatch {
    let mut maps = MapBuilder::new(None, StringBuilder::new(), arrow::array::Int64Builder::new());
    maps.keys().append_value("b");
    maps.values().append_value(2);
    maps.keys().append_value("c");
    maps.values().append_null();
    maps.append(true).unwrap();
    maps.append(false).unwrap();
    let maps = maps.finish();
    let inner: Fields = vec![Field::new("x", DataType::Int64, true)].into();
    let nested = StructArray::new(
        inner.clone(),
        vec![Arc::new(Int64Array::from(vec![Some(7), None])) as ArrayRef],
        Some(vec![true, false].into()),
    );
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("small", Arc::new(Int32Array::from(vec![Some(-5), None]))),
        ("big", Arc::new(Int64Array::from(vec![Some(i64::MAX), None]))),
        ("text", Arc::new(StringArray::from(vec![Some("a"), None]))),
        ("raw", Arc::new(BinaryArray::from(vec![Some(b"\x00\xff".as_slice()), None]))),
        ("price", Arc::new(Decimal128Array::from(vec![Some(-12_345), None]).with_precision_and_scale(10, 2).unwrap())),
        ("at", Arc::new(TimestampMillisecondArray::from(vec![Some(1_700_000_000_123), None]))),
        ("fine", Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None]))),
        ("tags", Arc::new(lists)),
        ("counts", Arc::new(maps)),
        ("nested", Arc::new(nested)),
    ];
    let fields = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
    let schema = Arc::new(Columns::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns.into_iter().map(|(_, array)| array).collect()).unwrap()
}

#[test]
fn every_type_and_null_round_trip() {
    let rows = every_type();
    let format = given_plain(&rows.schema());
    let written = format.encoder(rows.schema()).unwrap().encode(&rows).unwrap();
    let read = format.decoder(rows.schema()).unwrap().decode(&written).unwrap();
    assert!(read.rejected.is_empty(), "{:?}", read.rejected);
    assert_eq!(read.rows.rows, rows);
    let one = Arc::new(rows.schema().project(&[2]).unwrap());
    let read = format.decoder(one).unwrap().decode(&written).unwrap();
    assert_eq!(read.rows.rows.column(0), rows.column(2));
}

#[test]
fn bytes_are_those_of_flink() {
    let columns = Arc::new(Columns::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ]));
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![3])),
        Arc::new(StringArray::from(vec![Some("ab")])),
        Arc::new(TimestampMillisecondArray::from(vec![None])),
    ];
    let rows = RecordBatch::try_new(Arc::clone(&columns), arrays).unwrap();
    let written = given_plain(&columns).encoder(columns).unwrap().encode(&rows).unwrap();
    // A long without a union, then member 1 of a union and a text of two bytes, then member 0: null.
    assert_eq!(written.payload(0), [6, 2, 4, b'a', b'b', 0]);
}

#[test]
fn bytes_that_are_no_value_are_rejected() {
    let columns = Arc::new(Columns::new(vec![Field::new("name", DataType::Utf8, true)]));
    let format = given_plain(&columns);
    let parts: [&[u8]; 4] = [&[2, 2, b'a'], &[2, 200], &[], &[0, 9]];
    let ends = parts.iter().scan(0, |end, part| {
        *end += part.len();
        Some(*end)
    });
    let payloads = Payloads { ends: ends.collect(), buffer: parts.concat().into() };
    let read = format.decoder(columns).unwrap().decode(&payloads).unwrap();
    assert_eq!(read.payload_of_row, Some(vec![0]));
    let payloads: Vec<usize> = read.rejected.iter().map(|row| row.payload).collect();
    assert_eq!(payloads, [1, 2, 3]);
    assert!(read.rejected[2].reason.contains("1 bytes follow it"), "{:?}", read.rejected);
}

/// Answers so many requests with these, by path.
fn registry(answers: Vec<(&'static str, u16, String)>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://user:secret@{}", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for (path, status, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 64 << 10];
            let length = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            assert!(request.lines().next().unwrap().contains(path), "{request}");
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
            asked.push(request);
        }
        asked
    });
    (url, served)
}

fn confluent(url: &str, columns: &SchemaRef) -> Avro {
    let map = BTreeMap::from([
        ("avro-confluent.url".to_owned(), url.to_owned()),
        ("avro-confluent.basic-auth.credentials-source".to_owned(), "USER_INFO".to_owned()),
        ("avro-confluent.basic-auth.user-info".to_owned(), "user:secret".to_owned()),
    ]);
    let mut options = Options::new("t", &map);
    let part = Part { subject: Some("clicks-value".to_owned()), ..Part::new(Arc::clone(columns)) };
    let format = Avro::confluent(&mut Given { options: &mut options, prefix: "" }, "avro-confluent", &part).unwrap();
    options.finish().unwrap();
    format
}

#[test]
fn a_schema_is_registered_once_and_values_are_read_with_the_writers_schema() {
    let columns = Arc::new(Columns::new(vec![
        Field::new("Name", DataType::Utf8, true),
        Field::new("added", DataType::Int64, true),
    ]));
    let writers = r#"{"type":"record","name":"r","fields":[{"name":"gone","type":"long"},
        {"name":"name","type":["string","null"]},{"name":"kind","type":{"type":"enum","name":"k","symbols":["A"]}}]}"#;
    let schema = serde_json::json!({"schema": writers}).to_string();
    let (url, served) = registry(vec![
        ("GET /schemas/ids/7", 200, schema),
        ("GET /schemas/ids/8", 404, "{}".to_owned()),
        ("POST /subjects/clicks%2Dvalue/versions", 200, "{\"id\": 258}".to_owned()),
    ]);
    let format = confluent(&url, &columns);
    let parts: [&[u8]; 4] =
        [&[0, 0, 0, 0, 7, 2, 0, 2, b'x', 0], &[0, 0, 0, 0, 8, 2], &[9, 0, 0, 0, 8, 2], &[0, 0, 0, 0, 7, 4, 2, 0]];
    let ends = parts.iter().scan(0, |end, part| {
        *end += part.len();
        Some(*end)
    });
    let payloads = Payloads { ends: ends.collect(), buffer: parts.concat().into() };
    let read = format.decoder(Arc::clone(&columns)).unwrap().decode(&payloads).unwrap();
    let names: Vec<Option<&str>> = read.rows.rows.column(0).as_string::<i32>().iter().collect();
    assert_eq!((names, read.payload_of_row), (vec![Some("x"), None], Some(vec![0, 3])));
    let reasons: Vec<&str> = read.rejected.iter().map(|row| row.reason.as_str()).collect();
    assert_eq!(reasons, ["schema 8 is not in the registry", "the first byte is 9, not the 0 of Confluent's framing"]);
    for _ in 0..2 {
        let written = format.encoder(Arc::clone(&columns)).unwrap().encode(&read.rows.rows).unwrap();
        assert_eq!(written.payload(0), [0, 0, 0, 1, 2, 2, 2, b'x', 0]);
    }
    let asked = served.join().unwrap();
    assert!(asked[0].to_lowercase().contains("authorization: basic dxnlcjpzzwnyzxq="), "{}", asked[0]);
    assert!(asked[2].contains("org.apache.flink.avro.generated"), "{}", asked[2]);
}

#[test]
fn a_registry_that_refuses_or_is_gone_is_named_without_its_credentials() {
    let columns = Arc::new(Columns::new(vec![Field::new("name", DataType::Utf8, true)]));
    let (url, served) = registry(vec![
        ("GET /schemas/ids/1", 401, "{}".to_owned()),
        ("POST", 409, "{\"message\":\"incompatible\"}".to_owned()),
    ]);
    let format = confluent(&url, &columns);
    let payloads = Payloads { ends: vec![6], buffer: vec![0, 0, 0, 0, 1, 0].into() };
    let denied = format.decoder(Arc::clone(&columns)).unwrap().decode(&payloads).unwrap_err();
    let rows = RecordBatch::new_empty(Arc::clone(&columns));
    let refused = format.encoder(Arc::clone(&columns)).unwrap().encode(&rows).unwrap_err();
    served.join().unwrap();
    let gone = format.decoder(columns).unwrap().decode(&payloads).unwrap_err();
    assert_eq!(denied.kind(), headwater_engine::error::ErrorKind::Denied);
    assert!(refused.message().ends_with("refuses the schema of the table: incompatible"), "{refused}");
    assert_eq!(gone.kind(), headwater_engine::error::ErrorKind::Unavailable);
    for error in [denied, refused, gone] {
        assert!(!format!("{error} {:?}", error.hint()).contains("secret"), "{error}");
    }
}
