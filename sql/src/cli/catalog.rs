//! `headwater catalog export|import`: all entries of a catalog as one JSON document.
//!
//! Invariant: what was exported from one catalog and imported into an empty one makes the same tables.

use std::{fs, io::Write, path::Path};

use headwater_engine::{
    catalog::{Catalog, Database, IfExists, Partition, Table, TableKind},
    error::{Error, Result},
};
use serde::{Deserialize, Serialize};

use super::{arguments::CatalogAction, exit::Failure, report::counted, runner, tell};

/// A catalog as a document.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    format: String,
    databases: Vec<Database>,
    tables: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    table: Table,
    partitions: Vec<Partition>,
}

const FORMAT: &str = "headwater-catalog-1";

/// Runs the action.
pub(super) async fn run(catalog: &dyn Catalog, action: &CatalogAction) -> Result<(), Failure> {
    match action {
        CatalogAction::Export { file } => export(catalog, file).await,
        CatalogAction::Import { file } => import(catalog, file).await,
    }
}

async fn export(catalog: &dyn Catalog, file: &Path) -> Result<(), Failure> {
    let mut document = Document { format: FORMAT.into(), databases: catalog.databases().await?, tables: Vec::new() };
    for database in &document.databases {
        for table in catalog.tables(&database.name).await? {
            let partitions = catalog.partitions(&table.name).await?;
            document.tables.push(Entry { table: table.as_ref().clone(), partitions });
        }
    }
    let text = serde_json::to_string_pretty(&document)
        .map_err(|error| Error::internal("the catalog cannot be written as JSON").caused_by(error))?;
    if file == Path::new("-") {
        let mut out = runner::standard_output();
        writeln!(out, "{text}")?;
        out.flush()?;
        return Ok(());
    }
    fs::write(file, text + "\n").map_err(|error| Error::from(error).context(file.display()))?;
    tell(&format!("{} written to {}", counted(document.tables.len() as u64, "table"), file.display()));
    Ok(())
}

async fn import(catalog: &dyn Catalog, file: &Path) -> Result<(), Failure> {
    let text = super::script::read_file(file)?;
    let document = parse(&text).map_err(|error| error.context(file.display()))?;
    for database in document.databases {
        if catalog.database(&database.name).await?.is_none() {
            catalog.create_database(database).await?;
        }
    }
    let (mut added, mut kept, mut external) = (0, 0, 0);
    for Entry { mut table, partitions } in document.tables {
        if catalog.table(&table.name).await?.is_some() {
            kept += 1;
            continue;
        }
        // One catalog owns the files; dropping the other's entry must not delete them.
        if table.kind == TableKind::Managed {
            table.kind = TableKind::External;
            external += 1;
        }
        let name = table.name.clone();
        catalog.create_table(table, Vec::new()).await?;
        catalog.add_partitions(&name, partitions, IfExists::Keep).await?;
        added += 1;
    }
    tell(&format!("{} added, {kept} kept as they were", counted(added, "table")));
    if external > 0 {
        tell(&format!("note: the files of {} stay when it is dropped here", counted(external, "table")));
    }
    Ok(())
}

fn parse(text: &str) -> Result<Document> {
    let refused = |what: String| {
        Error::user("INVALID_CATALOG_FILE", what).with_hint("write one with headwater catalog export FILE")
    };
    let document: Document = serde_json::from_str(text).map_err(|error| refused(error.to_string()))?;
    if document.format != FORMAT {
        return Err(refused(format!("format \"{}\" is not known", document.format)));
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use headwater_connectors::catalogs::{conformance::sample_table, memory::MemoryCatalog};

    use super::*;

    #[tokio::test]
    async fn an_exported_catalog_imports_into_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("catalog.json");
        let from = MemoryCatalog::default();
        let lake = Database { name: "lake".into(), comment: None, location: None, properties: Default::default() };
        from.create_database(lake).await.unwrap();
        let table = sample_table("lake", "events");
        let partition = Partition {
            values: vec![Some("2024-01-20".into())],
            location: None,
            columns: None,
            properties: Default::default(),
        };
        from.create_table(table.clone(), vec![partition.clone()]).await.unwrap();
        export(&from, &file).await.unwrap();
        let to = MemoryCatalog::default();
        import(&to, &file).await.unwrap();
        import(&to, &file).await.unwrap();
        let copied = to.table(&table.name).await.unwrap().unwrap();
        assert_eq!((&copied.columns, &copied.location), (&table.columns, &table.location));
        assert_eq!(to.partitions(&table.name).await.unwrap(), [partition]);
    }

    #[test]
    fn another_document_is_refused() {
        assert!(parse("{}").unwrap_err().hint().is_some());
        let error = parse(r#"{"format": "x", "databases": [], "tables": []}"#).unwrap_err();
        assert_eq!(error.message(), "format \"x\" is not known");
    }
}
