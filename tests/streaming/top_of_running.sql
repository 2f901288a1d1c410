-- Top-N over totals that go on changing: who falls out lets the next one up.
CREATE TABLE busiest (page VARCHAR, place BIGINT, user_id VARCHAR, n BIGINT, total BIGINT, PRIMARY KEY (page, place) NOT ENFORCED)
  WITH ('connector' = '${sink}');
CREATE TABLE last_of (page VARCHAR, user_id VARCHAR, least DOUBLE, PRIMARY KEY (page) NOT ENFORCED) WITH ('connector' = '${sink}');
INSERT INTO busiest
SELECT page, place, user_id, n, total
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY page ORDER BY total DESC NULLS LAST, user_id) AS place
      FROM (SELECT page, user_id, count(*) AS n, sum(amount) AS total FROM clicks GROUP BY page, user_id))
WHERE place <= 3;
INSERT INTO last_of
SELECT page, user_id, least
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY page ORDER BY least, user_id DESC) AS place
      FROM (SELECT page, user_id, min(price) AS least FROM views WHERE user_id IS NOT NULL GROUP BY page, user_id))
WHERE place = 1;
