-- Statistics of a channel and day.
CREATE TABLE q16 (channel VARCHAR, day VARCHAR, minute VARCHAR, total_bids BIGINT, rank1_bids BIGINT, total_bidders BIGINT,
                  rank3_auctions BIGINT, PRIMARY KEY (channel, day) NOT ENFORCED) WITH ('connector' = '${sink}');
INSERT INTO q16
SELECT channel, date_format(dateTime, '%Y-%m-%d'), max(date_format(dateTime, '%H:%i')), count(*),
       count(*) FILTER (WHERE price < 10000), count(DISTINCT bidder), count(DISTINCT auction) FILTER (WHERE price >= 1000000)
FROM bid GROUP BY channel, date_format(dateTime, '%Y-%m-%d');
