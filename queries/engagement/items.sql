-- The processed posts as items of the DynamoDB table ProcessedData (partition key post_id), all columns as attributes.
-- Running it again writes the same items.
--   headwater run queries/engagement/{lake,items}.sql --param lake=s3://bucket

CREATE TABLE processed_data (
    post_id VARCHAR,
    platform VARCHAR,
    post_type VARCHAR,
    post_timestamp TIMESTAMP(3),
    likes BIGINT,
    comments BIGINT,
    shares BIGINT,
    reach BIGINT,
    engagement_rate DOUBLE,
    PRIMARY KEY (post_id) NOT ENFORCED
)
WITH (
    'connector' = 'dynamodb',
    'table-name' = '${items_table:-ProcessedData}',
    'aws.region' = '${region:-us-east-1}'
);

INSERT INTO processed_data
SELECT post_id, platform, post_type, post_timestamp, likes, comments, shares, reach, engagement_rate
FROM posts_processed;
