//! Tests of Headwater as a whole: SQL logic tests, recovery, simulation, real servers, benches.

pub mod conformance;
pub mod disk;
pub mod http;
pub mod jobs;
pub mod scripts;
pub mod services;
