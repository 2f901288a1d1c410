CREATE TABLE counts (user_id VARCHAR, window_start TIMESTAMP(3), window_end TIMESTAMP(3), n BIGINT, mean DOUBLE)
  WITH ('connector' = '${sink}');
INSERT INTO counts
SELECT user_id, window_start, window_end, count(*), avg(amount)
FROM TABLE(HOP(TABLE clicks, DESCRIPTOR(ts), INTERVAL '20' SECOND, INTERVAL '1' MINUTE))
GROUP BY user_id, window_start, window_end;
