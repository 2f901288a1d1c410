-- The connections of a deployment: a listener that checks signatures takes both delivery streams, and every object on S3
-- is encrypted.
--   headwater run queries/telemetry/{aws,tables,deliver}.sql --param lake=s3://bucket --param listen=0.0.0.0:8080

SET 's3.sse' = 'AES256';

CREATE TABLE delivery_streams
WITH (
    'connector' = 'http',
    'listen' = '${listen:-127.0.0.1:8080}',
    'auth' = 'sigv4',
    'auth.access-key-id' = '${env:AWS_ACCESS_KEY_ID}',
    'auth.secret-access-key' = '${env:AWS_SECRET_ACCESS_KEY}',
    'format' = 'json'
);
