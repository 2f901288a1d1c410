-- Counts of each user and page, with FILTER, DISTINCT and HAVING.
CREATE TABLE counts (user_id VARCHAR, page VARCHAR, window_start TIMESTAMP(3), window_end TIMESTAMP(3), window_time TIMESTAMP(3),
                     n BIGINT, large BIGINT, total BIGINT, mean DOUBLE, users BIGINT, cost DECIMAL(38, 2), low BIGINT)
  WITH ('connector' = '${sink}');
INSERT INTO counts
SELECT user_id, page, window_start, window_end, window_time, count(*), count(*) FILTER (WHERE amount > 100), sum(amount), avg(price),
       count(DISTINCT amount), sum(cost), min(amount)
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '30' SECOND))
WHERE page <> '/p3'
GROUP BY user_id, page, window_start, window_end, window_time
HAVING count(*) > 1;
