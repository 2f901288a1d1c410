//! Social-media posts: the 18 columns of an engagement report, as it is exported today.
//!
//! Invariant: post number `i` of a seed has the same id here and in the engagements.

use chrono::DateTime;

use super::{
    random::Random,
    record::{Body, Cell, Column, Kind, Record},
};

/// Rows unless told otherwise.
pub(super) const ROWS: u64 = 100_000;
/// Files the rows are spread over.
pub(super) const FILES: u64 = 4;

/// The columns, named as the report names them.
pub(super) const COLUMNS: &[Column] = &[
    Column { name: "Platform", kind: Kind::Text },
    Column { name: "Post ID", kind: Kind::Text },
    Column { name: "Post Type", kind: Kind::Text },
    Column { name: "Post Content", kind: Kind::Text },
    Column { name: "Post Timestamp", kind: Kind::Timestamp },
    Column { name: "Likes", kind: Kind::Integer },
    Column { name: "Comments", kind: Kind::Integer },
    Column { name: "Shares", kind: Kind::Integer },
    Column { name: "Impressions", kind: Kind::Integer },
    Column { name: "Reach", kind: Kind::Integer },
    Column { name: "Engagement Rate", kind: Kind::Double },
    Column { name: "Audience Age", kind: Kind::Integer },
    Column { name: "Audience Gender", kind: Kind::Text },
    Column { name: "Audience Location", kind: Kind::Text },
    Column { name: "Audience Interests", kind: Kind::Text },
    Column { name: "Campaign ID", kind: Kind::Text },
    Column { name: "Sentiment", kind: Kind::Text },
    Column { name: "Influencer ID", kind: Kind::Text },
];

const PLATFORMS: &[&str] = &["Facebook", "Instagram", "LinkedIn", "Twitter"];
const TYPES: &[&str] = &["Image", "Link", "Video", "Text"];
const OPENINGS: &[&str] = &[
    "New in the shop",
    "Behind the scenes",
    "We asked, you answered",
    "Back by popular demand",
    "Café talk ☕",
    "Last chance",
    "A word from the team",
    "Big news",
];
const ENDINGS: &[&str] = &[
    "see you on Sunday!",
    "what do you think?",
    "read more on the blog",
    "they call it \"the good one\"",
    "first come,\nfirst served",
    "link in bio",
    "thank you all",
    "10 % off, today only",
];
const LOCATIONS: &[&str] = &["Paris", "São Paulo", "Lagos", "Tokyo", "Chicago", "Hanoi", "Berlin", "Washington, D.C."];
const INTERESTS: &[&str] = &["travel", "food", "fashion", "sports", "music", "technology", "finance", "gardening"];
const SENTIMENTS: &[&str] = &["Positive", "Neutral", "Negative"];
/// 2023-01-01 00:00:00 UTC, in seconds.
const FIRST_SECOND: i64 = 1_672_531_200;
const YEAR_SECONDS: u64 = 365 * 86_400;

/// The id of post number `index`.
pub(super) fn post_id(seed: u64, index: u64) -> String {
    Random::of(seed, "post id", index).uuid()
}

/// Post number `index`.
pub(super) fn record(seed: u64, index: u64) -> Record {
    let mut random = Random::of(seed, "post", index);
    let reach = if random.below(200) == 0 { 0 } else { random.between(500, 5_000) };
    let impressions = reach + random.between(0, 5_000);
    let (likes, comments, shares) = (random.between(0, 1_000), random.between(0, 500), random.between(0, 200));
    let rate = (likes + comments + shares) as f64 / impressions.max(1) as f64 * 100.0;
    let maybe = |filled: bool, text: String| if filled { Cell::Text(text) } else { Cell::Null };
    let cells = vec![
        Cell::of(random.pick(PLATFORMS)),
        Cell::Text(post_id(seed, index)),
        Cell::of(random.pick(TYPES)),
        Cell::Text(format!("{}: {}", random.pick(OPENINGS), random.pick(ENDINGS))),
        Cell::Text(time(&mut random)),
        Cell::Integer(likes),
        Cell::Integer(comments),
        Cell::Integer(shares),
        Cell::Integer(impressions),
        Cell::Integer(reach),
        Cell::Double((rate * 100.0).round() / 100.0),
        Cell::Integer(random.between(18, 65)),
        Cell::of(random.pick(&["Female", "Male", "Other"])),
        Cell::of(random.pick(LOCATIONS)),
        Cell::Text(format!("{}, {}", random.pick(INTERESTS), random.pick(INTERESTS))),
        maybe(random.percent(20), format!("CAMP-{:04}", random.below(500))),
        maybe(random.percent(50), random.pick(SENTIMENTS).to_owned()),
        maybe(random.percent(10), format!("INF-{:05}", random.below(5_000))),
    ];
    Record { folder: String::new(), body: Body::Cells(cells) }
}

fn time(random: &mut Random) -> String {
    let second = FIRST_SECOND + random.below(YEAR_SECONDS) as i64;
    let fraction = random.below(1_000_000);
    DateTime::from_timestamp(second, 0)
        .map(|time| format!("{}.{fraction:06}", time.format("%Y-%m-%d %H:%M:%S")))
        .unwrap_or_default()
}
