-- The ten highest bids of each auction.
CREATE TABLE q19 (auction BIGINT, bidder BIGINT, price BIGINT, dateTime TIMESTAMP(3), rank_number BIGINT,
                  PRIMARY KEY (auction, rank_number) NOT ENFORCED) WITH ('connector' = '${sink}');
INSERT INTO q19
SELECT auction, bidder, price, dateTime, rank_number
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC) AS rank_number FROM bid)
WHERE rank_number <= 10;
