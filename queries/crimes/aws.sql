-- The connections of a deployment: a Kinesis stream of crimes, and one of app events.
--   headwater run queries/crimes/{aws,tables,decode}.sql --param lake=s3://bucket

CREATE TABLE crime_stream
WITH (
    'connector' = 'kinesis',
    'stream' = '${stream:-crimes}',
    'aws.region' = '${region:-us-east-1}',
    'format' = 'raw'
);

CREATE TABLE app_stream
WITH (
    'connector' = 'kinesis',
    'stream' = '${app_stream:-app_events}',
    'aws.region' = '${region:-us-east-1}',
    'format' = 'json'
);
