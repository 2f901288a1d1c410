-- One row a window, windows shifted; only the end is named.
CREATE TABLE totals (window_end TIMESTAMP(3), n BIGINT, top VARCHAR, span BIGINT) WITH ('connector' = '${sink}');
INSERT INTO totals
SELECT window_end, count(*), max(page), max(amount) - min(amount)
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '7' SECOND)) GROUP BY window_end;
