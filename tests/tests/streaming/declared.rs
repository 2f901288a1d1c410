//! A script that stands, without its job: its tables are declared, its INSERTs wait to be run.
//!
//! Invariant: every statement but the INSERTs has been executed, in the order of the script.

use std::sync::Arc;

use headwater_connectors::{catalogs::memory::MemoryCatalog, memory::Memory};
use headwater_engine::{graph::Graph, testing::MemoryLog};
use headwater_sql::{
    lower::lower_inserts,
    parser::{Parameters, StatementKind, parse, statement::Insert},
    session::{Session, SessionConfig},
};

use crate::connector::Kept;

/// The tables of a script in a session of its own, over a folder that goes with it.
pub(crate) struct Declared {
    pub(crate) kept: Arc<Kept>,
    pub(crate) folder: tempfile::TempDir,
    session: Session,
    inserts: Vec<Insert>,
}

impl Declared {
    /// Declares what a script has over these logs, by the names of their tables.
    pub(crate) async fn new(script: &str, logs: &[(&str, MemoryLog)]) -> Self {
        let kept = Arc::new(Kept::default());
        kept.logs.lock().unwrap().extend(logs.iter().map(|(name, log)| ((*name).to_owned(), log.clone())));
        let folder = tempfile::tempdir().unwrap();
        let config = SessionConfig {
            connectors: vec![Arc::clone(&kept) as _, Arc::new(Memory::default())],
            ..SessionConfig::in_directory(folder.path().to_string_lossy())
        };
        let session = Session::with_catalog(config, Arc::new(MemoryCatalog::default())).unwrap();
        let mut declared = Self { kept, folder, session, inserts: Vec::new() };
        for statement in parse(script, &Parameters::default()).unwrap() {
            match &statement.kind {
                StatementKind::Insert(insert) => declared.inserts.push(insert.clone()),
                _ => drop(declared.session.execute(&statement).await.unwrap()),
            }
        }
        declared
    }

    /// Runs a statement now, by itself.
    pub(crate) async fn execute(&self, sql: &str) {
        for statement in parse(sql, &Parameters::default()).unwrap() {
            drop(self.session.execute(&statement).await.unwrap());
        }
    }

    /// The graph of the INSERTs, for a job with `--once` or without.
    pub(crate) async fn graph(&self, once: bool) -> Arc<Graph> {
        Arc::new(lower_inserts(&self.session, &self.inserts, once).await.unwrap())
    }
}
