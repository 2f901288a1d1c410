-- Product telemetry sent over HTTP: both delivery streams on one listener, the lake in a local folder.
--   headwater run queries/telemetry/{embedded,deliver}.sql --param lake=demo
-- A boto3 client sends as before, with endpoint_url='http://127.0.0.1:8080'.

CREATE TABLE events_stream_json (
    name VARCHAR,
    tstamp TIMESTAMP(3),
    payload VARCHAR,
    payload_md5 VARCHAR
)
WITH (
    'connector' = 'http',
    'listen' = '127.0.0.1:${port:-8080}',
    'stream' = 'events_stream_json',
    'format' = 'json'
);

CREATE TABLE events_stream_parquet
WITH ('stream' = 'events_stream_parquet')
LIKE events_stream_json;

CREATE TABLE delivered_json (tstamp TIMESTAMP(3), payload VARCHAR, payload_md5 VARCHAR, name VARCHAR)
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/',
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
    'path' = '${lake}/',
    'format' = 'parquet',
    'parquet.compression' = 'gzip',
    'sink.partition-keys-query' = '{event_name: .name}',
    'sink.prefix' = 'events_raw/parquet/name=!{partitionKeyFromQuery:event_name}/d=!{timestamp:yyyy-MM-dd}/',
    'sink.error-prefix' = 'errors/parquet/d=!{timestamp:yyyy-MM-dd}/!{firehose:error-output-type}/',
    'sink.rolling-policy.file-size' = '64 MB',
    'sink.rolling-policy.rollover-interval' = '60 s'
);
