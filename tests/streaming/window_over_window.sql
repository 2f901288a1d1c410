-- Ten-second counts, summed over a minute by their window_time.
CREATE TABLE minutes (window_start TIMESTAMP(3), window_end TIMESTAMP(3), pages BIGINT, most BIGINT, total BIGINT)
  WITH ('connector' = '${sink}');
INSERT INTO minutes
SELECT window_start, window_end, count(DISTINCT page), max(n), sum(n)
FROM TABLE(TUMBLE((SELECT page, wt, n FROM (
       SELECT page, window_start AS ws, window_end AS we, window_time AS wt, count(*) AS n
       FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND))
       GROUP BY page, window_start, window_end, window_time)), DESCRIPTOR(wt), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end;
