//! A job whose query has changed: what becomes of each piece of its state.
//!
//! Invariant: state is dropped only where it was allowed.

use std::fs;

use anyhow::{Result, ensure};
use headwater_tests::jobs::JobFolder;

use crate::{COUNTED, COUNTS, TABLES, clicks, folder, once, refused, well};

/// What `explain --against` says, without the header.
fn verdicts(folder: &JobFolder, script: &str) -> Result<String> {
    fs::write(folder.path().join("changed.sql"), script)?;
    let text = folder.ended(&["explain", "changed.sql", "--against", "clicks", "--format", "csv"])?;
    ensure!(text.status.success(), "{}", String::from_utf8_lossy(&text.stderr));
    Ok(String::from_utf8(text.stdout)?.lines().skip(1).map(|line| format!("{line}\n")).collect())
}

#[test]
fn a_changed_query_gets_a_verdict_for_each_piece_of_state() -> Result<()> {
    let folder = folder(&format!("{TABLES}{COUNTS}"))?;
    clicks(&folder, "1.json", &[(1, "/a", 1), (2, "/a", 2), (3, "/b", 20)])?;
    once(&folder, &[])?;
    let carries = "source:clicks,carries over,goes on at the offsets of 1 splits\n\
                   counts/window-aggregate-0,carries over,computes the same\n";
    ensure!(verdicts(&folder, &format!("{TABLES}{COUNTS}"))? == carries);
    // A column added that no state is about.
    let wider = TABLES.replace("n BIGINT)", "n BIGINT, tag VARCHAR)");
    let column = COUNTS.replace("count(*)\n", "count(*), concat(page, '!')\n");
    let found = verdicts(&folder, &format!("{wider}{column}"))?;
    ensure!(found == carries, "{found}");
    let changed = "source:clicks,carries over,goes on at the offsets of 1 splits\n\
                   counts/window-aggregate-0,dropped,computes something else now\n\
                   counts/window-aggregate-0,new,begins empty\n";
    let aggregate = COUNTS.replace("count(*)\n", "max(id)\n");
    let window = COUNTS.replace("'10' SECOND", "'20' SECOND");
    let key =
        COUNTS.replace("SELECT page,", "SELECT upper(page) AS page,").replace("GROUP BY page", "GROUP BY upper(page)");
    for query in [&aggregate, &window, &key] {
        let found = verdicts(&folder, &format!("{TABLES}{query}"))?;
        ensure!(found == changed, "{query}: {found}");
    }
    let other = TABLES.replace("TABLE clicks", "TABLE hits").replace("'path' = 'clicks'", "'path' = 'hits'");
    let source = COUNTS.replace("TABLE clicks", "TABLE hits");
    let found = verdicts(&folder, &format!("{other}{source}"))?;
    let gone = "source:hits,new,starts where its table's options say\n\
                counts/window-aggregate-0,dropped,reads other tables now\n\
                counts/window-aggregate-0,new,begins empty\n\
                source:clicks,dropped,is no longer read\n";
    ensure!(found == gone, "{found}");
    refused(&folder, &["explain", "clicks.sql", "--against", "clics"], &["job \"clics\" does not exist"])?;

    // A run loses nothing of it unasked.
    fs::write(folder.path().join("clicks.sql"), format!("{TABLES}{window}"))?;
    let parts = ["would drop state", "counts/window-aggregate-0", "--allow-drop"];
    refused(&folder, &["run", "clicks.sql", "--once"], &parts)?;
    clicks(&folder, "2.json", &[(4, "/a", 3000)])?;
    once(&folder, &["--allow-drop"])?;
    let counted = folder.query(COUNTED)?;
    ensure!(counted == ["/a,2"], "the open window of /b was dropped: {counted:?}");
    Ok(())
}

#[test]
fn another_folder_is_another_source() -> Result<()> {
    let folder = folder(&format!("{TABLES}{COUNTS}"))?;
    clicks(&folder, "1.json", &[(1, "/a", 1), (2, "/a", 20)])?;
    once(&folder, &[])?;
    fs::create_dir(folder.path().join("elsewhere"))?;
    let moved = TABLES.replace("'path' = 'clicks'", "'path' = 'elsewhere'");
    fs::write(folder.path().join("clicks.sql"), format!("{moved}{COUNTS}"))?;
    let verdicts = well(&folder, &["explain", "clicks.sql", "--against", "clicks"])?;
    ensure!(verdicts.contains("source:clicks,dropped,\"no longer reads"), "{verdicts}");
    ensure!(verdicts.contains("source:clicks,new,starts where its table's options say; rows behind"), "{verdicts}");
    refused(&folder, &["run", "clicks.sql", "--once"], &["no longer reads", "1.json", "--allow-drop"])?;
    fs::rename(folder.path().join("clicks/1.json"), folder.path().join("elsewhere/1.json"))?;
    clicks(&folder, "2.json", &[(3, "/b", 40)])?;
    fs::rename(folder.path().join("clicks/2.json"), folder.path().join("elsewhere/2.json"))?;
    let said = once(&folder, &["--allow-drop"])?;
    ensure!(said.contains("read 5"), "all files of the new folder are new: {said}");
    Ok(())
}
