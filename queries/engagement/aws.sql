-- Likes, comments and shares from Kinesis: every event into the lake by hour of arrival, and counts of 30 seconds into
-- DynamoDB: the connections. The table has the partition key post_id and the sort key window_start.
--   headwater run queries/engagement/{aws,count}.sql --param lake=s3://bucket

CREATE TABLE engagement_events (
    post_id VARCHAR,
    engagement_type VARCHAR,
    user_id VARCHAR,
    "timestamp" TIMESTAMP(6),
    arrival TIMESTAMP(3) METADATA FROM 'timestamp' VIRTUAL,
    WATERMARK FOR "timestamp" AS "timestamp" - INTERVAL '5' SECOND
)
WITH (
    'connector' = 'kinesis',
    'stream' = '${stream:-input_stream}',
    'aws.region' = '${region:-us-east-1}',
    'scan.watermark.idle-timeout' = '10 s',
    'format' = 'json'
);

CREATE TABLE engagement_raw (
    post_id VARCHAR,
    engagement_type VARCHAR,
    user_id VARCHAR,
    "timestamp" TIMESTAMP(6),
    "year" VARCHAR,
    "month" VARCHAR,
    "day" VARCHAR,
    "hour" VARCHAR
)
PARTITIONED BY ("year", "month", "day", "hour")
WITH ('connector' = 'filesystem', 'path' = '${lake}/rawData/stream/', 'format' = 'json');

CREATE TABLE processed_stream (
    post_id VARCHAR,
    window_start TIMESTAMP(6),
    window_end TIMESTAMP(6),
    "engagement_counts.like" BIGINT,
    "engagement_counts.comment" BIGINT,
    "engagement_counts.share" BIGINT,
    PRIMARY KEY (post_id, window_start) NOT ENFORCED
)
WITH (
    'connector' = 'dynamodb',
    'table-name' = '${table:-ProcessedStream}',
    'aws.region' = '${region:-us-east-1}'
);
