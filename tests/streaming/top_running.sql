-- Top-N without a window: the place is a part of the key.
CREATE TABLE top (page VARCHAR, place BIGINT, id BIGINT, amount BIGINT, PRIMARY KEY (page, place) NOT ENFORCED)
  WITH ('connector' = '${sink}');
INSERT INTO top
SELECT page, place, id, amount
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY page ORDER BY amount DESC NULLS LAST, id) AS place FROM clicks)
WHERE place <= 4;
