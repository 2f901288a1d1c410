//! Changes of an order table: as the change stream of DynamoDB carries them, or as the flat lines that are delivered.
//!
//! Invariant: a MODIFY or REMOVE names an order that exists, and a REMOVE has no new image and no flat line.

use std::fmt::Write;

use chrono::DateTime;

use super::{
    DatasetFormat,
    random::Random,
    record::{Body, Cell, Column, Kind, Record},
};

/// Rows unless told otherwise.
pub(super) const ROWS: u64 = 10_000;

/// The keys of a flat line.
pub(super) const COLUMNS: &[Column] = &[
    Column { name: "orderid", kind: Kind::Text },
    Column { name: "product_name", kind: Kind::Text },
    Column { name: "quantity", kind: Kind::Integer },
    Column { name: "price", kind: Kind::Double },
];

const PRODUCTS: &[&str] = &["Phone", "Charger", "Tablet", "Laptop", "Headphones", "Monitor", "Keyboard", "Mouse"];
/// 2024-01-20 06:00:00 UTC, in seconds.
const FIRST_SECOND: i64 = 1_705_730_400;
/// The changes are spread over so many days.
const DAYS: u64 = 3;
/// Orders that are remembered as changeable; older ones stay as they are.
const ORDERS_OPEN_MAX: usize = 1_000;

/// The records of a format, in the order of their changes.
pub(super) fn records(rows: u64, seed: u64, format: DatasetFormat) -> impl Iterator<Item = Record> {
    let mut changes =
        Changes { random: Random::of(seed, "sales", 0), open: Vec::new(), next_order: 1, sequence: 0, rows };
    let stream = format == DatasetFormat::Stream;
    let mut written = 0;
    std::iter::from_fn(move || {
        while written < rows {
            let change = changes.next_change(written);
            if let Some(record) = if stream { Some(change.stream_record()) } else { change.flat_record() } {
                written += 1;
                return Some(record);
            }
        }
        None
    })
}

struct Changes {
    random: Random,
    open: Vec<u64>,
    next_order: u64,
    sequence: u64,
    rows: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventName {
    Insert,
    Modify,
    Remove,
}

struct Change {
    event: EventName,
    event_id: String,
    second: i64,
    sequence: u64,
    order: u64,
    product: &'static str,
    quantity: i64,
    price_cents: i64,
}

impl Changes {
    fn next_change(&mut self, position: u64) -> Change {
        let roll = self.random.below(100);
        let chosen = (!self.open.is_empty()).then(|| self.random.below(self.open.len() as u64) as usize);
        let (event, order) = match chosen {
            Some(i) if roll < 10 => (EventName::Remove, self.open.swap_remove(i)),
            Some(i) if roll < 30 => (EventName::Modify, self.open[i]),
            Some(_) | None => (EventName::Insert, self.insert()),
        };
        self.sequence += 1;
        let second = FIRST_SECOND + (position as f64 / self.rows.max(1) as f64 * (DAYS * 86_400) as f64) as i64;
        Change {
            event,
            event_id: self.random.uuid_hex(),
            second,
            sequence: self.sequence,
            order,
            product: Random::of(order, "product of order", 0).pick(PRODUCTS),
            quantity: self.random.between(1, 10),
            price_cents: self.random.between(1_000, 50_000),
        }
    }

    fn insert(&mut self) -> u64 {
        let order = self.next_order;
        self.next_order += 1;
        if self.open.len() >= ORDERS_OPEN_MAX {
            self.open.swap_remove(0);
        }
        self.open.push(order);
        order
    }
}

impl Change {
    fn price(&self) -> String {
        format!("{}.{:02}", self.price_cents / 100, self.price_cents % 100)
    }

    fn flat_record(&self) -> Option<Record> {
        if self.event == EventName::Remove {
            return None;
        }
        let folder = DateTime::from_timestamp(self.second, 0)?.format("%Y/%m/%d").to_string();
        let cells = vec![
            Cell::Text(self.order.to_string()),
            Cell::of(self.product),
            Cell::Integer(self.quantity),
            Cell::Double(self.price_cents as f64 / 100.0),
        ];
        Some(Record { folder, body: Body::Cells(cells) })
    }

    fn stream_record(&self) -> Record {
        let name = match self.event {
            EventName::Insert => "INSERT",
            EventName::Modify => "MODIFY",
            EventName::Remove => "REMOVE",
        };
        let mut line = String::with_capacity(600);
        let _ = write!(
            line,
            concat!(
                r#"{{"eventID":"{}","eventName":"{}","eventVersion":"1.1","eventSource":"aws:dynamodb","#,
                r#""awsRegion":"us-east-1","dynamodb":{{"ApproximateCreationDateTime":{},"Keys":{{"orderid":{{"S":"{}"}}}}"#
            ),
            self.event_id, name, self.second, self.order
        );
        if self.event != EventName::Remove {
            let _ = write!(
                line,
                concat!(
                    r#","NewImage":{{"quantity":{{"N":"{}"}},"orderid":{{"S":"{}"}},"#,
                    r#""price":{{"N":"{}"}},"product_name":{{"S":"{}"}}}}"#
                ),
                self.quantity,
                self.order,
                self.price(),
                self.product
            );
        }
        let _ = write!(
            line,
            concat!(
                r#","SequenceNumber":"{:021}","SizeBytes":60,"StreamViewType":"NEW_IMAGE"}},"eventSourceARN":"#,
                r#""arn:aws:dynamodb:us-east-1:123456789012:table/OrderTable/stream/2024-01-20T06:00:00.000"}}"#
            ),
            self.sequence
        );
        Record { folder: String::new(), body: Body::Line(line) }
    }
}
