-- What writes to the stream: each line of the files under changes/ becomes a record.

CREATE TABLE change_files (record VARCHAR)
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/changes/',
    'format' = 'raw',
    'source.monitor-interval' = '1 s'
);

CREATE TABLE change_records (record VARCHAR)
WITH ('format' = 'raw')
LIKE order_stream;

INSERT INTO change_records SELECT record FROM change_files;
