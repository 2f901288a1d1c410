-- Calculation: conversion, time of day, counting a character.
CREATE TABLE q14 (auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), bidTimeType VARCHAR, dateTime TIMESTAMP(3), extra VARCHAR, c_counts BIGINT)
  WITH ('connector' = '${sink}');
INSERT INTO q14
SELECT auction, bidder, CAST(0.908 * price AS DECIMAL(23, 3)),
       CASE WHEN hour(dateTime) BETWEEN 8 AND 18 THEN 'dayTime' WHEN hour(dateTime) <= 6 OR hour(dateTime) >= 20 THEN 'nightTime' ELSE 'otherTime' END,
       dateTime, extra, CAST(length(extra) - length(replace(extra, 'c', '')) AS BIGINT)
FROM bid WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000;
