-- The connections without Kinesis between: the changes straight from the stream of OrderTable.
--   headwater run queries/sales/{streams,tables,deliver}.sql --param lake=s3://bucket

CREATE TABLE order_stream
WITH (
    'connector' = 'dynamodb-streams',
    'table-name' = '${table:-OrderTable}',
    'aws.region' = '${region:-us-east-1}'
);

CREATE TABLE order_event_stream
WITH ('scan.mode' = 'events')
LIKE order_stream;

CREATE TABLE order_items
WITH (
    'connector' = 'dynamodb',
    'table-name' = '${state_table:-OrderState}',
    'aws.region' = '${region:-us-east-1}'
);
