-- Statistics of a day: counts and distinct counts with filters.
CREATE TABLE q15 (day VARCHAR, total_bids BIGINT, rank1_bids BIGINT, rank2_bids BIGINT, rank3_bids BIGINT, total_bidders BIGINT,
                  rank1_bidders BIGINT, total_auctions BIGINT, rank3_auctions BIGINT, PRIMARY KEY (day) NOT ENFORCED) WITH ('connector' = '${sink}');
INSERT INTO q15
SELECT date_format(dateTime, '%Y-%m-%d'), count(*), count(*) FILTER (WHERE price < 10000),
       count(*) FILTER (WHERE price >= 10000 AND price < 1000000), count(*) FILTER (WHERE price >= 1000000),
       count(DISTINCT bidder), count(DISTINCT bidder) FILTER (WHERE price < 10000), count(DISTINCT auction),
       count(DISTINCT auction) FILTER (WHERE price >= 1000000)
FROM bid GROUP BY date_format(dateTime, '%Y-%m-%d');
