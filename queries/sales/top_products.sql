-- The products that sold best, from one day on.

SELECT
    product_name,
    count(*) AS changes,
    sum(quantity) AS quantity,
    round(sum(quantity * price), 2) AS revenue
FROM sales
WHERE partition_0 = '2024' AND partition_1 = '01' AND partition_2 >= '${from:-20}'
GROUP BY product_name
ORDER BY revenue DESC
LIMIT ${top:-5};
