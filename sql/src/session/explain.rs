//! `EXPLAIN`: the plan of a statement, checked, shown, or run and measured.
//!
//! Invariant: only ANALYZE runs anything.

use std::{fmt::Write, sync::Arc};

use datafusion::{
    logical_expr::LogicalPlan,
    physical_plan::{
        ExecutionPlan, display::DisplayableExecutionPlan, execute_stream, stream::RecordBatchStreamAdapter,
    },
};
use futures::TryStreamExt;
use headwater_connectors::lake::stats::ScanStats;
use headwater_engine::error::{Error, Result};

use super::{Outcome, Session};
use crate::{
    ddl::rows,
    diagnostics::Classify,
    lower,
    parser::{
        Statement, StatementKind,
        statement::{Explain, ExplainFormat, ExplainKind, Insert},
    },
};

/// What is explained where nothing may run; `None` for a statement that neither reads nor writes rows.
pub(crate) fn instead_of(statement: &Statement) -> Option<Explain> {
    let plain = |statement: &Statement| Explain {
        analyze: false,
        verbose: false,
        kind: ExplainKind::default(),
        format: ExplainFormat::default(),
        statement: statement.clone(),
        is_instead: true,
    };
    match &statement.kind {
        StatementKind::Query(_)
        | StatementKind::Insert(_)
        | StatementKind::CreateTableAs(_)
        | StatementKind::Unload(_)
        | StatementKind::StatementSet(_) => Some(plain(statement)),
        StatementKind::Explain(explain) if explain.analyze => {
            Some(Explain { analyze: false, ..explain.as_ref().clone() })
        }
        _ => None,
    }
}

impl Session {
    pub(super) async fn explain(&self, explain: &Explain) -> Result<Outcome> {
        if let Some(text) = self.job_text(explain).await? {
            let lines = text.trim_end().lines().map(|line| vec![Some(line.to_owned())]).collect();
            return rows::texts(&["Query Plan"], lines);
        }
        if let StatementKind::StatementSet(statements) = &explain.statement.kind {
            return self.explain_each(explain, statements).await;
        }
        let is_query = matches!(explain.statement.kind, StatementKind::Query(_));
        match &explain.statement.kind {
            StatementKind::Query(_)
            | StatementKind::Insert(_)
            | StatementKind::CreateTableAs(_)
            | StatementKind::Unload(_) => {}
            _ if explain.kind == ExplainKind::Validate => {
                return rows::texts(&["Valid"], vec![vec![Some("true".into())]]);
            }
            _ => {
                return Err(Error::not_supported("EXPLAIN of this statement is not supported")
                    .with_hint("it explains queries, INSERT, CREATE TABLE AS and UNLOAD"));
            }
        }
        if explain.kind == ExplainKind::Io {
            return Err(Error::not_supported("EXPLAIN (TYPE IO) is not supported")
                .with_hint("EXPLAIN ANALYZE shows what a statement reads"));
        }
        if explain.analyze && !is_query {
            return Err(Error::not_supported("EXPLAIN ANALYZE of a statement that writes is not supported")
                .with_hint("EXPLAIN ANALYZE its query, or run it: what it read is shown after it"));
        }
        let stats = Arc::<ScanStats>::default();
        let (plan, state) = match &explain.statement.kind {
            StatementKind::Query(query) => self.plan(&query.body, &stats).await?,
            statement => crate::write::plan(self, statement, &stats)
                .await?
                .ok_or_else(|| Error::internal("a statement that writes has a plan"))?,
        };
        if explain.kind == ExplainKind::Validate {
            return rows::texts(&["Valid"], vec![vec![Some("true".into())]]);
        }
        let text = if explain.analyze {
            let physical = state.create_physical_plan(&plan).await.classify()?;
            self.analyze(physical, &state, explain.verbose, &stats).await?
        } else if explain.kind == ExplainKind::Logical {
            logical_text(&state.optimize(&plan).classify()?, explain.format)?
        } else {
            let physical = state.create_physical_plan(&plan).await.classify()?;
            physical_text(physical.as_ref(), explain.format)?
        };
        if let StatementKind::CreateTableAs(create) = &explain.statement.kind
            && explain.is_instead
        {
            crate::write::declare(self, create).await?;
        }
        let lines = text.trim_end().lines().map(|line| vec![Some(line.to_owned())]).collect();
        rows::texts(&["Query Plan"], lines)
    }

    /// The plans of statements that end, one after another.
    async fn explain_each(&self, explain: &Explain, statements: &[Statement]) -> Result<Outcome> {
        let (mut batches, mut last) = (Vec::new(), None);
        for statement in statements {
            let one = Explain { statement: statement.clone(), ..explain.clone() };
            let Outcome::Rows { stream, stats } = Box::pin(self.explain(&one)).await? else { continue };
            last = Some((stream.schema(), stats));
            batches.extend(stream.try_collect::<Vec<_>>().await.classify()?);
        }
        let (schema, stats) = last.ok_or_else(|| Error::internal("an empty set of statements"))?;
        let rows = futures::stream::iter(batches.into_iter().map(Ok));
        Ok(Outcome::Rows { stream: Box::pin(RecordBatchStreamAdapter::new(schema, rows)), stats })
    }

    /// The graph of INSERTs that go on until they are stopped; `None` for anything else.
    async fn job_text(&self, explain: &Explain) -> Result<Option<String>> {
        let inserts: Vec<Insert> = match &explain.statement.kind {
            StatementKind::Insert(insert) => vec![insert.clone()],
            StatementKind::StatementSet(all) => {
                let insert = |statement: &Statement| match &statement.kind {
                    StatementKind::Insert(insert) => Some(insert.clone()),
                    _ => None,
                };
                all.iter().filter_map(insert).collect()
            }
            _ => return Ok(None),
        };
        let mut goes_on = false;
        for insert in &inserts {
            goes_on |= lower::reads(self, insert, false).await? == lower::Reads::Unbounded;
        }
        if !goes_on {
            return Ok(None);
        }
        if explain.analyze {
            return Err(Error::not_supported("EXPLAIN ANALYZE of an INSERT that goes on until it is stopped")
                .with_hint("run it, and SELECT * FROM headwater.operators"));
        }
        let (graph, notes) = lower::lower_job(self, &inserts, false).await?;
        Ok(Some(lower::text(&graph, &notes)?))
    }

    async fn analyze(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        state: &datafusion::execution::SessionState,
        verbose: bool,
        stats: &ScanStats,
    ) -> Result<String> {
        let mut stream = execute_stream(Arc::clone(&plan), state.task_ctx()).classify()?;
        let mut count = 0;
        while let Some(batch) = stream.try_next().await.classify()? {
            count += batch.num_rows();
        }
        let shown = if verbose {
            DisplayableExecutionPlan::with_full_metrics(plan.as_ref())
        } else {
            DisplayableExecutionPlan::with_metrics(plan.as_ref())
        };
        let mut text = shown.indent(verbose).to_string();
        let _ = writeln!(
            text,
            "rows: {count}, bytes scanned: {} of {}, files: {} of {}, partitions: {} of {}",
            ScanStats::get(&stats.bytes_scanned),
            ScanStats::get(&stats.bytes_stored),
            ScanStats::get(&stats.files_read),
            ScanStats::get(&stats.files_total),
            ScanStats::get(&stats.partitions_read),
            ScanStats::get(&stats.partitions_total),
        );
        Ok(text)
    }
}

fn logical_text(plan: &LogicalPlan, format: ExplainFormat) -> Result<String> {
    Ok(match format {
        ExplainFormat::Text => plan.display_indent().to_string(),
        ExplainFormat::Json => plan.display_pg_json().to_string(),
        ExplainFormat::Graphviz => plan.display_graphviz().to_string(),
    })
}

fn physical_text(plan: &dyn ExecutionPlan, format: ExplainFormat) -> Result<String> {
    let shown = DisplayableExecutionPlan::new(plan);
    match format {
        ExplainFormat::Text => Ok(shown.indent(false).to_string()),
        ExplainFormat::Graphviz => Ok(shown.graphviz().to_string()),
        ExplainFormat::Json => Err(Error::not_supported("FORMAT JSON is supported with TYPE LOGICAL only")
            .with_hint("write EXPLAIN (FORMAT JSON), or FORMAT GRAPHVIZ")),
    }
}
