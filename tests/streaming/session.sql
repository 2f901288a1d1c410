CREATE TABLE sessions (user_id VARCHAR, window_start TIMESTAMP(3), window_end TIMESTAMP(3), n BIGINT, total BIGINT)
  WITH ('connector' = '${sink}');
INSERT INTO sessions
SELECT user_id, window_start, window_end, count(*), sum(amount)
FROM TABLE(SESSION(TABLE clicks PARTITION BY user_id, DESCRIPTOR(ts), INTERVAL '4' SECOND))
GROUP BY user_id, window_start, window_end;
