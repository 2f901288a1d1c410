-- An aggregate over an aggregate: how many users have how many clicks.
CREATE TABLE histogram (n BIGINT, users BIGINT, first VARCHAR, total BIGINT, mean DOUBLE, kinds BIGINT, PRIMARY KEY (n) NOT ENFORCED)
  WITH ('connector' = '${sink}');
INSERT INTO histogram
SELECT n, count(*), min(page), sum(total), avg(total), count(DISTINCT user_id)
FROM (SELECT user_id, page, count(*) AS n, sum(amount) AS total FROM clicks GROUP BY user_id, page) GROUP BY n;
