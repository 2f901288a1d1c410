-- Inner, of rows that are only added: rows that are only added.
CREATE TABLE pairs (id BIGINT, amount BIGINT, ordered TIMESTAMP(3)) WITH ('connector' = '${sink}');
INSERT INTO pairs SELECT o.id, p.amount, o.ts FROM orders o, payments p WHERE o.id = p.order_id AND p.amount < o.id * 2;
