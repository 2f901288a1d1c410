-- The connections without a server: a memory log takes the place of Kinesis, and a memory table that of OrderState. The
-- changes that applications make are put on the log by send.sql.
--   headwater generate sales --format stream demo/changes
--   headwater run queries/sales/{embedded,tables,send,deliver}.sql --param lake=demo

CREATE TABLE order_stream
WITH ('connector' = 'memory', 'name' = 'kinesis-sales-order', 'log.path' = '${lake}/.streams', 'format' = 'dynamodb-cdc');

CREATE TABLE order_event_stream
WITH ('dynamodb-cdc.mode' = 'events')
LIKE order_stream;

CREATE TABLE order_items
WITH ('connector' = 'memory', 'name' = 'OrderState', 'log.path' = '${lake}/.streams');
