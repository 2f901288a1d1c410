-- Bids with the auction they are for, of one category.
CREATE TABLE q20 (auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, bid_dateTime TIMESTAMP(3), itemName VARCHAR, seller BIGINT, category BIGINT)
  WITH ('connector' = '${sink}');
INSERT INTO q20
SELECT B.auction, B.bidder, B.price, B.channel, B.dateTime, A.itemName, A.seller, A.category
FROM bid AS B INNER JOIN auction AS A ON B.auction = A.id WHERE A.category = 10;
