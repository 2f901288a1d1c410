CREATE TABLE counts (page VARCHAR, window_start TIMESTAMP(3), window_end TIMESTAMP(3), n BIGINT, users BIGINT)
  WITH ('connector' = '${sink}');
INSERT INTO counts
SELECT page, window_start, window_end, count(*), approx_distinct(user_id)
FROM TABLE(CUMULATE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '15' SECOND, INTERVAL '2' MINUTE))
GROUP BY page, window_start, window_end;
