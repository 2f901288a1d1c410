-- Orders with the sum of their payments, which changes.
CREATE TABLE balances (id BIGINT, user_id VARCHAR, paid BIGINT, n BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = '${sink}');
INSERT INTO balances
SELECT o.id, o.user_id, p.paid, p.n
FROM orders o LEFT JOIN (SELECT order_id, sum(amount) AS paid, count(*) AS n FROM payments GROUP BY order_id) p ON o.id = p.order_id;
