-- Changes of the orders of a DynamoDB table as Kinesis carries them, into the lake and into a table of the orders as they
-- are: the connections. OrderState has the partition key orderid.
--   headwater run queries/sales/{aws,deliver}.sql --param lake=s3://bucket

CREATE TABLE order_changes (
    event_name VARCHAR,
    new_image ROW<orderid VARCHAR, product_name VARCHAR, quantity INT, price DOUBLE>,
    arrival TIMESTAMP(3) METADATA FROM 'timestamp' VIRTUAL
)
WITH (
    'connector' = 'kinesis',
    'stream' = '${stream:-kinesis-sales-order}',
    'aws.region' = '${region:-us-east-1}',
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
WITH (
    'connector' = 'kinesis',
    'stream' = '${stream:-kinesis-sales-order}',
    'aws.region' = '${region:-us-east-1}',
    'format' = 'dynamodb-cdc'
);

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
WITH (
    'connector' = 'dynamodb',
    'table-name' = '${state_table:-OrderState}',
    'aws.region' = '${region:-us-east-1}'
)
LIKE orders (EXCLUDING OPTIONS);
