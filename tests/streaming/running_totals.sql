-- GROUP BY without a window: one row a key, updated.
CREATE TABLE totals (user_id VARCHAR, n BIGINT, total BIGINT, mean DOUBLE, low BIGINT, high VARCHAR, pages BIGINT, cost DECIMAL(38, 2),
                     typical DECIMAL(10, 2), about BIGINT, any_large BOOLEAN, best VARCHAR, PRIMARY KEY (user_id) NOT ENFORCED)
  WITH ('connector' = '${sink}');
INSERT INTO totals
SELECT coalesce(user_id, 'nobody'), count(*), sum(amount), avg(price), min(amount), max(page), count(DISTINCT page), sum(cost), avg(cost),
       approx_distinct(amount), bool_or(amount > 195), max_by(page, id)
FROM clicks GROUP BY coalesce(user_id, 'nobody');
