-- The two busiest users of each window.
CREATE TABLE top (window_start TIMESTAMP(3), window_end TIMESTAMP(3), user_id VARCHAR, n BIGINT, total BIGINT)
  WITH ('connector' = '${sink}');
INSERT INTO top
SELECT window_start, window_end, user_id, n, total
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY n DESC, total DESC, user_id) AS place
      FROM (SELECT user_id, window_start, window_end, count(*) AS n, sum(amount) AS total
            FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
            GROUP BY user_id, window_start, window_end))
WHERE place < 3;
