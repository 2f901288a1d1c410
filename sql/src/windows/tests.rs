//! Windows in batch plans, against the arithmetic done by hand.

use std::sync::Arc;

use arrow::{
    array::{Int32Array, RecordBatch, TimestampMillisecondArray},
    datatypes::{DataType, Field, Schema, TimeUnit},
    util::pretty::pretty_format_batches,
};
use datafusion::{
    execution::{SessionStateBuilder, context::QueryPlanner},
    logical_expr::{Extension, LogicalPlan, LogicalPlanBuilder, col},
    physical_plan::ExecutionPlan,
    physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner},
    prelude::SessionContext,
};
use headwater_engine::window::WindowSpec;

use super::WindowNode;
use crate::unary::planner;

#[derive(Debug)]
struct Planner;

#[async_trait::async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn datafusion::catalog::Session,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        DefaultPhysicalPlanner::with_extension_planners(vec![planner::<WindowNode>()])
            .create_physical_plan(plan, session)
            .await
    }
}

async fn windows(spec: WindowSpec, keys: &[&str], rows: &[(i32, Option<i64>)]) -> Vec<String> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int32, false),
        Field::new("t", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ]));
    let k = Int32Array::from_iter_values(rows.iter().map(|row| row.0));
    let t: TimestampMillisecondArray = rows.iter().map(|row| row.1).collect();
    let batch = RecordBatch::try_new(schema, vec![Arc::new(k), Arc::new(t)]).unwrap();
    let state = SessionStateBuilder::new().with_default_features().with_query_planner(Arc::new(Planner)).build();
    let context = SessionContext::new_with_state(state);
    let input = context.read_batch(batch).unwrap().into_unoptimized_plan();
    let time = col(input.schema().columns().last().unwrap().clone());
    let keys = keys.iter().map(|_| col(input.schema().columns()[0].clone())).collect();
    let names = ["ws", "we", "wt"].map(str::to_owned);
    let node = WindowNode::try_new(input, spec, time, keys, names).unwrap();
    let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    let count = datafusion::functions_aggregate::count::count_all().alias("n");
    let plan = LogicalPlanBuilder::from(plan).aggregate(vec![col("k"), col("ws"), col("we")], vec![count]).unwrap();
    let frame = context.execute_logical_plan(plan.build().unwrap()).await.unwrap();
    let text = pretty_format_batches(&frame.collect().await.unwrap()).unwrap().to_string();
    let mut lines: Vec<String> = text
        .lines()
        .skip(3)
        .filter(|line| line.starts_with("| "))
        .map(|line| line.replace("1970-01-01T00:00:", "").split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn tumbling_windows_count_each_row_once_and_leave_out_rows_without_time() {
    let spec = WindowSpec::Tumble { size: 10_000_000, offset: 0 };
    let rows = [(1, Some(1_000)), (1, Some(9_999)), (1, Some(10_000)), (2, None)];
    assert_eq!(windows(spec, &[], &rows).await, ["| 1 | 00 | 10 | 2 |", "| 1 | 10 | 20 | 1 |"]);
}

#[tokio::test]
async fn hopping_windows_overlap() {
    let spec = WindowSpec::Hop { size: 10_000_000, slide: 5_000_000, offset: 0 };
    let lines = windows(spec, &[], &[(1, Some(12_000))]).await;
    assert_eq!(lines, ["| 1 | 05 | 15 | 1 |", "| 1 | 10 | 20 | 1 |"]);
}

#[tokio::test]
async fn cumulating_windows_grow() {
    let spec = WindowSpec::Cumulate { size: 6_000_000, step: 2_000_000, offset: 0 };
    let lines = windows(spec, &[], &[(1, Some(3_000))]).await;
    assert_eq!(lines, ["| 1 | 00 | 04 | 1 |", "| 1 | 00 | 06 | 1 |"]);
}

#[tokio::test]
async fn rows_exactly_one_gap_apart_are_one_session_and_keys_have_their_own() {
    let spec = WindowSpec::Session { gap: 5_000_000 };
    let rows = [(1, Some(0)), (1, Some(5_000)), (1, Some(10_001)), (2, Some(3_000))];
    let lines = windows(spec, &["k"], &rows).await;
    assert_eq!(lines, ["| 1 | 00 | 10 | 2 |", "| 1 | 10.001 | 15.001 | 1 |", "| 2 | 03 | 08 | 1 |"]);
}
