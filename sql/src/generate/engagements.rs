//! Likes, comments and shares of the posts, one a second, as a client puts them on a stream.
//!
//! Invariant: the ids are those of the first posts of the same seed, so the two data sets join.

use chrono::DateTime;

use super::{
    posts,
    random::Random,
    record::{Body, Cell, Column, Kind, Record},
};

/// Rows unless told otherwise: an hour of one event a second.
pub(super) const ROWS: u64 = 3_600;

/// The keys of an event.
pub(super) const COLUMNS: &[Column] = &[
    Column { name: "post_id", kind: Kind::Text },
    Column { name: "engagement_type", kind: Kind::Text },
    Column { name: "user_id", kind: Kind::Text },
    Column { name: "timestamp", kind: Kind::Text },
];

/// Posts that are engaged with; a small deployment has a hundred.
const POSTS: u64 = 100;
/// 2025-03-10 08:00:00 UTC, in seconds.
const FIRST_SECOND: i64 = 1_741_593_600;

/// Event number `index`.
pub(super) fn record(seed: u64, index: u64) -> Record {
    let mut random = Random::of(seed, "engagement", index);
    let post = random.below(POSTS);
    let time = DateTime::from_timestamp(FIRST_SECOND + index as i64, 0);
    let fraction = match random.below(20) {
        0 => String::new(), // clients leave a zero fraction out
        _ => format!(".{:06}", 1 + random.below(999_999)),
    };
    let time = time.map(|time| format!("{}{fraction}+00:00", time.format("%Y-%m-%dT%H:%M:%S"))).unwrap_or_default();
    let cells = vec![
        Cell::Text(posts::post_id(seed, post)),
        Cell::of(random.pick(&["like", "like", "like", "comment", "share"])),
        Cell::Text(format!("{:04}", random.below(10_000))),
        Cell::Text(time),
    ];
    Record { folder: String::new(), body: Body::Cells(cells) }
}
