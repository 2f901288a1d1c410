CREATE TABLE balances (key BIGINT, n_orders BIGINT, n_payments BIGINT, PRIMARY KEY (key) NOT ENFORCED) WITH ('connector' = '${sink}');
INSERT INTO balances
SELECT coalesce(k, -1), max(a), max(b) FROM (
  SELECT coalesce(o.id, p.order_id) AS k, CASE WHEN o.id IS NULL THEN 0 ELSE 1 END AS a, coalesce(p.n, 0) AS b
  FROM orders o FULL JOIN (SELECT order_id, count(*) AS n FROM payments GROUP BY order_id) p ON o.id = p.order_id)
GROUP BY coalesce(k, -1);
