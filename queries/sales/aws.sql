-- The connections of a deployment: the changes of OrderTable as Kinesis carries them, and the DynamoDB table OrderState,
-- whose partition key is orderid.
--   headwater run queries/sales/{aws,tables,deliver}.sql --param lake=s3://bucket

CREATE TABLE order_stream
WITH (
    'connector' = 'kinesis',
    'stream' = '${stream:-kinesis-sales-order}',
    'aws.region' = '${region:-us-east-1}',
    'format' = 'dynamodb-cdc'
);

CREATE TABLE order_event_stream
WITH ('dynamodb-cdc.mode' = 'events')
LIKE order_stream;

CREATE TABLE order_items
WITH (
    'connector' = 'dynamodb',
    'table-name' = '${state_table:-OrderState}',
    'aws.region' = '${region:-us-east-1}'
);
