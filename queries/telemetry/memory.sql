-- Product telemetry without a client: one memory log stands for what is sent to both delivery streams, send.sql puts files
-- on it. The connections.
--   headwater generate telemetry demo/raw
--   headwater run queries/telemetry/{memory,send,deliver}.sql --param lake=demo

CREATE TABLE events_stream_json (
    name VARCHAR,
    tstamp TIMESTAMP(3),
    payload VARCHAR,
    payload_md5 VARCHAR
)
WITH ('connector' = 'memory', 'name' = 'events', 'format' = 'json');

CREATE TABLE events_stream_parquet LIKE events_stream_json;

CREATE TABLE delivered_json (tstamp TIMESTAMP(3), payload VARCHAR, payload_md5 VARCHAR, name VARCHAR)
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/streamed/',
    'format' = 'json',
    'compression' = 'gzip',
    'sink.partition-keys-query' = '{event_name: .name}',
    'sink.prefix' = 'events_raw/json/name=!{partitionKeyFromQuery:event_name}/d=!{timestamp:yyyy-MM-dd}/',
    'sink.error-prefix' = 'errors/json/d=!{timestamp:yyyy-MM-dd}/!{firehose:error-output-type}/',
    'sink.rolling-policy.file-size' = '64 MB',
    'sink.rolling-policy.rollover-interval' = '60 s'
);

CREATE TABLE delivered_parquet (tstamp TIMESTAMP(3), payload VARCHAR, payload_md5 VARCHAR)
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/streamed/',
    'format' = 'parquet',
    'parquet.compression' = 'gzip',
    'sink.partition-keys-query' = '{event_name: .name}',
    'sink.prefix' = 'events_raw/parquet/name=!{partitionKeyFromQuery:event_name}/d=!{timestamp:yyyy-MM-dd}/',
    'sink.error-prefix' = 'errors/parquet/d=!{timestamp:yyyy-MM-dd}/!{firehose:error-output-type}/',
    'sink.rolling-policy.file-size' = '64 MB',
    'sink.rolling-policy.rollover-interval' = '60 s'
);
