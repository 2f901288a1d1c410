//! Crime records of one city and month: as the city publishes them (CSV), as a client sends them (text joined by `|`),
//! and as they are decoded (JSON with a nested location).
//!
//! Invariant: row `i` of a seed is the same crime in every format.

use chrono::{DateTime, Datelike, Timelike, Utc};

use super::{
    DatasetFormat,
    random::Random,
    record::{Body, Cell, Column, Kind, Record},
};

/// Rows unless told otherwise: those of the month that the city published.
pub(super) const ROWS: u64 = 7_584;

/// The columns of the published file.
pub(super) const CSV_COLUMNS: &[Column] = &[
    Column { name: "cdatetime", kind: Kind::Text },
    Column { name: "address", kind: Kind::Text },
    Column { name: "district", kind: Kind::Integer },
    Column { name: "beat", kind: Kind::Text },
    Column { name: "grid", kind: Kind::Integer },
    Column { name: "crimedescr", kind: Kind::Text },
    Column { name: "ucr_ncic_code", kind: Kind::Integer },
    Column { name: "latitude", kind: Kind::Double },
    Column { name: "longitude", kind: Kind::Double },
];

/// The keys of a decoded record.
pub(super) const JSON_COLUMNS: &[Column] = &[
    Column { name: "crime_time", kind: Kind::Text },
    Column { name: "address", kind: Kind::Text },
    Column { name: "district", kind: Kind::Integer },
    Column { name: "beat", kind: Kind::Text },
    Column { name: "grid", kind: Kind::Integer },
    Column { name: "description", kind: Kind::Text },
    Column { name: "crime_id", kind: Kind::Integer },
    Column { name: "latitude", kind: Kind::Double },
    Column { name: "longitude", kind: Kind::Double },
    Column { name: "location", kind: Kind::Json },
    Column { name: "crime_year", kind: Kind::Text },
    Column { name: "crime_month", kind: Kind::Text },
    Column { name: "crime_day", kind: Kind::Text },
];

/// 2006-01-01 00:00:00 UTC, in seconds.
const FIRST_SECOND: i64 = 1_136_073_600;
const MONTH_SECONDS: i64 = 31 * 86_400;
/// 2020-02-15 14:27:19 UTC, in seconds: when the client sent the first row.
const SENT_SECOND: i64 = 1_581_776_839;

const OFFENCES: &[(&str, i64)] = &[
    ("10851(A)VC TAKE VEH W/O OWNER", 2404),
    ("459 PC  BURGLARY RESIDENCE", 2204),
    ("459 PC  BURGLARY VEHICLE", 2299),
    ("484 PC   PETTY THEFT/INSIDE", 2308),
    ("487(A) GRAND THEFT-INSIDE", 2308),
    ("594(B)(2)(A) VANDALISM/ -$400", 2999),
    ("TOWED/STORED VEHICLE", 7000),
    ("530.5 PC USE PERSONAL ID INFO", 2604),
    ("243(E)(1)PC BATTERY ON SPOUSE", 1313),
    ("415 PC DISTURB-FIGHT/NOISE", 5309),
    ("647(F) PC UNDER INFL ALCOHOL", 5309),
    ("211 PC ROBBERY UNSPECIFIED", 1299),
];
const STREETS: &[&str] = &[
    "OCCIDENTAL DR",
    "FRANKLIN BLVD",
    "STOCKTON BLVD",
    "MARYSVILLE BLVD",
    "FREEPORT BLVD",
    "J ST",
    "RIO LINDA BLVD",
    "FLORIN RD",
    "ARDEN WAY",
    "DEL PASO BLVD",
];

struct Crime {
    time: DateTime<Utc>,
    address: String,
    district: i64,
    beat: String,
    grid: i64,
    offence: (&'static str, i64),
    latitude: f64,
    longitude: f64,
}

/// Row `index` of `rows`, ordered by time.
pub(super) fn record(seed: u64, index: u64, rows: u64, format: DatasetFormat) -> Record {
    let mut random = Random::of(seed, "crime", index);
    let crime = crime(&mut random, index, rows);
    let body = match format {
        DatasetFormat::Csv => Body::Cells(csv_cells(&crime)),
        DatasetFormat::Stream => Body::Line(delimited(&crime, index, random.percent(95))),
        DatasetFormat::Ndjson | DatasetFormat::JsonGz | DatasetFormat::Parquet => Body::Cells(json_cells(&crime)),
    };
    Record { folder: String::new(), body }
}

fn crime(random: &mut Random, index: u64, rows: u64) -> Crime {
    let minute = (index as f64 / rows.max(1) as f64 * MONTH_SECONDS as f64) as i64 / 60 * 60;
    let district = random.between(1, 6);
    let millionths = |value: i64| value as f64 / 1e8;
    Crime {
        time: DateTime::from_timestamp(FIRST_SECOND + minute, 0).unwrap_or_default(),
        address: format!("{} {}", random.between(1, 8_999), random.pick(STREETS)),
        district,
        beat: format!("{district}{}", random.pick(&["A", "B", "C"])),
        grid: random.between(100, 1_660),
        offence: random.pick(OFFENCES),
        latitude: millionths(random.between(3_843_800_000, 3_868_500_000)),
        longitude: millionths(random.between(-12_155_700_000, -12_136_200_000)),
    }
}

fn csv_cells(crime: &Crime) -> Vec<Cell> {
    let t = crime.time;
    let time = format!("{}/{}/{:02} {}:{:02}", t.month(), t.day(), t.year() % 100, t.hour(), t.minute());
    let mut cells = vec![Cell::Text(time)];
    cells.extend(middle_cells(crime));
    cells
}

fn middle_cells(crime: &Crime) -> [Cell; 8] {
    [
        Cell::of(&*crime.address),
        Cell::Integer(crime.district),
        Cell::of(&*crime.beat),
        Cell::Integer(crime.grid),
        Cell::of(crime.offence.0),
        Cell::Integer(crime.offence.1),
        Cell::Double(crime.latitude),
        Cell::Double(crime.longitude),
    ]
}

fn json_cells(crime: &Crime) -> Vec<Cell> {
    let mut cells = vec![Cell::Text(crime.time.format("%Y/%m/%d %H:%M:%S").to_string())];
    cells.extend(middle_cells(crime));
    cells.push(Cell::Text(format!(r#"{{"lat":{},"lon":{}}}"#, crime.latitude, crime.longitude)));
    cells.extend(["%Y", "%m", "%d"].map(|part| Cell::Text(crime.time.format(part).to_string())));
    cells
}

fn delimited(crime: &Crime, index: u64, with_sent: bool) -> String {
    let sent = DateTime::from_timestamp(SENT_SECOND + index as i64, 0).unwrap_or_default();
    let mut parts = vec![
        crime.time.format("%Y/%m/%d %H:%M:%S").to_string(),
        crime.address.clone(),
        crime.district.to_string(),
        crime.beat.clone(),
        crime.grid.to_string(),
        crime.offence.0.to_owned(),
        crime.offence.1.to_string(),
        crime.latitude.to_string(),
        crime.longitude.to_string(),
    ];
    if with_sent {
        parts.push(sent.format("%Y/%m/%d %H:%M:%S").to_string());
    }
    parts.join("|")
}
