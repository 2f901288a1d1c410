-- The join key changes while the key of the result does not: rows of one key come from several tasks.
CREATE TABLE results (user_id VARCHAR, n BIGINT, partner BIGINT, PRIMARY KEY (user_id) NOT ENFORCED) WITH ('connector' = '${sink}');
INSERT INTO results
SELECT c.user_id, c.n, b.id
FROM (SELECT coalesce(user_id, '-') AS user_id, count(*) AS n FROM clicks GROUP BY coalesce(user_id, '-')) c
JOIN orders b ON b.id = c.n;
