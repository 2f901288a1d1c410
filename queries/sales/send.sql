-- What writes to the stream of embedded.sql: each line of the files under changes/ becomes a record.

CREATE TABLE change_files (record VARCHAR)
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/changes/',
    'format' = 'raw',
    'source.monitor-interval' = '1 s'
);

CREATE TABLE order_stream (record VARCHAR)
WITH ('connector' = 'memory', 'name' = 'kinesis-sales-order', 'format' = 'raw');

INSERT INTO order_stream SELECT record FROM change_files;
