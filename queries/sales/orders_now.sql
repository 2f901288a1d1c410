-- The orders as they are, by product: from the table that deliver.sql keeps, over any form of connections.

SELECT
    product_name,
    count(*) AS orders,
    sum(quantity) AS quantity,
    round(sum(quantity * price), 2) AS worth
FROM order_state
GROUP BY product_name
ORDER BY worth DESC;
