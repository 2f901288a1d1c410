-- Every bid with the day and minute it is filed under.
CREATE TABLE q10 (auction BIGINT, bidder BIGINT, price BIGINT, dateTime TIMESTAMP(3), extra VARCHAR, dt VARCHAR, hm VARCHAR)
  WITH ('connector' = '${sink}');
INSERT INTO q10
SELECT auction, bidder, price, dateTime, extra, date_format(dateTime, '%Y-%m-%d'), date_format(dateTime, '%H:%i') FROM bid;
