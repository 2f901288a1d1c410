-- Without a window a key comes once, so that a table of inserts takes it.
CREATE TABLE seen (user_id VARCHAR, page VARCHAR) WITH ('connector' = '${sink}');
INSERT INTO seen SELECT DISTINCT user_id, page FROM clicks;
