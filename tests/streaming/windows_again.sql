-- A second grouping by the same windows.
CREATE TABLE best (window_start TIMESTAMP(3), window_end TIMESTAMP(3), most BIGINT, users BIGINT) WITH ('connector' = '${sink}');
INSERT INTO best
SELECT window_start, window_end, max(n), count(*)
FROM (SELECT user_id, window_start, window_end, count(*) AS n
      FROM TABLE(HOP(TABLE clicks, DESCRIPTOR(ts), INTERVAL '30' SECOND, INTERVAL '1' MINUTE))
      GROUP BY user_id, window_start, window_end)
GROUP BY window_start, window_end;
