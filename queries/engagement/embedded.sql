-- The connections without a server: a memory log takes the place of Kinesis, and memory tables that of DynamoDB's. What
-- clients send is put on the log by send.sql.
--   headwater generate posts demo/rawData/posts; headwater generate engagements demo/engagements
--   headwater run queries/engagement/{embedded,tables,posts}.sql --param lake=demo
--   headwater run queries/engagement/{embedded,tables,send,count}.sql --param lake=demo

CREATE TABLE engagement_stream
WITH ('connector' = 'memory', 'name' = 'input_stream', 'log.path' = '${lake}/.streams', 'format' = 'json');

CREATE TABLE stream_items (PRIMARY KEY (post_id, window_start) NOT ENFORCED)
WITH ('connector' = 'memory', 'name' = 'ProcessedStream', 'log.path' = '${lake}/.streams');

CREATE TABLE post_items (PRIMARY KEY (post_id) NOT ENFORCED)
WITH ('connector' = 'memory', 'name' = 'ProcessedData', 'log.path' = '${lake}/.streams');
