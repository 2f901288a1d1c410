-- Order changes as they were delivered: JSON lines in folders YYYY/MM/DD/, whose partition columns have no names but those
-- a crawler gives.
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
LOCATION '${lake}/sales/';

ALTER TABLE sales ADD IF NOT EXISTS
    PARTITION (partition_0 = '2024', partition_1 = '01', partition_2 = '20') LOCATION '${lake}/sales/2024/01/20/'
    PARTITION (partition_0 = '2024', partition_1 = '01', partition_2 = '21') LOCATION '${lake}/sales/2024/01/21/'
    PARTITION (partition_0 = '2024', partition_1 = '01', partition_2 = '22') LOCATION '${lake}/sales/2024/01/22/'
    PARTITION (partition_0 = '2024', partition_1 = '01', partition_2 = '23') LOCATION '${lake}/sales/2024/01/23/';
