-- The connections of one machine: clients of Kinesis and of its API gateway send to it.
--   headwater run queries/crimes/{http,tables,decode}.sql --param lake=demo

CREATE TABLE crime_stream
WITH (
    'connector' = 'http',
    'listen' = '127.0.0.1:${port:-8080}',
    'stream' = '${stream:-crimes}',
    'format' = 'raw'
);

CREATE TABLE app_stream
WITH (
    'connector' = 'http',
    'listen' = '127.0.0.1:${port:-8080}',
    'stream' = '${app_stream:-app_events}',
    'format' = 'json'
);
