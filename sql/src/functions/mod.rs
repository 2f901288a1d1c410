//! The function library.

pub mod lambda;
