-- Posts from files, and likes, comments and shares from a stream, over any form of connections. Posts become Parquet and
-- items of ProcessedData; every event is kept by hour of arrival, its time as it was sent, and counts of 30 seconds
-- become items of ProcessedStream.

CREATE TABLE engagement_events (
    post_id VARCHAR,
    engagement_type VARCHAR,
    user_id VARCHAR,
    "timestamp" VARCHAR,
    engaged_at AS CAST(from_iso8601_timestamp_nanos("timestamp") AT TIME ZONE 'UTC' AS TIMESTAMP(6)),
    arrival TIMESTAMP(3) METADATA FROM 'timestamp' VIRTUAL,
    WATERMARK FOR engaged_at AS engaged_at - INTERVAL '5' SECOND
)
WITH ('scan.watermark.idle-timeout' = '10 s')
LIKE engagement_stream;

CREATE TABLE engagement_raw (
    post_id VARCHAR,
    engagement_type VARCHAR,
    user_id VARCHAR,
    "timestamp" VARCHAR,
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
    "engagement_counts.share" BIGINT
)
LIKE stream_items;

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

CREATE TABLE processed_data (
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
LIKE post_items;

CREATE TABLE posts_delivered
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/processedData/posts_processed/',
    'format' = 'parquet',
    'sink.rolling-policy.rollover-interval' = '60 s'
)
LIKE processed_data (EXCLUDING ALL);
