-- Both delivery streams, called like their tables, and what their Firehose definitions say of their delivery. Over any
-- form of connections.

CREATE TABLE events_stream_json (
    name VARCHAR,
    tstamp TIMESTAMP(6),
    payload VARCHAR,
    payload_md5 VARCHAR
)
LIKE delivery_streams;

CREATE TABLE events_stream_parquet LIKE events_stream_json;

CREATE TABLE delivered_json (tstamp TIMESTAMP(6), payload VARCHAR, payload_md5 VARCHAR, name VARCHAR)
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/',
    'format' = 'json',
    'compression' = 'gzip',
    'sink.partition-keys-query' = '{event_name: .name, event_date: .tstamp | split(".")[0] | strptime("%Y-%m-%d %H:%M:%S") | strftime("%Y-%m")}',
    'sink.prefix' = '${into:-}events_raw/json/name=!{partitionKeyFromQuery:event_name}/d=!{timestamp:yyyy-MM-dd}/',
    'sink.error-prefix' = '${into:-}errors/json/d=!{timestamp:yyyy-MM-dd}/!{firehose:error-output-type}/',
    'sink.rolling-policy.file-size' = '64 MB',
    'sink.rolling-policy.rollover-interval' = '60 s'
);

CREATE TABLE delivered_parquet (tstamp TIMESTAMP(6), payload VARCHAR, payload_md5 VARCHAR)
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/',
    'format' = 'parquet',
    'parquet.compression' = 'gzip',
    'sink.partition-keys-query' = '{event_name: .name, event_date: .tstamp | split(".")[0] | strptime("%Y-%m-%d %H:%M:%S") | strftime("%Y-%m")}',
    'sink.prefix' = '${into:-}events_raw/parquet/name=!{partitionKeyFromQuery:event_name}/d=!{timestamp:yyyy-MM-dd}/',
    'sink.error-prefix' = '${into:-}errors/parquet/d=!{timestamp:yyyy-MM-dd}/!{firehose:error-output-type}/',
    'sink.rolling-policy.file-size' = '64 MB',
    'sink.rolling-policy.rollover-interval' = '60 s'
);
