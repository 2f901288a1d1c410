-- Rows without a partner where all partners are older: an order that no payment came 5 to 20 seconds before.
CREATE TABLE unpaid (id BIGINT, ordered TIMESTAMP(3), amount BIGINT) WITH ('connector' = '${sink}');
INSERT INTO unpaid
SELECT o.id, o.ts, p.amount FROM orders o LEFT JOIN payments p
  ON o.id = p.order_id AND p.ts BETWEEN o.ts - INTERVAL '20' SECOND AND o.ts - INTERVAL '5' SECOND;
