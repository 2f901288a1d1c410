-- First and last values by an order, over rows that are themselves updated.
CREATE TABLE picks (n BIGINT, most DOUBLE, least VARCHAR, same BIGINT, positive BOOLEAN, negative BOOLEAN, known VARCHAR,
                    PRIMARY KEY (n) NOT ENFORCED) WITH ('connector' = '${sink}');
INSERT INTO picks
SELECT n, max_by(total, place), min_by(user_id, place), arbitrary(n), bool_and(total > 0), bool_or(total < 0),
       max_by(user_id, place) FILTER (WHERE user_id IS NOT NULL)
FROM (SELECT user_id, page, concat(coalesce(user_id, 'nobody'), page) AS place, count(*) AS n, sum(price) AS total
      FROM clicks GROUP BY user_id, page)
GROUP BY n;
