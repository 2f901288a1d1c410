//! What the binder refuses, and what it names columns.
