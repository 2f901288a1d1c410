-- Changes of the orders, as they come and as the changelog of the table they are of; what of them goes to the lake, in
-- plain folders YYYY/MM/DD/; and the orders as they are. Over any form of connections.

CREATE TABLE order_changes (
    event_name VARCHAR,
    new_image ROW<orderid VARCHAR, product_name VARCHAR, quantity INT, price DOUBLE>
)
LIKE order_event_stream;

CREATE TABLE orders (
    orderid VARCHAR,
    product_name VARCHAR,
    quantity INT,
    price DOUBLE,
    PRIMARY KEY (orderid) NOT ENFORCED
)
LIKE order_stream;

CREATE TABLE sales_delivered
WITH (
    'connector' = 'filesystem',
    'path' = '${lake}/sales/',
    'format' = 'json',
    'sink.prefix' = '!{timestamp:yyyy/MM/dd}/',
    'sink.rolling-policy.file-size' = '5 MB',
    'sink.rolling-policy.rollover-interval' = '60 s'
)
LIKE orders (EXCLUDING ALL);

CREATE TABLE order_state (
    orderid VARCHAR,
    product_name VARCHAR,
    quantity INT,
    price DOUBLE,
    PRIMARY KEY (orderid) NOT ENFORCED
)
LIKE order_items;
