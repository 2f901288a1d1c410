-- The connections of one machine: clients of Kinesis send to it with another endpoint and nothing else, and the counts
-- are lines in a folder.
--   headwater run queries/engagement/{http,tables,count}.sql --param lake=demo

CREATE TABLE engagement_stream
WITH (
    'connector' = 'http',
    'listen' = '127.0.0.1:${port:-8080}',
    'stream' = '${stream:-input_stream}',
    'format' = 'json'
);

CREATE TABLE stream_items
WITH ('connector' = 'filesystem', 'path' = '${lake}/processedData/stream/', 'format' = 'json');

CREATE TABLE post_items
WITH ('connector' = 'filesystem', 'path' = '${lake}/processedData/posts/', 'format' = 'json');
