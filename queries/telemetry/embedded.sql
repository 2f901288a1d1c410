-- Product telemetry sent over HTTP: both delivery streams on one listener, the lake in a local folder.
--   headwater run queries/telemetry/{embedded,deliver}.sql --param lake=demo
-- A boto3 client sends as before, with endpoint_url='http://127.0.0.1:8080'.

CREATE TABLE events_stream_json (
    name VARCHAR,
    tstamp TIMESTAMP(3),
    payload VARCHAR,
    payload_md5 VARCHAR,
    arrival TIMESTAMP(3) METADATA FROM 'timestamp' VIRTUAL
)
WITH (
    'connector' = 'http',
    'listen' = '127.0.0.1:${port:-8080}',
    'stream' = 'events_stream_json',
    'format' = 'json'
);

CREATE TABLE events_stream_parquet (
    name VARCHAR,
    tstamp TIMESTAMP(3),
    payload VARCHAR,
    payload_md5 VARCHAR,
    arrival TIMESTAMP(3) METADATA FROM 'timestamp' VIRTUAL
)
WITH (
    'connector' = 'http',
    'listen' = '127.0.0.1:${port:-8080}',
    'stream' = 'events_stream_parquet',
    'format' = 'json'
);

CREATE TABLE delivered_json (
    tstamp TIMESTAMP(3), payload VARCHAR, payload_md5 VARCHAR, name VARCHAR, d VARCHAR
)
PARTITIONED BY (name, d)
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/events_raw/json/',
    'format' = 'json',
    'compression' = 'gzip',
    'sink.rolling-policy.file-size' = '64 MB',
    'sink.rolling-policy.rollover-interval' = '60 s'
);

CREATE TABLE delivered_parquet (
    tstamp TIMESTAMP(3), payload VARCHAR, payload_md5 VARCHAR, name VARCHAR, d VARCHAR
)
PARTITIONED BY (name, d)
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/events_raw/parquet/',
    'format' = 'parquet',
    'parquet.compression' = 'gzip',
    'sink.rolling-policy.file-size' = '64 MB',
    'sink.rolling-policy.rollover-interval' = '60 s'
);
