-- A view over a stream, scalar functions, a computed group key.
CREATE VIEW purchases AS
  SELECT upper(page) AS page, coalesce(user_id, 'nobody') AS who, amount * 2 AS twice, ts,
         CASE WHEN amount > 50 THEN 'large' ELSE 'small' END AS size
  FROM clicks WHERE amount IS NOT NULL AND regexp_like(page, '^/p[012]$');
CREATE TABLE totals (size VARCHAR, letter VARCHAR, window_start TIMESTAMP(3), window_end TIMESTAMP(3), total BIGINT, whos BIGINT)
  WITH ('connector' = '${sink}');
INSERT INTO totals
SELECT size, substr(page, 2, 1), window_start, window_end, sum(twice), count(DISTINCT who)
FROM TABLE(TUMBLE(TABLE purchases, DESCRIPTOR(ts), INTERVAL '40' SECOND))
GROUP BY size, substr(page, 2, 1), window_start, window_end;
