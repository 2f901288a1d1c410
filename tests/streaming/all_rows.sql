-- Aggregates without keys, over rows that are taken back too, have one row.
CREATE TABLE totals (k VARCHAR, n BIGINT, total BIGINT, high DOUBLE, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = '${sink}');
INSERT INTO totals
SELECT 'all', count(*), sum(amount), max(price) FROM clicks
UNION ALL SELECT 'users', count(*), sum(n), max(x) FROM (SELECT user_id, count(*) AS n, max(price) AS x FROM clicks GROUP BY user_id HAVING count(*) % 2 = 0);
