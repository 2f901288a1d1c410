//! The rows the queries read: seeded, a little out of order, never later than five seconds.
//!
//! Invariant: one seed gives one set of rows, whatever reads it.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, Decimal128Array, Float64Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
        TimestampMillisecondArray,
    },
    datatypes::{DataType, Field, Schema},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

/// The first event time, in milliseconds: 2026-01-01.
const START: i64 = 1_767_225_600_000;
/// How far a row may be out of order, in milliseconds.
const DISORDER: i64 = 3_900;

/// Names of all sets.
pub(crate) const ALL: [&str; 8] = ["clicks", "views", "orders", "payments", "cities", "person", "auction", "bid"];

/// The rows of a set.
pub(crate) fn rows(name: &str) -> RecordBatch {
    let mut random = SmallRng::seed_from_u64(17 + name.len() as u64 * 31 + u64::from(name.as_bytes()[0]));
    match name {
        "clicks" => clicks(&mut random, 1500),
        "views" => clicks(&mut random, 900),
        "orders" => orders(&mut random),
        "payments" => payments(&mut random),
        "cities" => cities(),
        "person" => persons(&mut random),
        "auction" => auctions(&mut random),
        "bid" => bids(&mut random),
        other => panic!("no rows of \"{other}\""),
    }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns.into_iter().map(|(_, column)| column).collect()).unwrap()
}

fn texts(values: impl IntoIterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(StringArray::from_iter(values))
}

fn numbers(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn times(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(values))
}

/// Event times a step apart, out of order.
fn clock(random: &mut SmallRng, count: usize, step: i64) -> Vec<i64> {
    (0..count as i64).map(|index| START + DISORDER + index * step - random.random_range(0..DISORDER)).collect()
}

fn maybe(random: &mut SmallRng, text: String) -> Option<String> {
    random.random_bool(0.95).then_some(text)
}

fn clicks(random: &mut SmallRng, count: usize) -> RecordBatch {
    let ts = clock(random, count, 400);
    let users: Vec<_> = (0..count)
        .map(|_| {
            let user = format!("u{}", random.random_range(0..7));
            maybe(random, user)
        })
        .collect();
    let pages: Vec<_> = (0..count).map(|_| Some(format!("/p{}", random.random_range(0..4)))).collect();
    let amounts: Vec<Option<i64>> =
        (0..count).map(|_| random.random_bool(0.9).then(|| random.random_range(-20..200))).collect();
    let prices: Vec<f64> = (0..count).map(|_| f64::from(random.random_range(0..4000_u32)) / 4.0).collect();
    let costs: Vec<i128> = (0..count).map(|_| i128::from(random.random_range(0..100_000_i64))).collect();
    let mut tags = ListBuilder::new(StringBuilder::new()).with_field(Field::new("item", DataType::Utf8, true));
    for row in 0..count {
        for tag in 0..random.random_range(0..4) {
            tags.values().append_value(format!("t{}", (row + tag) % 5));
        }
        tags.append(random.random_bool(0.95));
    }
    batch(vec![
        ("id", numbers(0..count as i64)),
        ("user_id", texts(users)),
        ("page", texts(pages)),
        ("amount", Arc::new(Int64Array::from(amounts))),
        ("price", Arc::new(Float64Array::from(prices))),
        ("cost", Arc::new(Decimal128Array::from(costs).with_precision_and_scale(10, 2).unwrap())),
        ("tags", Arc::new(tags.finish())),
        ("ts", times(ts)),
    ])
}

fn orders(random: &mut SmallRng) -> RecordBatch {
    let ts = clock(random, 400, 1500);
    let users: Vec<_> = (0..400).map(|_| Some(format!("u{}", random.random_range(0..9)))).collect();
    batch(vec![("id", numbers(0..400)), ("user_id", texts(users)), ("ts", times(ts))])
}

/// Some orders are paid, some twice, some long after; some payments are for no order.
fn payments(random: &mut SmallRng) -> RecordBatch {
    let ts = clock(random, 450, 1333);
    let orders: Vec<i64> = (0..450_i64).map(|index| (index * 8 / 9 + random.random_range(-15..6)).max(-3)).collect();
    let amounts: Vec<i64> = (0..450).map(|_| random.random_range(1..500)).collect();
    batch(vec![("order_id", numbers(orders)), ("amount", numbers(amounts)), ("ts", times(ts))])
}

/// `u3` is there twice, `u6` not at all.
fn cities() -> RecordBatch {
    let users = ["u0", "u1", "u2", "u3", "u3", "u4", "u5"].map(|user| Some(user.to_owned()));
    let cities = ["Oslo", "Rome", "Lima", "Kyiv", "Bern", "Oslo", "Rome"].map(|city| Some(city.to_owned()));
    batch(vec![("user_id", texts(users)), ("city", texts(cities))])
}

fn persons(random: &mut SmallRng) -> RecordBatch {
    let ts = clock(random, 120, 5000);
    let states = ["OR", "ID", "CA", "WA"];
    let text = |prefix: &str| texts((0..120).map(|index| Some(format!("{prefix}{index}"))));
    let state: Vec<_> = (0..120).map(|_| Some(states[random.random_range(0..4)].to_owned())).collect();
    batch(vec![
        ("id", numbers(1000..1120)),
        ("name", text("name-")),
        ("emailaddress", text("mail-")),
        ("creditcard", text("card-")),
        ("city", texts((0..120).map(|index| Some(format!("city-{}", index % 7))))),
        ("state", texts(state)),
        ("datetime", times(ts)),
        ("extra", text("")),
    ])
}

fn auctions(random: &mut SmallRng) -> RecordBatch {
    let ts = clock(random, 200, 3000);
    let expires: Vec<i64> = ts.iter().map(|time| time + random.random_range(5_000..120_000)).collect();
    let text = |prefix: &str| texts((0..200).map(|index| Some(format!("{prefix}{index}"))));
    let seller: Vec<i64> = (0..200).map(|_| random.random_range(1000..1120)).collect();
    let category: Vec<i64> = (0..200).map(|_| random.random_range(10..15)).collect();
    let reserve: Vec<i64> = (0..200).map(|_| random.random_range(50..4000)).collect();
    batch(vec![
        ("id", numbers(1000..1200)),
        ("itemname", text("item-")),
        ("description", text("about-")),
        ("initialbid", numbers((0..200).map(|index| index * 3))),
        ("reserve", numbers(reserve)),
        ("datetime", times(ts)),
        ("expires", times(expires)),
        ("seller", numbers(seller)),
        ("category", numbers(category)),
        ("extra", text("")),
    ])
}

fn bids(random: &mut SmallRng) -> RecordBatch {
    let count = 2000;
    let ts = clock(random, count, 300);
    let mut column = |low: i64, high: i64| -> Vec<i64> { (0..count).map(|_| random.random_range(low..high)).collect() };
    let bidders = column(1000, 1060);
    let jitter = column(0, 40);
    // No two bids of one price and auction, so that the highest is one row.
    let prices = (0..count).map(|index| (index as i64 * 7919 % 10_007) * 1_000 + index as i64);
    let auctions: Vec<i64> = (0..count).map(|index| 1000 + (index as i64 / 10 - jitter[index]).clamp(0, 199)).collect();
    let channels = ["Google", "Facebook", "Baidu", "Apple", "other"];
    let channel = (0..count).map(|index| Some(channels[index * 13 % 5].to_owned()));
    let url =
        |index: usize| format!("https://www.nexmark.com/a{}/b/item.htm?query=1&channel_id={}", index % 3, index % 9);
    batch(vec![
        ("auction", numbers(auctions)),
        ("bidder", numbers(bidders)),
        ("price", numbers(prices)),
        ("channel", texts(channel)),
        ("url", texts((0..count).map(|index| Some(url(index))))),
        ("datetime", times(ts)),
        ("extra", texts((0..count).map(|index| Some(format!("aabbcc{index}"))))),
    ])
}
