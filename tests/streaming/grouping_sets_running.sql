-- Grouping sets without a window: the set a row is of is a part of its key.
CREATE TABLE totals (page VARCHAR, user_id VARCHAR, level INT, n BIGINT, total BIGINT,
                     PRIMARY KEY (page, user_id, level) NOT ENFORCED) WITH ('connector' = '${sink}');
CREATE TABLE pages (page VARCHAR, is_all BOOLEAN, highest DOUBLE, PRIMARY KEY (page, is_all) NOT ENFORCED)
  WITH ('connector' = '${sink}');
INSERT INTO totals SELECT page, user_id, grouping(page, user_id), count(*), sum(amount) FROM clicks
  GROUP BY ROLLUP (page, user_id);
INSERT INTO pages SELECT page, grouping(page) = 1, max(price) FROM views GROUP BY GROUPING SETS ((page), ());
