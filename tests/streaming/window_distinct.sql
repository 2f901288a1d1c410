CREATE TABLE seen (user_id VARCHAR, page VARCHAR, window_start TIMESTAMP(3), window_end TIMESTAMP(3)) WITH ('connector' = '${sink}');
INSERT INTO seen
SELECT DISTINCT user_id, page, window_start, window_end
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '30' SECOND));
