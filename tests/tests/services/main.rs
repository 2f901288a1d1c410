//! Tests against real servers. They run with `--features services`, which `.ci/run` does; nothing in here is skipped.

mod changed;
mod conformance;
mod dynamodb;
mod exact;
mod formats;
mod full_disk;
mod http;
mod kafka;
mod kinesis;
mod lake;
mod lake_jobs;
mod outage;
mod pipelines;
mod random_jobs;
mod recovery;
mod relations;
mod resilience;
mod secure;
mod servers;
mod stories;
mod topics;
