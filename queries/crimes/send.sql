-- What clients send, each line of the files under crimes_lines/ as a record.

CREATE TABLE crime_files (line VARCHAR)
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/crimes_lines/',
    'format' = 'raw',
    'source.monitor-interval' = '1 s'
);

CREATE TABLE crime_records (line VARCHAR) LIKE crime_stream;

INSERT INTO crime_records SELECT line FROM crime_files;
