-- The connections of one machine: a listener on it takes both delivery streams.
--   headwater run queries/telemetry/{http,tables,deliver}.sql --param lake=demo
-- A boto3 client sends as before, with endpoint_url='http://127.0.0.1:8080'.

CREATE TABLE delivery_streams
WITH ('connector' = 'http', 'listen' = '127.0.0.1:${port:-8080}', 'format' = 'json');
