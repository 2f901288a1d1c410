-- Likes, comments and shares sent over HTTP to this machine: every event into a local lake by hour of arrival, and
-- counts of 30 seconds into a folder: the connections. Clients of Kinesis send with another endpoint and nothing else.
--   headwater run queries/engagement/{http,count}.sql --param lake=demo

CREATE TABLE engagement_events (
    post_id VARCHAR,
    engagement_type VARCHAR,
    user_id VARCHAR,
    "timestamp" TIMESTAMP(6),
    arrival TIMESTAMP(3) METADATA FROM 'timestamp' VIRTUAL,
    WATERMARK FOR "timestamp" AS "timestamp" - INTERVAL '5' SECOND
)
WITH (
    'connector' = 'http',
    'listen' = '127.0.0.1:${port:-8080}',
    'stream' = '${stream:-input_stream}',
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
    "engagement_counts.share" BIGINT
)
WITH ('connector' = 'filesystem', 'path' = '${lake}/processedData/stream/', 'format' = 'json');
