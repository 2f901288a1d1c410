//! What every catalog must do, as checks any implementation can be held to.
//!
//! Invariant: the checks need an empty catalog and use the trait alone.

use headwater_engine::{
    catalog::{
        Catalog, Column, Database, FileFormat, IfExists, Partition, PartitionDiscovery, Properties, Storage, Table,
        TableKind, TableName,
    },
    error::{Error, ErrorKind, Result},
};

/// Holds an empty catalog to the trait's contract.
pub async fn check(catalog: &dyn Catalog) -> Result<()> {
    databases(catalog).await?;
    tables(catalog).await?;
    versions(catalog).await?;
    partitions(catalog).await?;
    dropping(catalog).await
}

/// A table with one column and one partition key.
pub fn sample_table(database: &str, name: &str) -> Table {
    let column = |name: &str, type_text: &str| Column { name: name.into(), type_text: type_text.into(), comment: None };
    Table {
        name: TableName::new(database, name),
        kind: TableKind::External,
        columns: vec![column("UserId", "bigint")],
        partition_keys: vec![column("day", "string")],
        storage: Storage {
            format: FileFormat::Json,
            serde: Some("org.openx.data.jsonserde.JsonSerDe".into()),
            serde_properties: Properties::new(),
            input_format: None,
            output_format: None,
        },
        location: "s3://bucket/table/".into(),
        discovery: PartitionDiscovery::Registered,
        properties: Properties::from([("EXTERNAL".into(), "TRUE".into())]),
        comment: Some("a \"quoted\" comment".into()),
        version: 0,
    }
}

fn ensure(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::internal(format!("catalog: {what}"))) }
}

fn refused<T>(result: Result<T>, code: &str, what: &str) -> Result<()> {
    match result {
        Err(error) if error.code().0 == code => Ok(()),
        Err(error) => Err(error.context(format!("catalog: {what} should be refused with {code}"))),
        Ok(_) => Err(Error::internal(format!("catalog: {what} should be refused"))),
    }
}

async fn databases(catalog: &dyn Catalog) -> Result<()> {
    ensure(catalog.database("DEFAULT").await?.is_some(), "\"default\" is there")?;
    let sales =
        Database { name: "Sales".into(), comment: Some("c".into()), location: None, properties: Properties::new() };
    catalog.create_database(sales.clone()).await?;
    refused(catalog.create_database(sales.clone()).await, "SCHEMA_ALREADY_EXISTS", "a second database of one name")?;
    let names: Vec<_> = catalog.databases().await?.into_iter().map(|database| database.name).collect();
    ensure(names == ["default", "sales"], "databases come by name, in lower case")?;
    let changed = Database { comment: Some("d".into()), ..sales };
    catalog.replace_database(changed).await?;
    let comment = catalog.database("sales").await?.and_then(|database| database.comment);
    ensure(comment.as_deref() == Some("d"), "a database is replaced")?;
    let missing = Database { name: "nope".into(), comment: None, location: None, properties: Properties::new() };
    refused(catalog.replace_database(missing).await, "SCHEMA_NOT_FOUND", "replacing a missing database")?;
    refused(catalog.tables("nope").await, "SCHEMA_NOT_FOUND", "listing a missing database")
}

async fn tables(catalog: &dyn Catalog) -> Result<()> {
    let table = sample_table("Sales", "Orders");
    catalog.create_table(table.clone(), Vec::new()).await?;
    let stored = catalog.table(&TableName::new("SALES", "ORDERS")).await?;
    let expected = Table { version: 1, ..table.clone() };
    ensure(stored.as_deref() == Some(&expected), "a table comes back as it was given, under any case of its name")?;
    refused(catalog.create_table(table, Vec::new()).await, "TABLE_ALREADY_EXISTS", "a second table of one name")?;
    let stray = sample_table("nope", "orders");
    refused(catalog.create_table(stray, Vec::new()).await, "SCHEMA_NOT_FOUND", "a table in a missing database")?;
    catalog.create_table(sample_table("sales", "bids"), Vec::new()).await?;
    let names: Vec<_> = catalog.tables("Sales").await?.iter().map(|table| table.name.table.clone()).collect();
    ensure(names == ["bids", "orders"], "tables come by name")?;
    ensure(catalog.table(&TableName::new("default", "orders")).await?.is_none(), "a table is in one database")
}

async fn versions(catalog: &dyn Catalog) -> Result<()> {
    let name = TableName::new("sales", "orders");
    let Some(first) = catalog.table(&name).await? else { return ensure(false, "the table is there") };
    let mut changed = Table::clone(&first);
    changed.comment = None;
    catalog.replace_table(changed).await?;
    match catalog.replace_table(Table::clone(&first)).await {
        Err(error) if error.kind() == ErrorKind::Conflict => {}
        _ => return ensure(false, "a replacement based on an older version is a conflict"),
    }
    let now = catalog.table(&name).await?;
    ensure(now.is_some_and(|table| table.version == 2 && table.comment.is_none()), "the first replacement stays")?;
    refused(catalog.replace_table(sample_table("sales", "nope")).await, "TABLE_NOT_FOUND", "replacing a missing table")
}

fn partition(day: Option<&str>, location: Option<&str>) -> Partition {
    Partition {
        values: vec![day.map(str::to_owned)],
        location: location.map(str::to_owned),
        columns: None,
        properties: Properties::new(),
    }
}

async fn partitions(catalog: &dyn Catalog) -> Result<()> {
    let name = TableName::new("sales", "orders");
    let days = vec![partition(Some("b"), None), partition(None, None), partition(Some("a"), Some("s3://x/"))];
    ensure(catalog.add_partitions(&name, days, IfExists::Fail).await? == 3, "three partitions are added")?;
    let values: Vec<_> = catalog.partitions(&name).await?.into_iter().flat_map(|found| found.values).collect();
    ensure(values == [None, Some("a".into()), Some("b".into())], "partitions come in the order of their values")?;
    let again = vec![partition(Some("c"), None), partition(Some("a"), None)];
    let refusal = catalog.add_partitions(&name, again.clone(), IfExists::Fail).await;
    refused(refusal, "ALREADY_EXISTS", "a second partition of the same values")?;
    ensure(catalog.partitions(&name).await?.len() == 3, "a refused call adds nothing")?;
    ensure(catalog.add_partitions(&name, again.clone(), IfExists::Keep).await? == 1, "only the new one is added")?;
    let kept = catalog.partitions(&name).await?;
    ensure(kept[1].location.as_deref() == Some("s3://x/"), "the registered one is kept")?;
    ensure(catalog.add_partitions(&name, again, IfExists::Replace).await? == 2, "both are stored")?;
    ensure(catalog.partitions(&name).await?[1].location.is_none(), "the registered one is replaced")?;
    locations(catalog, &name).await?;
    let dropped = [vec![None], vec![Some("z".into())]];
    ensure(catalog.drop_partitions(&name, &dropped).await? == 1, "one of two is there to drop")?;
    let missing = TableName::new("sales", "nope");
    refused(catalog.partitions(&missing).await, "TABLE_NOT_FOUND", "partitions of a missing table")
}

async fn locations(catalog: &dyn Catalog, name: &TableName) -> Result<()> {
    let to = partition(Some("e"), Some("s3://bucket/table/day=b/"));
    catalog.rename_partition(name, &[Some("b".into())], to.clone()).await?;
    let values: Vec<_> = catalog.partitions(name).await?.into_iter().flat_map(|found| found.values).collect();
    ensure(values == [None, Some("a".into()), Some("c".into()), Some("e".into())], "a partition has its new values")?;
    let gone = catalog.rename_partition(name, &[Some("b".into())], partition(Some("z"), None)).await;
    refused(gone, "NOT_FOUND", "renaming a missing partition")?;
    refused(catalog.rename_partition(name, &[None], to).await, "ALREADY_EXISTS", "two partitions of the same values")?;
    let again = || vec![partition(Some("b"), None)];
    let refusal = catalog.add_partitions(name, again(), IfExists::Fail).await;
    refused(refusal, "ALREADY_EXISTS", "a partition over another's folder")?;
    ensure(catalog.add_partitions(name, again(), IfExists::Keep).await? == 0, "no partition takes another's folder")?;
    ensure(catalog.add_partitions(name, again(), IfExists::Update).await? == 0, "an update registers nothing new")?;
    let kept = vec![partition(Some("e"), None)];
    ensure(catalog.add_partitions(name, kept, IfExists::Update).await? == 1, "an update replaces what is there")
}

async fn dropping(catalog: &dyn Catalog) -> Result<()> {
    let name = TableName::new("sales", "orders");
    ensure(catalog.drop_table(&name).await?, "the table is dropped")?;
    ensure(!catalog.drop_table(&name).await?, "a second drop finds nothing")?;
    catalog.create_table(sample_table("sales", "orders"), vec![partition(Some("q"), None)]).await?;
    ensure(catalog.partitions(&name).await?.len() == 1, "a new table has its own partitions only")?;
    refused(catalog.drop_database("sales", false).await, "SCHEMA_NOT_EMPTY", "dropping a database with tables")?;
    catalog.drop_database("SALES", true).await?;
    ensure(catalog.table(&name).await?.is_none(), "its tables went with it")?;
    refused(catalog.drop_database("sales", true).await, "SCHEMA_NOT_FOUND", "dropping a missing database")?;
    refused(catalog.drop_database("default", true).await, "NOT_SUPPORTED", "dropping \"default\"")
}
