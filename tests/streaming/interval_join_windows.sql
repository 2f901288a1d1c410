-- Windows over an interval join, by the time of one side.
CREATE TABLE counts (window_start TIMESTAMP(3), window_end TIMESTAMP(3), n BIGINT, total BIGINT) WITH ('connector' = '${sink}');
INSERT INTO counts
SELECT window_start, window_end, count(*), sum(amount)
FROM TABLE(TUMBLE((SELECT o.ts AS ts, p.amount AS amount FROM orders o JOIN payments p
                   ON o.id = p.order_id AND p.ts BETWEEN o.ts AND o.ts + INTERVAL '30' SECOND),
           DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end;
