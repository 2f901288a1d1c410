-- Crime records as text joined by |, and as they are decoded into the lake; app events as they are sent, and flat. Over
-- any form of connections.

CREATE TABLE crime_lines (line VARCHAR) LIKE crime_stream;

CREATE TABLE crimes_decoded (
    crime_time VARCHAR,
    address VARCHAR,
    district INT,
    beat VARCHAR,
    grid INT,
    description VARCHAR,
    crime_id INT,
    latitude DOUBLE,
    longitude DOUBLE,
    location ROW<lat DOUBLE, lon DOUBLE>,
    crime_year VARCHAR,
    crime_month VARCHAR,
    crime_day VARCHAR
)
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/',
    'format' = 'json',
    'sink.prefix' = 'crimes_raw/',
    'sink.backup-prefix' = 'crimes_backup/',
    'sink.error-prefix' = 'crimes_aside/!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd}/',
    'sink.rolling-policy.file-size' = '5 MB',
    'sink.rolling-policy.rollover-interval' = '60 s'
);

CREATE TABLE app_events (
    "eventId" VARCHAR,
    "eventName" VARCHAR,
    "eventTime" VARCHAR,
    "eventContext" ROW<ip VARCHAR, app ROW<name VARCHAR, version VARCHAR>, device ROW<os VARCHAR, locale VARCHAR>>,
    "eventPayload" ROW<screen VARCHAR, "durationMs" BIGINT>
)
LIKE app_stream;

CREATE TABLE app_events_flat (
    "eventId" VARCHAR,
    "eventName" VARCHAR,
    "eventTime" VARCHAR,
    "eventContext.ip" VARCHAR,
    "eventContext.app.name" VARCHAR,
    "eventContext.app.version" VARCHAR,
    "eventContext.device.os" VARCHAR,
    "eventContext.device.locale" VARCHAR,
    "eventPayload.screen" VARCHAR,
    "eventPayload.durationMs" BIGINT
)
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/',
    'format' = 'json',
    'sink.prefix' = 'app_events/',
    'sink.backup-prefix' = 'app_events_backup/',
    'sink.error-prefix' = 'app_events_aside/!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd}/',
    'sink.rolling-policy.file-size' = '5 MB',
    'sink.rolling-policy.rollover-interval' = '60 s'
);
