-- What writes to the stream: each line of the files under engagements/ becomes a record.

CREATE TABLE engagement_files (record VARCHAR)
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/engagements/',
    'format' = 'raw',
    'source.monitor-interval' = '1 s'
);

CREATE TABLE engagement_records (record VARCHAR)
WITH ('format' = 'raw')
LIKE engagement_stream;

INSERT INTO engagement_records SELECT record FROM engagement_files;
