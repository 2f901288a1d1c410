-- Crime records as text joined by |, and as they are decoded into the lake. Over any form of connections.

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
