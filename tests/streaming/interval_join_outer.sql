CREATE TABLE pairs (id BIGINT, ordered TIMESTAMP(3), amount BIGINT, payed TIMESTAMP(3)) WITH ('connector' = '${sink}');
INSERT INTO pairs
SELECT o.id, o.ts, p.amount, p.ts FROM orders o FULL JOIN payments p
  ON o.id = p.order_id AND p.ts >= o.ts AND p.ts < o.ts + INTERVAL '15' SECOND;
