-- Every order as it was inserted or changed becomes a line of the lake, and a table holds the orders as they are: a
-- change replaces, a removal deletes.

INSERT INTO sales_delivered
SELECT new_image.orderid, new_image.product_name, new_image.quantity, new_image.price
FROM order_changes
WHERE event_name <> 'REMOVE';

INSERT INTO order_state
SELECT orderid, product_name, quantity, price
FROM orders;
