//! `'connector' = 'blackhole'`: takes every row and keeps none, to try a query or to measure one.
//!
//! Invariant: it accepts every changelog, and its checkpoints hold nothing.

use std::{fmt, sync::Arc};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use headwater_engine::{
    connector::{
        ChangelogMode, CommitFacts, CommitReport, Committable, Connector, Cut, Guarantee, JobContext, OpenUnit,
        Prepared, RefusedRow, Sink, SinkTask, SinkWriter, Source, TableSpec,
    },
    error::{Error, Result},
    message::{ChangeBatch, Epoch},
};

use crate::options::Options;

/// The connector.
#[derive(Debug, Clone, Copy, Default)]
pub struct Blackhole;

impl Connector for Blackhole {
    fn name(&self) -> &'static str {
        "blackhole"
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        Err(Error::not_supported(format!("table \"{}\": a blackhole cannot be read", table.name)))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        let mut options = Options::new(&table.name, &table.options);
        options.accept(&["connector"]);
        options.finish()?;
        Ok(Arc::new(Nowhere))
    }
}

#[derive(Debug)]
struct Nowhere;

impl fmt::Display for Nowhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("blackhole")
    }
}

#[async_trait]
impl Sink for Nowhere {
    fn accepts(&self) -> ChangelogMode {
        ChangelogMode::Retract
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::None
    }

    async fn check(&self, _: &JobContext, _: SchemaRef) -> Result<()> {
        Ok(())
    }

    async fn writer(&self, _: &JobContext, _: SinkTask, _: Vec<OpenUnit>) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Nowhere))
    }

    async fn recover(&self, _: &JobContext, _: &CommitFacts) -> Result<()> {
        Ok(())
    }

    async fn commit(&self, _: &JobContext, _: Epoch, _: Vec<Committable>) -> Result<CommitReport> {
        Ok(CommitReport::default())
    }
}

#[async_trait]
impl SinkWriter for Nowhere {
    async fn write(&mut self, _: ChangeBatch) -> Result<Vec<RefusedRow>> {
        Ok(Vec::new())
    }

    async fn prepare(&mut self, _: Epoch, _: Cut) -> Result<Prepared> {
        Ok(Prepared::default())
    }
}
