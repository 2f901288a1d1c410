-- A row that stops to meet HAVING is deleted.
CREATE TABLE totals (page VARCHAR, user_id VARCHAR, n BIGINT, low BIGINT, PRIMARY KEY (page, user_id) NOT ENFORCED)
  WITH ('connector' = '${sink}');
INSERT INTO totals
SELECT page, coalesce(user_id, '-'), count(*), min(amount) FROM clicks GROUP BY page, coalesce(user_id, '-')
HAVING min(amount) > -19;
