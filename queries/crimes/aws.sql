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
WITH ('connector' = 'filesystem', 'path' = '${lake}/crimes_raw/', 'format' = 'json');

CREATE TABLE crimes_backup (line VARCHAR)
WITH ('connector' = 'filesystem', 'path' = '${lake}/crimes_backup/', 'format' = 'raw');

CREATE TABLE crimes_aside (line VARCHAR)
WITH ('connector' = 'filesystem', 'path' = '${lake}/crimes_aside/', 'format' = 'raw');
