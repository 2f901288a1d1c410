-- Changes of the orders without a server: files of change records take the place of the table's stream, a memory log that
-- of Kinesis, and a memory table that of OrderState: the connections. What applications write is put on the log by send.sql.
--   headwater generate sales --format stream demo/changes
--   headwater run queries/sales/{embedded,send,deliver}.sql --param lake=demo

CREATE TABLE order_changes (
    event_name VARCHAR,
    new_image ROW<orderid VARCHAR, product_name VARCHAR, quantity INT, price DOUBLE>,
    arrival TIMESTAMP(3) METADATA FROM 'timestamp' VIRTUAL
)
WITH (
    'connector' = 'memory',
    'name' = 'kinesis-sales-order',
    'format' = 'dynamodb-cdc',
    'dynamodb-cdc.mode' = 'events'
);

CREATE TABLE orders (
    orderid VARCHAR,
    product_name VARCHAR,
    quantity INT,
    price DOUBLE,
    PRIMARY KEY (orderid) NOT ENFORCED
)
WITH ('connector' = 'memory', 'name' = 'kinesis-sales-order', 'format' = 'dynamodb-cdc');

CREATE TABLE sales_delivered (
    orderid VARCHAR,
    product_name VARCHAR,
    quantity INT,
    price DOUBLE,
    partition_0 VARCHAR,
    partition_1 VARCHAR,
    partition_2 VARCHAR
)
PARTITIONED BY (partition_0, partition_1, partition_2)
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/sales_delivered/',
    'format' = 'json',
    'sink.rolling-policy.file-size' = '5 MB',
    'sink.rolling-policy.rollover-interval' = '60 s'
);

CREATE TABLE order_state
WITH ('connector' = 'memory')
LIKE orders (EXCLUDING OPTIONS);
