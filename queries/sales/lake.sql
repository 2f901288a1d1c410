-- Order changes as they were delivered: JSON lines in folders YYYY/MM/DD/, whose partition columns have no names but those
-- a crawler gives. No day has to be registered.
--   headwater generate sales demo/sales
--   headwater run queries/sales/{lake,top_products}.sql --param lake=demo

CREATE EXTERNAL TABLE IF NOT EXISTS sales (
    orderid string,
    product_name string,
    quantity int,
    price double
)
PARTITIONED BY (partition_0 string, partition_1 string, partition_2 string)
ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'
LOCATION '${lake}/sales/'
TBLPROPERTIES (
    'projection.enabled' = 'true',
    'projection.partition_0.type' = 'integer',
    'projection.partition_0.range' = '2024,2033',
    'projection.partition_1.type' = 'integer',
    'projection.partition_1.range' = '1,12',
    'projection.partition_1.digits' = '2',
    'projection.partition_2.type' = 'integer',
    'projection.partition_2.range' = '1,31',
    'projection.partition_2.digits' = '2',
    'storage.location.template' = '${partition_0}/${partition_1}/${partition_2}/'
);
