CREATE TABLE pairs (user_id VARCHAR, window_start TIMESTAMP(3), window_end TIMESTAMP(3), clicks BIGINT, views BIGINT)
  WITH ('connector' = '${sink}');
INSERT INTO pairs
SELECT coalesce(c.user_id, v.user_id), coalesce(c.window_start, v.window_start), coalesce(c.window_end, v.window_end), c.n, v.n
FROM (SELECT user_id, window_start, window_end, count(*) AS n FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '20' SECOND))
      GROUP BY user_id, window_start, window_end) c
FULL JOIN (SELECT user_id, window_start, window_end, count(*) AS n FROM TABLE(TUMBLE(TABLE views, DESCRIPTOR(ts), INTERVAL '20' SECOND))
      GROUP BY user_id, window_start, window_end) v
ON c.user_id = v.user_id AND c.window_start = v.window_start AND c.window_end = v.window_end;
