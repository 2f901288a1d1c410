-- RANK and DENSE_RANK number equal rows alike.
CREATE TABLE ranked (window_start TIMESTAMP(3), page VARCHAR, id BIGINT, user_id VARCHAR, place BIGINT) WITH ('connector' = '${sink}');
CREATE TABLE dense (window_start TIMESTAMP(3), page VARCHAR, id BIGINT, place BIGINT) WITH ('connector' = '${sink}');
INSERT INTO ranked
SELECT window_start, page, id, user_id, place
FROM (SELECT *, RANK() OVER (PARTITION BY window_start, window_end, page ORDER BY user_id DESC) AS place
      FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) WHERE user_id IS NOT NULL)
WHERE place <= 4;
INSERT INTO dense
SELECT window_start, page, id, place
FROM (SELECT *, DENSE_RANK() OVER (PARTITION BY window_start, window_end, page ORDER BY user_id) AS place
      FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) WHERE user_id IS NOT NULL)
WHERE place < 3;
