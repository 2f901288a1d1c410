-- The connections of a deployment: Kinesis, and the DynamoDB tables ProcessedStream (partition key post_id, sort key
-- window_start) and ProcessedData (partition key post_id).
--   headwater run queries/engagement/{aws,tables,posts}.sql --param lake=s3://bucket
--   headwater run queries/engagement/{aws,tables,count}.sql --param lake=s3://bucket

CREATE TABLE engagement_stream
WITH (
    'connector' = 'kinesis',
    'stream' = '${stream:-input_stream}',
    'aws.region' = '${region:-us-east-1}',
    'format' = 'json'
);

CREATE TABLE stream_items (PRIMARY KEY (post_id, window_start) NOT ENFORCED)
WITH (
    'connector' = 'dynamodb',
    'table-name' = '${table:-ProcessedStream}',
    'aws.region' = '${region:-us-east-1}'
);

CREATE TABLE post_items (PRIMARY KEY (post_id) NOT ENFORCED)
WITH (
    'connector' = 'dynamodb',
    'table-name' = '${items_table:-ProcessedData}',
    'aws.region' = '${region:-us-east-1}'
);
