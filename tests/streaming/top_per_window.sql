CREATE TABLE top (window_start TIMESTAMP(3), window_end TIMESTAMP(3), page VARCHAR, id BIGINT, amount BIGINT, place BIGINT)
  WITH ('connector' = '${sink}');
INSERT INTO top
SELECT window_start, window_end, page, id, amount, place
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, page ORDER BY amount DESC, id) AS place
      FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) WHERE amount IS NOT NULL)
WHERE place <= 3 AND amount > 10;
