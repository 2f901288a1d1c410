-- What writes to the stream of embedded.sql: each line of the files under engagements/ becomes a record.

CREATE TABLE engagement_files (record VARCHAR)
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/engagements/',
    'format' = 'raw',
    'source.monitor-interval' = '1 s'
);

CREATE TABLE engagement_stream (record VARCHAR)
WITH ('connector' = 'memory', 'name' = 'input_stream', 'format' = 'raw');

INSERT INTO engagement_stream SELECT record FROM engagement_files;
