CREATE TABLE paid (id BIGINT, user_id VARCHAR, amount BIGINT, ordered TIMESTAMP(3), payed TIMESTAMP(3)) WITH ('connector' = '${sink}');
INSERT INTO paid
SELECT o.id, o.user_id, p.amount, o.ts, p.ts FROM orders o JOIN payments p
  ON o.id = p.order_id AND p.ts BETWEEN o.ts - INTERVAL '10' SECOND AND o.ts + INTERVAL '20' SECOND AND p.amount > 20;
