//! Product telemetry: each session is a walk through a Markov chain, and its events are JSON lines sorted by MD5.
//!
//! ```text
//!   start -> anonymous_visited --40 %--> anonymous_visited
//!                    |---------40 %--> account_created --70 %--> measurement_recorded --90 %--> itself
//!                    '---------20 %--> end      '--30 %--> end          '--10 %--> end
//! ```
//!
//! Seven events a session on average. One event in a hundred is there twice, byte for byte.
//!
//! Invariant: two events have the same `payload_md5` only if one is the duplicate of the other, so a visitor who comes
//! back comes with another system, and no session records a measurement twice.

use std::fmt::Write;

use chrono::{DateTime, NaiveDate};
use headwater_engine::error::{Error, Result};
use md5::{Digest, Md5};

use super::{
    DatasetFormat,
    random::Random,
    record::{Body, Cell, Column, Kind, Record},
};

/// The columns of JSON lines and CSV.
pub(super) const COLUMNS: &[Column] = &[
    Column { name: "name", kind: Kind::Text },
    Column { name: "tstamp", kind: Kind::Timestamp },
    Column { name: "payload", kind: Kind::Text },
    Column { name: "payload_md5", kind: Kind::Text },
];

/// The columns of Parquet files, whose name is in their folder.
pub(super) const PARQUET_COLUMNS: &[Column] = COLUMNS.split_at(1).1;

const SESSIONS: u64 = 100_000;
/// Events of the default number of sessions, near enough to choose the number of passes.
const EVENTS_EXPECTED: u64 = 711_530;
/// Events sorted in memory at once; more take one pass over the sessions for each range of MD5.
const EVENTS_IN_MEMORY: u64 = 1_000_000;
/// The day the events were delivered.
const DELIVERY_DATE: &str = "2023-07-16";
const DUPLICATES_PERCENT: u64 = 1;

/// Systems of visitors; a session has at most as many visits.
const SYSTEMS: &[&str] = &[
    "Android",
    "iOS",
    "Windows",
    "macOS",
    "Linux",
    "ChromeOS",
    "iPadOS",
    "FreeBSD",
    "tvOS",
    "HarmonyOS",
    "KaiOS",
    "Tizen",
    "webOS",
    "Fedora",
    "Ubuntu",
    "Debian",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    AnonymousVisited,
    AccountCreated,
    MeasurementRecorded,
}

struct Event {
    md5: [u8; 16],
    seconds: i64,
    state: State,
    payload: String,
    twice: bool,
}

/// Gives every event in the order of its MD5.
pub(super) fn each(
    rows: Option<u64>,
    seed: u64,
    format: DatasetFormat,
    write: &mut dyn FnMut(Record) -> Result<()>,
) -> Result<()> {
    let passes = rows.unwrap_or(EVENTS_EXPECTED).div_ceil(EVENTS_IN_MEMORY).max(1);
    for pass in 0..passes {
        let range = (pass << 32) / passes..((pass + 1) << 32) / passes;
        let mut events = Vec::new();
        every_event(rows, seed, |event| {
            let [a, b, c, d, ..] = event.md5;
            if range.contains(&u64::from(u32::from_be_bytes([a, b, c, d]))) {
                events.push(event);
            }
        })?;
        events.sort_unstable_by_key(|event: &Event| event.md5);
        for event in events {
            let record = record(&event, format)?;
            if event.twice {
                write(record.clone())?;
            }
            write(record)?;
        }
    }
    Ok(())
}

/// Walks the sessions until there are as many rows as asked for, or through all of them.
fn every_event(rows: Option<u64>, seed: u64, mut take: impl FnMut(Event)) -> Result<()> {
    let first = midnight(2023, 5, 15)?;
    let last = midnight(2023, 7, 16)? - 1;
    let mut left = rows.unwrap_or(u64::MAX);
    let sessions = if rows.is_some() { u64::MAX } else { SESSIONS };
    for session in 0..sessions {
        if left == 0 {
            break;
        }
        let mut walk = Walk::start(Random::of(seed, "telemetry", session), first, last);
        while let Some(mut event) = walk.next_event() {
            if left == 0 {
                break;
            }
            event.twice &= left > 1;
            left -= 1 + u64::from(event.twice);
            take(event);
        }
    }
    Ok(())
}

fn midnight(year: i32, month: u32, day: u32) -> Result<i64> {
    let date = NaiveDate::from_ymd_opt(year, month, day).and_then(|date| date.and_hms_opt(0, 0, 0));
    Ok(date.ok_or_else(|| Error::internal("a day of the calendar expected"))?.and_utc().timestamp())
}

/// One session on its way through the chain.
struct Walk {
    random: Random,
    session_id: String,
    account_id: String,
    seconds: i64,
    last: i64,
    next: Option<State>,
    visits: usize,
    first_system: u64,
    measurements: Vec<u64>,
}

impl Walk {
    fn start(mut random: Random, first: i64, last: i64) -> Self {
        let session_id = format!("{:016x}", random.next());
        let account_id = random.uuid_hex();
        let seconds = random.between(first, last);
        let first_system = random.below(SYSTEMS.len() as u64);
        let next = Some(State::AnonymousVisited);
        Self { random, session_id, account_id, seconds, last, next, visits: 0, first_system, measurements: Vec::new() }
    }

    fn next_event(&mut self) -> Option<Event> {
        let state = self.next?;
        let payload = self.payload(state);
        let twice = self.random.percent(DUPLICATES_PERCENT);
        let event = Event { md5: Md5::digest(&payload).into(), seconds: self.seconds, state, payload, twice };
        self.seconds = (self.seconds + self.random.between(1, 7_200)).min(self.last);
        self.next = self.step(state);
        Some(event)
    }

    fn step(&mut self, state: State) -> Option<State> {
        let roll = self.random.below(100);
        match state {
            State::AnonymousVisited if roll < 40 && self.visits < SYSTEMS.len() => Some(State::AnonymousVisited),
            State::AnonymousVisited if roll < 80 => Some(State::AccountCreated),
            State::AccountCreated if roll < 70 => Some(State::MeasurementRecorded),
            State::MeasurementRecorded if roll < 90 => Some(State::MeasurementRecorded),
            State::AnonymousVisited | State::AccountCreated | State::MeasurementRecorded => None,
        }
    }

    fn payload(&mut self, state: State) -> String {
        let mut text = String::with_capacity(128);
        let Self { random, session_id, account_id, visits, first_system, measurements, .. } = self;
        let _ = match state {
            State::AnonymousVisited => {
                let system = SYSTEMS[(*first_system as usize + *visits) % SYSTEMS.len()];
                *visits += 1;
                write!(text, r#"{{"dvce_os": "{system}", "session_id": "{session_id}"}}"#)
            }
            State::AccountCreated => write!(text, r#"{{"account_id": "{account_id}", "session_id": "{session_id}"}}"#),
            State::MeasurementRecorded => {
                let mut value = random.below(1_000_000);
                while measurements.contains(&value) {
                    value = random.below(1_000_000);
                }
                measurements.push(value);
                let (whole, fraction) = (value / 10_000, value % 10_000);
                write!(
                    text,
                    r#"{{"account_id": "{account_id}", "measurement": {whole}.{fraction:04}, "session_id": "{session_id}"}}"#
                )
            }
        };
        text
    }
}

fn record(event: &Event, format: DatasetFormat) -> Result<Record> {
    let time = DateTime::from_timestamp(event.seconds, 0);
    let time = time.ok_or_else(|| Error::internal("an event time within the calendar expected"))?;
    let name = match event.state {
        State::AnonymousVisited => "anonymous_visited",
        State::AccountCreated => "account_created",
        State::MeasurementRecorded => "measurement_recorded",
    };
    let mut cells = vec![
        Cell::of(name),
        Cell::of(time.format("%Y-%m-%d %H:%M:%S.000000").to_string()),
        Cell::of(&*event.payload),
        Cell::of(hex::encode(event.md5)),
    ];
    let in_folders = matches!(format, DatasetFormat::JsonGz | DatasetFormat::Parquet);
    let folder = if in_folders { format!("name={name}/d={DELIVERY_DATE}") } else { String::new() };
    if format == DatasetFormat::Parquet {
        cells.remove(0);
    }
    Ok(Record { folder, body: Body::Cells(cells) })
}
