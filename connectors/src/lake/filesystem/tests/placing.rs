//! Where a job's files go: to the folders in which the table's readers look, and never over those of another job.

use headwater_engine::{
    catalog::{Catalog, Column, FileFormat, Partition, Table},
    connector::Sink,
};

use super::*;

/// A table of the catalog over the bench's folder.
async fn cataloged(bench: &Bench, properties: &[(&str, &str)]) -> Result<(Arc<dyn Catalog>, Table)> {
    let catalog: Arc<dyn Catalog> = Arc::new(MemoryCatalog::default());
    let (mut table, _, _) = options::of_spec(&bench.spec(&[], &["p"]))?;
    table.name = TableName::new("default", "out");
    table.discovery = PartitionDiscovery::Registered;
    table.properties.extend(properties.iter().map(|pair| own(*pair)));
    catalog.create_table(table.clone(), Vec::new()).await?;
    Ok((catalog, table))
}

fn sink(catalog: &Arc<dyn Catalog>, table: &Table) -> Result<Arc<dyn Sink>> {
    let stores = Arc::new(Stores::new(Properties::new(), "/".into()));
    Filesystem::new(stores, Some(Arc::clone(catalog))).sink_of_table(table)
}

/// Writes rows in one epoch; gives what was refused.
async fn write(bench: &mut Bench, sink: &Arc<dyn Sink>, epoch: u64, of: &[(&str, i64)]) -> Result<Vec<String>> {
    let mut writer = sink.writer(&bench.job(1), task(), Vec::new()).await?;
    let refused = writer.write(rows(of)).await?;
    let closed = bench.keep(writer.prepare(Epoch(epoch), Cut::Final).await?.units);
    sink.commit(&bench.job(1), Epoch(epoch), bench.work(&closed)).await?;
    Ok(refused.into_iter().map(|row| row.reason).collect())
}

fn folders(bench: &Bench) -> Vec<String> {
    bench.files().into_keys().filter_map(|path| Some(path.rsplit_once('/')?.0.to_owned())).collect()
}

#[tokio::test]
async fn a_job_that_begins_anew_takes_no_older_file_for_its_own() -> Result<()> {
    let mut bench = Bench::new();
    let sink = connector().sink(&bench.spec(&[], &[]))?;
    let mut names = Vec::new();
    for (incarnation, n) in [("i1", 1), ("i2", 2)] {
        let job = JobContext { incarnation: incarnation.into(), ..bench.job(1) };
        let mut writer = sink.writer(&job, task(), Vec::new()).await?;
        writer.write(rows(&[("a", n)])).await?;
        bench.outbox.clear();
        let closed = bench.keep(writer.prepare(Epoch(1), Cut::Final).await?.units);
        let report = sink.commit(&job, Epoch(1), bench.work(&closed)).await?;
        assert_eq!(report.rows, 1);
        names.extend(closed);
    }
    assert_eq!(names[0], names[1], "the units have one name, the files have not");
    assert_eq!(bench.files().into_values().collect::<String>().lines().count(), 2);
    Ok(())
}

#[tokio::test]
async fn rows_go_to_the_locations_of_their_partitions() -> Result<()> {
    let mut bench = Bench::new();
    let (catalog, table) = cataloged(&bench, &[]).await?;
    let at = |value: &str, location: Option<String>| Partition {
        values: vec![Some(value.into())],
        location,
        columns: None,
        properties: Properties::new(),
    };
    let elsewhere = bench.folder.path().join("out/elsewhere/x").display().to_string();
    catalog
        .add_partitions(&table.name, vec![at("a", Some(elsewhere))], headwater_engine::catalog::IfExists::Fail)
        .await?;
    let sink = sink(&catalog, &table)?;
    assert_eq!(write(&mut bench, &sink, 1, &[("a", 1), ("b", 2)]).await?, Vec::<String>::new());
    assert_eq!(folders(&bench), ["elsewhere/x", "p=b"]);
    assert_eq!(catalog.partitions(&table.name).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn rows_go_where_a_projection_looks_and_others_are_refused() -> Result<()> {
    let mut bench = Bench::new();
    let template = bench.folder.path().join("out/of/${p}/").display().to_string();
    let projection = [
        ("projection.enabled", "true"),
        ("projection.p.type", "enum"),
        ("projection.p.values", "a,b"),
        ("storage.location.template", template.as_str()),
    ];
    let (catalog, table) = cataloged(&bench, &projection).await?;
    let refused = write(&mut bench, &sink(&catalog, &table)?, 1, &[("a", 1), ("c", 2), ("b", 3)]).await?;
    assert_eq!(refused.len(), 1);
    assert!(refused[0].contains("partition p=c is not in the table's projection"), "{refused:?}");
    assert_eq!(folders(&bench), ["of/a", "of/b"]);
    Ok(())
}

#[tokio::test]
async fn files_of_a_partition_keep_its_columns() -> Result<()> {
    let mut bench = Bench::new();
    let (catalog, mut table) = cataloged(&bench, &[]).await?;
    let column = |name: &str, of: &str| Column { name: name.into(), type_text: of.into(), comment: None };
    table.storage.format = FileFormat::Csv;
    table.properties.insert("compression".into(), "none".into());
    let older = Partition {
        values: vec![Some("a".into())],
        location: None,
        columns: Some(vec![column("gone", "string"), column("n", "bigint")]),
        properties: Properties::new(),
    };
    catalog.add_partitions(&table.name, vec![older], headwater_engine::catalog::IfExists::Fail).await?;
    write(&mut bench, &sink(&catalog, &table)?, 1, &[("a", 1), ("b", 2)]).await?;
    assert_eq!(bench.files().into_values().collect::<Vec<_>>(), [",1\n", "2\n"]);
    Ok(())
}
