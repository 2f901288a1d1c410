//! Two processes change one table of the SQLite catalog at once: no change is lost.

use std::{path::Path, process::Command};

use headwater_connectors::catalogs::{conformance::sample_table, sqlite::SqliteCatalog};
use headwater_engine::{
    catalog::{Catalog, Table, TableName},
    error::{Error, ErrorKind, Result},
};

/// Says to the test below which catalog to change, and under which name, when it runs as a child.
const CHILD: &str = "HEADWATER_TEST_CATALOG_CHILD";
const CHANGES: usize = 200;

async fn alter(path: &Path, who: &str) -> Result<()> {
    let catalog = SqliteCatalog::open(path).await?;
    let name = TableName::new("default", "shared");
    let mut done = 0;
    while done < CHANGES {
        let table = catalog.table(&name).await?.ok_or_else(|| Error::internal("the table is gone"))?;
        let mut changed = Table::clone(&table);
        changed.properties.insert(format!("{who}{done}"), "1".into());
        match catalog.replace_table(changed).await {
            Ok(()) => done += 1,
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[tokio::test]
async fn two_processes_lose_no_change() -> Result<()> {
    if let Ok(child) = std::env::var(CHILD) {
        let (who, path) = child.split_once('=').expect("name and path");
        return alter(Path::new(path), who).await;
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("catalog.db");
    let catalog = SqliteCatalog::open(&path).await?;
    catalog.create_table(sample_table("default", "shared"), Vec::new()).await?;
    let children: Vec<_> = ["a", "b"]
        .iter()
        .map(|who| {
            Command::new(std::env::current_exe().unwrap())
                .args(["two_processes_lose_no_change", "--exact"])
                .env(CHILD, format!("{who}={}", path.display()))
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait()?.success());
    }
    let table = catalog
        .table(&TableName::new("default", "shared"))
        .await?
        .ok_or_else(|| Error::internal("the table is gone"))?;
    let before = sample_table("default", "shared").properties.len();
    assert_eq!(table.properties.len() - before, 2 * CHANGES);
    assert_eq!(table.version, 1 + 2 * CHANGES as u64);
    Ok(())
}
