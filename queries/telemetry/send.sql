-- What clients send, each line of the files under raw/ as a record.

CREATE TABLE event_files (line VARCHAR)
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/raw/',
    'format' = 'raw',
    'source.monitor-interval' = '1 s'
);

CREATE TABLE event_records (line VARCHAR)
WITH ('format' = 'raw')
LIKE delivery_streams;

INSERT INTO event_records SELECT line FROM event_files;
