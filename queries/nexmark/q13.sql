-- A join with a bounded table.
CREATE TABLE side_input (user_id VARCHAR, city VARCHAR) WITH ('connector' = 'filesystem', 'path' = '${lake}/cities', 'format' = 'parquet');
CREATE TABLE q13 (auction BIGINT, bidder BIGINT, price BIGINT, dateTime TIMESTAMP(3), value VARCHAR) WITH ('connector' = '${sink}');
INSERT INTO q13
SELECT B.auction, B.bidder, B.price, B.dateTime, S.city
FROM bid B JOIN side_input S ON concat('u', CAST(B.auction % 9 AS VARCHAR)) = S.user_id;
