//! The demos, on small data sets: what each leaves behind and shows.

use anyhow::Result;
use headwater_tests::{jobs::JobFolder, scripts};

/// Runs a demo on a small data set: its folder, and what it said.
fn demo(name: &str) -> Result<(tempfile::TempDir, String)> {
    let job = JobFolder::new(env!("CARGO_BIN_EXE_headwater-under-test"), "none.sql", "", "")?;
    let output = job.ended(&["--format", "ndjson", "demo", name, "--rows", "600"])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{said}");
    let kept = tempfile::tempdir()?;
    std::fs::rename(job.path().join("state/demo").join(name), kept.path().join(name))?;
    Ok((kept, said))
}

/// The sum of a column over all rows that have it.
fn sum_of(said: &str, column: &str) -> i64 {
    let rows = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    rows.filter_map(|row| row[column].as_i64()).sum()
}

#[test]
fn the_demo_of_crimes_shows_what_was_decoded() -> Result<()> {
    let (folder, said) = demo("crimes")?;
    let lake = folder.path().join("crimes");
    assert_eq!(scripts::lines(&lake.join("crimes_backup"))?.len(), 600);
    assert_eq!(scripts::lines(&lake.join("crimes_raw"))?.len(), 600);
    assert!(said.contains("queries/crimes/embedded.sql") && said.contains("queries/crimes/send.sql"), "{said}");
    assert_eq!(said.matches("\"crime_time\":").count(), 10, "{said}");
    Ok(())
}

#[test]
fn the_demo_of_telemetry_delivers_both_streams() -> Result<()> {
    let (folder, said) = demo("telemetry")?;
    let streamed = folder.path().join("telemetry/streamed");
    let sent = scripts::lines(&folder.path().join("telemetry/raw"))?.len();
    assert_eq!(scripts::lines(&streamed.join("events_raw/json"))?.len(), sent);
    assert!(streamed.join("events_raw/parquet/name=anonymous_visited").is_dir());
    assert!(said.contains("queries/telemetry/embedded.sql") && said.contains("queries/telemetry/send.sql"), "{said}");
    assert!(said.contains("queries/telemetry/delivered.sql"), "{said}");
    let sent = i64::try_from(sent)?;
    assert_eq!((sum_of(&said, "json_events"), sum_of(&said, "parquet_events")), (sent, sent), "{said}");
    Ok(())
}

#[test]
fn the_demo_of_engagement_counts_every_event_and_joins_the_posts() -> Result<()> {
    let (folder, said) = demo("engagement")?;
    let events = scripts::lines(&folder.path().join("engagement/rawData/stream"))?.len();
    assert_eq!(events, scripts::lines(&folder.path().join("engagement/engagements"))?.len());
    for file in ["report.sql", "report_days.sql", "busiest.sql", "report_stream.sql"] {
        assert!(said.contains(&format!("queries/engagement/{file}")), "{file}: {said}");
    }
    assert!(said.contains("\"day\":") && said.contains("\"window_start\":"), "{said}");
    Ok(())
}

#[test]
fn the_demo_of_sales_shows_what_was_delivered_and_the_orders_as_they_are() -> Result<()> {
    let (folder, said) = demo("sales")?;
    let delivered = i64::try_from(scripts::lines(&folder.path().join("sales/sales"))?.len())?;
    let rows = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let by_day: i64 = rows.filter(|row| row["partition_0"].is_string()).filter_map(|row| row["changes"].as_i64()).sum();
    assert_eq!(by_day, delivered, "{said}");
    assert!(said.contains("\"worth\":"), "{said}");
    Ok(())
}
