-- What writes to the stream of memory.sql: each line of the files under crimes_lines/ becomes a record.

CREATE TABLE crime_files (line VARCHAR)
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/crimes_lines/',
    'format' = 'raw',
    'source.monitor-interval' = '1 s'
);

CREATE TABLE crime_stream (line VARCHAR)
WITH ('connector' = 'memory', 'name' = 'crimes', 'format' = 'raw');

INSERT INTO crime_stream SELECT line FROM crime_files;
