-- Statistics of an auction and day.
CREATE TABLE q17 (auction BIGINT, day VARCHAR, total_bids BIGINT, rank1_bids BIGINT, rank2_bids BIGINT, rank3_bids BIGINT, min_price BIGINT,
                  max_price BIGINT, avg_price DOUBLE, sum_price BIGINT, PRIMARY KEY (auction, day) NOT ENFORCED) WITH ('connector' = '${sink}');
INSERT INTO q17
SELECT auction, date_format(dateTime, '%Y-%m-%d'), count(*), count(*) FILTER (WHERE price < 10000),
       count(*) FILTER (WHERE price >= 10000 AND price < 1000000), count(*) FILTER (WHERE price >= 1000000),
       min(price), max(price), avg(price), sum(price)
FROM bid GROUP BY auction, date_format(dateTime, '%Y-%m-%d');
