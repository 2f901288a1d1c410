-- Changes of the orders straight from the DynamoDB table's own stream, without Kinesis between: the connections.
--   headwater run queries/sales/{streams,deliver}.sql --param lake=s3://bucket

CREATE TABLE order_changes (
    event_name VARCHAR,
    new_image ROW<orderid VARCHAR, product_name VARCHAR, quantity INT, price DOUBLE>,
    arrival TIMESTAMP(3) METADATA FROM 'timestamp' VIRTUAL
)
WITH (
    'connector' = 'dynamodb-streams',
    'table-name' = '${table:-OrderTable}',
    'aws.region' = '${region:-us-east-1}',
    'scan.mode' = 'events'
);

CREATE TABLE orders (
    orderid VARCHAR,
    product_name VARCHAR,
    quantity INT,
    price DOUBLE,
    PRIMARY KEY (orderid) NOT ENFORCED
)
WITH (
    'connector' = 'dynamodb-streams',
    'table-name' = '${table:-OrderTable}',
    'aws.region' = '${region:-us-east-1}'
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
