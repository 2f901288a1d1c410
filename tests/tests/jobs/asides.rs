//! What a job keeps aside: rejected and late rows, from outside, as a source, and what `--strict` says of them.
//!
//! Invariant: a count that is said is that of the rows shown.

use std::{collections::BTreeSet, fs};

use anyhow::{Result, ensure};

use crate::{COUNTS, TABLES, clicks, folder, once, refused, well};

#[test]
fn rows_kept_aside_are_read_from_outside_and_feed_other_inserts() -> Result<()> {
    let script = format!(
        "{TABLES}
CREATE TABLE bad (raw VARCHAR, reason VARCHAR, split VARCHAR, off VARCHAR)
  WITH ('connector' = 'filesystem', 'path' = 'bad', 'format' = 'json');
CREATE TABLE old (id BIGINT, off VARCHAR, inserts VARCHAR)
  WITH ('connector' = 'filesystem', 'path' = 'old', 'format' = 'json');
{COUNTS}
INSERT INTO bad SELECT from_utf8(raw), reason, split, \"offset\" FROM \"clicks$rejected\";
INSERT INTO old SELECT id, \"offset\", inserts FROM \"clicks$late\" WHERE id > 0;
"
    );
    let folder = folder(&script)?;
    let lines = [
        r#"{"id": 1, "page": "/a", "ts": "2026-01-01 00:00:01"}"#,
        r#"{"id": 2, "page": "/a", "ts": "2026-01-01 00:10:00"}"#,
        r#"{"id": "x", "page": "/a", "ts": "2026-01-01 00:10:00"}"#,
        r#"{"id": 4, "page": "/a", "ts": null}"#,
        r#"{"id": 5, "page": "/b", "ts": "2026-01-01 00:00:02"}"#,
        "no json",
    ];
    fs::write(folder.path().join("clicks/1.json"), lines.join("\n"))?;
    once(&folder, &[])?;
    let bad = folder.query("SELECT raw, reason LIKE '%id%' OR reason LIKE '%NULL%' FROM read_json('bad/*')")?;
    ensure!(bad.len() == 3 && bad.iter().filter(|line| line.contains("true")).count() >= 1, "{bad:?}");
    let raw = folder.query("SELECT raw FROM read_json('bad/*') ORDER BY off")?;
    let found: BTreeSet<String> = raw.iter().map(|line| line.trim_matches('"').replace("\"\"", "\"")).collect();
    let expected: BTreeSet<String> = [lines[2], lines[3], lines[5]].map(str::to_owned).into();
    ensure!(found == expected, "{found:?}");
    ensure!(folder.query("SELECT id, inserts FROM read_json('old/*')")? == ["5,counts"]);
    // From another process, by the job's name and by the table's.
    let kept = folder.query("SELECT count(*), min(split), count(DISTINCT \"offset\") FROM \"clicks$rejected\"")?;
    ensure!(kept.len() == 1 && kept[0].starts_with("3,") && kept[0].ends_with(",3"), "{kept:?}");
    ensure!(kept[0].contains("clicks/1.json"), "{kept:?}");
    ensure!(folder.query("SELECT id, page, inserts FROM \"clicks$late\"")? == ["5,/b,counts"]);
    let ledger = "SELECT insert_name, sum(\"read\"), sum(rejected), sum(late), sum(held) + sum(released), \
                  bool_and(balanced) FROM headwater.ledger GROUP BY 1 ORDER BY 1";
    ensure!(folder.query(ledger)? == ["bad,3,0,0,3,true", "counts,6,3,1,2,true", "old,1,0,0,1,true"]);
    // The next run goes on: nothing is delivered twice.
    clicks(&folder, "2.json", &[(6, "/c", 1)])?;
    once(&folder, &[])?;
    ensure!(folder.query("SELECT count(*) FROM read_json('bad/*')")? == ["3"]);
    ensure!(folder.query("SELECT id FROM read_json('old/*') ORDER BY id")? == ["5", "6"]);
    Ok(())
}

#[test]
fn late_rows_have_all_columns_and_those_of_an_older_table_are_shown_by_name() -> Result<()> {
    let totals = "
CREATE TABLE totals (window_start TIMESTAMP(3), n BIGINT)
  WITH ('connector' = 'filesystem', 'path' = 'totals', 'format' = 'json');
INSERT INTO totals SELECT window_start, count(*) FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  GROUP BY window_start, window_end;";
    let folder = folder(&format!("{TABLES}{totals}"))?;
    clicks(&folder, "1.json", &[(1, "/a", 1), (2, "/a", 600), (3, "/b", 2)])?;
    once(&folder, &[])?;
    ensure!(folder.query("SELECT id, page, inserts FROM \"clicks$late\"")? == ["3,/b,totals"]);
    let wider = TABLES.replace("page VARCHAR, ts", "page VARCHAR, extra BIGINT, ts");
    fs::write(folder.path().join("clicks.sql"), format!("{wider}{}", totals.replace("count(*)", "sum(id)")))?;
    let row = |id: i64| {
        format!("{{\"id\": {id}, \"page\": \"/c\", \"extra\": {}, \"ts\": \"2026-01-01 00:00:03\"}}\n", id * 2)
    };
    // More rows than a batch has, and late ones in several of them.
    fs::write(folder.path().join("clicks/2.json"), (4..20_004).map(row).collect::<String>())?;
    once(&folder, &["--allow-drop"])?;
    let late = "SELECT count(*), count(page), sum(extra) = 2 * sum(id) - 6, min(extra) FROM \"clicks$late\"";
    ensure!(folder.query(late)? == ["20001,20001,true,8"], "{:?}", folder.query(late)?);
    ensure!(folder.query("SELECT page, extra FROM \"clicks$late\" WHERE id = 3")? == ["/b,"]);
    Ok(())
}

/// Nobody looks at the rows a job keeps aside unless told of them.
#[test]
fn strict_is_not_content_with_rows_that_a_job_keeps_aside() -> Result<()> {
    let folder = folder(&format!("{TABLES}{COUNTS}"))?;
    clicks(&folder, "1.json", &[(1, "/a", 1), (2, "/a", 2)])?;
    once(&folder, &["--strict"])?;
    fs::write(folder.path().join("clicks/2.json"), "{\"id\": 3}\nno json\n")?;
    let warning = "warning: 2 rows of \"clicks\" rejected: SELECT * FROM \"clicks$rejected\"";
    refused(&folder, &["run", "clicks.sql", "--once", "--strict"], &[warning])?;
    // What an earlier run has rejected is not this one's.
    let said = once(&folder, &["--strict"])?;
    ensure!(!said.contains("warning"), "{said}");
    fs::write(folder.path().join("clicks/3.json"), "no json\n")?;
    let said = once(&folder, &[])?;
    ensure!(said.contains("warning: 1 row of \"clicks\" rejected"), "{said}");
    // The DDL of the file given again shows what its job keeps, not what another look at the files finds.
    fs::remove_file(folder.path().join("clicks/2.json"))?;
    let kept = folder.query(&format!("{TABLES}SELECT count(*) FROM \"clicks$rejected\""))?;
    ensure!(kept == ["3"], "{kept:?}");
    // A table of that name over another folder is another table.
    fs::create_dir(folder.path().join("elsewhere"))?;
    let other = TABLES.replace("'path' = 'clicks'", "'path' = 'elsewhere'");
    let kept = folder.query(&format!("{other}SELECT count(*) FROM \"clicks$rejected\""))?;
    ensure!(kept == ["0"], "{kept:?}");
    Ok(())
}

/// Rows that a run rejects are its own, also where an earlier one rejected as many, for another INSERT or before this one
/// went back.
#[test]
fn strict_counts_what_this_run_rejects_wherever_it_began() -> Result<()> {
    let folder = folder(&format!("{TABLES}{COUNTS}"))?;
    let bad = |file: &str, rows: usize| fs::write(folder.path().join("clicks").join(file), "no json\n".repeat(rows));
    clicks(&folder, "1.json", &[(1, "/a", 1)])?;
    well(&folder, &["run", "clicks.sql", "--once"])?;
    let first = folder.query("SELECT max(epoch) FROM headwater.checkpoints")?.concat();
    bad("2.json", 3)?;
    refused(&folder, &["run", "clicks.sql", "--once", "--strict"], &["warning: 3 rows of \"clicks\" rejected"])?;
    let back = ["run", "clicks.sql", "--once", "--strict", "--from-checkpoint", &first, "--allow-repeat"];
    refused(&folder, &back, &["warning: 3 rows of \"clicks\" rejected"])?;

    let other = TABLES.replace("counts", "pages");
    let pages = other.split_once("CREATE TABLE pages").map(|(_, table)| format!("CREATE TABLE pages{table}"));
    let script = format!("{TABLES}{}{}", pages.unwrap_or_default(), COUNTS.replace("counts", "pages"));
    fs::write(folder.path().join("clicks.sql"), script)?;
    bad("3.json", 1)?;
    let changed = ["run", "clicks.sql", "--once", "--strict", "--allow-drop"];
    refused(&folder, &changed, &["warning: 1 row of \"clicks\" rejected"])
}

/// Whoever asks each day whether something was kept aside is told no while there is nothing.
#[test]
fn a_job_that_keeps_nothing_aside_has_no_such_rows() -> Result<()> {
    let folder = folder(&format!("{TABLES}{COUNTS}"))?;
    clicks(&folder, "1.json", &[(1, "/a", 1), (2, "/a", 20)])?;
    once(&folder, &[])?;
    for table in ["clicks$rejected", "clicks$late", "counts$rejected"] {
        let counted = folder.query(&format!("SELECT count(*) FROM \"{table}\""))?;
        ensure!(counted == ["0"], "{table}: {counted:?}");
    }
    refused(&folder, &["-c", "SELECT * FROM \"cliks$rejected\""], &["TABLE_NOT_FOUND"])?;
    refused(&folder, &["-c", "SELECT * FROM \"cliks$late\""], &["TABLE_NOT_FOUND"])
}

/// A query over a stream counts what it leaves out, as one over files does.
#[test]
fn strict_is_not_content_with_rows_that_a_query_of_a_stream_leaves_out() -> Result<()> {
    let folder = folder("")?;
    let script = "
CREATE TABLE lines (line VARCHAR) WITH ('connector' = 'memory', 'name' = 'log', 'format' = 'raw');
CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'memory', 'name' = 'log', 'format' = 'json', 'malformed' = 'reject');
INSERT INTO lines VALUES ('{\"n\": 1}'), ('no json'), ('{\"n\": 2}'), ('{\"n\": \"x\"}');
SELECT sum(n) FROM numbers;
";
    let said = well(&folder, &["-c", script])?;
    ensure!(said.lines().any(|line| line == "3") && said.contains("2 malformed rows skipped"), "{said}");
    refused(&folder, &["--strict", "-c", script], &["2 malformed rows skipped"])
}
