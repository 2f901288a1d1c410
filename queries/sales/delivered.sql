-- What was delivered to the lake, by day: every order as it was inserted or changed.

SELECT
    partition_0,
    partition_1,
    partition_2,
    count(*) AS changes,
    count(DISTINCT orderid) AS orders
FROM sales
GROUP BY partition_0, partition_1, partition_2
ORDER BY partition_0, partition_1, partition_2;
