//! Entries that statements make, beyond what SQL shows of them.

use std::sync::Arc;

use headwater_connectors::catalogs::memory::MemoryCatalog;
use headwater_engine::{
    catalog::{Catalog, FileFormat, IfExists, Partition, PartitionDiscovery, Properties, Table, TableName},
    error::Result,
};

use super::create_text;
use crate::session::{Session, SessionConfig};

fn session() -> (Session, Arc<dyn Catalog>) {
    let catalog: Arc<dyn Catalog> = Arc::new(MemoryCatalog::default());
    let session = Session::with_catalog(SessionConfig::in_directory(".headwater"), Arc::clone(&catalog)).unwrap();
    (session, catalog)
}

async fn run(session: &Session, sql: &str) -> Result<()> {
    for statement in session.parse(sql)? {
        session.execute(&statement).await?;
    }
    Ok(())
}

async fn table(catalog: &Arc<dyn Catalog>, name: &str) -> Table {
    let table = catalog.table(&TableName::new("default", name)).await.unwrap().unwrap();
    Table { version: 0, ..Table::clone(&table) }
}

#[tokio::test]
async fn what_show_create_prints_makes_the_same_table() -> Result<()> {
    let tables = [
        "(a int) LOCATION 's3://b/t/'",
        "(a int) STORED AS PARQUET LOCATION 's3://b/t/'",
        "(a int) PARTITIONED BY (y int) STORED AS JSON LOCATION 'data/t'",
        "(a int) PARTITIONED BY (y int) STORED AS JSON LOCATION 'data/t' TBLPROPERTIES ('partition.discovery'='false')",
        "(a int) PARTITIONED BY (y int) STORED AS PARQUET LOCATION 'x' TBLPROPERTIES ('partition.discovery'='true')",
        "(a int) STORED AS CSV LOCATION 'x' TBLPROPERTIES ('csv.header'='true')",
        "(line string) STORED AS RAW LOCATION 'x'",
        "(`A b` int COMMENT 'it''s \\\\ a \\t tab and $${name}', c struct<`X`:int,y:array<map<string,decimal(9,3)>>>) COMMENT 'c' LOCATION 'x'",
        "(a char(3), b varchar(20), c timestamp, d date, e binary, f float, g double, h tinyint) STORED AS PARQUET LOCATION 'x'",
        "(a int) ROW FORMAT DELIMITED FIELDS TERMINATED BY '\\001' NULL DEFINED AS '' LOCATION 'x'",
        "(a int) ROW FORMAT DELIMITED FIELDS TERMINATED BY '|' STORED AS CSV LOCATION 'x'",
        "(a int) ROW FORMAT SERDE 'org.apache.hadoop.hive.serde2.OpenCSVSerde' WITH SERDEPROPERTIES ('separatorChar'=';','quoteChar'='\\\"','escapeChar'='\\\\') STORED AS TEXTFILE LOCATION 'x'",
        "(a int) ROW FORMAT SERDE 'org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe' WITH SERDEPROPERTIES ('field.delim'='\\t') LOCATION 'x'",
        "(a int) ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe' STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat' OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat' LOCATION 'x'",
        "(a int) PARTITIONED BY (d date COMMENT 'day') ROW FORMAT SERDE 'org.apache.hive.hcatalog.data.JsonSerDe' WITH SERDEPROPERTIES ('timestamp.formats'='yyyy') LOCATION 'x' TBLPROPERTIES ('projection.d.range'='NOW-3DAYS,NOW','storage.location.template'='x/${d}/')",
    ];
    for clauses in tables {
        let (session, catalog) = session();
        run(&session, &format!("CREATE EXTERNAL TABLE t {clauses}")).await?;
        let before = table(&catalog, "t").await;
        let text = create_text::lines(&before).join("\n");
        run(&session, "DROP TABLE t").await?;
        run(&session, &text).await.unwrap_or_else(|error| panic!("{}\n{text}", crate::diagnostics::render(&error)));
        assert_eq!(table(&catalog, "t").await, before, "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn the_form_of_the_ddl_decides_how_partitions_are_found() -> Result<()> {
    let (session, catalog) = session();
    run(
        &session,
        "CREATE EXTERNAL TABLE athena (a int) PARTITIONED BY (y int) STORED AS PARQUET LOCATION 'x';
                   CREATE EXTERNAL TABLE short (a int) PARTITIONED BY (y int) STORED AS JSON LOCATION 'x'",
    )
    .await?;
    assert_eq!(table(&catalog, "athena").await.discovery, PartitionDiscovery::Registered);
    let short = table(&catalog, "short").await;
    assert_eq!((short.discovery, short.storage.format), (PartitionDiscovery::Discovered, FileFormat::Json));
    Ok(())
}

#[tokio::test]
async fn partitions_of_delimited_files_keep_the_columns_they_were_written_with() -> Result<()> {
    let (session, catalog) = session();
    let name = TableName::new("default", "t");
    run(&session, "CREATE EXTERNAL TABLE t (a int, b string) PARTITIONED BY (y int) LOCATION 'x'").await?;
    let partition = |year: &str| Partition {
        values: vec![Some(year.into())],
        location: None,
        columns: None,
        properties: Properties::new(),
    };
    catalog.add_partitions(&name, vec![partition("1")], IfExists::Fail).await?;
    run(&session, "ALTER TABLE t ADD COLUMNS (c int)").await?;
    assert_eq!(catalog.partitions(&name).await?[0].columns, None, "a column added last moves nothing");
    run(&session, "ALTER TABLE t REPLACE COLUMNS (b string, a bigint)").await?;
    catalog.add_partitions(&name, vec![partition("2")], IfExists::Fail).await?;
    let partitions = catalog.partitions(&name).await?;
    let names = |partition: &Partition| {
        partition.columns.as_ref().map(|columns| columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>())
    };
    assert_eq!(names(&partitions[0]), Some(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]));
    assert_eq!(names(&partitions[1]), None);
    Ok(())
}

async fn alter(session: Session, who: &'static str) -> Result<()> {
    for number in 0..50 {
        run(&session, &format!("ALTER TABLE t SET TBLPROPERTIES ('{who}{number}' = '1')")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn two_sessions_that_alter_one_table_lose_nothing() -> Result<()> {
    let (first, catalog) = session();
    let second = Session::with_catalog(SessionConfig::in_directory(".headwater"), Arc::clone(&catalog))?;
    run(&first, "CREATE EXTERNAL TABLE t (a int) LOCATION 'x'").await?;
    let (one, two) = futures::join!(tokio::spawn(alter(first, "a")), tokio::spawn(alter(second, "b")));
    one.unwrap()?;
    two.unwrap()?;
    assert_eq!(table(&catalog, "t").await.properties.len(), 100);
    Ok(())
}
