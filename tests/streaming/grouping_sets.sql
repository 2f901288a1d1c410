CREATE TABLE totals (user_id VARCHAR, page VARCHAR, kind INT, window_start TIMESTAMP(3), window_end TIMESTAMP(3), n BIGINT)
  WITH ('connector' = '${sink}');
INSERT INTO totals
SELECT user_id, page, grouping(user_id, page), window_start, window_end, count(*)
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, GROUPING SETS ((user_id), (page), (user_id, page), ());
