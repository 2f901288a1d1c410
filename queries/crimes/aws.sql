-- Crime records as text joined by |, through Kinesis into the lake: the connections.
--   headwater run queries/crimes/{aws,decode}.sql --param lake=s3://bucket

CREATE TABLE crime_lines (line VARCHAR)
WITH (
    'connector' = 'kinesis',
    'stream' = '${stream:-crimes}',
    'aws.region' = '${region:-us-east-1}',
    'format' = 'raw'
);

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
