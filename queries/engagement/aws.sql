-- Posts from files, and likes, comments and shares from Kinesis: the connections. Posts become Parquet and items of
-- ProcessedData (partition key post_id); every event is kept by hour of arrival, and counts of 30 seconds become items of
-- ProcessedStream (partition key post_id, sort key window_start).
--   headwater run queries/engagement/{aws,posts}.sql --param lake=s3://bucket
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
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/rawData/stream/',
    'format' = 'json',
    'sink.error-prefix' = '!{firehose:error-output-type}/year=!{timestamp:yyyy}/month=!{timestamp:MM}/day=!{timestamp:dd}/hour=!{timestamp:HH}/'
);

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

CREATE TABLE posts_arriving (
    "Platform" VARCHAR,
    "Post ID" VARCHAR,
    "Post Type" VARCHAR,
    "Post Timestamp" VARCHAR,
    "Likes" BIGINT,
    "Comments" BIGINT,
    "Shares" BIGINT,
    "Reach" BIGINT
)
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/rawData/posts/',
    'format' = 'csv',
    'csv.header' = 'true',
    'source.monitor-interval' = '1 s'
);

CREATE TABLE posts_delivered (
    post_id VARCHAR,
    platform VARCHAR,
    post_type VARCHAR,
    post_timestamp TIMESTAMP(3),
    likes BIGINT,
    comments BIGINT,
    shares BIGINT,
    reach BIGINT,
    engagement_rate DOUBLE
)
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/processedData/posts_processed/',
    'format' = 'parquet',
    'sink.rolling-policy.rollover-interval' = '60 s'
);

CREATE TABLE processed_data (PRIMARY KEY (post_id) NOT ENFORCED)
WITH (
    'connector' = 'dynamodb',
    'table-name' = '${items_table:-ProcessedData}',
    'aws.region' = '${region:-us-east-1}'
)
LIKE posts_delivered (EXCLUDING OPTIONS);
