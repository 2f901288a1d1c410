-- What writes to the streams of memory.sql: each line of the files under raw/ becomes a record.

CREATE TABLE event_files (line VARCHAR)
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/raw/',
    'format' = 'raw',
    'source.monitor-interval' = '1 s'
);

CREATE TABLE event_stream (line VARCHAR)
WITH ('connector' = 'memory', 'name' = 'events', 'format' = 'raw');

INSERT INTO event_stream SELECT line FROM event_files;
